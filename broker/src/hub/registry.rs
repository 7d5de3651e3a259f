//! Which session belongs to which client id, and which sessions without a connection are kept: at most so many, the
//! one that was left longest ago goes first. Pure; each worker has one.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use ahash::RandomState;

/// The sessions of one worker, by client id and by the time they were left.
#[derive(Debug, Default)]
pub struct Registry {
    slots: HashMap<Arc<str>, u32, RandomState>,
    /// Slots without a connection, in the order in which they were left.
    left: BTreeMap<u64, u32>,
    /// Where a slot stands in `left`.
    left_at: HashMap<u32, u64, RandomState>,
    next: u64,
    max_kept: usize,
}

impl Registry {
    /// A registry that keeps up to `max_kept` sessions without a connection.
    pub fn new(max_kept: usize) -> Self {
        Self {
            max_kept,
            ..Self::default()
        }
    }

    /// The slot of a client id.
    pub fn find(&self, client_id: &str) -> Option<u32> {
        self.slots.get(client_id).copied()
    }

    /// Enters a session. It replaces what the client id had before.
    pub fn insert(&mut self, client_id: Arc<str>, slot: u32) {
        if let Some(before) = self.slots.insert(client_id, slot) {
            self.attached(before);
        }
    }

    /// Removes a session.
    pub fn remove(&mut self, client_id: &str) {
        if let Some(slot) = self.slots.remove(client_id) {
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
