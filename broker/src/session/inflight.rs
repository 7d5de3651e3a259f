//! Messages of QoS 1 and 2 on their way to the client: packet ids, the window, and what is sent again on resume
//! [MQTT-4.4.0-1, MQTT-4.6.0-1].

use std::collections::VecDeque;
use std::sync::Arc;

use super::message::Message;
use super::outbound::Queued;
use crate::codec::PacketId;
use crate::codec::QoS;
use crate::hub::Share;
use crate::record::Origin;

/// One message that was sent and is not acknowledged.
#[derive(Debug)]
pub(super) struct Sent {
    pub packet_id: PacketId,
    pub message: Queued,
}

/// What is on its way.
#[derive(Debug, Default)]
pub(super) struct Inflight {
    /// In the order in which they were first sent.
    sent: VecDeque<Sent>,
    /// How many of `sent`, from its front, were sent on this connection; the others are to be sent again.
    fresh: usize,
    /// Ids with PUBREL sent and no PUBCOMP yet, in the order of their PUBREC [MQTT-4.6.0-4].
    releasing: VecDeque<PacketId>,
    last_id: u16,
}

/// The acknowledgement that a packet id waits for next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Awaited {
    /// Of a message at QoS 1.
    Puback,
    /// Of a message at QoS 2.
    Pubrec,
    /// Of a PUBREL.
    Pubcomp,
}

/// What a PUBREC leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Received {
    /// PUBREL is due for this message.
    Release(Option<Origin>),
    /// PUBREL is due once more.
    Again,
    /// No such id.
    Unknown,
}

impl Inflight {
    /// As it was kept: `releasing` wait for PUBCOMP, and new ids come after `last_id`.
    pub fn restore(releasing: &[u16], last_id: u16) -> Self {
        Self {
            releasing: releasing.iter().copied().filter_map(PacketId::new).collect(),
            last_id,
            ..Self::default()
        }
    }

    /// A message was sent before the restart and is to be sent again.
    pub fn restore_sent(&mut self, packet_id: PacketId, message: Queued) {
        self.sent.push_back(Sent { packet_id, message });
    }

    /// Takes out the messages that `which` says, before a connection begins.
    pub fn take_out(&mut self, which: impl Fn(&Message) -> bool) -> Vec<Sent> {
        let (out, stay) = std::mem::take(&mut self.sent)
            .into_iter()
            .partition::<Vec<_>, _>(|sent| which(&sent.message.message));
        self.sent = stay.into();
        self.fresh = 0;
        out
    }

    /// A connection begins: everything is to be sent again. Returns the ids whose PUBREL goes first.
    pub fn resume(&mut self) -> impl Iterator<Item = PacketId> {
        self.fresh = 0;
        self.releasing.iter().copied()
    }

    /// Whether one more PUBLISH may be sent within `window`.
    pub fn has_room(&self, window: u16) -> bool {
        self.fresh + self.releasing.len() < usize::from(window)
    }

    /// The next message to be sent again.
    pub fn next_again(&self) -> Option<&Sent> {
        self.sent.get(self.fresh)
    }

    /// [`next_again`](Self::next_again) was sent.
    pub fn sent_again(&mut self) {
        self.fresh += 1;
    }

    /// [`next_again`](Self::next_again) can't be sent: it counts as done [MQTT-3.1.2-25].
    pub fn drop_again(&mut self) -> Option<Sent> {
        self.sent.remove(self.fresh)
    }

    /// A packet id that is not in use [MQTT-2.2.1-4]. There is one: the window is smaller than the ids are many.
    pub fn free_id(&mut self) -> PacketId {
        loop {
            self.last_id = self.last_id.wrapping_add(1);
            if let Some(id) = PacketId::new(self.last_id)
                && !self.sent.iter().any(|sent| sent.packet_id == id)
                && !self.releasing.contains(&id)
            {
                return id;
            }
        }
    }

    /// `message` was sent for the first time.
    pub fn push(&mut self, packet_id: PacketId, message: Queued) {
        self.sent.push_back(Sent { packet_id, message });
        self.fresh += 1;
    }

    /// Whether this packet id waits for another answer than those that may come now.
    pub fn waits_for_other(&self, packet_id: PacketId, answers: &[Awaited]) -> bool {
        let waits = match self.sent.iter().find(|sent| sent.packet_id == packet_id) {
            Some(sent) if sent.message.qos == QoS::ExactlyOnce => Awaited::Pubrec,
            Some(_) => Awaited::Puback,
            None if self.releasing.contains(&packet_id) => Awaited::Pubcomp,
            None => return false,
        };
        !answers.contains(&waits)
    }

    /// PUBACK, or PUBREC with an error, for a message of `qos`: it is done and returned. Others are none of ours any more.
    pub fn finish(&mut self, packet_id: PacketId, qos: QoS) -> Option<Queued> {
        let at = self
            .sent
            .iter()
            .position(|s| s.packet_id == packet_id && s.message.qos == qos)?;
        self.fresh -= usize::from(at < self.fresh);
        self.sent.remove(at).map(|sent| sent.message)
    }

    /// Takes out what another member of a group may get in place of this one: not what was sent at QoS 2
    /// [MQTT-4.8.2-5].
    pub fn take_shared(&mut self) -> impl Iterator<Item = (Share, Arc<Message>)> {
        let sent = std::mem::take(&mut self.sent);
        sent.into_iter()
            .map(|sent| sent.message)
            .filter(|message| message.qos == QoS::AtLeastOnce)
            .filter_map(|message| Some((message.share?, message.message)))
    }

    /// PUBREC: the message is the client's now. The same PUBREC twice is answered twice.
    pub fn received(&mut self, packet_id: PacketId) -> Received {
        if let Some(message) = self.finish(packet_id, QoS::ExactlyOnce) {
            self.releasing.push_back(packet_id);
            return Received::Release(message.message.origin);
        }
        match self.releasing.contains(&packet_id) {
            true => Received::Again,
            false => Received::Unknown,
        }
    }

    /// PUBCOMP: the id is free; false when it was.
    pub fn complete(&mut self, packet_id: PacketId) -> bool {
        let found = self.releasing.iter().position(|id| *id == packet_id);
        if let Some(at) = found {
            self.releasing.remove(at);
        }
        found.is_some()
    }

    /// Messages that are not acknowledged, and ids that are not complete.
    pub fn len(&self) -> usize {
        self.sent.len() + self.releasing.len()
    }

    /// Gives memory back that a burst has left.
    pub fn shrink(&mut self) {
        if self.sent.is_empty() {
            self.sent = VecDeque::new();
        }
        if self.releasing.is_empty() {
            self.releasing = VecDeque::new();
        }
    }
}
