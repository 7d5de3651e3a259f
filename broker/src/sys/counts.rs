//! What is counted for `$SYS`: each number by one thread alone, so that it costs an addition.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use crate::codec::{Version, frame_len, payload_len};

/// A number that one thread changes and others read.
#[derive(Debug, Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    /// Adds `by`. For the one thread that counts: nothing is locked.
    #[inline]
    pub fn add(&self, by: u64) {
        self.set(self.get().wrapping_add(by));
    }

    /// Takes one away; the same thread.
    pub fn take_one(&self) {
        self.set(self.get().saturating_sub(1));
    }

    /// Sets it; the same thread.
    #[inline]
    pub fn set(&self, to: u64) {
        self.0.store(to, Relaxed);
    }

    /// As it stands.
    #[inline]
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// What one worker counts. On cache lines of its own.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct WorkerCounts {
    pub bytes_received: Count,
    pub bytes_sent: Count,
    pub packets_received: Count,
    pub packets_sent: Count,
    pub connects: Count,
    pub publishes_received: Count,
    pub publishes_sent: Count,
    pub publishes_dropped: Count,
    /// Payloads alone, as the next.
    pub publish_bytes_received: Count,
    pub publish_bytes_sent: Count,
    pub connected: Count,
    pub sessions: Count,
    pub expired: Count,
    /// Messages that wait for their clients, as of the last walk over the sessions, as the next two.
    pub queued: Count,
    pub queued_bytes: Count,
    pub inflight: Count,
}

/// What all threads count.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub workers: Box<[Arc<WorkerCounts>]>,
    /// Sockets accepted, by the listeners' thread.
    pub sockets: Count,
}

impl Counts {
    /// Of so many workers.
    pub fn new(workers: usize) -> Self {
        Self {
            workers: (0..workers).map(|_| Arc::default()).collect(),
            sockets: Count::default(),
        }
    }

    /// What the worker `id` counts into.
    pub fn worker(&self, id: u16) -> Arc<WorkerCounts> {
        self.workers.get(usize::from(id)).cloned().unwrap_or_default()
    }

    /// A number over all workers.
    pub fn sum(&self, of: impl Fn(&WorkerCounts) -> &Count) -> u64 {
        self.workers
            .iter()
            .fold(0, |sum, worker| sum.wrapping_add(of(worker).get()))
    }
}

/// The first byte of a PUBACK.
const PUBACK: u8 = 0x40;

/// What stands in bytes that go to a client.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sent {
    pub packets: u64,
    pub publishes: u64,
    /// Of their payloads.
    pub publish_bytes: u64,
}

impl Sent {
    /// Walks the whole packets in `bytes`.
    pub fn in_bytes(version: Version, mut bytes: &[u8]) -> Self {
        let mut sent = Self::default();
        // As a rule most of it.
        while let [PUBACK, 2, _, _, rest @ ..] = bytes {
            sent.packets += 1;
            bytes = rest;
        }
        while let Ok(Some(len)) = frame_len(bytes, usize::MAX) {
            let Some((frame, rest)) = bytes.split_at_checked(len) else {
                break;
            };
            sent.packets += 1;
            if let Some(payload) = payload_len(version, frame) {
                sent.publishes += 1;
                sent.publish_bytes += payload as u64;
            }
            bytes = rest;
        }
        sent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_in_bytes_are_counted_by_kind() {
        let three = [
            &[0xD0, 0][..],
            &[0x30, 5, 0, 1, b't', 7, 7],
            &[0x40, 2, 0, 1],
            &[0x3B, 6, 0, 1, b't', 0, 9, 7],
        ];
        let sent = Sent {
            packets: 4,
            publishes: 2,
            publish_bytes: 3,
        };
        let bytes = three.concat();
        assert_eq!(Sent::in_bytes(Version::V311, &bytes), sent);
        let cut = Sent::in_bytes(Version::V311, &bytes[..bytes.len() - 1]);
        assert_eq!((cut.packets, cut.publishes, cut.publish_bytes), (3, 1, 2));
        let five = [&[0x32, 10, 0, 1, b't', 0, 9, 2, 0x01, 1, 7, 7][..], &[0xD0, 0]].concat();
        let sent = Sent {
            packets: 2,
            publishes: 1,
            publish_bytes: 2,
        };
        assert_eq!(Sent::in_bytes(Version::V5, &five), sent);
        assert_eq!(Sent::in_bytes(Version::V5, &[]), Sent::default());
    }
}
