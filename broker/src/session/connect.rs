//! How a connection begins and ends.

use super::Session;
use super::event::Violation;
use super::event::{Attach, Detach};
use super::inbound::Inbound;
use super::message::WillMessage;
use super::outbound::Outbound;
use super::state::Phase;
use super::transmit::ack;
use crate::codec::{Connack, Connect, Disconnect, Packet, PropertiesBuf, Property, Reason, Version};

/// For how many seconds the session is to outlive its connection; `u32::MAX`: for ever (section 3.1.2.11.2).
pub fn asked_expiry_s(connect: &Connect<'_>) -> u32 {
    match connect.version {
        Version::V5 => connect.properties.session_expiry_s().unwrap_or(0),
        _ if connect.clean_start => 0,
        _ => u32::MAX,
    }
}

impl Session {
    /// A connection begins: what belonged to the last one is forgotten, CONNACK is the first packet, and what the
    /// client has not acknowledged is sent again.
    pub fn attach(&mut self, now_ms: u64, connect: &Connect<'_>, granted: Attach) {
        let properties = connect.properties;
        self.version = connect.version;
        self.bridge = connect.bridge;
        self.phase = Phase::Attached;
        self.control.clear();
        self.forget_answers();
        let mount = granted.mount.as_deref();
        let will = connect.will.as_ref();
        self.will = will.map(|will| Box::new(WillMessage::new(will, mount)));
        let aliases = properties.topic_alias_maximum().unwrap_or(0);
        let aliases = aliases.min(self.limits.topic_alias_maximum_out);
        self.rename(granted.mount.clone(), aliases);
        self.client_max_packet = properties.maximum_packet_size().unwrap_or(u32::MAX);
        self.explains =
            self.version == Version::V5 && properties.request_problem_information() != Some(false);
        self.client_receive_maximum = properties.receive_maximum().unwrap_or(u16::MAX);
        let asked_expiry_s = asked_expiry_s(connect);
        self.ends_with_connection = asked_expiry_s == 0;
        self.max_expiry_s = granted.max_session_expiry_s;
        self.expiry_s = asked_expiry_s.min(self.max_expiry_s);
        self.timers.attach(now_ms, granted.keep_alive_s);
        if !granted.session_present {
            self.inbound = Inbound::default();
            self.outbound = Outbound::default();
            self.inflight = None;
        }
        self.inbound.attach(self.limits.receive_maximum);
        self.put_connack(connect, asked_expiry_s, &granted);
        self.resume();
    }

    fn put_connack(&mut self, connect: &Connect<'_>, asked_expiry_s: u32, granted: &Attach) {
        let mut properties = PropertiesBuf::default();
        if self.version == Version::V5 {
            if self.expiry_s != asked_expiry_s {
                properties.push(Property::SessionExpiryInterval(self.expiry_s));
            }
            if self.limits.receive_maximum != u16::MAX {
                properties.push(Property::ReceiveMaximum(self.limits.receive_maximum));
            }
            if !self.limits.retains {
                properties.push(Property::RetainAvailable(false));
            }
            properties.push(Property::MaximumPacketSize(self.limits.max_packet_bytes));
            if self.limits.topic_alias_maximum > 0 {
                properties.push(Property::TopicAliasMaximum(self.limits.topic_alias_maximum));
            }
            if let Some(id) = &granted.assigned_client_id {
                properties.push(Property::AssignedClientIdentifier(id));
            }
            if let Some(information) = &granted.response_information {
                properties.push(Property::ResponseInformation(information));
            }
            if granted.keep_alive_s != connect.keep_alive_s {
                properties.push(Property::ServerKeepAlive(granted.keep_alive_s));
            }
            // It was let in by this method [MQTT-4.12.0-5], or there is none [MQTT-4.12.0-6].
            if let Some(method) = connect.properties.authentication_method() {
                properties.push(Property::AuthenticationMethod(method));
                if let Some(data) = &granted.authentication_data {
                    properties.push(Property::AuthenticationData(data));
                }
            }
        }
        self.control(&Packet::Connack(Connack {
            session_present: granted.session_present && connect.version != Version::V31,
            reason: Reason::Success,
            properties: properties.as_properties(),
        }));
    }

    /// Whether CONNACK waits to be sent: it does not when it is larger than the client takes.
    pub fn has_connack(&self) -> bool {
        self.control.first().is_some_and(|first| first >> 4 == 2)
    }

    /// PUBRELs go first: their publishes were sent before those that are sent again.
    fn resume(&mut self) {
        let Some(mut inflight) = self.inflight.take() else {
            return;
        };
        for packet_id in inflight.resume() {
            self.control(&Packet::Pubrel(ack(packet_id, Reason::Success)));
        }
        self.inflight = Some(inflight);
    }

    /// The will of its connection.
    pub fn will(&self) -> Option<&WillMessage> {
        self.will.as_deref()
    }

    /// The connection is gone. Returns the will, if it is to be published now; one with a delay waits for it, or for the
    /// session's end if that comes first [MQTT-3.1.2-8], which for a session that is not kept is now.
    pub fn detach(&mut self, now_ms: u64, how: Detach) -> Option<WillMessage> {
        if self.phase == Phase::Detached {
            return None;
        }
        self.phase = Phase::Detached;
        self.control = Vec::new();
        self.forget_answers();
        self.rename(None, 0);
        self.timers.detach(now_ms, 0, self.expiry_s);
        let dropped = match self.keeps_qos0() {
            true => 0,
            false => self.outbound.drop_qos0(),
        };
        if dropped > 0 {
            let count = &mut self.drops().qos0;
            *count = count.saturating_add(u32::try_from(dropped).unwrap_or(u32::MAX));
        }
        let mut will = self.will.take()?;
        if how == Detach::Clean {
            return None;
        }
        if will.delay_s() > 0 && self.is_persistent() {
            will.is_due_at(now_ms + u64::from(will.delay_s()) * 1_000);
            self.will = Some(will);
            return None;
        }
        Some(*will)
    }

    /// The client is back: a will that still waits is not published [MQTT-3.1.3-9], unless its session is at an end with
    /// the clean start of the new connection. One without a delay waits after a restart only, for the client itself.
    pub fn return_will(&mut self, clean_start: bool) {
        let ends = clean_start && self.will().is_some_and(|will| will.delay_s() > 0);
        if !ends {
            self.take_late_will();
        }
    }

    /// Whether a will waits for its delay.
    pub fn has_late_will(&self) -> bool {
        !self.is_attached() && self.will.is_some()
    }

    /// DISCONNECT from the client: whether the will is to be published (section 3.14.4).
    pub(super) fn disconnect(&mut self, disconnect: &Disconnect<'_>) -> Result<bool, Violation> {
        if let Some(expiry_s) = disconnect.properties.session_expiry_s() {
            if self.ends_with_connection && expiry_s != 0 {
                return Err(Violation::protocol(
                    "DISCONNECT raises a session expiry that was 0 in CONNECT [MQTT-3.14.2-2]",
                ));
            }
            self.expiry_s = expiry_s.min(self.max_expiry_s);
        }
        self.phase = Phase::Leaving;
        Ok(disconnect.reason != Reason::Success)
    }
}
