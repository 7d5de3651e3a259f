//! Filters in a tree by topic level: those of groups, and those whose shape is one too many. Persistent, so that a reader's
//! snapshot stays as it is while a writer makes the next one. A pure structure: no lock.

use std::str::Split;
use std::sync::Arc;

use super::shapes::in_front;
use super::shared::{Group, Load};
use super::small_map::SmallMap;
use super::{SubscriberId, SubscriptionOptions};
use crate::codec::topic::split_share;

/// The subscribers of one filter.
type Subscribers = SmallMap<SubscriberId, SubscriptionOptions>;

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
pub(super) enum Found<'a> {
    Subscribers(&'a Subscribers),
    Groups(&'a Groups),
}

/// All that stand here.
#[derive(Debug, Clone, Default)]
pub(super) struct Tree {
    root: Arc<Node>,
}

/// A filter taken apart: the group of a shared subscription, the levels in front of a `#`, and whether there is one.
struct Levels<'a> {
    group: Option<&'a str>,
    path: Option<&'a str>,
    multi: bool,
}

impl<'a> Levels<'a> {
    fn of(filter: &'a str) -> Self {
        let (group, filter) = match split_share(filter) {
            Some((group, plain)) => (Some(group), plain),
            None => (None, filter),
        };
        let (path, multi) = in_front(filter);
        Self { group, path, multi }
    }

    fn iter(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        self.path.into_iter().flat_map(|path| path.split('/'))
    }
}

impl Tree {
    /// Enters or replaces a subscription; true when it is new. `load`: of the session, looked at when a member of a group is
    /// chosen.
    pub fn insert(
        &mut self,
        filter: &str,
        who: SubscriberId,
        options: SubscriptionOptions,
        load: Option<&Arc<Load>>,
    ) -> bool {
        let levels = Levels::of(filter);
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

    /// Removes a subscription, which is there, with the nodes that stand empty then.
    pub fn remove(&mut self, filter: &str, who: SubscriberId) {
        let levels = Levels::of(filter);
        Arc::make_mut(&mut self.root).remove(&mut levels.iter(), &levels, who);
    }

    /// Whether `who` holds `filter`.
    pub fn contains(&self, filter: &str, who: SubscriberId) -> bool {
        let levels = Levels::of(filter);
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

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.root.is_empty()
    }

    /// Calls `found` for what takes `topic`.
    pub fn walk<'a>(&'a self, topic: &str, found: &mut impl FnMut(Found<'a>)) {
        let mut levels = topic.split('/');
        match topic.starts_with('$') {
            false => self.root.walk(levels, found),
            true => {
                // Wildcards at the first level do not match these [MQTT-4.7.2-1].
                if let Some(child) = levels.next().and_then(|first| self.root.children.get(first)) {
                    child.walk(levels, found);
                }
            }
        }
    }
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
