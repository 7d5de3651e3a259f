//! A kept session as the store hands it to its worker when the broker starts.

use std::collections::HashMap;
use std::sync::Arc;

use ahash::RandomState;

use crate::classify::Level;
use crate::codec::QoS;
use crate::codec::topic::split_share;
use crate::hub::shared::filter_of;
use crate::hub::{Share, SubscriptionIds, SubscriptionOptions};
use crate::session::{Message, WillMessage};

/// All that was kept.
#[derive(Debug, Default)]
pub struct Restored {
    /// Sessions, in no order.
    pub sessions: Vec<KeptSession>,
    /// Retained messages.
    pub retained: Vec<Arc<Message>>,
    /// Groups of shared subscriptions that have members among the sessions.
    pub groups: Vec<KeptGroup>,
}

/// A group of a shared subscription.
#[derive(Debug, Clone)]
pub struct KeptGroup {
    /// Its name, as [`Share`] has it.
    pub name: Arc<str>,
    /// What no member was sent, oldest first.
    pub queue: Vec<Arc<Message>>,
}

impl KeptGroup {
    /// Deals the messages of `groups` out to the members among `sessions` that are to stay.
    pub fn deal_all(groups: Vec<Self>, sessions: &mut [KeptSession]) {
        let groups: Vec<_> = groups
            .into_iter()
            .filter(|group| !group.queue.is_empty())
            .collect();
        if groups.is_empty() {
            return;
        }
        let mut members: HashMap<Box<str>, Vec<usize>, RandomState> = HashMap::default();
        for (at, session) in sessions.iter().enumerate().filter(|(_, s)| s.expiry_s > 0) {
            let shared = session.subscriptions.iter();
            for (filter, _) in shared.filter(|(filter, _)| split_share(filter).is_some()) {
                members.entry(filter.clone()).or_default().push(at);
            }
        }
        for group in groups {
            if let Some(members) = members.get(filter_of(&group.name)) {
                group.deal(members, sessions);
            }
        }
    }

    /// `at`: where its members stand.
    fn deal(self, at: &[usize], sessions: &mut [KeptSession]) {
        let share = Share {
            group: self.name,
            owed: true,
            hops: 0,
        };
        let held = |session: &KeptSession| {
            let mut held = session.subscriptions.iter();
            held.find(|(filter, options)| **filter == *share.filter() && options.qos > QoS::AtMostOnce)
                .map(|(_, options)| *options)
        };
        let waiting = |at: &usize| sessions.get(*at).map(|session| session.queue.len());
        let mut members: Vec<(Option<usize>, usize, SubscriptionOptions)> = at
            .iter()
            .filter_map(|at| Some((waiting(at), *at, held(sessions.get(*at)?)?)))
            .collect();
        members.sort_by_key(|(waiting, ..)| *waiting);
        for (turn, message) in self.queue.into_iter().enumerate() {
            let turn = turn % members.len().max(1);
            let Some((_, at, options)) = members.get(turn) else {
                return;
            };
            let Some(session) = sessions.get_mut(*at) else {
                return;
            };
            session.queue.push(KeptMessage {
                qos: options.qos.min(message.qos),
                retain: message.retain && options.retain_as_published,
                ids: options.subscription_id.into_iter().collect(),
                packet_id: None,
                share: Some(share.clone()),
                message,
            });
        }
    }
}

/// One session.
#[derive(Debug, Clone)]
pub struct KeptSession {
    /// Its client identifier.
    pub client_id: Arc<str>,
    /// The user name of its last connection.
    pub username: Option<Box<str>>,
    /// Protocol level of its last connection: 3, 4 or 5.
    pub level: u8,
    /// Seconds for which it outlives its connection; `u32::MAX`: for ever.
    pub expiry_s: u32,
    /// When its connection ended, milliseconds since 1970; `None`: it was connected when the process ended.
    pub left_ms: Option<u64>,
    /// The will of that connection, if it was not published and not given up.
    pub will: Option<WillMessage>,
    /// Its subscriptions.
    pub subscriptions: Vec<(Box<str>, SubscriptionOptions)>,
    /// Messages for it: those that were sent first, in that order, then those that wait.
    pub queue: Vec<KeptMessage>,
    /// Ids for which PUBREC came and PUBCOMP did not, in the order of their PUBREC.
    pub releasing: Vec<u16>,
    /// QoS 2 ids of its own publishes that it has not released.
    pub taken: Vec<TakenId>,
    /// The packet id that was used last to send to it, as far as the store knows.
    pub last_packet_id: u16,
}

/// One message for a session. `message.expires_at_ms` is on the clock of the new run, which begins at 0.
#[derive(Debug, Clone)]
pub struct KeptMessage {
    /// The message, with its origin.
    pub message: Arc<Message>,
    /// QoS it is sent at: the smaller of the subscription's and its own.
    pub qos: QoS,
    /// RETAIN as it is sent.
    pub retain: bool,
    /// Identifiers of the subscriptions that matched.
    pub ids: SubscriptionIds,
    /// The id it was sent under and is not acknowledged under.
    pub packet_id: Option<u16>,
    /// The group that it is sent for.
    pub share: Option<Share>,
}

/// A QoS 2 packet id between PUBLISH and PUBREL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TakenId {
    /// The id.
    pub packet_id: u16,
    /// Of topic and payload, as [`crate::session::fingerprint`] makes it.
    pub fingerprint: u64,
    /// When its PUBREC is due.
    pub level: Level,
    /// The sequence of its publish in the log.
    pub sequence: u64,
}
