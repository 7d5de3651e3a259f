//! One kept session as the store knows it: what came for it and is not done, its subscriptions, its QoS 2 ids.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::codec::{QoS, topic};
use crate::hub::{Match, SubscriberId, SubscriptionIds, SubscriptionOptions};
use crate::record::Origin;
use crate::session::WillMessage;
use crate::store::kept::TakenId;

/// Names a session in the projection and in the file. One that is gone leaves its number to a later one.
pub(crate) type Number = u32;

/// A session.
#[derive(Debug, Clone)]
pub(crate) struct Stored {
    pub client_id: Arc<str>,
    pub username: Option<Box<str>>,
    pub level: u8,
    pub expiry_s: u32,
    pub left_ms: Option<u64>,
    pub will: Option<Box<WillMessage>>,
    /// Sorted by filter.
    pub subscriptions: Vec<Held>,
    /// The greatest `from` of them.
    pub newest_from: u64,
    pub queue: VecDeque<Queued>,
    /// What the messages in `queue` cost.
    pub queue_bytes: usize,
    pub releasing: Vec<u16>,
    /// Sorted by packet id.
    pub taken: Vec<Taken>,
    pub last_packet_id: u16,
    /// Of a group: its kept members that want more than QoS 0.
    pub keepers: usize,
    /// It stands in the list of those whose queue has changed.
    pub queue_touched: bool,
    /// It stands in the list of those whose own row has changed.
    pub row_touched: bool,
}

/// A subscription.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Held {
    pub filter: Box<str>,
    pub options: SubscriptionOptions,
    /// The first generation of the subscriptions that had this filter, in whatever form.
    pub from: u64,
    /// What was retained when it came is sent for it.
    pub retained: bool,
}

/// A message in a session's queue.
#[derive(Debug, Clone)]
pub(crate) struct Queued {
    /// Rises along the queue.
    pub order: u64,
    /// Its message.
    pub message: u64,
    pub origin: Origin,
    pub qos: QoS,
    pub retain: bool,
    pub ids: SubscriptionIds,
    pub packet_id: Option<u16>,
    /// The group that it was sent for.
    pub group: Option<Arc<str>>,
    /// The generation of the subscriptions that it was matched against; 0: none, it was retained.
    pub matched: u64,
    pub saved: Saved,
}

/// How the file stands to something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Saved {
    /// It is not there.
    No,
    /// It is there in an older form.
    Old,
    /// It is there.
    Yes,
}

/// A QoS 2 id of a publish of this client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Taken {
    pub id: TakenId,
    pub saved: bool,
}

impl Stored {
    /// A session of `client_id` that has nothing yet.
    pub fn new(client_id: Arc<str>) -> Self {
        Self {
            client_id,
            username: None,
            level: 4,
            expiry_s: 0,
            left_ms: None,
            will: None,
            subscriptions: Vec::new(),
            newest_from: 0,
            queue: VecDeque::new(),
            queue_bytes: 0,
            releasing: Vec::new(),
            taken: Vec::new(),
            last_packet_id: 0,
            keepers: 0,
            queue_touched: false,
            row_touched: false,
        }
    }

    /// Whether it has outlived its last connection long enough.
    pub fn is_over(&self, now_ms: u64) -> bool {
        match (self.expiry_s, self.left_ms) {
            (0, _) => true,
            (u32::MAX, _) | (_, None) => false,
            (expiry_s, Some(left_ms)) => left_ms.saturating_add(u64::from(expiry_s) * 1_000) <= now_ms,
        }
    }

    /// Enters or replaces a subscription. One that is replaced was there all the time.
    pub fn hold(&mut self, filter: &str, options: SubscriptionOptions, from: u64, retained: bool) {
        match self.find(filter) {
            Ok(at) => {
                if let Some(held) = self.subscriptions.get_mut(at) {
                    held.options = options;
                    held.retained |= retained;
                }
            }
            Err(at) => {
                if self.subscriptions.capacity() == 0 {
                    self.subscriptions.reserve_exact(1); // most devices have one
                }
                let filter = filter.into();
                self.subscriptions.insert(
                    at,
                    Held {
                        filter,
                        options,
                        from,
                        retained,
                    },
                );
                self.newest_from = self.newest_from.max(from);
            }
        }
    }

    /// Ends a subscription; false when there was none.
    pub fn let_go(&mut self, filter: &str) -> bool {
        let found = self.find(filter);
        if let Ok(at) = found {
            self.subscriptions.remove(at);
            self.newest_from = self.subscriptions.iter().map(|held| held.from).max().unwrap_or(0);
        }
        found.is_ok()
    }

    /// The subscription to `filter`.
    pub fn held(&self, filter: &str) -> Option<&Held> {
        self.find(filter).ok().and_then(|at| self.subscriptions.get(at))
    }

    fn find(&self, filter: &str) -> Result<usize, usize> {
        self.subscriptions
            .binary_search_by(|held| (*held.filter).cmp(filter))
    }

    /// What this session gets a message on `name` for that was matched against `generation`: a subscription that came
    /// later does not count, nor does a shared one, which is the group's.
    pub fn matches_at(&self, name: &str, generation: u64, who: SubscriberId) -> Option<Match> {
        let mut held = self
            .subscriptions
            .iter()
            .filter(|held| held.from <= generation && topic::split_share(&held.filter).is_none())
            .filter(|held| topic::matches(&held.filter, name))
            .map(|held| held.options.as_match(who));
        let mut found = held.next()?;
        held.for_each(|other| found.merge(other));
        Some(found)
    }

    /// The subscriptions for which a message on `name` was retained already when they came, though it is read after them: it
    /// was matched against `generation`, which is before theirs.
    pub fn retained_before(&self, name: &str, generation: u64) -> impl Iterator<Item = &Held> {
        self.subscriptions
            .iter()
            .filter(move |held| held.retained && held.from > generation)
            .filter(move |held| topic::matches(&held.filter, name))
    }

    /// Where `wanted` stands in the queue. What is done is mostly at one end: the oldest when it was delivered, the
    /// newest when there was no room for it.
    pub fn position(&self, wanted: impl Fn(&Queued) -> bool) -> Option<usize> {
        let len = self.queue.len();
        (0..len.div_ceil(2)).find_map(|from_front| {
            let from_back = len - 1 - from_front;
            [from_front, from_back]
                .into_iter()
                .find(|at| self.queue.get(*at).is_some_and(&wanted))
        })
    }

    /// The message of `origin` that was sent under `packet_id`: it may be here twice, as the client's own and a group's.
    pub fn position_of_sent(&self, origin: Origin, packet_id: Option<u16>) -> Option<usize> {
        self.position(|queued| queued.origin == origin && queued.packet_id == packet_id)
    }

    /// The message of `origin` that was sent under `packet_id`, or that was not sent.
    pub fn position_of(&self, origin: Origin, packet_id: Option<u16>) -> Option<usize> {
        let of = |queued: &Queued| queued.origin == origin;
        self.position(|queued| of(queued) && (queued.packet_id.is_none() || queued.packet_id == packet_id))
            .or_else(|| match packet_id {
                Some(_) => None,
                None => self.position(of), // given up after it was sent
            })
    }

    /// Where a QoS 2 id stands among those that are taken.
    pub fn find_taken(&self, packet_id: u16) -> Result<usize, usize> {
        self.taken
            .binary_search_by_key(&packet_id, |taken| taken.id.packet_id)
    }
}
