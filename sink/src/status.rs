//! How the sink stands, as told to the outside, and the way to stop it.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// How the sink stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SinkStatus {
    /// Whether every record can be delivered now.
    pub ready: bool,
    /// Why it is not ready; empty when it is.
    pub reason: String,
    /// Records that are sent and not acknowledged.
    pub in_flight: usize,
    /// Records that were read from the log and that Kafka does not have yet.
    pub open: usize,
    /// Those of them that wait for a topic that can't take records.
    pub parked: usize,
    /// Why its cursor could not be saved when that was last tried: what Kafka has is sent again after a new start.
    pub unsaved: Option<String>,
}

/// Between the pump and its handle.
#[derive(Debug)]
pub(crate) struct Shared {
    state: Mutex<State>,
    ended: Condvar,
}

#[derive(Debug)]
struct State {
    status: SinkStatus,
    stop_at: Option<Instant>,
    /// Set when the pump has ended: the records that Kafka does not have, or why it broke.
    end: Option<Result<usize, String>>,
}

impl Shared {
    pub(crate) fn new() -> Self {
        let status = SinkStatus {
            reason: "starting".to_owned(),
            ..SinkStatus::default()
        };
        Self {
            state: Mutex::new(State {
                status,
                stop_at: None,
                end: None,
            }),
            ended: Condvar::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets what the outside sees.
    pub(crate) fn set(&self, status: SinkStatus) {
        let mut state = self.lock();
        if !same_but_for_numbers(&state.status.reason, &status.reason) {
            tracing::info!(ready = status.ready, reason = status.reason, "the way to Kafka");
        }
        state.status = status;
    }

    pub(crate) fn status(&self) -> SinkStatus {
        self.lock().status.clone()
    }

    /// Sets how the last save of the cursor went.
    pub(crate) fn set_unsaved(&self, why: Option<String>) {
        self.lock().status.unsaved = why;
    }

    pub(crate) fn stop_at(&self) -> Option<Instant> {
        self.lock().stop_at
    }

    pub(crate) fn end(&self, end: Result<usize, String>) {
        let mut state = self.lock();
        state.status.ready = false;
        state.status.reason = match &end {
            Ok(_) => "stopped".to_owned(),
            Err(why) => why.clone(),
        };
        state.end = Some(end);
        self.ended.notify_all();
    }

    /// Asks the pump to stop and waits for it until `deadline`; none when it does not end in time.
    pub(crate) fn stop(
        &self,
        deadline: Instant,
        grace: std::time::Duration,
    ) -> Option<Result<usize, String>> {
        let mut state = self.lock();
        state.stop_at = Some(deadline);
        let wait = deadline.saturating_duration_since(Instant::now()) + grace;
        let waited = self
            .ended
            .wait_timeout_while(state, wait, |state| state.end.is_none());
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        state.end.clone()
    }
}

/// Whether two reasons say the same: what waits, and for how long, changes with each look and is for the metrics.
fn same_but_for_numbers(one: &str, other: &str) -> bool {
    let words = |text| str::chars(text).filter(|c| !c.is_ascii_digit());
    words(one).eq(words(other))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_logged_again_only_when_more_than_its_numbers_changed() {
        assert!(same_but_for_numbers(
            "Kafka has acknowledged nothing for 9 s",
            "Kafka has acknowledged nothing for 10 s"
        ));
        assert!(!same_but_for_numbers("starting", ""));
        assert!(!same_but_for_numbers(
            "topic \"a\" is stuck",
            "topic \"b\" is stuck"
        ));
    }
}
