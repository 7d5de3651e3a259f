//! What each packet from the client does.

use super::Session;
use super::event::{Published, Request, Violation};
use super::inbound::Arrival;
use super::inflight::{Awaited, Received};
use super::later::Answer;
use super::transmit::ack;
use crate::codec::topic::SHARE;
use crate::codec::{Ack, Packet, PacketId, Publish, QoS, Reason, Subscribe, Version};
use crate::store::StoreEvent;

impl Session {
    /// A packet came from the client.
    pub fn handle_packet<'a>(&mut self, now_ms: u64, packet: Packet<'a>) -> Result<Request<'a>, Violation> {
        self.phase.check_receive()?;
        self.timers.touch(now_ms);
        match packet {
            Packet::Publish(publish) => {
                return Ok(match self.publish(&publish)? {
                    Published::Known => Request::None,
                    Published::New(ticket) => Request::Publish { ticket, publish },
                });
            }
            Packet::Puback(ack) => {
                self.check_answer(ack.packet_id, &[Awaited::Puback])?;
                self.acknowledged(&ack);
            }
            Packet::Pubrec(ack) => {
                self.check_answer(ack.packet_id, &[Awaited::Pubrec, Awaited::Pubcomp])?;
                self.received(&ack);
            }
            Packet::Pubrel(ack) => return self.released(&ack),
            Packet::Pubcomp(ack) => {
                self.check_answer(ack.packet_id, &[Awaited::Pubcomp])?;
                self.completed(ack.packet_id);
            }
            Packet::Pingreq => self.control(&Packet::Pingresp),
            Packet::Subscribe(subscribe) => {
                check_subscribe(&subscribe)?;
                self.check_reasons_fit(subscribe.filters.len())?;
                return Ok(Request::Subscribe(subscribe));
            }
            Packet::Unsubscribe(unsubscribe) => {
                self.check_reasons_fit(unsubscribe.filters.len())?;
                return Ok(Request::Unsubscribe(unsubscribe));
            }
            Packet::Disconnect(disconnect) => {
                let with_will = self.disconnect(&disconnect)?;
                return Ok(Request::Disconnect { with_will });
            }
            Packet::Connect(_) => return Err(Violation::protocol("a second CONNECT [MQTT-3.1.0-2]")),
            Packet::Auth(_) => {
                return Err(Violation::protocol(
                    "AUTH without an Authentication Method in CONNECT [MQTT-4.12.0-6]",
                ));
            }
            Packet::Connack(_) | Packet::Suback(_) | Packet::Unsuback(_) | Packet::Pingresp => {
                return Err(Violation::protocol("a packet that only a server sends"));
            }
        }
        Ok(Request::None)
    }

    /// The same as [`handle_packet`](Session::handle_packet) for a PUBLISH, the way of every message.
    #[inline]
    pub fn handle_publish(&mut self, now_ms: u64, publish: &Publish<'_>) -> Result<Published, Violation> {
        self.phase.check_receive()?;
        self.timers.touch(now_ms);
        self.publish(publish)
    }

    fn publish(&mut self, publish: &Publish<'_>) -> Result<Published, Violation> {
        let topic = self.check_publish(publish)?;
        let fingerprint = match publish.qos {
            QoS::AtMostOnce => 0,
            _ => fingerprint(topic, publish.payload),
        };
        self.learn_alias(publish);
        let ticket = match (publish.qos, publish.packet_id) {
            (QoS::AtMostOnce, _) => None,
            (_, None) => return Err(Violation::protocol("PUBLISH without a packet id [MQTT-2.2.1-2]")),
            (qos, Some(packet_id)) => {
                let most = self.limits.receive_maximum;
                if self.version == Version::V5 && self.inbound.under_way() >= most {
                    return Err(Violation::new(
                        Reason::ReceiveMaximumExceeded,
                        "more publishes under way than Receive Maximum [MQTT-3.3.4-9]",
                    ));
                }
                match self.inbound.arrive(packet_id, qos, publish.dup, fingerprint) {
                    Arrival::New(ticket) => Some(ticket),
                    Arrival::Known => return Ok(Published::Known),
                }
            }
        };
        Ok(Published::New(ticket))
    }

    /// The whole topic of a PUBLISH that may be handled.
    fn check_publish<'a>(&'a self, publish: &Publish<'a>) -> Result<&'a str, Violation> {
        let topic = self.topic_of(publish)?;
        if !publish.properties.is_empty() && publish.properties.subscription_ids().next().is_some() {
            return Err(Violation::protocol(
                "a subscription identifier from a client [MQTT-3.3.4-6]",
            ));
        }
        if !self.limits.takes_topic(publish.topic) {
            return Err(Violation::new(
                Reason::TopicNameInvalid,
                "a topic beyond limits.max_topic_levels or limits.max_topic_bytes",
            ));
        }
        if publish.retain && !self.limits.retains && self.version == Version::V5 {
            return Err(Violation::new(
                Reason::RetainNotSupported,
                "RETAIN where CONNACK said that nothing is retained [MQTT-3.2.2-14]",
            ));
        }
        Ok(topic)
    }

    /// SUBACK and UNSUBACK have a reason code for each filter. One that is larger than the client takes can't be sent
    /// [MQTT-3.1.2-24], and the client would wait for it for ever.
    fn check_reasons_fit(&self, filters: usize) -> Result<(), Violation> {
        let body = 3 + filters; // packet id, no properties
        let length_bytes = 1 + body.checked_ilog2().unwrap_or(0) as usize / 7;
        match 1 + length_bytes + body > self.client_max_packet as usize {
            true => Err(Violation::new(
                Reason::PacketTooLarge,
                "more filters at once than there are reason codes in a packet that the client takes (section 3.1.2.11.4)",
            )),
            false => Ok(()),
        }
    }

    /// An acknowledgement of the wrong kind breaks the flow of its QoS (sections 4.3.2 and 4.3.3); one for an id that waits
    /// for none may be late.
    fn check_answer(&self, packet_id: PacketId, answers: &[Awaited]) -> Result<(), Violation> {
        let inflight = self.inflight.as_ref();
        match inflight.is_some_and(|inflight| inflight.waits_for_other(packet_id, answers)) {
            true => Err(Violation::protocol(
                "an acknowledgement of another QoS than its message has (section 4.3)",
            )),
            false => Ok(()),
        }
    }

    /// PUBACK: the message is delivered, whatever the reason says (section 4.3.2), and goes to no other member of a group
    /// [MQTT-4.8.2-6]. Unknown ids are ignored.
    fn acknowledged(&mut self, ack: &Ack<'_>) {
        self.finish(ack.packet_id, QoS::AtLeastOnce);
    }

    fn finish(&mut self, packet_id: PacketId, qos: QoS) {
        let done = self.inflight.as_mut().and_then(|i| i.finish(packet_id, qos));
        if let Some(done) = done {
            self.tell_done(done.share.as_ref(), done.message.origin, Some(packet_id));
        }
    }

    /// PUBREC (section 4.3.3).
    fn received(&mut self, pubrec: &Ack<'_>) {
        let packet_id = pubrec.packet_id;
        if pubrec.reason as u8 >= 0x80 {
            self.finish(packet_id, QoS::ExactlyOnce);
            return;
        }
        let received = self.inflight.as_mut().map(|i| i.received(packet_id));
        if let Some(Received::Release(Some(origin))) = received {
            self.tell(|client| StoreEvent::Received {
                client,
                packet_id: packet_id.get(),
                origin,
            });
        }
        let reason = match received {
            Some(Received::Release(_) | Received::Again) => Reason::Success,
            Some(Received::Unknown) | None => Reason::PacketIdentifierNotFound,
        };
        self.control(&Packet::Pubrel(ack(packet_id, self.known(reason))));
    }

    /// PUBCOMP (section 4.3.3).
    fn completed(&mut self, packet_id: PacketId) {
        if self.inflight.as_mut().is_some_and(|i| i.complete(packet_id)) {
            self.tell(|client| StoreEvent::Completed {
                client,
                packet_id: packet_id.get(),
            });
        }
    }

    /// PUBREL (section 4.3.3). A kept session that said PUBCOMP and forgot the PUBREL at a crash would take the next
    /// publish under this id for the one before: the answer waits for a record of it. An id that is not known gets one
    /// too: its own may be on the way.
    fn released<'a>(&mut self, pubrel: &Ack<'_>) -> Result<Request<'a>, Violation> {
        let packet_id = pubrel.packet_id;
        let reason = match self.inbound.release(packet_id)? {
            true => Reason::Success,
            false => Reason::PacketIdentifierNotFound,
        };
        let reason = self.known(reason);
        if self.is_persistent() {
            let answer = self.hold(Answer::Pubcomp(packet_id, reason));
            return Ok(Request::Released { packet_id, answer });
        }
        self.control(&Packet::Pubcomp(ack(packet_id, reason)));
        Ok(Request::None)
    }

    /// Acknowledgements have no reason before 5.0.
    fn known(&self, reason: Reason) -> Reason {
        match self.version {
            Version::V5 => reason,
            Version::V31 | Version::V311 => Reason::Success,
        }
    }
}

/// Tells one message from another that came under the same packet id, in this run of the broker: the hash may be
/// another on another machine. Fixed seeds: a client that makes two of its own messages look alike deceives itself only.
pub fn fingerprint(topic: &str, payload: &[u8]) -> u64 {
    ahash::RandomState::with_seeds(1, 2, 3, 4).hash_one((topic, payload))
}

fn check_subscribe(subscribe: &Subscribe<'_>) -> Result<(), Violation> {
    let wrong = |s: &crate::codec::Subscription<'_>| s.no_local && s.filter.starts_with(SHARE);
    match subscribe.filters.iter().any(wrong) {
        true => Err(Violation::protocol(
            "No Local on a shared subscription [MQTT-3.8.3-4]",
        )),
        false => Ok(()),
    }
}
