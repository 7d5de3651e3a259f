//! What is on its way and what is done (pure): a [`Lane`] for each partition, and the [`Ledger`] of the chunks that are
//! still needed, which tells how far the log may be released.
//!
//! ```text
//!            base                base + sent
//!   done ──▶ │ sent, no report   │ waits to be sent  ◀── push
//! ```
//!
//! A lane is committed up to `base`: that is where its next producer goes on. A report beyond `base` is kept until all
//! before it are done, so that a later success never stands for an earlier failure.

use std::collections::VecDeque;

use forebay_broker::bus::Chunk;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mark {
    Open,
    Delivered,
    Refused,
}

#[derive(Debug)]
struct Item<T> {
    value: T,
    bytes: usize,
    mark: Mark,
}

/// The records of one partition, in order.
#[derive(Debug)]
pub struct Lane<T> {
    items: VecDeque<Item<T>>,
    bytes: usize,
    base: u64,
    sent: usize,
    sent_bytes: usize,
    /// Whether the producer in use has had a success here. Until then one record is alone on its way: a broker that
    /// knows nothing of a producer takes any sequence number, and a later success would hide an earlier failure.
    primed: bool,
    /// Records below this ticket go one at a time: one of them was refused in a batch.
    alone_until: u64,
}

impl<T> Default for Lane<T> {
    fn default() -> Self {
        Self {
            items: VecDeque::new(),
            bytes: 0,
            base: 0,
            sent: 0,
            sent_bytes: 0,
            primed: false,
            alone_until: 0,
        }
    }
}

impl<T> Lane<T> {
    /// Appends a record.
    pub fn push(&mut self, value: T, bytes: usize) {
        self.bytes += bytes;
        self.items.push_back(Item {
            value,
            bytes,
            mark: Mark::Open,
        });
    }

    /// Records that are not done.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether all is done.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Bytes of all that is not done.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Records that were sent and are not done.
    pub fn sent(&self) -> usize {
        self.sent
    }

    /// Bytes of those.
    pub fn sent_bytes(&self) -> usize {
        self.sent_bytes
    }

    /// Whether records are still to go one at a time.
    pub fn is_suspect(&self) -> bool {
        self.base < self.alone_until
    }

    /// The next record to send and its ticket, if one may go now with at most `max_bytes` on their way. A record
    /// that is larger goes when nothing else is on its way.
    pub fn next(&self, max_bytes: usize) -> Option<(u64, &T)> {
        let item = self.items.get(self.sent)?;
        let alone = !self.primed || self.is_suspect();
        let fits = self.sent == 0 || (!alone && self.sent_bytes + item.bytes <= max_bytes);
        fits.then_some((self.base + self.sent as u64, &item.value))
    }

    /// The record that [`Lane::next`] gave is with the producer.
    pub fn mark_sent(&mut self) {
        if let Some(item) = self.items.get(self.sent) {
            self.sent_bytes += item.bytes;
            self.sent += 1;
        }
    }

    /// The producer would not even take the record that [`Lane::next`] gave, and never will.
    pub fn mark_refused(&mut self) {
        if let Some(item) = self.items.get_mut(self.sent) {
            item.mark = Mark::Refused;
            self.sent_bytes += item.bytes;
            self.sent += 1;
        }
    }

    /// Kafka has the record of `ticket`. False when no such record is on its way.
    pub fn delivered(&mut self, ticket: u64) -> bool {
        match self.sent_item(ticket) {
            Some(item) => {
                item.mark = Mark::Delivered;
                true
            }
            None => false,
        }
    }

    /// The record of `ticket`, if it is on its way.
    pub fn sent_mut(&mut self, ticket: u64) -> Option<&mut T> {
        self.sent_item(ticket).map(|item| &mut item.value)
    }

    fn sent_item(&mut self, ticket: u64) -> Option<&mut Item<T>> {
        let at = usize::try_from(ticket.checked_sub(self.base)?).ok()?;
        if at >= self.sent {
            return None;
        }
        self.items.get_mut(at)
    }

    /// The ticket whose low bits are `low`, of which `bits` are given, if it is on its way.
    pub fn ticket(&self, low: u64, bits: u32) -> Option<u64> {
        let mask = (1 << bits) - 1;
        let ahead = low.wrapping_sub(self.base) & mask;
        (ahead < self.sent as u64).then(|| self.base + ahead)
    }

    /// Takes the oldest record if it is done; true with it when Kafka has it, false when it was refused.
    pub fn pop(&mut self) -> Option<(T, bool)> {
        let front = self.items.front()?;
        if self.sent == 0 || front.mark == Mark::Open {
            return None;
        }
        let item = self.items.pop_front()?;
        self.forget(item.bytes);
        let delivered = item.mark == Mark::Delivered;
        self.primed |= delivered;
        Some((item.value, delivered))
    }

    fn forget(&mut self, bytes: usize) {
        self.base += 1;
        self.bytes -= bytes;
        self.sent -= 1;
        self.sent_bytes -= bytes;
    }

    /// Takes the oldest record, which was on its way alone and was refused.
    pub fn refuse_front(&mut self) -> Option<T> {
        if self.sent == 0 {
            return None;
        }
        let item = self.items.pop_front()?;
        self.forget(item.bytes);
        Some(item.value)
    }

    /// A batch that held `ticket` was refused: up to it, records go one at a time.
    pub fn suspect(&mut self, ticket: u64) {
        self.alone_until = self.alone_until.max(ticket + 1);
    }

    /// The producer is gone: all goes on from `base` under the next one.
    pub fn rewind(&mut self) {
        for item in self.items.iter_mut().take(self.sent) {
            item.mark = Mark::Open;
        }
        self.sent = 0;
        self.sent_bytes = 0;
        self.primed = false;
    }

    /// Nothing was sent for so long that the broker may have forgotten the producer.
    pub fn unprime(&mut self) {
        if self.sent == 0 {
            self.primed = false;
        }
    }

    /// Takes out the records from index `at` on, or those of them that were not sent.
    pub fn split_off(&mut self, at: usize) -> impl Iterator<Item = T> {
        let off = self.items.split_off(at.max(self.sent).min(self.items.len()));
        self.bytes -= off.iter().map(|item| item.bytes).sum::<usize>();
        off.into_iter().map(|item| item.value)
    }

    /// All records that are not done, in order.
    pub fn into_values(self) -> impl Iterator<Item = T> {
        self.items.into_iter().map(|item| item.value)
    }

    /// All records that are not done, in order.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.items.iter().map(|item| &item.value)
    }

    /// All records that are not done, in order.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.items.iter_mut().map(|item| &mut item.value)
    }
}

#[derive(Debug)]
struct Slot {
    chunk: Chunk,
    /// Sequence after its last record.
    end: u64,
    /// Who needs it: each delivery that points into it.
    needed: usize,
    /// When it became durable, milliseconds since 1970.
    durable_ms: u64,
}

/// Chunks that were read and are still needed, in the order of the log.
#[derive(Debug, Default)]
pub struct Ledger {
    slots: VecDeque<Slot>,
    base: u32,
    bytes: usize,
}

impl Ledger {
    /// A chunk was read whose first record has `sequence`. It stays until it was needed no more and released once:
    /// the reader itself counts as the first who needs it.
    pub fn push(&mut self, chunk: Chunk, sequence: u64, durable_ms: u64) -> u32 {
        let id = self.base.wrapping_add(self.slots.len() as u32);
        self.bytes += chunk.as_bytes().len();
        self.slots.push_back(Slot {
            end: sequence + u64::from(chunk.count()),
            chunk,
            needed: 1,
            durable_ms,
        });
        id
    }

    fn slot(&mut self, id: u32) -> Option<&mut Slot> {
        self.slots.get_mut(id.wrapping_sub(self.base) as usize)
    }

    /// One more needs chunk `id`.
    pub fn need(&mut self, id: u32) {
        if let Some(slot) = self.slot(id) {
            slot.needed += 1;
        }
    }

    /// One needs it no more.
    pub fn release(&mut self, id: u32) {
        if let Some(slot) = self.slot(id) {
            slot.needed = slot.needed.saturating_sub(1);
        }
    }

    /// The chunk `id`.
    pub fn chunk(&self, id: u32) -> Option<&Chunk> {
        let slot = self.slots.get(id.wrapping_sub(self.base) as usize);
        slot.map(|slot| &slot.chunk)
    }

    /// When the chunk `id` became durable.
    pub fn durable_ms(&self, id: u32) -> Option<u64> {
        let slot = self.slots.get(id.wrapping_sub(self.base) as usize);
        slot.map(|slot| slot.durable_ms)
    }

    /// Bytes of the chunks that are needed.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether none is needed.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Drops the oldest chunks that nobody needs; the sequence below which the log may be released, if it rose.
    pub fn advance(&mut self) -> Option<u64> {
        let mut done = None;
        while let Some(slot) = self.slots.front()
            && slot.needed == 0
        {
            self.bytes -= slot.chunk.as_bytes().len();
            done = Some(slot.end);
            self.slots.pop_front();
            self.base = self.base.wrapping_add(1);
        }
        done
    }
}

#[cfg(test)]
#[path = "window_tests.rs"]
mod tests;
