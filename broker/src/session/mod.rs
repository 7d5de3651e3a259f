//! The rules of one client: what it may send, what it is sent, and what is kept of it between connections. No socket,
//! no clock, no channel: packets and the time go in, requests and bytes come out.
//!
//! Four kinds of method: getters; `attach`, `detach`, `handle_packet`, `handle_timeout`, which take what happened;
//! commands (`deliver`, `settle`, `subscribed`, `unsubscribed`, `answered`, `close`); and `poll_transmit`,
//! `poll_timeout`, which say what is to be done.

mod connect;
mod event;
mod explain;
mod filters;
mod inbound;
mod inflight;
mod later;
mod message;
mod names;
mod outbound;
mod receive;
mod restore;
mod state;
#[cfg(test)]
mod tests;
mod timer;
mod transmit;

use std::sync::Arc;

pub use connect::asked_expiry_s;
pub use event::{
    Attach, Delivered, Detach, Drops, Published, Request, SessionLimits, Ticket, TimeoutKind, Violation,
};
pub use explain::{of_connect, of_end, put_disconnect, put_refusal};
pub(crate) use message::OVERHEAD_BYTES as MESSAGE_OVERHEAD_BYTES;
pub use message::{Message, WillMessage};
pub use names::Whole;
pub(crate) use names::fits_mount;
pub use receive::fingerprint;
pub use restore::{Restart, id_jump};

use crate::codec::{Auth, Packet, PacketId, PropertiesBuf, Property, QoS, Reason, Subscription, Version};
use crate::hub::{Match, Share};
use crate::record::Origin;
use crate::store::StoreEvent;
use filters::Filters;
use inbound::Inbound;
use inflight::Inflight;
use later::Aside;
use outbound::{Outbound, Queued};
use state::Phase;
use timer::{Timer, Timers};

/// One client's session, with or without a connection.
#[derive(Debug)]
pub struct Session {
    client_id: Arc<str>,
    limits: Arc<SessionLimits>,
    timers: Timers,
    inbound: Inbound,
    outbound: Outbound,
    inflight: Option<Box<Inflight>>,
    filters: Filters,
    will: Option<Box<WillMessage>>,
    /// Encoded control packets that wait for the next transmit.
    control: Vec<u8>,
    aside: Option<Box<Aside>>,
    /// Seconds for which it outlives its connection.
    expiry_s: u32,
    /// What it may be set to.
    max_expiry_s: u32,
    /// The client's Maximum Packet Size.
    client_max_packet: u32,
    /// The client's Receive Maximum.
    client_receive_maximum: u16,
    version: Version,
    phase: Phase,
    bridge: bool,
    /// Refusals come with reason strings (section 3.1.2.11.7).
    explains: bool,
    /// CONNECT asked for an expiry of 0, which DISCONNECT may not raise.
    ends_with_connection: bool,
}

impl Session {
    /// A session that no client has joined yet.
    pub fn new(client_id: Arc<str>, limits: impl Into<Arc<SessionLimits>>) -> Self {
        Self {
            client_id,
            limits: limits.into(),
            timers: Timers::default(),
            inbound: Inbound::default(),
            outbound: Outbound::default(),
            inflight: None,
            filters: Filters::default(),
            will: None,
            control: Vec::new(),
            aside: None,
            expiry_s: 0,
            max_expiry_s: 0,
            client_max_packet: u32::MAX,
            client_receive_maximum: u16::MAX,
            version: Version::V311,
            phase: Phase::Detached,
            bridge: false,
            explains: false,
            ends_with_connection: true,
        }
    }

    /// The bounds of its next connection.
    pub fn set_limits(&mut self, limits: Arc<SessionLimits>) {
        self.limits = limits;
    }

    /// The client identifier.
    pub fn client_id(&self) -> &str {
        &self.client_id
    }

    /// The client identifier, to keep.
    pub fn client_id_shared(&self) -> Arc<str> {
        self.client_id.clone()
    }

    /// The protocol version of its connection, or of its last one.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Whether its client is a bridge, which wants RETAIN as published and nothing of its own back.
    pub fn is_bridge(&self) -> bool {
        self.bridge
    }

    /// Bytes of the greatest packet that its client takes.
    pub fn client_max_packet(&self) -> u32 {
        self.client_max_packet
    }

    /// Whether it has a connection.
    pub fn is_attached(&self) -> bool {
        self.phase != Phase::Detached
    }

    /// Whether it outlives its connection.
    pub fn is_persistent(&self) -> bool {
        self.expiry_s > 0
    }

    /// Seconds for which it outlives its connection; `u32::MAX`: for ever.
    pub fn expiry_s(&self) -> u32 {
        self.expiry_s
    }

    /// Publishes of this connection that wait for their acknowledgement.
    pub fn pending_acks(&self) -> usize {
        self.inbound.pending()
    }

    /// Messages that wait for the client.
    pub fn queued(&self) -> usize {
        self.outbound.len()
    }

    /// Bytes of the messages that wait for the client.
    pub fn queued_bytes(&self) -> usize {
        self.outbound.bytes()
    }

    /// Messages that may come to wait besides, as far as their number goes; none while half of the bytes are in use.
    pub fn room(&self) -> usize {
        if self.outbound.bytes() > self.limits.max_queued_bytes as usize / 2 {
            return 0;
        }
        (self.limits.max_queued_messages as usize).saturating_sub(self.outbound.len())
    }

    /// Whether this message would find room in the queue.
    pub fn has_room_for(&self, message: &Message) -> bool {
        self.outbound.has_room(message.cost(), &self.limits)
    }

    /// Messages on their way to the client that are not acknowledged.
    pub fn inflight(&self) -> usize {
        self.inflight.as_ref().map_or(0, |inflight| inflight.len())
    }

    /// Bytes of control packets that wait to be sent: who lets them grow should read no further.
    pub fn control_bytes(&self) -> usize {
        self.control.len()
    }

    /// The filters it holds.
    pub fn filters(&self) -> impl Iterator<Item = &str> {
        self.filters.iter()
    }

    /// Whether a further QoS 1 or 2 PUBLISH may be handled. A 5.0 client was told the bound and is held to it by
    /// [`handle_packet`](Session::handle_packet) [MQTT-3.3.4-9]; a 3.x client is not read until there is room.
    #[inline]
    pub fn can_take_publish(&self) -> bool {
        self.version == Version::V5 || self.inbound.pending() < usize::from(self.limits.receive_maximum)
    }

    /// Messages that may be on their way to the client at once (section 4.9).
    fn window(&self) -> u16 {
        self.client_receive_maximum.min(self.limits.max_inflight_messages)
    }

    /// The publish of `ticket` is decided: acknowledged, or refused for the reason in `Err`, which leaves its id free.
    pub fn settle(&mut self, ticket: Ticket, result: Result<(), Reason>) {
        self.inbound.settle(ticket, result);
    }

    /// The publishes of the `count` tickets from `first` on are accepted.
    pub fn settle_run(&mut self, first: Ticket, count: u32) {
        self.inbound.settle_run(first, count);
    }

    /// Whether its client can be told that a publish was refused. A 3.x client has no way to hear it and gets its
    /// acknowledgement: closed, it would send the same again for ever [3.1.1: MQTT-3.3.5-2].
    pub fn is_told_refusals(&self) -> bool {
        self.version == Version::V5
    }

    /// The packet id that the publish of `ticket`, which is not settled, has taken; none but at QoS 2.
    pub fn takes_id(&self, ticket: Ticket) -> Option<PacketId> {
        self.inbound.takes_id(ticket)
    }

    /// Whether the session may hold this subscription: what to answer, below 0x80 when it may. Enters the filter into
    /// the session's own list.
    pub fn admit_subscription(&mut self, asked: &Subscription<'_>) -> Reason {
        let refused = |reason| match self.version {
            Version::V5 => reason,
            Version::V31 | Version::V311 => Reason::UnspecifiedError, // 0x80, "failure" [3.1.1: MQTT-3.9.3-2]
        };
        if !self.limits.takes_filter(asked.filter) {
            return refused(Reason::TopicFilterInvalid);
        }
        let most = self.limits.max_subscriptions;
        let most_shared = self.limits.max_shared_subscriptions;
        if !self
            .filters
            .insert(asked.filter, most as usize, most_shared as usize)
        {
            return refused(Reason::QuotaExceeded);
        }
        filters::granted(asked.qos)
    }

    /// The session holds this filter no more.
    pub fn forget_subscription(&mut self, filter: &str) -> bool {
        self.filters.remove(filter)
    }

    /// A message for this client, because of the subscriptions in `to`. `retained`: it is sent because it was kept for
    /// new subscribers [MQTT-3.3.1-6 to 13].
    pub fn deliver(&mut self, now_ms: u64, message: &Arc<Message>, to: &Match, retained: bool) -> Delivered {
        let queued = Queued {
            message: message.clone(),
            ids: to.ids.clone(),
            qos: to.qos.min(message.qos),
            retain: retained || (message.retain && to.retain_as_published),
            share: to.share.clone(),
        };
        let qos = queued.qos;
        let delivered = self.enqueue(now_ms, queued);
        let for_group = to.share.is_some() && message.qos != QoS::AtMostOnce;
        match qos {
            QoS::AtMostOnce if !for_group => {}
            QoS::AtMostOnce => self.tell_done(to.share.as_ref(), message.origin, None),
            _ if delivered == Delivered::Queued => {}
            _ => self.tell_done(to.share.as_ref(), message.origin, None),
        }
        delivered
    }

    /// Forgets the messages that wait for the client or are on their way to it on topics that it `may` not read any more.
    /// Called between two connections. Returns those of groups, for other members.
    pub fn forget_messages(&mut self, may: impl Fn(&str) -> bool) -> Vec<(Share, Arc<Message>)> {
        let mut of_groups = Vec::new();
        let sent = match &mut self.inflight {
            Some(inflight) => inflight.take_out(|message| !may(&message.topic)),
            None => Vec::new(),
        };
        for sent in sent {
            let (queued, packet_id) = (sent.message, sent.packet_id);
            match (queued.share, queued.qos) {
                // For the store this session has it until the next member says that it was sent it.
                (Some(share), QoS::AtLeastOnce) => of_groups.push((share, queued.message)),
                (share, _) => self.tell_done(share.as_ref(), queued.message.origin, Some(packet_id)),
            }
        }
        for queued in self.outbound.take_out(|message| !may(&message.topic)) {
            match queued.share {
                Some(share) if queued.qos > QoS::AtMostOnce => of_groups.push((share, queued.message)),
                share => self.tell_done(share.as_ref(), queued.message.origin, None),
            }
        }
        of_groups
    }

    /// QoS 1 and 2 wait for a client that is away; QoS 0 only where that is configured.
    fn enqueue(&mut self, now_ms: u64, queued: Queued) -> Delivered {
        if queued.message.is_expired(now_ms) {
            return Delivered::Expired;
        }
        let is_qos0 = queued.qos == QoS::AtMostOnce;
        let waits = !is_qos0 || self.is_attached() || self.keeps_qos0();
        if !waits || !self.make_room(queued.message.cost()) {
            return match is_qos0 {
                true => Delivered::DroppedQoS0,
                false => Delivered::DroppedFull,
            };
        }
        self.outbound.push(queued);
        Delivered::Queued
    }

    /// Whether QoS 0 waits for the client while it is away.
    fn keeps_qos0(&self) -> bool {
        self.limits.queue_qos0 && self.is_persistent()
    }

    /// Whether a message that costs `cost` finds room in the queue, whose oldest give way where that is configured.
    fn make_room(&mut self, cost: usize) -> bool {
        let gives_way = self.limits.drop_old && cost <= self.limits.max_queued_bytes as usize;
        while !self.outbound.has_room(cost, &self.limits) {
            let Some(oldest) = gives_way.then(|| self.outbound.pop()).flatten() else {
                return false;
            };
            self.taken_from_queue();
            self.give_up(&oldest);
            let count = &mut self.drops().full;
            *count = count.saturating_add(1);
        }
        true
    }

    /// A message for it was lost on its way here.
    pub fn lost(&mut self, origin: Origin, share: Option<&Share>) {
        self.tell_done(share, Some(origin), None);
    }

    /// It is gone: what it had for groups, for other members of them.
    pub fn take_shared(&mut self) -> Vec<(Share, Arc<Message>)> {
        let sent = self.inflight.as_mut().map(|inflight| inflight.take_shared());
        sent.into_iter()
            .flatten()
            .chain(self.outbound.take_shared())
            .collect()
    }

    /// Messages that wait for the client or are not acknowledged, and how many it may have unacknowledged; `None`: it
    /// has no connection.
    pub fn load(&self) -> (usize, Option<u16>) {
        let waiting = self.queued() + self.inflight();
        (waiting, self.is_attached().then(|| self.window()))
    }

    /// How many messages may wait for the client or be unacknowledged, as it is now: more are dropped. One that is almost
    /// full in bytes counts as full.
    pub fn most_load(&self) -> usize {
        let most_bytes = self.limits.max_queued_bytes as usize;
        match self.queued_bytes() < most_bytes - most_bytes / 16 {
            true => (self.limits.max_queued_messages as usize).saturating_add(self.inflight()),
            false => 0,
        }
    }

    /// Remembers what the store is to know; only of kept sessions, of which it knows.
    fn tell(&mut self, event: impl FnOnce(Arc<str>) -> StoreEvent) {
        if self.limits.tells_store && self.is_persistent() {
            let client = self.client_id.clone();
            self.aside.get_or_insert_default().events.push(event(client));
        }
    }

    /// A message of QoS 1 or 2 is of no concern any more.
    fn tell_done(&mut self, share: Option<&Share>, origin: Option<Origin>, packet_id: Option<PacketId>) {
        let Some(origin) = origin else { return };
        match share {
            Some(share) if packet_id.is_none() || !self.is_persistent() => self.tell_group(share, origin),
            _ => self.tell(|client| StoreEvent::Done {
                client,
                origin,
                packet_id: packet_id.map(PacketId::get),
            }),
        }
    }

    /// No other member of the group is to get the message.
    fn tell_group(&mut self, share: &Share, origin: Origin) {
        if self.limits.tells_store && share.owed {
            let client = share.group.clone();
            self.aside.get_or_insert_default().events.push(StoreEvent::Done {
                client,
                origin,
                packet_id: None,
            });
        }
    }

    /// Appends what the store is to be told since the last call.
    pub fn take_events(&mut self, into: &mut Vec<StoreEvent>) {
        if let Some(aside) = &mut self.aside {
            into.append(&mut aside.events);
        }
    }

    /// The connection is to end: what waits is sent, then DISCONNECT with `reason` to a 5.0 client, then nothing more.
    pub fn close(&mut self, reason: Reason) {
        self.phase = self.phase.close(reason);
    }

    /// AUTH to a client that authenticates again.
    pub fn authenticate(&mut self, method: &str, reason: Reason, data: Option<&[u8]>) {
        let mut properties = PropertiesBuf::default();
        properties.push(Property::AuthenticationMethod(method));
        if let Some(data) = data {
            properties.push(Property::AuthenticationData(data));
        }
        self.control(&Packet::Auth(Auth {
            reason,
            properties: properties.as_properties(),
        }));
    }

    /// Bytes came from the client. Returns for how long there had been none, in milliseconds.
    pub fn touch(&mut self, now_ms: u64) -> u64 {
        self.timers.touch(now_ms)
    }

    /// They do not count: `quiet_ms` is what [`touch`](Session::touch) returned for them.
    pub fn untouch(&mut self, quiet_ms: u64) {
        self.timers.untouch(quiet_ms);
    }

    /// When [`handle_timeout`](Session::handle_timeout) is to be called at the latest.
    pub fn poll_timeout(&self) -> Option<u64> {
        self.next_timer().map(|(at, _)| at)
    }

    fn next_timer(&self) -> Option<(u64, Timer)> {
        let will = match self.phase {
            Phase::Detached => self.will.as_ref().and_then(|will| will.due_ms()),
            _ => None,
        };
        let will = will.map(|due_ms| (due_ms, Timer::WillDelay));
        let timers = [self.timers.next(), will];
        timers.into_iter().flatten().min_by_key(|(at, _)| *at)
    }

    /// The time of a deadline may have come.
    pub fn handle_timeout(&mut self, now_ms: u64) -> Option<TimeoutKind> {
        match self.next_timer() {
            Some((at, Timer::KeepAlive)) if at <= now_ms => Some(TimeoutKind::KeepAlive),
            Some((at, Timer::Expiry)) if at <= now_ms => Some(TimeoutKind::Expired),
            Some((at, Timer::WillDelay)) if at <= now_ms => Some(TimeoutKind::WillDelay),
            _ => {
                self.shrink(); // a quiet moment, and a rare one
                None
            }
        }
    }

    #[cfg(test)]
    fn has_aside(&self) -> bool {
        self.aside.is_some()
    }

    fn shrink(&mut self) {
        self.inbound.shrink();
        self.outbound.shrink();
        if self.aside.as_ref().is_some_and(|aside| aside.is_empty()) {
            self.aside = None;
        }
        if let Some(inflight) = &mut self.inflight {
            inflight.shrink();
        }
    }
}
