//! What a session sends: control packets at once into a small buffer, then acknowledgements in order, then messages
//! inside the client's window. All encoding is here.

use super::Session;
use super::event::Drops;
use super::inflight::Sent;
use super::outbound::Queued;
use super::state::Phase;
use crate::codec::{
    Ack, Disconnect, Packet, PacketId, Properties, PropertiesBuf, Property, Publish, QoS, Reason, Version,
    encode,
};
use crate::store::StoreEvent;

/// Bytes of the control buffer that an idle session may keep.
const KEPT_CONTROL_BYTES: usize = 64;

/// An acknowledgement without properties.
pub(super) fn ack(packet_id: PacketId, reason: Reason) -> Ack<'static> {
    Ack {
        packet_id,
        reason,
        properties: Properties::EMPTY,
    }
}

/// How a packet was put into a buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Put {
    Done,
    TooLarge,
}

/// Appends `packet` unless it is larger than the client takes [MQTT-3.1.2-24].
fn put(version: Version, most: u32, packet: &Packet<'_>, out: &mut Vec<u8>) -> Put {
    let start = out.len();
    if encode(version, packet, out).is_ok() && out.len() - start <= most as usize {
        return Put::Done;
    }
    out.truncate(start);
    Put::TooLarge
}

/// Appends the PUBLISH of `queued`.
fn put_publish(
    now_ms: u64,
    version: Version,
    most: u32,
    queued: &Queued,
    sent_as: Option<(PacketId, bool)>,
    out: &mut Vec<u8>,
) -> Put {
    let message = &*queued.message;
    let mut changed = PropertiesBuf::default();
    let properties = match version {
        Version::V5 if !queued.ids.is_empty() || message.expires_at_ms.is_some() => {
            rewrite(now_ms, queued, &mut changed);
            changed.as_properties()
        }
        Version::V5 => message.properties(),
        Version::V31 | Version::V311 => Properties::EMPTY,
    };
    let publish = Publish {
        dup: sent_as.is_some_and(|(_, dup)| dup),
        qos: queued.qos,
        retain: queued.retain,
        topic: &message.topic,
        packet_id: sent_as.map(|(packet_id, _)| packet_id),
        payload: &message.payload,
        properties,
    };
    put(version, most, &Packet::Publish(publish), out)
}

/// The message's properties with what is left of its expiry [MQTT-3.3.2-6] and the identifiers of the subscriptions
/// that it is sent for [MQTT-3.3.4-3].
fn rewrite(now_ms: u64, queued: &Queued, into: &mut PropertiesBuf) {
    for property in queued.message.properties().iter() {
        into.push(match property {
            Property::MessageExpiryInterval(was) => {
                Property::MessageExpiryInterval(queued.message.expires_in_s(now_ms).unwrap_or(was))
            }
            other => other,
        });
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
        out.extend_from_slice(&self.control);
        self.control.clear();
        self.control.shrink_to(KEPT_CONTROL_BYTES);
        self.put_acks(out);
        match self.phase {
            Phase::Closing(reason) => self.put_disconnect(reason, out),
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
            Phase::Closing(_) => true,
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
        while let Some(due) = self.inbound.next_due() {
            let ack = ack(due.packet_id, due.reason);
            let packet = match due.qos {
                QoS::ExactlyOnce => Packet::Pubrec(ack),
                _ => Packet::Puback(ack),
            };
            put(self.version, self.client_max_packet, &packet, out);
        }
    }

    fn put_disconnect(&mut self, reason: Reason, out: &mut Vec<u8>) {
        self.phase = Phase::Closed;
        if self.version == Version::V5 {
            let properties = Properties::EMPTY;
            let packet = Packet::Disconnect(Disconnect { reason, properties });
            put(self.version, self.client_max_packet, &packet, out);
        }
    }

    /// What an earlier connection left unacknowledged, in its order [MQTT-4.4.0-1].
    fn put_again(&mut self, now_ms: u64, out: &mut Vec<u8>, soft_limit: usize) {
        let window = self.window();
        while out.len() < soft_limit {
            let Some(inflight) = self.inflight.as_mut().filter(|i| i.has_room(window)) else {
                return;
            };
            let Some(Sent { packet_id, message }) = inflight.next_again() else {
                return;
            };
            let sent_as = Some((*packet_id, true));
            match put_publish(
                now_ms,
                self.version,
                self.client_max_packet,
                message,
                sent_as,
                out,
            ) {
                Put::Done => inflight.sent_again(),
                Put::TooLarge => {
                    let dropped = inflight.drop_again();
                    self.drops.too_large = self.drops.too_large.saturating_add(1);
                    if let Some(dropped) = dropped {
                        self.tell_done(dropped.message.message.origin, Some(dropped.packet_id));
                    }
                }
            }
        }
    }

    fn put_queued(&mut self, now_ms: u64, out: &mut Vec<u8>, soft_limit: usize) {
        if self.inflight.as_ref().is_some_and(|i| i.next_again().is_some()) {
            return;
        }
        while out.len() < soft_limit && self.next_is_sendable() {
            let Some(queued) = self.outbound.pop() else { return };
            self.taken_from_queue();
            if queued.message.is_expired(now_ms) {
                self.drops.expired = self.drops.expired.saturating_add(1);
                self.give_up(&queued);
                continue;
            }
            let packet_id = match queued.qos {
                QoS::AtMostOnce => None,
                _ => Some(self.inflight.get_or_insert_default().free_id()),
            };
            let sent_as = packet_id.map(|packet_id| (packet_id, false));
            match put_publish(
                now_ms,
                self.version,
                self.client_max_packet,
                &queued,
                sent_as,
                out,
            ) {
                Put::TooLarge => {
                    self.drops.too_large = self.drops.too_large.saturating_add(1);
                    self.give_up(&queued);
                }
                Put::Done => {
                    if let Some(packet_id) = packet_id {
                        self.sent(packet_id, queued);
                    }
                }
            }
        }
    }

    /// `queued` was sent for the first time and is to be acknowledged.
    fn sent(&mut self, packet_id: PacketId, queued: Queued) {
        if let Some(origin) = queued.message.origin {
            self.tell(|client| StoreEvent::Sent {
                client,
                origin,
                packet_id: packet_id.get(),
            });
        }
        if let Some(inflight) = &mut self.inflight {
            inflight.push(packet_id, queued);
        }
    }

    /// `queued` is not sent at all.
    fn give_up(&mut self, queued: &Queued) {
        if queued.qos != QoS::AtMostOnce {
            self.tell_done(queued.message.origin, None);
        }
    }

    /// Messages that were given up after they had been queued, since the last call.
    pub fn take_drops(&mut self) -> Drops {
        std::mem::take(&mut self.drops)
    }
}
