//! The file as maps: what a commit leaves.

use std::collections::BTreeMap;

use crate::spool::Position;
use crate::store::projection::{Bounds, ChangeSet, Loading, Projection};

#[derive(Debug, Clone, Default)]
pub struct Tables {
    pub applied: Option<Position>,
    next_number: u64,
    sessions: BTreeMap<u32, Vec<u8>>,
    wills: BTreeMap<u32, Vec<u8>>,
    subscriptions: BTreeMap<(u32, String), Vec<u8>>,
    queue: BTreeMap<(u32, u64), Vec<u8>>,
    pub messages: BTreeMap<u64, Vec<u8>>,
    taken: BTreeMap<(u32, u16), Vec<u8>>,
    retained: BTreeMap<String, u64>,
}

impl Tables {
    pub fn commit(&mut self, set: ChangeSet) {
        self.applied = set.applied;
        self.next_number = set.next_number;
        let remove = set.remove;
        remove
            .sessions
            .iter()
            .for_each(|key| drop(self.sessions.remove(key)));
        remove.wills.iter().for_each(|key| drop(self.wills.remove(key)));
        for (number, filter) in remove.subscriptions {
            self.subscriptions.remove(&(number, filter.into()));
        }
        remove.queue.iter().for_each(|key| drop(self.queue.remove(key)));
        remove
            .messages
            .iter()
            .for_each(|key| drop(self.messages.remove(key)));
        remove.taken.iter().for_each(|key| drop(self.taken.remove(key)));
        remove
            .retained
            .iter()
            .for_each(|key| _ = self.retained.remove(&**key));
        let put = set.put;
        self.sessions.extend(put.sessions);
        self.wills.extend(put.wills);
        for (number, filter, row) in put.subscriptions {
            self.subscriptions.insert((number, filter.into()), row);
        }
        for (number, order, row) in put.queue {
            self.queue.insert((number, order), row);
        }
        for (number, row) in put.messages {
            self.messages.insert(number, row.into());
        }
        for (number, packet_id, row) in put.taken {
            self.taken.insert((number, packet_id), row);
        }
        for (topic, message) in put.retained {
            self.retained.insert(topic.to_string(), message);
        }
    }

    pub fn load(&self, bounds: Bounds, epoch: u64, now_ms: u64) -> Loading {
        let mut loading = Loading::new(Projection::new(bounds, epoch), now_ms);
        loading.begin(self.applied, self.next_number, true);
        for (number, row) in &self.sessions {
            loading.session(*number, row).unwrap();
        }
        loading.sessions_end();
        for (number, row) in &self.wills {
            loading.will(*number, row).unwrap();
        }
        for ((number, filter), row) in &self.subscriptions {
            loading.subscription(*number, filter, row).unwrap();
        }
        for (number, row) in &self.messages {
            loading.message(*number, row).unwrap();
        }
        for ((number, order), row) in &self.queue {
            loading.queued(*number, *order, row).unwrap();
        }
        for ((number, packet_id), row) in &self.taken {
            loading.taken(*number, *packet_id, row).unwrap();
        }
        for (topic, message) in &self.retained {
            loading.retained(topic, *message).unwrap();
        }
        loading.end();
        loading
    }

    /// Rows in all, but for messages.
    pub fn rows(&self) -> usize {
        self.sessions.len()
            + self.wills.len()
            + self.subscriptions.len()
            + self.queue.len()
            + self.taken.len()
            + self.retained.len()
    }
}
