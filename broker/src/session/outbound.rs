//! Messages that wait for the client: one queue, bounded in number and bytes, with a stated rule when it is full.

use std::collections::VecDeque;
use std::sync::Arc;

use super::event::SessionLimits;
use super::message::Message;
use crate::codec::QoS;
use crate::hub::{Share, SubscriptionIds};

/// One message for this client.
#[derive(Debug, Clone)]
pub(super) struct Queued {
    pub message: Arc<Message>,
    /// Of the filters that matched.
    pub ids: SubscriptionIds,
    pub qos: QoS,
    pub retain: bool,
    /// The group that it is sent for.
    pub share: Option<Share>,
}

/// The queue.
#[derive(Debug, Default)]
pub(super) struct Outbound {
    queue: VecDeque<Queued>,
    bytes: usize,
}

impl Outbound {
    /// Whether a message that costs `cost` has room.
    pub fn has_room(&self, cost: usize, limits: &SessionLimits) -> bool {
        self.queue.len() < limits.max_queued_messages as usize
            && self.bytes + cost <= limits.max_queued_bytes as usize
    }

    /// Takes a message in.
    pub fn push(&mut self, queued: Queued) {
        self.bytes += queued.message.cost();
        self.queue.push_back(queued);
    }

    /// The next in order.
    pub fn front(&self) -> Option<&Queued> {
        self.queue.front()
    }

    /// Takes the next in order.
    pub fn pop(&mut self) -> Option<Queued> {
        let queued = self.queue.pop_front()?;
        self.bytes = self.bytes.saturating_sub(queued.message.cost());
        Some(queued)
    }

    /// Takes out the messages that `which` says.
    pub fn take_out(&mut self, which: impl Fn(&Message) -> bool) -> Vec<Queued> {
        let (out, stay) = std::mem::take(&mut self.queue)
            .into_iter()
            .partition::<Vec<_>, _>(|queued| which(&queued.message));
        self.queue = stay.into();
        self.bytes = self.queue.iter().map(|queued| queued.message.cost()).sum();
        out
    }

    /// The connection is gone: QoS 0 does not wait. Returns how many were dropped.
    pub fn drop_qos0(&mut self) -> usize {
        let before = self.queue.len();
        let bytes = &mut self.bytes;
        self.queue.retain(|queued| {
            let stays = queued.qos != QoS::AtMostOnce;
            if !stays {
                *bytes = bytes.saturating_sub(queued.message.cost());
            }
            stays
        });
        before - self.queue.len()
    }

    /// Takes out what any member of a group may get in place of this one.
    pub fn take_shared(&mut self) -> impl Iterator<Item = (Share, Arc<Message>)> {
        let queue = std::mem::take(&mut self.queue);
        queue
            .into_iter()
            .filter(|queued| queued.qos > QoS::AtMostOnce)
            .filter_map(|queued| Some((queued.share?, queued.message)))
    }

    /// Messages that wait.
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// What they take.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Gives memory back that a burst has left.
    pub fn shrink(&mut self) {
        if self.queue.is_empty() {
            self.queue = VecDeque::new();
        }
    }
}
