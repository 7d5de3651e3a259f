//! What a session sends: control packets at once into a small buffer, then acknowledgements in order, then messages
//! inside the client's window. All encoding is here.

use super::Session;
use super::event::Drops;
use super::explain::{self, Put, Told, put};
use super::inflight::Sent;
use super::names::{Alias, Names};
use super::outbound::Queued;
use super::state::Phase;
use crate::codec::{
    Ack, PUBACK_BYTES, Packet, PacketId, Properties, PropertiesBuf, Property, Publish, QoS, Reason, Version,
};
use crate::store::StoreEvent;

/// An acknowledgement without properties.
pub(super) fn ack(packet_id: PacketId, reason: Reason) -> Ack<'static> {
    Ack {
        packet_id,
        reason,
        properties: Properties::EMPTY,
    }
}

/// To whom and when a PUBLISH is written.
struct To<'a> {
    now_ms: u64,
    version: Version,
    most: u32,
    names: Option<&'a mut Names>,
    /// Room for properties that are not the message's own.
    room: &'a mut PropertiesBuf,
}

impl To<'_> {
    /// Appends the PUBLISH of `queued`.
    fn put(&mut self, queued: &Queued, sent_as: Option<(PacketId, bool)>, out: &mut Vec<u8>) -> Put {
        let whole = &*queued.message.topic;
        let topic = match &self.names {
            Some(names) => names.unmounted(whole),
            None => Some(whole),
        };
        let Some(topic) = topic else {
            return Put::Outside;
        };
        let alias = self
            .names
            .as_ref()
            .map_or(Alias::None, |names| names.alias(topic));
        let put = self.put_as(queued, topic, alias, sent_as, out);
        match (alias, put, &mut self.names) {
            (Alias::None, ..) => put,
            // The number itself may be what it is too large by.
            (_, Put::TooLarge, _) => self.put_as(queued, topic, Alias::None, sent_as, out),
            (Alias::New(number), Put::Done, Some(names)) => {
                names.assign(topic, number);
                put
            }
            _ => put,
        }
    }

    fn put_as(
        &mut self,
        queued: &Queued,
        topic: &str,
        alias: Alias,
        sent_as: Option<(PacketId, bool)>,
        out: &mut Vec<u8>,
    ) -> Put {
        let message = &*queued.message;
        let own = queued.ids.is_empty() && message.expires_at_ms.is_none() && alias == Alias::None;
        let properties = match self.version {
            Version::V5 if own => message.properties(),
            Version::V5 => {
                rewrite(self.now_ms, queued, alias, self.room);
                self.room.as_properties()
            }
            Version::V31 | Version::V311 => Properties::EMPTY,
        };
        let publish = Publish {
            dup: sent_as.is_some_and(|(_, dup)| dup),
            qos: queued.qos,
            retain: queued.retain,
            topic: match alias {
                Alias::None | Alias::New(_) => topic,
                Alias::Known(_) => "",
            },
            packet_id: sent_as.map(|(packet_id, _)| packet_id),
            payload: &message.payload,
            properties,
        };
        put(self.version, self.most, &Packet::Publish(publish), out)
    }
}

/// The message's properties with what is left of its expiry [MQTT-3.3.2-6], the identifiers of the subscriptions that
/// it is sent for [MQTT-3.3.4-3], and the number of its topic.
fn rewrite(now_ms: u64, queued: &Queued, alias: Alias, into: &mut PropertiesBuf) {
    into.clear();
    let properties = queued.message.properties();
    match queued.message.expires_in_s(now_ms) {
        None => into.extend(properties),
        Some(left_s) => {
            for property in properties.iter() {
                into.push(match property {
                    Property::MessageExpiryInterval(_) => Property::MessageExpiryInterval(left_s),
                    other => other,
                });
            }
        }
    }
    if let Alias::New(number) | Alias::Known(number) = alias {
        into.push(Property::TopicAlias(number));
    }
    for id in &queued.ids {
        into.push(Property::SubscriptionIdentifier(*id));
    }
}

impl Session {
    /// Encodes a control packet; it leaves with the next [`poll_transmit`](Session::poll_transmit).
    pub(super) fn control(&mut self, packet: &Packet<'_>) {
        put(self.version, self.client_max_packet, packet, &mut self.control);
    }

    /// Encodes what may be sent now behind what is in `out`, until that has `soft_limit` bytes. Returns whether more
    /// waits.
    pub fn poll_transmit(&mut self, now_ms: u64, out: &mut Vec<u8>, soft_limit: usize) -> bool {
        if matches!(self.phase, Phase::Detached | Phase::Closed) {
            return false;
        }
        if !self.control.is_empty() {
            out.extend_from_slice(&std::mem::take(&mut self.control)); // an idle session owns no buffer
        }
        self.put_acks(out);
        match self.phase {
            Phase::Closing(reason) => self.put_disconnect(reason, out),
            Phase::Leaving => self.phase = Phase::Closed,
            _ => {
                self.put_again(now_ms, out, soft_limit);
                self.put_queued(now_ms, out, soft_limit);
            }
        }
        self.wants_transmit()
    }

    /// Whether [`poll_transmit`](Session::poll_transmit) would send something.
    pub fn wants_transmit(&self) -> bool {
        match self.phase {
            Phase::Detached | Phase::Closed => false,
            Phase::Closing(_) | Phase::Leaving => true,
            Phase::Attached => !self.control.is_empty() || self.inbound.is_due() || self.next_is_sendable(),
        }
    }

    /// What is retained for a subscription comes after its SUBACK.
    fn next_is_sendable(&self) -> bool {
        let has_room = self.inflight.as_ref().is_none_or(|i| i.has_room(self.window()));
        if self.inflight.as_ref().is_some_and(|i| i.next_again().is_some()) {
            return has_room;
        }
        if self.is_behind_suback() {
            return false;
        }
        self.outbound
            .front()
            .is_some_and(|next| has_room || next.qos == QoS::AtMostOnce)
    }

    fn put_acks(&mut self, out: &mut Vec<u8>) {
        loop {
            if self.client_max_packet >= PUBACK_BYTES as u32 {
                self.inbound.put_pubacks(out);
            }
            let Some(due) = self.inbound.next_due() else {
                return;
            };
            let packet = |properties| {
                let ack = Ack {
                    packet_id: due.packet_id,
                    reason: due.reason,
                    properties,
                };
                match due.qos {
                    QoS::ExactlyOnce => Packet::Pubrec(ack),
                    _ => Packet::Puback(ack),
                }
            };
            let told = self.told(due.reason, explain::of_publish);
            told.put(self.version, self.client_max_packet, packet, out);
        }
    }

    /// What is said of a refusal, unless the client does not want to hear it [MQTT-3.1.2-29].
    pub(super) fn told(&self, reason: Reason, text: fn(Reason) -> &'static str) -> Told {
        match self.explains && reason.is_error() {
            true => Told::new(None, text(reason)),
            false => Told::default(),
        }
    }

    fn put_disconnect(&mut self, reason: Reason, out: &mut Vec<u8>) {
        self.phase = Phase::Closed;
        if self.version == Version::V5 {
            explain::put_disconnect(self.client_max_packet, reason, "", None, out);
        }
    }

    /// What an earlier connection left unacknowledged, in its order [MQTT-4.4.0-1].
    fn put_again(&mut self, now_ms: u64, out: &mut Vec<u8>, soft_limit: usize) {
        let window = self.window();
        let mut room = PropertiesBuf::new();
        while out.len() < soft_limit {
            let Some(inflight) = self.inflight.as_mut().filter(|i| i.has_room(window)) else {
                return;
            };
            let Some(Sent { packet_id, message }) = inflight.next_again() else {
                return;
            };
            let mut to = To {
                now_ms,
                version: self.version,
                most: self.client_max_packet,
                names: self.aside.as_deref_mut().map(|aside| &mut aside.names),
                room: &mut room,
            };
            let put = to.put(message, Some((*packet_id, true)), out);
            if put == Put::Done {
                inflight.sent_again();
                continue;
            }
            let dropped = inflight.drop_again();
            self.count_unsent(put);
            if let Some(Sent { packet_id, message }) = dropped {
                let origin = message.message.origin;
                self.tell_done(message.share.as_ref(), origin, Some(packet_id));
            }
        }
    }

    fn put_queued(&mut self, now_ms: u64, out: &mut Vec<u8>, soft_limit: usize) {
        if self.inflight.as_ref().is_some_and(|i| i.next_again().is_some()) {
            return;
        }
        let mut room = PropertiesBuf::new();
        while out.len() < soft_limit && self.next_is_sendable() {
            let Some(queued) = self.outbound.pop() else { return };
            self.taken_from_queue();
            if queued.message.is_expired(now_ms) {
                let count = &mut self.drops().expired;
                *count = count.saturating_add(1);
                self.give_up(&queued);
                continue;
            }
            let packet_id = match queued.qos {
                QoS::AtMostOnce => None,
                _ => Some(self.inflight.get_or_insert_default().free_id()),
            };
            let mut to = To {
                now_ms,
                version: self.version,
                most: self.client_max_packet,
                names: self.aside.as_deref_mut().map(|aside| &mut aside.names),
                room: &mut room,
            };
            match to.put(&queued, packet_id.map(|packet_id| (packet_id, false)), out) {
                Put::Done => {
                    if let Some(packet_id) = packet_id {
                        self.sent(packet_id, queued);
                    }
                }
                unsent => {
                    self.count_unsent(unsent);
                    self.give_up(&queued);
                }
            }
        }
    }

    fn count_unsent(&mut self, put: Put) {
        let count = match put {
            Put::Outside => &mut self.drops().outside,
            Put::TooLarge | Put::Done => &mut self.drops().too_large,
        };
        *count = count.saturating_add(1);
    }

    /// `queued` was sent for the first time and is to be acknowledged.
    fn sent(&mut self, packet_id: PacketId, queued: Queued) {
        if let Some(origin) = queued.message.origin {
            let share = queued.share.as_ref().filter(|share| share.owed);
            self.tell(|client| match share {
                None => StoreEvent::Sent {
                    client,
                    origin,
                    packet_id: packet_id.get(),
                },
                Some(share) => StoreEvent::Claimed {
                    client,
                    group: share.group.clone(),
                    origin,
                    packet_id: packet_id.get(),
                    qos: queued.qos,
                    hops: share.hops,
                },
            });
            // At QoS 2 no other member may get it from now on [MQTT-4.8.2-5].
            if let Some(share) = share.filter(|_| queued.qos == QoS::ExactlyOnce && !self.is_persistent()) {
                self.tell_group(share, origin);
            }
        }
        if let Some(inflight) = &mut self.inflight {
            inflight.push(packet_id, queued);
        }
    }

    /// `queued` is not sent at all.
    pub(super) fn give_up(&mut self, queued: &Queued) {
        if queued.qos != QoS::AtMostOnce {
            self.tell_done(queued.share.as_ref(), queued.message.origin, None);
        }
    }

    /// Messages that were given up after they had been queued, since the last call.
    pub fn take_drops(&mut self) -> Drops {
        let aside = self.aside.as_mut();
        aside.map_or_else(Drops::default, |aside| std::mem::take(&mut aside.drops))
    }

    pub(super) fn drops(&mut self) -> &mut Drops {
        &mut self.aside.get_or_insert_default().drops
    }
}
