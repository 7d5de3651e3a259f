//! From the file into the projection, and from the projection into the sessions that workers begin with.

use std::collections::HashMap;
use std::sync::Arc;

use ahash::RandomState;

use super::group::Claim;
use super::messages::Shared;
use super::session::{Number, Queued, Saved, Stored, Taken};
use super::{ChangeSet, Projection, who};
use crate::codec::QoS;
use crate::codec::topic::split_share;
use crate::hub::Share;
use crate::hub::shared::group_name;
use crate::session::{Message, WillMessage};
use crate::spool::Position;
use crate::store::kept::{KeptGroup, KeptMessage, KeptSession, Restored, TakenId};
use crate::store::rows;

/// A projection that is being read from the file, with the messages as workers want them: they are handed out once and
/// then live in the sessions only.
#[derive(Debug)]
pub(crate) struct Loading {
    pub projection: Projection,
    messages: HashMap<u64, Arc<Message>, RandomState>,
    sessions: Vec<(usize, Stored)>,
    /// Milliseconds since 1970 when the broker's own clock begins.
    now_ms: u64,
    /// Fingerprints in the file were made by the same function.
    fingerprints_hold: bool,
}

/// A row that can't be read, or that refers to nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a row of table {0} is damaged")]
pub(crate) struct BadRow(pub &'static str);

impl Loading {
    /// Into an empty projection. The tables are to be loaded in the order of the methods.
    pub fn new(projection: Projection, now_ms: u64) -> Self {
        Self {
            projection,
            messages: HashMap::default(),
            sessions: Vec::new(),
            now_ms,
            fingerprints_hold: true,
        }
    }

    /// How far the file is, and whether the fingerprints in it can be compared with new ones.
    pub fn begin(&mut self, applied: Option<Position>, next_number: u64, fingerprints_hold: bool) {
        self.projection.applied = applied;
        self.projection.next_number = next_number.max(1);
        self.fingerprints_hold = fingerprints_hold;
    }

    /// A session's own row.
    pub fn session(&mut self, number: Number, row: &[u8]) -> Result<(), BadRow> {
        let session = rows::read_session(row).ok_or(BadRow("sessions"))?;
        self.sessions.push((number as usize, session));
        Ok(())
    }

    /// All sessions are there.
    pub fn sessions_end(&mut self) {
        let projection = &mut self.projection;
        projection.by_client.reserve(self.sessions.len());
        for (number, session) in &self.sessions {
            projection
                .by_client
                .insert(session.client_id.clone(), *number as Number);
        }
        projection.sessions = std::mem::take(&mut self.sessions).into_iter().collect();
        projection.groups = projection.sessions.iter().filter(|(_, s)| s.is_group()).count();
    }

    /// A session's will.
    pub fn will(&mut self, number: Number, row: &[u8]) -> Result<(), BadRow> {
        let will = rows::read_will(row).ok_or(BadRow("wills"))?;
        if let Some(session) = self.projection.sessions.get_mut(number as usize) {
            session.will = Some(Box::new(WillMessage::from_record(&will)));
        }
        Ok(())
    }

    /// A subscription.
    pub fn subscription(&mut self, number: Number, filter: &str, row: &[u8]) -> Result<(), BadRow> {
        let (from, options, retained) = rows::read_subscription(row).ok_or(BadRow("subscriptions"))?;
        let projection = &mut self.projection;
        let Some(session) = projection.sessions.get_mut(number as usize) else {
            return Ok(());
        };
        session.hold(filter, options, from, retained);
        if session.is_group() || split_share(filter).is_none() {
            projection
                .subscriptions
                .insert(filter, who(number), options, None);
        } else if options.qos > QoS::AtMostOnce
            && let Some(group) = projection.find(&group_name(filter))
            && let Some(group) = projection.sessions.get_mut(group as usize)
        {
            group.keepers += 1;
        }
        Ok(())
    }

    /// A message.
    pub fn message(&mut self, number: u64, row: &[u8]) -> Result<(), BadRow> {
        let message = rows::read_message(row, self.now_ms).ok_or(BadRow("messages"))?;
        let shared = Shared {
            origin: message.origin.ok_or(BadRow("messages"))?,
            qos: message.qos,
            retain: message.retain,
            cost: message.cost(),
            references: 0,
            row: None,
        };
        self.projection.messages.insert(number, shared);
        self.messages.insert(number, Arc::new(message));
        Ok(())
    }

    /// A place in a queue. They come in their order.
    pub fn queued(&mut self, number: Number, order: u64, row: &[u8]) -> Result<(), BadRow> {
        let row = rows::read_queued(row).ok_or(BadRow("queue"))?;
        let projection = &mut self.projection;
        let Some(session) = projection.sessions.get_mut(number as usize) else {
            return Ok(());
        };
        let message = projection.messages.get(row.message).ok_or(BadRow("queue"))?;
        if let Some(group) = &row.group {
            let claim = Claim { number, hops: 0 };
            projection.claims.insert((group.clone(), message.origin), claim);
        }
        session.queue.push_back(Queued {
            order,
            message: row.message,
            origin: message.origin,
            qos: row.qos,
            retain: row.retain,
            ids: row.ids,
            packet_id: row.packet_id,
            group: row.group,
            matched: 0,
            saved: Saved::Yes,
        });
        session.queue_bytes += projection.messages.refer(row.message);
        projection.queued += 1;
        Ok(())
    }

    /// A QoS 2 id.
    pub fn taken(&mut self, number: Number, packet_id: u16, row: &[u8]) -> Result<(), BadRow> {
        let mut id: TakenId = rows::read_taken(packet_id, row).ok_or(BadRow("taken"))?;
        if !self.fingerprints_hold {
            id.fingerprint = 0;
        }
        if let Some(session) = self.projection.sessions.get_mut(number as usize) {
            session.taken.push(Taken { id, saved: true });
        }
        Ok(())
    }

    /// A retained message.
    pub fn retained(&mut self, topic: &str, message: u64) -> Result<(), BadRow> {
        let shared = self.projection.messages.get(message).ok_or(BadRow("retained"))?;
        let (qos, cost) = (shared.qos, shared.cost);
        let expires = self.messages.get(&message).and_then(|known| known.expires_at_ms);
        let expires_ms = expires.map_or(0, |at_ms| (self.now_ms + at_ms).max(1));
        self.projection.messages.refer(message);
        self.projection
            .retained
            .load(topic, message, qos, cost, expires_ms);
        Ok(())
    }

    /// All is loaded: what nobody refers to goes. A session whose time is over stays until the log is read: its client may
    /// have come back.
    pub fn end(&mut self) {
        let projection = &mut self.projection;
        for number in projection.messages.numbers() {
            projection.messages.drop_unused(number);
        }
    }

    fn drop_expired(&mut self) {
        let projection = &mut self.projection;
        // One whose will waits goes to its worker, which publishes that before it removes the session.
        let is_over = |s: &Stored| s.is_over(self.now_ms) && s.will.is_none();
        let over = projection.sessions.iter().filter(|(_, s)| is_over(s));
        let over: Vec<_> = over.map(|(number, _)| number as Number).collect();
        for number in over {
            projection.remove(number);
        }
    }

    /// Takes the changes so far; their messages are kept for the sessions.
    pub fn take_changes(&mut self) -> ChangeSet {
        let set = self.projection.take_changes();
        for (number, row) in &set.put.messages {
            if let Some(message) = rows::read_message(row, self.now_ms) {
                self.messages.insert(*number, Arc::new(message));
            }
        }
        set
    }

    /// The log was read to its end: what the workers begin with, and what goes on.
    pub fn finish(mut self) -> (Restored, Projection) {
        self.drop_expired();
        let fresh = self.projection.messages.fresh_rows();
        for (number, row) in fresh {
            if let Some(message) = rows::read_message(&row, self.now_ms) {
                self.messages.insert(number, Arc::new(message));
            }
        }
        let retained = self.projection.retained.iter();
        let retained = retained
            .filter_map(|(_, number)| self.messages.get(&number).cloned())
            .filter(|message| !message.is_expired(0));
        let sessions = self.projection.sessions.iter().map(|(_, session)| session);
        let (groups, sessions): (Vec<_>, Vec<_>) = sessions.partition(|session| session.is_group());
        let restored = Restored {
            retained: retained.collect(),
            sessions: sessions.into_iter().map(|session| self.kept(session)).collect(),
            groups: groups.into_iter().map(|group| self.group(group)).collect(),
        };
        (restored, self.projection)
    }

    fn group(&self, group: &Stored) -> KeptGroup {
        let messages = group.queue.iter();
        KeptGroup {
            name: group.client_id.clone(),
            queue: messages
                .filter_map(|queued| self.messages.get(&queued.message).cloned())
                .collect(),
        }
    }

    fn kept(&self, session: &Stored) -> KeptSession {
        let message = |queued: &Queued| {
            let share = |group: &Arc<str>| Share {
                group: group.clone(),
                owed: true,
                hops: 0,
            };
            Some(KeptMessage {
                message: self.messages.get(&queued.message)?.clone(),
                qos: queued.qos,
                retain: queued.retain,
                ids: queued.ids.clone(),
                packet_id: queued.packet_id,
                share: queued.group.as_ref().map(share),
            })
        };
        let mut queue: Vec<KeptMessage> = session.queue.iter().filter_map(message).collect();
        // Ids rise, around the end of the numbers, in the order of sending.
        queue.sort_by_key(|kept| {
            let id = kept.packet_id?;
            Some(std::cmp::Reverse(session.last_packet_id.wrapping_sub(id)))
        });
        let waiting = queue.partition_point(|kept| kept.packet_id.is_none());
        queue.rotate_left(waiting);
        let subscriptions = session.subscriptions.iter();
        KeptSession {
            client_id: session.client_id.clone(),
            username: session.username.clone(),
            level: session.level,
            expiry_s: session.expiry_s,
            left_ms: session.left_ms,
            will: session.will.as_deref().cloned(),
            subscriptions: subscriptions
                .map(|held| (held.filter.clone(), held.options))
                .collect(),
            queue,
            releasing: session.releasing.clone(),
            taken: session.taken.iter().map(|taken| taken.id).collect(),
            last_packet_id: session.last_packet_id,
        }
    }
}
