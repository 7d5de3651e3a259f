//! Events of workers that are ahead of the log: a worker knows what became of a message before its record is durable
//! and read. Kept until the record's chunk is applied, within a bound.
//!
//! An older message may have come into a queue by a subscription that is not read yet: it was retained. A worker speaks of
//! it when that subscription is durable, so that its events wait until the log is read as far as it was durable then.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use ahash::RandomState;

use crate::record::Origin;
use crate::store::event::StoreEvent;

/// Events that may wait. One that finds no room is lost: its message is then sent once more after a restart.
const MAX_EVENTS: usize = 1 << 20;

/// Worker and number of a chunk.
type ChunkKey = (u16, u64);

/// In place of a worker: what waits until the log is read up to a sequence, which stands in place of the number.
const LOG: u16 = u16::MAX;

/// What waits for its chunk.
#[derive(Debug, Default)]
pub(crate) struct HeldEvents {
    epoch: u64,
    /// The number behind the last chunk that was applied, by worker.
    next: Vec<u64>,
    by_chunk: BTreeMap<ChunkKey, Vec<StoreEvent>>,
    /// Where the PUBREC of a packet id waits, for its PUBCOMP to wait behind it.
    received: HashMap<(Arc<str>, u16), ChunkKey, RandomState>,
    count: usize,
    lost: u64,
}

impl HeldEvents {
    /// For the events of the run that began at `epoch`: what older records are named in stands in the log's past.
    pub fn new(epoch: u64) -> Self {
        Self {
            epoch,
            ..Self::default()
        }
    }

    /// Keeps an event whose record is not applied yet, or that came when the log was durable up to `behind` and not read
    /// that far; gives back one that can be acted on.
    pub fn sort(&mut self, event: StoreEvent, behind: Option<u64>) -> Option<StoreEvent> {
        let key = match &event {
            StoreEvent::Sent { origin, .. }
            | StoreEvent::Claimed { origin, .. }
            | StoreEvent::Received { origin, .. }
            | StoreEvent::Done { origin, .. } => self.ahead(origin).or(behind.map(|end| (LOG, end))),
            StoreEvent::Walked { .. } => behind.map(|end| (LOG, end)),
            StoreEvent::Completed { client, packet_id } => match self.received.is_empty() {
                true => None,
                false => self.received.get(&(client.clone(), *packet_id)).copied(),
            },
        };
        let Some(key) = key else { return Some(event) };
        if self.count >= MAX_EVENTS {
            self.lost += 1;
            return None;
        }
        if let StoreEvent::Received {
            client, packet_id, ..
        } = &event
        {
            self.received.insert((client.clone(), *packet_id), key);
        }
        self.count += 1;
        self.by_chunk.entry(key).or_default().push(event);
        None
    }

    fn ahead(&self, origin: &Origin) -> Option<ChunkKey> {
        let next = self.next.get(usize::from(origin.worker)).copied().unwrap_or(0);
        let ahead = origin.epoch == self.epoch && origin.number >= next;
        ahead.then_some((origin.worker, origin.number))
    }

    /// Chunk `number` of `worker` is applied: the events that waited for it, or for one before it that is lost.
    pub fn applied(&mut self, epoch: u64, worker: u16, number: u64) -> Vec<StoreEvent> {
        if epoch != self.epoch {
            return Vec::new();
        }
        let at = usize::from(worker);
        if self.next.len() <= at {
            self.next.resize(at + 1, 0);
        }
        if let Some(next) = self.next.get_mut(at) {
            *next = (*next).max(number.saturating_add(1));
        }
        self.free(worker, number)
    }

    /// The log is read up to `sequence`: the events that waited for that.
    pub fn read_to(&mut self, sequence: u64) -> Vec<StoreEvent> {
        self.free(LOG, sequence)
    }

    fn free(&mut self, worker: u16, number: u64) -> Vec<StoreEvent> {
        let mut freed = Vec::new();
        while let Some((key, _)) = self.by_chunk.range((worker, 0)..=(worker, number)).next() {
            let key = *key;
            freed.append(&mut self.by_chunk.remove(&key).unwrap_or_default());
        }
        self.count -= freed.len();
        for event in &freed {
            if let StoreEvent::Received {
                client, packet_id, ..
            } = event
            {
                self.received.remove(&(client.clone(), *packet_id));
            }
        }
        freed
    }

    /// Events that found no room since the last call.
    pub fn take_lost(&mut self) -> u64 {
        std::mem::take(&mut self.lost)
    }
}
