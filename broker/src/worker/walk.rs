//! Retained messages on their way to a new subscription: a walk over all that match, in slices, as the client takes them.
//! However many there are, the client gets all, its queue stays within its bound, and the worker serves others in between.

use std::collections::VecDeque;
use std::sync::Arc;

use super::state::{SessionRef, State};
use crate::hub::Match;
use crate::session::Message;
use crate::store::StoreEvent;

/// Messages of one slice.
const SLICE: usize = 64;

/// Slices of one turn of the worker.
const SLICES_AT_ONCE: usize = 4;

/// The next slice comes once fewer messages wait.
const LOW: usize = 32;

/// What is retained for one filter.
pub(super) struct Walk {
    filter: Box<str>,
    to: Match,
    /// Where it goes on.
    after: Option<Box<str>>,
}

/// A session's walks, and their place in the line of those that have room for more.
#[derive(Default)]
pub(super) struct Walks {
    /// At most one for each of its filters.
    queue: VecDeque<Walk>,
    in_line: bool,
}

impl Walks {
    /// The filter is unsubscribed, or subscribed anew.
    pub fn forget(&mut self, filter: &str) {
        self.queue.retain(|walk| *walk.filter != *filter);
    }
}

impl State {
    /// Sends session `at` what is retained for `filter`; the first slice at once.
    pub(super) fn walk_retained(&mut self, at: SessionRef, filter: &str, to: Match) {
        let Some(slot) = self.slot(at) else { return };
        let walks = slot.walks.get_or_insert_default();
        walks.forget(filter);
        walks.queue.push_back(Walk {
            filter: filter.into(),
            to,
            after: None,
        });
        self.feed(at);
        self.go_on_walking(at);
    }

    /// Whether session `at` gets its next slice: after something was sent to it, or when it is back.
    pub(super) fn go_on_walking(&mut self, at: SessionRef) {
        let Some(slot) = self.slot(at) else { return };
        let Some(walks) = &mut slot.walks else { return };
        let (queued, has_room) = (slot.session.queued(), slot.session.room() > 0);
        if walks.queue.is_empty() {
            if queued == 0 {
                slot.walks = None;
                self.walked(at);
            }
            return;
        }
        let wants = queued < LOW && has_room && slot.session.is_attached();
        if wants && !std::mem::replace(&mut walks.in_line, true) {
            self.walking.push_back(at);
            if let Some(mailbox) = self.shared.mailboxes.get(usize::from(self.id)) {
                mailbox.wake();
            }
        }
    }

    /// All that was retained for a kept session was sent: what the store has of it besides was replaced meanwhile.
    fn walked(&mut self, at: SessionRef) {
        let Some(slot) = self.slot(at).filter(|slot| slot.stored) else {
            return;
        };
        let client = slot.session.client_id_shared();
        if self.shared.store.is_some() {
            self.events.push(StoreEvent::Walked { client });
        }
    }

    /// Gives some of those in line a slice each; whether others wait for the next turn.
    pub(super) fn feed_walks(&mut self) -> bool {
        for _ in 0..SLICES_AT_ONCE {
            let Some(at) = self.walking.pop_front() else {
                return false;
            };
            if let Some(walks) = self.slot(at).and_then(|slot| slot.walks.as_mut()) {
                walks.in_line = false;
                self.feed(at);
                self.go_on_walking(at);
            }
        }
        !self.walking.is_empty()
    }

    /// One slice.
    fn feed(&mut self, at: SessionRef) {
        let hub = self.shared.hub.clone();
        let Some(slot) = self.slot(at) else { return };
        let room = slot.session.room().min(SLICE);
        let Some(walk) = slot.walks.as_mut().and_then(|walks| walks.queue.front_mut()) else {
            return;
        };
        if room == 0 {
            return;
        }
        let mut slice: Vec<Arc<Message>> = Vec::new();
        walk.after = hub.retained(&walk.filter, walk.after.as_deref(), room, &mut slice);
        let to = walk.to.clone();
        if walk.after.is_none()
            && let Some(walks) = &mut slot.walks
        {
            walks.queue.pop_front();
        }
        for message in slice {
            // No Local: what it published itself does not come back [MQTT-3.8.3-3].
            if !(to.no_local && message.publisher == Some(to.who)) {
                self.deliver(&message, &to, true);
            }
        }
        if let Some(slot) = self.slot(at) {
            slot.wake();
        }
    }
}
