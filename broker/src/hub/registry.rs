//! Which session belongs to which client id, and which sessions without a connection are kept: at most so many, the
//! one that was left longest ago goes first. Pure; each worker has one.

use std::collections::{BTreeMap, HashMap};

use ahash::RandomState;
use hashbrown::HashTable;

/// The sessions of one worker, by client id and by the time they were left. The names themselves are the sessions' own.
#[derive(Debug, Default)]
pub struct Registry {
    /// Half of the hash of a client id, and its slot.
    slots: HashTable<(u32, u32)>,
    names: RandomState,
    /// Slots without a connection, in the order in which they were left.
    left: BTreeMap<u64, u32>,
    /// Where a slot stands in `left`.
    left_at: HashMap<u32, u64, RandomState>,
    next: u64,
    max_kept: usize,
}

/// A hash for the table, which looks at its top and its bottom, of the half that is kept.
fn whole(half: u32) -> u64 {
    u64::from(half) * 0x1_0000_0001
}

impl Registry {
    /// A registry that keeps up to `max_kept` sessions without a connection.
    pub fn new(max_kept: usize) -> Self {
        Self {
            max_kept,
            ..Self::default()
        }
    }

    fn half(&self, client_id: &str) -> u32 {
        self.names.hash_one(client_id) as u32
    }

    /// The slot of a client id. `is_of` says whether the session in a slot has this client id.
    pub fn find(&self, client_id: &str, is_of: impl Fn(u32) -> bool) -> Option<u32> {
        let half = self.half(client_id);
        let found = |(known, slot): &(u32, u32)| *known == half && is_of(*slot);
        self.slots.find(whole(half), found).map(|(_, slot)| *slot)
    }

    /// Enters a session of whose client id there is none.
    pub fn insert(&mut self, client_id: &str, slot: u32) {
        let half = self.half(client_id);
        self.slots
            .insert_unique(whole(half), (half, slot), |(half, _)| whole(*half));
    }

    /// Removes the session in `slot`.
    pub fn remove(&mut self, client_id: &str, slot: u32) {
        let half = self.half(client_id);
        if let Ok(entry) = self.slots.find_entry(whole(half), |known| *known == (half, slot)) {
            entry.remove();
            self.attached(slot);
        }
    }

    /// The session in `slot` has a connection.
    pub fn attached(&mut self, slot: u32) {
        if let Some(at) = self.left_at.remove(&slot) {
            self.left.remove(&at);
        }
    }

    /// The session in `slot` is without a connection and kept. Returns the slot of another that must go for it, and
    /// that is the caller's to [`remove`](Registry::remove).
    pub fn detached(&mut self, slot: u32) -> Option<u32> {
        self.restored(slot);
        if self.left.len() <= self.max_kept {
            return None;
        }
        let (_, oldest) = self.left.pop_first()?;
        self.left_at.remove(&oldest);
        Some(oldest)
    }

    /// The session in `slot` is without a connection, since before a restart: none must go for it.
    pub fn restored(&mut self, slot: u32) {
        self.attached(slot);
        self.left.insert(self.next, slot);
        self.left_at.insert(slot, self.next);
        self.next += 1;
    }

    /// Sessions.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Sessions without a connection.
    pub fn kept(&self) -> usize {
        self.left.len()
    }
}
