//! Who subscribed to what. Filters stand in one table, found whole; those of groups, and of shapes that few have, in a tree.
//! A writer changes one place of it at a time; readers take no lock, and look again when a change came in between.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering, fence};

use arc_swap::{ArcSwap, Cache};
use smallvec::SmallVec;

use super::shapes::{MOST_SHAPES, Shape, Shapes, exact_key, is_exact};
use super::shared::{Group, Load};
use super::table::{Key, Subscribers, Table};
use super::tree::{Found, Tree};
use super::{Match, SubscriberId, SubscriptionOptions};
use crate::codec::topic::split_share;

/// Looks at the subscriptions while others change them, before one waits for the one that does.
const LOOKS: usize = 8;

/// What readers see.
#[derive(Debug)]
struct Inside {
    table: Table,
    shapes: Arc<ArcSwap<Shapes>>,
    tree: Arc<ArcSwap<Tree>>,
    /// The generation that is being made, and the one that is whole.
    begun: AtomicU64,
    done: AtomicU64,
    count: AtomicUsize,
    /// How many of them are shared.
    shared: AtomicUsize,
}

impl Inside {
    /// Appends who is to get a message on `topic`, as of `shapes` and `tree`.
    fn collect<'a>(
        &self,
        topic: &str,
        (shapes, tree): (&Shapes, &'a Tree),
        into: &mut Vec<Match>,
        mut shared: impl FnMut(&'a Group),
    ) {
        let start = into.len();
        let mut sources = 0;
        let mut look = |key: Key, is_it: &dyn Fn(&[u8]) -> bool, into: &mut Vec<Match>| {
            let found = self.table.find(key, is_it, |subscribers| {
                subscribers.each(|who, options| into.push(options.as_match(*who)));
            });
            sources += usize::from(found.is_some());
        };
        look(exact_key(topic), &|filter| filter == topic.as_bytes(), into);
        shapes.each(topic, |key, is_it| look(key, is_it, into));
        tree.walk(topic, &mut |found| match found {
            Found::Subscribers(subscribers) => {
                sources += usize::from(!subscribers.is_empty());
                subscribers.each(|who, options| into.push(options.as_match(*who)));
            }
            Found::Groups(groups) => groups.each(|_, group| shared(group)),
        });
        if sources > 1 {
            merge(into, start);
        }
    }
}

/// All subscriptions, and the right to change them: one at a time.
#[derive(Debug)]
pub struct Subscriptions {
    inside: Arc<Inside>,
    /// Filters in the table.
    filters: usize,
    /// How many of them have which shape.
    of_shape: Vec<(u32, usize)>,
}

/// The subscriptions for one reader: looking at them takes no lock.
#[derive(Debug)]
pub struct View {
    inside: Arc<Inside>,
    shapes: Cache<Arc<ArcSwap<Shapes>>, Arc<Shapes>>,
    tree: Cache<Arc<ArcSwap<Tree>>, Arc<Tree>>,
}

/// Numbers of them that anyone may ask for.
#[derive(Debug, Clone)]
pub struct Figures(Arc<Inside>);

impl Figures {
    /// Subscriptions in all.
    pub fn count(&self) -> usize {
        self.0.count.load(Ordering::Relaxed)
    }

    /// Shared subscriptions among them.
    pub fn shared(&self) -> usize {
        self.0.shared.load(Ordering::Relaxed)
    }
}

impl Default for Subscriptions {
    fn default() -> Self {
        Self::new(0)
    }
}

impl Subscriptions {
    /// None yet.
    pub fn new(generation: u64) -> Self {
        let inside = Inside {
            table: Table::default(),
            shapes: Arc::default(),
            tree: Arc::default(),
            begun: AtomicU64::new(generation),
            done: AtomicU64::new(generation),
            count: AtomicUsize::new(0),
            shared: AtomicUsize::new(0),
        };
        Self {
            inside: Arc::new(inside),
            filters: 0,
            of_shape: Vec::new(),
        }
    }

    /// For one more reader.
    pub fn view(&self) -> View {
        View {
            shapes: Cache::new(self.inside.shapes.clone()),
            tree: Cache::new(self.inside.tree.clone()),
            inside: self.inside.clone(),
        }
    }

    /// How many there are.
    pub fn figures(&self) -> Figures {
        Figures(self.inside.clone())
    }

    /// Which version of the subscriptions this is: it rises by one with each change.
    pub fn generation(&self) -> u64 {
        self.inside.done.load(Ordering::Acquire)
    }

    /// Subscriptions in all.
    pub fn len(&self) -> usize {
        self.inside.count.load(Ordering::Relaxed)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Changes something, in brackets that readers see.
    fn change<T>(&mut self, change: impl FnOnce(&mut Self) -> T) -> T {
        let _bracket = Bracket::open(&self.inside);
        change(self)
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
        self.inside.table.prepare();
        self.change(|all| {
            let is_new = match all.key_or_new(filter, who) {
                Some(key) => all.change_table(key, filter, |its| its.insert(who, options)) == Some(true),
                None => all.change_tree(|tree| tree.insert(filter, who, options, load)),
            };
            let is_shared = split_share(filter).is_some();
            all.inside.count.fetch_add(usize::from(is_new), Ordering::Relaxed);
            let shared = usize::from(is_new && is_shared);
            all.inside.shared.fetch_add(shared, Ordering::Relaxed);
            is_new
        })
    }

    /// The key of a filter in the table, into whose shapes its own may come; none if it stands in the tree, or will.
    fn key_or_new(&self, filter: &str, who: SubscriberId) -> Option<Key> {
        if split_share(filter).is_some() {
            return None;
        }
        if is_exact(filter) {
            return Some(exact_key(filter));
        }
        let shape = Shape::of(filter)?;
        let (shapes, tree) = (self.inside.shapes.load(), self.inside.tree.load());
        if !tree.is_empty() && tree.contains(filter, who) {
            return None; // it came when there was no room for its shape
        }
        let known = shapes.key(shape, filter);
        if known.is_some() || shapes.len() >= MOST_SHAPES {
            return known;
        }
        self.inside.shapes.store(Arc::new(shapes.with(shape)));
        self.inside.shapes.load().key(shape, filter)
    }

    /// The key under which `who` holds a filter in the table.
    fn key_held(&self, filter: &str, who: SubscriberId) -> Option<Key> {
        let key = match is_exact(filter) {
            true => exact_key(filter),
            false => self.inside.shapes.load().key(Shape::of(filter)?, filter)?,
        };
        let is_it = |known: &[u8]| known == filter.as_bytes();
        let table = &self.inside.table;
        let holds = table.find(key, is_it, |subscribers| subscribers.get(who).is_some());
        (holds == Some(true)).then_some(key)
    }

    fn change_table<T>(
        &mut self,
        key: Key,
        filter: &str,
        change: impl FnOnce(&mut Subscribers) -> T,
    ) -> Option<T> {
        let (result, more) = self.inside.table.change(key, filter, change)?;
        self.filters = self.filters.saturating_add_signed(more);
        self.inside.table.grow(self.filters);
        if !is_exact(filter) {
            self.count_shape(key.shape, more);
        }
        Some(result)
    }

    /// So many more filters have the shape of this number. One that none has is not asked about any more.
    fn count_shape(&mut self, id: u32, more: isize) {
        let at = self.of_shape.iter().position(|(known, _)| *known == id);
        let at = at.unwrap_or_else(|| {
            self.of_shape.push((id, 0));
            self.of_shape.len() - 1
        });
        let Some((_, count)) = self.of_shape.get_mut(at) else {
            return;
        };
        *count = count.saturating_add_signed(more);
        if *count == 0 {
            self.of_shape.swap_remove(at);
            let fewer = self.inside.shapes.load().without(id);
            self.inside.shapes.store(Arc::new(fewer));
        }
    }

    fn change_tree<T>(&mut self, change: impl FnOnce(&mut Tree) -> T) -> T {
        let mut next = Tree::clone(&self.inside.tree.load());
        let result = change(&mut next);
        self.inside.tree.store(Arc::new(next));
        result
    }

    /// A member of a group has a connection now, or has none any more: it is placed anew.
    pub fn moved(&mut self, filter: &str, who: SubscriberId) {
        let tree = self.inside.tree.load_full();
        if let Some((options, load)) = tree.group(filter).and_then(|group| group.entry(who)) {
            self.insert(filter, who, options, Some(&load));
        }
    }

    /// Removes a subscription; false when there was none.
    pub fn remove(&mut self, filter: &str, who: SubscriberId) -> bool {
        let is_shared = split_share(filter).is_some();
        let key = match is_shared {
            true => None,
            false => self.key_held(filter, who),
        };
        if key.is_none() && !self.inside.tree.load().contains(filter, who) {
            return false;
        }
        self.change(|all| match key {
            Some(key) => drop(all.change_table(key, filter, |its| its.remove(who))),
            None => all.change_tree(|tree| tree.remove(filter, who)),
        });
        self.inside.count.fetch_sub(1, Ordering::Relaxed);
        let shared = usize::from(is_shared);
        self.inside.shared.fetch_sub(shared, Ordering::Relaxed);
        true
    }

    /// Whether `who` holds `filter`.
    pub fn contains(&self, filter: &str, who: SubscriberId) -> bool {
        let in_table = split_share(filter).is_none() && self.key_held(filter, who).is_some();
        in_table || self.inside.tree.load().contains(filter, who)
    }

    /// Appends who is to get a message on `topic`: each subscriber once, with the greatest QoS and all identifiers of
    /// its filters that match (section 3.3.4). Groups that are to get it are left out.
    pub fn matches(&self, topic: &str, into: &mut Vec<Match>) {
        let (shapes, tree) = (self.inside.shapes.load(), self.inside.tree.load());
        self.inside.collect(topic, (&shapes, &tree), into, |_| {});
    }

    /// Whether nothing of what was removed is left.
    #[cfg(test)]
    pub fn is_pruned(&self) -> bool {
        let inside = &self.inside;
        let (shapes, tree) = (inside.shapes.load(), inside.tree.load());
        tree.is_empty() && shapes.len() == 0 && inside.table.is_empty() && self.filters == 0
    }
}

/// Closes when it goes, also by a panic: readers would wait for ever for the end of that change.
struct Bracket {
    inside: Arc<Inside>,
    next: u64,
}

impl Bracket {
    fn open(inside: &Arc<Inside>) -> Self {
        let next = inside.done.load(Ordering::Acquire) + 1;
        inside.begun.store(next, Ordering::Relaxed);
        fence(Ordering::Release);
        Self {
            inside: inside.clone(),
            next,
        }
    }
}

impl Drop for Bracket {
    fn drop(&mut self) {
        self.inside.done.store(self.next, Ordering::Release);
    }
}

impl View {
    /// Appends who is to get a message on `topic`: each subscriber once for what it subscribed to alone, and of each group
    /// the one that `choose` says. Returns the generation that said so; none if others changed the subscriptions meanwhile,
    /// time and again: then nothing is appended.
    pub fn matches(
        &mut self,
        topic: &str,
        into: &mut Vec<Match>,
        choose: impl Fn(&Group) -> Option<Match>,
    ) -> Option<u64> {
        let start = into.len();
        (0..LOOKS).find_map(|_| {
            let generation = self.inside.done.load(Ordering::Acquire);
            if self.inside.count.load(Ordering::Relaxed) > 0 {
                let mut groups: SmallVec<[&Group; 4]> = SmallVec::new();
                let seen = (&**self.shapes.load(), &**self.tree.load());
                self.inside.collect(topic, seen, into, |group| groups.push(group));
                if self.inside.is_still(generation) {
                    into.extend(groups.into_iter().filter_map(&choose));
                    return Some(generation);
                }
            } else if self.inside.is_still(generation) {
                return Some(generation);
            }
            into.truncate(start);
            None
        })
    }

    /// The group of a whole filter, `$share/...`.
    pub fn group(&mut self, filter: &str) -> Option<&Group> {
        self.tree.load().group(filter)
    }
}

impl Inside {
    /// Whether nothing was changed since `generation` was whole.
    fn is_still(&self, generation: u64) -> bool {
        fence(Ordering::Acquire);
        self.begun.load(Ordering::Relaxed) == generation
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

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;
    use crate::codec::QoS;
    use crate::hub::tests::{options, who};

    #[test]
    fn a_change_that_panics_leaves_readers_what_there_is() {
        let mut subscriptions = Subscriptions::default();
        subscriptions.insert("a/b", who(1), options(QoS::AtLeastOnce, None), None);
        let before = subscriptions.generation();
        let broken = catch_unwind(AssertUnwindSafe(|| {
            subscriptions.change(|_| panic!("expected by the test"));
        }));
        assert!(broken.is_err());
        let mut found = Vec::new();
        let seen = subscriptions.view().matches("a/b", &mut found, |_| None);
        assert_eq!((seen, found.len()), (Some(before + 1), 1));
    }
}
