//! Subscriptions whose filters have no wildcard, found by the whole topic at once: most devices have one such. Persistent
//! as the tree is: a change copies the path to what it changes.

use std::hash::BuildHasher;
use std::sync::Arc;

use super::small_map::{Seeded, SmallMap};
use super::{SubscriberId, SubscriptionOptions};

/// The subscribers of one filter.
pub type Subscribers = SmallMap<SubscriberId, SubscriptionOptions>;

/// Bits of the hash that choose a branch's child.
const BITS: u32 = 6;

/// Filters above which a leaf becomes a branch, while there are bits left.
const LEAF: usize = 16;

#[derive(Debug, Clone)]
struct Entry {
    filter: Box<str>,
    subscribers: Subscribers,
}

#[derive(Debug, Clone)]
enum Child {
    /// With the hashes of the filters, so that only the one that is looked for is touched.
    Leaf(Arc<[(u64, Arc<Entry>)]>),
    Branch(Arc<[Child]>),
}

impl Default for Child {
    fn default() -> Self {
        Self::Leaf(Arc::default())
    }
}

/// The table.
#[derive(Debug, Clone, Default)]
pub(super) struct Exact(Child);

fn hash(filter: &str) -> u64 {
    Seeded.hash_one(filter)
}

fn place(hash: u64, shift: u32) -> usize {
    (hash >> shift) as usize & ((1 << BITS) - 1)
}

impl Exact {
    /// Who subscribed to exactly this.
    pub fn get(&self, filter: &str) -> Option<&Subscribers> {
        let hash = hash(filter);
        let (mut child, mut shift) = (&self.0, 0);
        loop {
            match child {
                Child::Branch(children) => child = children.get(place(hash, shift))?,
                Child::Leaf(entries) => {
                    return entries
                        .iter()
                        .find(|(known, entry)| *known == hash && *entry.filter == *filter)
                        .map(|(_, entry)| &entry.subscribers);
                }
            }
            shift += BITS;
        }
    }

    /// Changes the subscribers of a filter, of which there may be none before and after.
    pub fn change<T>(&mut self, filter: &str, change: impl FnOnce(&mut Subscribers) -> T) -> Option<T> {
        self.0.change(hash(filter), 0, filter, change)
    }

    /// Whether nothing is left.
    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Child {
    fn is_empty(&self) -> bool {
        matches!(self, Self::Leaf(entries) if entries.is_empty())
    }

    /// A branch for each 6 bits of the hash: so deep does this go at most.
    fn change<T>(
        &mut self,
        hash: u64,
        shift: u32,
        filter: &str,
        change: impl FnOnce(&mut Subscribers) -> T,
    ) -> Option<T> {
        if let Self::Leaf(entries) = self
            && entries.len() > LEAF
            && shift + BITS < u64::BITS
        {
            *self = split(entries, shift);
        }
        match self {
            Self::Branch(children) => {
                let children = Arc::make_mut(children);
                let child = children.get_mut(place(hash, shift))?;
                let result = child.change(hash, shift + BITS, filter, change);
                if child.is_empty() && children.iter().all(Self::is_empty) {
                    *self = Self::default();
                }
                result
            }
            Self::Leaf(entries) => {
                let known = |(h, entry): &(u64, Arc<Entry>)| *h == hash && *entry.filter == *filter;
                let at = entries.iter().position(known);
                if at.is_none() {
                    let entry = Entry {
                        filter: filter.into(),
                        subscribers: Subscribers::default(),
                    };
                    let new = std::iter::once((hash, Arc::new(entry)));
                    *entries = entries.iter().cloned().chain(new).collect();
                }
                let at = at.unwrap_or(entries.len() - 1);
                let (_, entry) = Arc::make_mut(entries).get_mut(at)?;
                let entry = Arc::make_mut(entry);
                let result = change(&mut entry.subscribers);
                if entry.subscribers.is_empty() {
                    *entries = entries.iter().filter(|entry| !known(entry)).cloned().collect();
                }
                Some(result)
            }
        }
    }
}

/// A branch with what the leaf has.
fn split(entries: &[(u64, Arc<Entry>)], shift: u32) -> Child {
    let child = |at: usize| {
        let here = entries.iter().filter(|(hash, _)| place(*hash, shift) == at);
        Child::Leaf(here.cloned().collect())
    };
    Child::Branch((0..1 << BITS).map(child).collect())
}
