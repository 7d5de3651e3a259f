//! Who subscribed to what: a tree by topic level, persistent, so that a reader's snapshot stays as it is while a writer
//! makes the next one. A pure structure: no lock.

use std::str::Split;
use std::sync::Arc;

use super::small_map::SmallMap;
use super::{Match, SubscriberId, SubscriptionOptions};

/// The subscribers of one filter.
type Subscribers = SmallMap<SubscriberId, SubscriptionOptions>;

/// One level: the filters that end here, those that end with `#` behind here, and those that go on.
#[derive(Debug, Clone, Default)]
struct Node {
    exact: Subscribers,
    multi: Option<Box<Subscribers>>,
    plus: Option<Arc<Node>>,
    children: SmallMap<Arc<str>, Arc<Node>>,
}

/// All subscriptions.
#[derive(Debug, Clone, Default)]
pub struct Subscriptions {
    root: Arc<Node>,
    count: usize,
    generation: u64,
}

/// A filter taken apart: the levels in front of a `#`, and whether there is one.
struct Levels<'a> {
    path: Option<&'a str>,
    multi: bool,
}

impl<'a> Levels<'a> {
    fn of(filter: &'a str) -> Self {
        match filter.strip_suffix('#') {
            Some("") => Self {
                path: None,
                multi: true,
            },
            Some(path) => Self {
                path: path.strip_suffix('/'),
                multi: true,
            },
            None => Self {
                path: Some(filter),
                multi: false,
            },
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

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Enters or replaces a subscription; true when it is new [MQTT-3.8.4-3]. The filter was checked when decoded.
    pub fn insert(&mut self, filter: &str, who: SubscriberId, options: SubscriptionOptions) -> bool {
        let levels = Levels::of(filter);
        let mut node = Arc::make_mut(&mut self.root);
        for level in levels.iter() {
            node = node.child_or_new(level);
        }
        let is_new = node
            .subscribers_or_new(levels.multi)
            .insert(who, options)
            .is_none();
        self.count += usize::from(is_new);
        is_new
    }

    /// Removes a subscription with the nodes that stand empty then; false when there was none.
    pub fn remove(&mut self, filter: &str, who: SubscriberId) -> bool {
        if !self.contains(filter, who) {
            return false; // so that no path is copied for nothing
        }
        let levels = Levels::of(filter);
        Arc::make_mut(&mut self.root).remove(&mut levels.iter(), levels.multi, who);
        self.count -= 1;
        true
    }

    /// Whether `who` holds `filter`.
    pub fn contains(&self, filter: &str, who: SubscriberId) -> bool {
        let levels = Levels::of(filter);
        let mut node = &self.root;
        for level in levels.iter() {
            match node.child(level) {
                Some(next) => node = next,
                None => return false,
            }
        }
        node.subscribers(levels.multi)
            .is_some_and(|s| s.get(&who).is_some())
    }

    /// Appends who is to get a message on `topic`: each subscriber once, with the greatest QoS and all identifiers of
    /// its filters that match (section 3.3.4).
    pub fn matches(&self, topic: &str, into: &mut Vec<Match>) {
        let start = into.len();
        let mut sources = 0;
        let mut found = |subscribers: &Subscribers| {
            sources += usize::from(!subscribers.is_empty());
            subscribers.for_each(|who, options| into.push(options.as_match(*who)));
        };
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
        self.root.is_empty()
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
        self.exact.is_empty() && self.multi.is_none() && self.plus.is_none() && self.children.is_empty()
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

    /// Filters have at most `limits.max_topic_levels` levels: so deep does this go.
    fn remove<'a>(&mut self, levels: &mut impl Iterator<Item = &'a str>, multi: bool, who: SubscriberId) {
        let Some(level) = levels.next() else {
            self.subscribers_or_new(multi).remove(&who);
            if self
                .multi
                .as_ref()
                .is_some_and(|subscribers| subscribers.is_empty())
            {
                self.multi = None;
            }
            return;
        };
        let child = match level {
            "+" => self.plus.as_mut(),
            _ => self.children.get_mut(level),
        };
        let Some(child) = child else { return };
        let child = Arc::make_mut(child);
        child.remove(levels, multi, who);
        if child.is_empty() {
            match level {
                "+" => self.plus = None,
                _ => drop(self.children.remove(level)),
            }
        }
    }

    fn walk(&self, mut levels: Split<'_, char>, found: &mut impl FnMut(&Subscribers)) {
        if let Some(multi) = &self.multi {
            found(multi); // `a/#` matches `a` too
        }
        let Some(level) = levels.next() else {
            found(&self.exact);
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
