//! When what is delivered to a client is written: at once while a worker delivers little, and together with what comes next
//! while it delivers much, for a write costs more than all else about a delivery. A client that was written nothing for a
//! while is written to at once in any case.

use super::state::{SessionRef, State};

/// Length of the spans in which deliveries are counted.
const SPAN_MS: u64 = 10;

/// Deliveries in a span from which on a worker has much to deliver: 10,000 a second.
const MUCH: u32 = 100;

/// Whose messages wait to be written together, and until when.
#[derive(Debug, Default)]
pub(super) struct Linger {
    /// How long they may wait; 0: not at all.
    most_ms: u64,
    span_began_ms: u64,
    /// Deliveries of this span.
    count: u32,
    /// The last span had much.
    much: bool,
    waiting: Vec<SessionRef>,
    due_ms: u64,
    /// Somebody looks when it is due.
    armed: bool,
}

impl Linger {
    pub fn new(most_ms: u64) -> Self {
        Self {
            most_ms,
            ..Self::default()
        }
    }

    /// Counts a delivery to a client that was written to at `written_ms`. Whether it waits.
    pub fn waits(&mut self, now_ms: u64, written_ms: u32) -> bool {
        let past_ms = now_ms.saturating_sub(self.span_began_ms);
        if past_ms >= SPAN_MS {
            self.much = self.count >= MUCH && past_ms < 2 * SPAN_MS;
            (self.span_began_ms, self.count) = (now_ms, 0);
        }
        self.count = self.count.saturating_add(1);
        self.much && u64::from((now_ms as u32).wrapping_sub(written_ms)) < self.most_ms
    }

    /// Messages of session `at` wait from now on.
    pub fn push(&mut self, now_ms: u64, at: SessionRef) {
        if self.waiting.is_empty() {
            self.due_ms = now_ms + self.most_ms;
            self.armed = false;
        }
        self.waiting.push(at);
    }

    /// Whether somebody is to look who does not know of it yet.
    pub fn arm(&mut self) -> bool {
        !self.waiting.is_empty() && !std::mem::replace(&mut self.armed, true)
    }

    /// For how long they wait yet, if any do.
    pub fn left_ms(&self, now_ms: u64) -> Option<u64> {
        (!self.waiting.is_empty()).then(|| self.due_ms.saturating_sub(now_ms))
    }
}

impl State {
    /// A message waits for session `at`, which is there: its connection writes it, now or soon.
    pub(super) fn write_soon(&mut self, at: SessionRef) {
        let now_ms = self.now_ms;
        let Some(slot) = self.slots.get_mut(at.slot as usize) else {
            return;
        };
        let waits = self.linger.waits(now_ms, slot.written_ms) || slot.lingers;
        // A queue that fills must not come to be full for want of being written.
        let waits = waits && slot.session.room() > slot.session.queued();
        if !waits {
            slot.wake();
        } else if !std::mem::replace(&mut slot.lingers, true) {
            self.linger.push(now_ms, at);
        }
    }

    /// Wakes those whose messages have waited long enough. For how long others wait yet.
    pub(super) fn end_linger(&mut self) -> Option<u64> {
        let left_ms = self.linger.left_ms(self.now_ms);
        self.linger.armed = left_ms.is_some();
        if left_ms != Some(0) {
            return left_ms;
        }
        let mut waiting = std::mem::take(&mut self.linger.waiting);
        for at in waiting.drain(..) {
            if let Some(slot) = self.slot(at) {
                slot.lingers = false;
                slot.wake();
            }
        }
        self.linger.waiting = waiting;
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST_MS: u64 = 5;

    /// Delivers `count` messages at `now_ms`; how many of them wait.
    fn deliver(linger: &mut Linger, now_ms: u64, count: u32, written_ms: u32) -> usize {
        (0..count).filter(|_| linger.waits(now_ms, written_ms)).count()
    }

    #[test]
    fn while_little_is_delivered_nothing_waits() {
        let mut linger = Linger::new(MOST_MS);
        for now_ms in 0..1_000 {
            assert_eq!(deliver(&mut linger, now_ms, MUCH / 10 - 1, now_ms as u32), 0);
        }
    }

    #[test]
    fn one_burst_is_written_at_once() {
        let mut linger = Linger::new(MOST_MS);
        for second in 1..10 {
            let now_ms = second * 1_000;
            assert_eq!(deliver(&mut linger, now_ms, 100 * MUCH, now_ms as u32), 0);
        }
    }

    #[test]
    fn while_much_is_delivered_who_was_just_written_to_waits() {
        let mut linger = Linger::new(MOST_MS);
        for now_ms in 0..1_000 {
            let waits = deliver(&mut linger, now_ms, MUCH, now_ms as u32);
            assert_eq!(waits > 0, now_ms >= SPAN_MS, "at {now_ms} ms");
            let long_ago = (now_ms as u32).wrapping_sub(MOST_MS as u32);
            assert_eq!(deliver(&mut linger, now_ms, 1, long_ago), 0);
        }
        let mut never = Linger::new(0);
        assert!((0..100).all(|now_ms| deliver(&mut never, now_ms, MUCH, now_ms as u32) == 0));
    }

    #[test]
    fn who_waits_is_due_together_and_somebody_is_told_once() {
        let mut linger = Linger::new(MOST_MS);
        let at = |slot| SessionRef { slot, generation: 1 };
        assert!(!linger.arm());
        linger.push(100, at(1));
        linger.push(103, at(2));
        assert!(linger.arm() && !linger.arm());
        assert_eq!(linger.left_ms(103), Some(2));
        assert_eq!(linger.left_ms(107), Some(0));
        linger.waiting.clear();
        assert_eq!(linger.left_ms(107), None);
        linger.push(110, at(1));
        assert!(linger.arm());
    }
}
