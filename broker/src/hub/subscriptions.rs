//! Who subscribed to what: filters with wildcards in a tree by topic level, the others in a table. Both are persistent, so
//! that a reader's snapshot stays as it is while a writer makes the next one. A pure structure: no lock.

use std::str::Split;
use std::sync::Arc;

use super::exact::{Exact, Subscribers};
use super::shared::{Group, Load};
use super::small_map::SmallMap;
use super::{Match, SubscriberId, SubscriptionOptions};
use crate::codec::topic::split_share;

/// The groups of one filter, by their names.
type Groups = SmallMap<Arc<str>, Arc<Group>>;

/// The groups of the filters that end at a node, and with `#` behind it.
#[derive(Debug, Clone, Default)]
struct SharedHere {
    exact: Groups,
    multi: Groups,
}

/// One level: the filters that end here, those that end with `#` behind here, and those that go on.
#[derive(Debug, Clone, Default)]
struct Node {
    exact: Subscribers,
    multi: Option<Box<Subscribers>>,
    shared: Option<Box<SharedHere>>,
    plus: Option<Arc<Node>>,
    children: SmallMap<Arc<str>, Arc<Node>>,
}

/// What a walk comes by.
enum Found<'a> {
    Subscribers(&'a Subscribers),
    Groups(&'a Groups),
}

/// All subscriptions.
#[derive(Debug, Clone, Default)]
pub struct Subscriptions {
    /// Filters with wildcards, and those of groups.
    root: Arc<Node>,
    /// All others.
    exact: Exact,
    count: usize,
    /// How many of them are shared.
    shared: usize,
    generation: u64,
}

/// A filter taken apart: the group of a shared subscription, the levels in front of a `#`, and whether there is one.
struct Levels<'a> {
    group: Option<&'a str>,
    path: Option<&'a str>,
    multi: bool,
    /// No group and no wildcard.
    is_exact: bool,
}

impl<'a> Levels<'a> {
    fn of(filter: &'a str) -> Self {
        let (group, filter) = match split_share(filter) {
            Some((group, plain)) => (Some(group), plain),
            None => (None, filter),
        };
        let is_exact = group.is_none() && !filter.contains(['+', '#']);
        let (path, multi) = match filter.strip_suffix('#') {
            Some("") => (None, true),
            Some(path) if path.ends_with('/') => (path.strip_suffix('/'), true),
            _ => (Some(filter), false),
        };
        Self {
            group,
            path,
            multi,
            is_exact,
        }
    }

    fn iter(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        self.path.into_iter().flat_map(|path| path.split('/'))
    }
}

impl Subscriptions {
    /// None yet.
    pub fn new(generation: u64) -> Self {
        Self {
            generation,
            ..Self::default()
        }
    }

    /// Which version of the subscriptions this is.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// What follows is a change.
    pub fn begin_generation(&mut self) {
        self.generation += 1;
    }

    /// Subscriptions in all.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Shared subscriptions among them.
    pub fn shared(&self) -> usize {
        self.shared
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Enters or replaces a subscription; true when it is new [MQTT-3.8.4-3]. The filter was checked when decoded.
    /// `load`: of the session, looked at when a member of a group is chosen.
    pub fn insert(
        &mut self,
        filter: &str,
        who: SubscriberId,
        options: SubscriptionOptions,
        load: Option<&Arc<Load>>,
    ) -> bool {
        let levels = Levels::of(filter);
        let is_new = match levels.is_exact {
            true => {
                self.exact
                    .change(filter, |subscribers| subscribers.insert(who, options).is_none())
                    == Some(true)
            }
            false => self.insert_into_tree(filter, &levels, (who, options), load),
        };
        self.count += usize::from(is_new);
        self.shared += usize::from(is_new && levels.group.is_some());
        is_new
    }

    fn insert_into_tree(
        &mut self,
        filter: &str,
        levels: &Levels<'_>,
        (who, options): (SubscriberId, SubscriptionOptions),
        load: Option<&Arc<Load>>,
    ) -> bool {
        let mut node = Arc::make_mut(&mut self.root);
        for level in levels.iter() {
            node = node.child_or_new(level);
        }
        match levels.group {
            None => node
                .subscribers_or_new(levels.multi)
                .insert(who, options)
                .is_none(),
            Some(name) => {
                let groups = node.groups_or_new(levels.multi);
                let group = groups.get_or_insert_with(name, || (name.into(), Arc::new(Group::new(filter))));
                Arc::make_mut(group).insert(who, options, load.cloned().unwrap_or_default())
            }
        }
    }

    /// A member of a group has a connection now, or has none any more: it is placed anew.
    pub fn moved(&mut self, filter: &str, who: SubscriberId) {
        if let Some((options, load)) = self.group(filter).and_then(|group| group.entry(who)) {
            self.insert(filter, who, options, Some(&load));
        }
    }

    /// Removes a subscription with the nodes that stand empty then; false when there was none.
    pub fn remove(&mut self, filter: &str, who: SubscriberId) -> bool {
        if !self.contains(filter, who) {
            return false; // so that no path is copied for nothing
        }
        let levels = Levels::of(filter);
        match levels.is_exact {
            true => drop(self.exact.change(filter, |subscribers| subscribers.remove(&who))),
            false => Arc::make_mut(&mut self.root).remove(&mut levels.iter(), &levels, who),
        }
        self.count -= 1;
        self.shared -= usize::from(levels.group.is_some());
        true
    }

    /// Whether `who` holds `filter`.
    pub fn contains(&self, filter: &str, who: SubscriberId) -> bool {
        let levels = Levels::of(filter);
        if levels.is_exact {
            return self.exact.get(filter).is_some_and(|s| s.get(&who).is_some());
        }
        let Some(node) = self.node(&levels) else {
            return false;
        };
        match levels.group {
            None => node
                .subscribers(levels.multi)
                .is_some_and(|s| s.get(&who).is_some()),
            Some(name) => node
                .groups(levels.multi)
                .and_then(|groups| groups.get(name))
                .is_some_and(|group| group.contains(who)),
        }
    }

    /// The group of a whole filter, `$share/...`.
    pub fn group(&self, filter: &str) -> Option<&Group> {
        let levels = Levels::of(filter);
        let groups = self.node(&levels)?.groups(levels.multi)?;
        groups.get(levels.group?).map(|group| &**group)
    }

    fn node(&self, levels: &Levels<'_>) -> Option<&Arc<Node>> {
        let mut node = &self.root;
        for level in levels.iter() {
            node = node.child(level)?;
        }
        Some(node)
    }

    /// Appends who is to get a message on `topic`: each subscriber once, with the greatest QoS and all identifiers of
    /// its filters that match (section 3.3.4). Calls `shared` for each group that is to get it, too.
    pub fn matches<'a>(&'a self, topic: &str, into: &mut Vec<Match>, mut shared: impl FnMut(&'a Group)) {
        let start = into.len();
        let mut sources = 0;
        let mut found = |found: Found<'a>| match found {
            Found::Subscribers(subscribers) => {
                sources += usize::from(!subscribers.is_empty());
                subscribers.each(|who, options| into.push(options.as_match(*who)));
            }
            Found::Groups(groups) => groups.each(|_, group| shared(group)),
        };
        if let Some(subscribers) = self.exact.get(topic) {
            found(Found::Subscribers(subscribers));
        }
        let mut levels = topic.split('/');
        match topic.starts_with('$') {
            false => self.root.walk(levels, &mut found),
            true => {
                // Wildcards at the first level do not match these [MQTT-4.7.2-1].
                if let Some(child) = levels.next().and_then(|first| self.root.children.get(first)) {
                    child.walk(levels, &mut found);
                }
            }
        }
        if sources > 1 {
            merge(into, start);
        }
    }
}

#[cfg(test)]
impl Subscriptions {
    /// Whether no node is left.
    pub fn is_pruned(&self) -> bool {
        self.root.is_empty() && self.exact.is_empty()
    }
}

/// Leaves one entry per subscriber from `start` on.
fn merge(matches: &mut Vec<Match>, start: usize) {
    let mut found = matches.split_off(start);
    found.sort_unstable_by_key(|found| found.who);
    let mut found = found.into_iter();
    let Some(mut open) = found.next() else { return };
    for next in found {
        match open.who == next.who {
            true => open.merge(next),
            false => matches.push(std::mem::replace(&mut open, next)),
        }
    }
    matches.push(open);
}

impl Node {
    fn is_empty(&self) -> bool {
        self.exact.is_empty()
            && self.multi.is_none()
            && self.shared.is_none()
            && self.plus.is_none()
            && self.children.is_empty()
    }

    fn child(&self, level: &str) -> Option<&Arc<Node>> {
        match level {
            "+" => self.plus.as_ref(),
            _ => self.children.get(level),
        }
    }

    fn child_or_new(&mut self, level: &str) -> &mut Node {
        let child = match level {
            "+" => self.plus.get_or_insert_default(),
            _ => self
                .children
                .get_or_insert_with(level, || (level.into(), Arc::default())),
        };
        Arc::make_mut(child)
    }

    fn subscribers(&self, multi: bool) -> Option<&Subscribers> {
        match multi {
            true => self.multi.as_deref(),
            false => Some(&self.exact),
        }
    }

    fn subscribers_or_new(&mut self, multi: bool) -> &mut Subscribers {
        match multi {
            true => self.multi.get_or_insert_default(),
            false => &mut self.exact,
        }
    }

    fn groups(&self, multi: bool) -> Option<&Groups> {
        let shared = self.shared.as_ref()?;
        Some(if multi { &shared.multi } else { &shared.exact })
    }

    fn groups_or_new(&mut self, multi: bool) -> &mut Groups {
        let shared = self.shared.get_or_insert_default();
        if multi {
            &mut shared.multi
        } else {
            &mut shared.exact
        }
    }

    /// A filter has at most `max_topic_levels` levels: so deep does this go.
    fn remove<'a>(
        &mut self,
        path: &mut impl Iterator<Item = &'a str>,
        levels: &Levels<'_>,
        who: SubscriberId,
    ) {
        let Some(level) = path.next() else {
            return match levels.group {
                None => self.remove_subscriber(levels.multi, who),
                Some(name) => self.remove_member(levels.multi, name, who),
            };
        };
        let child = match level {
            "+" => self.plus.as_mut(),
            _ => self.children.get_mut(level),
        };
        let Some(child) = child else { return };
        let child = Arc::make_mut(child);
        child.remove(path, levels, who);
        if child.is_empty() {
            match level {
                "+" => self.plus = None,
                _ => drop(self.children.remove(level)),
            }
        }
    }

    fn remove_subscriber(&mut self, multi: bool, who: SubscriberId) {
        self.subscribers_or_new(multi).remove(&who);
        if self.multi.as_ref().is_some_and(|multi| multi.is_empty()) {
            self.multi = None;
        }
    }

    fn remove_member(&mut self, multi: bool, name: &str, who: SubscriberId) {
        let groups = self.groups_or_new(multi);
        if let Some(group) = groups.get_mut(name) {
            let group = Arc::make_mut(group);
            group.remove(who);
            if group.is_empty() {
                groups.remove(name);
            }
        }
        let shared = self.shared.as_deref();
        if shared.is_some_and(|shared| shared.exact.is_empty() && shared.multi.is_empty()) {
            self.shared = None;
        }
    }

    fn walk<'a>(&'a self, mut levels: Split<'_, char>, found: &mut impl FnMut(Found<'a>)) {
        if let Some(multi) = &self.multi {
            found(Found::Subscribers(multi)); // `a/#` matches `a` too
        }
        if let Some(shared) = &self.shared {
            found(Found::Groups(&shared.multi));
        }
        let Some(level) = levels.next() else {
            found(Found::Subscribers(&self.exact));
            if let Some(shared) = &self.shared {
                found(Found::Groups(&shared.exact));
            }
            return;
        };
        if let Some(plus) = &self.plus {
            plus.walk(levels.clone(), found);
        }
        if let Some(child) = self.children.get(level) {
            child.walk(levels, found);
        }
    }
}
