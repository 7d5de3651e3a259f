//! What workers say of messages that are on their way to clients.

use super::Projection;
use super::session::{Number, Queued, Saved};
use crate::codec::QoS;
use crate::hub::shared::is_group;
use crate::record::Origin;
use crate::store::event::StoreEvent;

impl Projection {
    /// A worker says what became of a message, when the log was durable up to `end`. It waits until the log is read that
    /// far, or until the message itself is.
    pub fn event(&mut self, event: StoreEvent, end: u64) {
        let applied = self.applied.map_or(0, |applied| applied.sequence);
        if let Some(event) = self.held.sort(event, (applied < end).then_some(end)) {
            self.act(event);
        }
    }

    /// The log is read up to its end.
    pub fn caught_up(&mut self) {
        for event in self.held.read_to(u64::MAX) {
            self.act(event);
        }
    }

    /// What the projection does not know (any more) is of no concern.
    pub(super) fn act(&mut self, event: StoreEvent) {
        let Some(number) = self.find(event.client()) else {
            return self.act_for_unknown(event);
        };
        match event {
            StoreEvent::Sent {
                origin, packet_id, ..
            } => self.sent(number, origin, packet_id),
            StoreEvent::Claimed {
                group,
                origin,
                packet_id,
                hops,
                ..
            } => self.claimed(number, (&group, origin), packet_id, hops),
            StoreEvent::Walked { .. } => self.walked(number),
            StoreEvent::Received {
                origin, packet_id, ..
            } => {
                self.done(number, origin, Some(packet_id));
                let session = self.sessions.get_mut(number as usize);
                if let Some(session) = session.filter(|session| !session.releasing.contains(&packet_id)) {
                    session.releasing.push(packet_id);
                    self.touch_row(number);
                }
            }
            StoreEvent::Completed { packet_id, .. } => {
                let session = self.sessions.get_mut(number as usize);
                if let Some(session) = session.filter(|session| session.releasing.contains(&packet_id)) {
                    session.releasing.retain(|id| *id != packet_id);
                    self.touch_row(number);
                }
            }
            StoreEvent::Done {
                origin, packet_id, ..
            } => self.done(number, origin, packet_id),
        }
    }

    /// What was retained for the session and is not sent by now never will be.
    fn walked(&mut self, number: Number) {
        let Some(session) = self.session(number) else {
            return;
        };
        let of_walk = |queued: &&Queued| queued.matched == 0 && queued.retain && queued.packet_id.is_none();
        let left: Vec<u64> = session
            .queue
            .iter()
            .filter(of_walk)
            .map(|queued| queued.order)
            .collect();
        for order in left {
            let session = self.session(number);
            if let Some(at) = session.and_then(|s| s.position(|queued| queued.order == order)) {
                self.take_out(number, at);
            }
        }
    }

    pub(super) fn sent(&mut self, number: Number, origin: Origin, packet_id: u16) {
        let Some(session) = self.sessions.get_mut(number as usize) else {
            return;
        };
        session.last_packet_id = packet_id;
        let at = session.position_of(origin, Some(packet_id));
        let Some(queued) = at.and_then(|at| session.queue.get_mut(at)) else {
            return;
        };
        if queued.packet_id.replace(packet_id) == Some(packet_id) {
            return; // sent again
        }
        if queued.saved == Saved::Yes {
            queued.saved = Saved::Old;
            self.touched.queue_changes += 1;
        }
        if !std::mem::replace(&mut session.queue_touched, true) {
            self.touched.queues.push(number);
        }
    }

    fn done(&mut self, number: Number, origin: Origin, packet_id: Option<u16>) {
        let Some(session) = self.session(number) else {
            return;
        };
        let sent = packet_id.and_then(|_| session.position_of_sent(origin, packet_id));
        if let Some(at) = sent.or_else(|| session.position_of(origin, packet_id)) {
            self.take_out(number, at);
        } else if session.is_group() {
            // A member that is gone had it before the one that is done with it; its end is not read yet.
            let key = (session.client_id.clone(), origin);
            if let Some((holder, at)) = self.holder(&key) {
                self.take_out(holder, at);
            }
        }
    }

    /// The session is gone, or was never kept. No other member of a group gets what was sent to one at QoS 2
    /// [MQTT-4.8.2-5]. Of a group that nobody keeps any more the last that did may have what is done with.
    fn act_for_unknown(&mut self, event: StoreEvent) {
        let (group, origin) = match event {
            StoreEvent::Claimed {
                group,
                origin,
                qos: QoS::ExactlyOnce,
                ..
            } => (group, origin),
            StoreEvent::Done { client, origin, .. } if is_group(&client) => (client, origin),
            _ => return,
        };
        let waits = self.find(&group).and_then(|number| {
            let at = self.session(number)?.position_of(origin, None)?;
            Some((number, at))
        });
        if let Some((number, at)) = waits.or_else(|| self.holder(&(group, origin))) {
            self.take_out(number, at);
        }
    }
}
