//! Subscriptions found by one look at one place: a hash table over whole filters, of which a reader sees each place change
//! at once and takes no lock. It grows one place at a time, so no change costs more because there are many, and what is in
//! it never moves as a whole.

use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwapOption;
use smallvec::SmallVec;

use super::small_map::SmallMap;
use super::{SubscriberId, SubscriptionOptions};

/// Places of the first segment; each further one doubles what there is.
const FIRST: usize = 256;

/// Segments: more than memory has room for.
const SEGMENTS: usize = 32;

/// Bytes of a filter that stand beside its subscriber.
const INLINE: usize = 40;

/// The subscribers of one filter: mostly one.
#[derive(Debug, Clone, Default)]
pub(super) enum Subscribers {
    #[default]
    None,
    One(SubscriberId, SubscriptionOptions),
    Many(Box<SmallMap<SubscriberId, SubscriptionOptions>>),
}

impl Subscribers {
    /// What `who` asked for.
    pub fn get(&self, who: SubscriberId) -> Option<&SubscriptionOptions> {
        match self {
            Self::None => None,
            Self::One(one, options) => (*one == who).then_some(options),
            Self::Many(many) => many.get(&who),
        }
    }

    /// Enters or replaces a subscriber; true when it is new.
    pub fn insert(&mut self, who: SubscriberId, options: SubscriptionOptions) -> bool {
        match self {
            Self::None => {
                *self = Self::One(who, options);
                true
            }
            Self::One(one, its) if *one == who => {
                *its = options;
                false
            }
            Self::One(one, its) => {
                let mut many = SmallMap::default();
                many.insert(*one, *its);
                many.insert(who, options);
                *self = Self::Many(Box::new(many));
                true
            }
            Self::Many(many) => many.insert(who, options).is_none(),
        }
    }

    /// False when it was none.
    pub fn remove(&mut self, who: SubscriberId) -> bool {
        match self {
            Self::None => false,
            Self::One(one, _) => {
                let was = *one == who;
                if was {
                    *self = Self::None;
                }
                was
            }
            Self::Many(many) => {
                let was = many.remove(&who).is_some();
                if many.len() == 1 {
                    let mut last = Self::None;
                    many.each(|who, options| last = Self::One(*who, *options));
                    *self = last;
                }
                was
            }
        }
    }

    pub fn is_empty(&self) -> bool {
        matches!(self, Self::None)
    }

    /// Calls `each` for every one.
    pub fn each(&self, mut each: impl FnMut(&SubscriberId, &SubscriptionOptions)) {
        match self {
            Self::None => {}
            Self::One(who, options) => each(who, options),
            Self::Many(many) => many.each(each),
        }
    }
}

/// By what a filter is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Key {
    pub hash: u64,
    /// Which levels of it are wildcards.
    pub shape: u32,
}

/// One filter, and the others of its place. It never changes.
#[derive(Debug, Clone)]
struct Node {
    next: Option<Arc<Node>>,
    key: Key,
    filter: SmallVec<[u8; INLINE]>,
    subscribers: Subscribers,
}

/// Bits of the filters that stand at a place: for one whose bit is missing it is not looked at. They lie close together, so
/// that what is not there costs little, however many there are.
fn mark(hash: u64) -> u8 {
    1 << (hash >> 61)
}

fn marks(first: Option<&Arc<Node>>) -> u8 {
    let all = std::iter::successors(first, |node| node.next.as_ref());
    all.fold(0, |marks, node| marks | mark(node.key.hash))
}

/// Where filters stand whose hashes begin alike.
type Place = ArcSwapOption<Node>;

#[derive(Debug)]
struct Segment {
    places: Box<[Place]>,
    marks: Box<[AtomicU8]>,
}

impl Segment {
    fn new(size: usize) -> Self {
        Self {
            places: (0..size).map(|_| Place::empty()).collect(),
            marks: (0..size).map(|_| AtomicU8::new(0)).collect(),
        }
    }

    fn set(&self, at: usize, first: Option<Arc<Node>>) {
        if let (Some(place), Some(known)) = (self.places.get(at), self.marks.get(at)) {
            known.store(marks(first.as_ref()), Ordering::Relaxed);
            place.store(first);
        }
    }
}

/// The table. One writer at a time, who brackets its changes: what a reader has seen during one may not be all.
#[derive(Debug)]
pub(super) struct Table {
    segments: [OnceLock<Segment>; SEGMENTS],
    /// Places in use. Where their number is no power of two, those that were split already have one bit more.
    places: AtomicUsize,
}

impl Default for Table {
    fn default() -> Self {
        Self {
            segments: Default::default(),
            places: AtomicUsize::new(FIRST),
        }
    }
}

/// Where a place stands: its segment, and where in it.
fn locate(place: usize) -> (usize, usize) {
    match (place / FIRST).checked_ilog2() {
        None => (0, place),
        Some(doubled) => (doubled as usize + 1, place - (FIRST << doubled)),
    }
}

/// Places of a segment.
fn size(segment: usize) -> usize {
    FIRST << segment.saturating_sub(1)
}

impl Table {
    /// Where a place stands that is in use, or comes into use.
    fn segment(&self, place: usize) -> Option<(&Segment, usize)> {
        let (segment, at) = locate(place);
        let made = self.segments.get(segment)?;
        Some((made.get_or_init(|| Segment::new(size(segment))), at))
    }

    /// The place of a hash.
    fn place_of(&self, hash: u64) -> usize {
        let places = self.places.load(Ordering::Acquire);
        let half = 1 << places.ilog2(); // all have as many bits; those that were split, one more
        let hash = hash as usize;
        let whole = hash & (2 * half - 1);
        if whole < places { whole } else { hash & (half - 1) }
    }

    /// Calls `found` with the subscribers of the filter of this key for which `is_it` holds.
    pub fn find<T>(
        &self,
        key: Key,
        is_it: impl Fn(&[u8]) -> bool,
        found: impl FnOnce(&Subscribers) -> T,
    ) -> Option<T> {
        let (segment, at) = locate(self.place_of(key.hash));
        let segment = self.segments.get(segment)?.get()?;
        if segment.marks.get(at)?.load(Ordering::Relaxed) & mark(key.hash) == 0 {
            return None;
        }
        let first = segment.places.get(at)?.load();
        let mut next = first.as_deref();
        while let Some(node) = next {
            if node.key == key && is_it(&node.filter) {
                return Some(found(&node.subscribers));
            }
            next = node.next.as_deref();
        }
        None
    }

    /// Changes the subscribers of a filter, of which there may be none before and after. Returns what `change` does, and by
    /// how many filters there are more now.
    pub fn change<T>(
        &self,
        key: Key,
        filter: &str,
        change: impl FnOnce(&mut Subscribers) -> T,
    ) -> Option<(T, isize)> {
        let (segment, at) = self.segment(self.place_of(key.hash))?;
        let first = segment.places.get(at)?.load_full();
        let mut before: SmallVec<[&Arc<Node>; 8]> = SmallVec::new();
        let mut next = first.as_ref();
        while let Some(node) = next.filter(|node| node.key != key || *node.filter != *filter.as_bytes()) {
            before.push(node);
            next = node.next.as_ref();
        }
        let (mut subscribers, text, rest) = match next {
            Some(node) => (node.subscribers.clone(), node.filter.clone(), node.next.clone()),
            None => (
                Subscribers::default(),
                SmallVec::from_slice(filter.as_bytes()),
                None,
            ),
        };
        let result = change(&mut subscribers);
        let was_there = isize::from(next.is_some());
        let changed = (!subscribers.is_empty()).then_some((text, subscribers));
        let is_there = isize::from(changed.is_some());
        let more = is_there - was_there;
        if is_there == 0 && was_there == 0 {
            return Some((result, 0));
        }
        let mut chain = match changed {
            Some((filter, subscribers)) => Some(Arc::new(Node {
                next: rest,
                key,
                filter,
                subscribers,
            })),
            None => rest,
        };
        for node in before.into_iter().rev() {
            chain = Some(Arc::new(Node {
                next: chain,
                ..Node::clone(node)
            }));
        }
        segment.set(at, chain);
        Some((result, more))
    }

    /// Makes one place more, for what one of the others has too much.
    fn split(&self) {
        let new = self.places.load(Ordering::Acquire);
        let half = 1 << new.ilog2();
        let (Some((from, from_at)), Some((to, to_at))) = (self.segment(new - half), self.segment(new)) else {
            return;
        };
        let all = from.places.get(from_at).and_then(Place::load_full);
        let (mut stay, mut go) = (None, None);
        let mut next = all.as_ref();
        while let Some(node) = next {
            let into = match node.key.hash as usize & half {
                0 => &mut stay,
                _ => &mut go,
            };
            *into = Some(Arc::new(Node {
                next: into.take(),
                ..Node::clone(node)
            }));
            next = node.next.as_ref();
        }
        if go.is_some() {
            to.set(to_at, go);
            from.set(from_at, stay);
        }
        self.places.store(new + 1, Ordering::Release);
    }

    /// Makes what the next change will need if it is much: ahead of it, so that no reader waits for that.
    pub fn prepare(&self) {
        self.segment(self.places.load(Ordering::Acquire) + 1);
    }

    /// Makes room for `filters`: so much at a time that it is enough for one more with each change.
    pub fn grow(&self, filters: usize) {
        for _ in 0..2 {
            if filters * 4 > self.places.load(Ordering::Acquire) * 3 {
                self.split();
            }
        }
    }

    /// Whether there is nothing in it.
    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        let mut segments = self.segments.iter().filter_map(OnceLock::get);
        segments.all(|segment| segment.places.iter().all(|place| place.load().is_none()))
    }
}
