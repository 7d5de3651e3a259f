//! Who gets what: subscriptions and retained messages of the whole node, shared by all workers. The only locks of this
//! room are here, and a publisher takes none of them to find its subscribers, unless changes come faster than it can look.

pub mod by_level;
#[cfg(test)]
mod concurrent_tests;
#[cfg(test)]
mod figures_tests;
pub mod registry;
pub mod retained;
mod shapes;
pub mod shared;
#[cfg(test)]
mod shared_tests;
mod small_map;
pub mod subscriptions;
mod table;
#[cfg(test)]
mod tests;
mod tree;

use std::sync::{Arc, Mutex, MutexGuard};

use smallvec::SmallVec;

use crate::codec::topic::split_share;
use crate::codec::{QoS, Subscription};
use crate::config::Limits;
use crate::session::Message;
pub use retained::Full;
use retained::Retained;
use shared::Group;
pub use shared::{Load, Share, SharedStrategy};
use subscriptions::{Figures, Subscriptions, View};

/// Names a session on this node: its worker, its place there, and a number that tells it from others that had the
/// same place before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubscriberId {
    /// The worker it lives on.
    pub worker: u16,
    /// Its place there.
    pub slot: u32,
    /// Its number.
    pub generation: u32,
}

/// Subscription identifiers of the filters that matched; mostly none.
pub type SubscriptionIds = SmallVec<[u32; 4]>;

/// What a subscriber asked for along with a filter (5.0 section 3.8.3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SubscriptionOptions {
    /// Greatest QoS it wants.
    pub qos: QoS,
    /// Nothing that it published itself.
    pub no_local: bool,
    /// RETAIN as published.
    pub retain_as_published: bool,
    /// Its number for this subscription.
    pub subscription_id: Option<u32>,
    /// Its session outlives its connection: what is sent to it is kept in the store too.
    pub kept: bool,
}

impl SubscriptionOptions {
    /// From one filter of a SUBSCRIBE and that packet's identifier.
    pub fn new(asked: &Subscription<'_>, subscription_id: Option<u32>) -> Self {
        Self {
            qos: asked.qos,
            no_local: asked.no_local,
            retain_as_published: asked.retain_as_published,
            subscription_id,
            kept: false,
        }
    }

    /// As a bridge wants it that can't say so in 3.x: RETAIN as published and nothing of its own back.
    #[must_use]
    pub fn for_bridge(mut self) -> Self {
        self.no_local = true;
        self.retain_as_published = true;
        self
    }

    /// This subscription alone as what `who` gets a message for.
    pub fn as_match(&self, who: SubscriberId) -> Match {
        Match {
            who,
            qos: self.qos,
            no_local: self.no_local,
            retain_as_published: self.retain_as_published,
            kept: self.kept,
            ids: self.subscription_id.into_iter().collect(),
            share: None,
        }
    }
}

/// One subscriber of a message, with all its subscriptions that match taken together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Match {
    /// The subscriber.
    pub who: SubscriberId,
    /// The greatest QoS of them [MQTT-3.3.4-2].
    pub qos: QoS,
    /// None of them wants what the subscriber published itself.
    pub no_local: bool,
    /// One of them wants RETAIN as published.
    pub retain_as_published: bool,
    /// Its session outlives its connection.
    pub kept: bool,
    /// Their identifiers [MQTT-3.3.4-4].
    pub ids: SubscriptionIds,
    /// It gets the message for this group.
    pub share: Option<Share>,
}

impl Match {
    /// Takes in what another subscription of the same subscriber says.
    pub(crate) fn merge(&mut self, other: Match) {
        self.qos = self.qos.max(other.qos);
        self.no_local &= other.no_local;
        self.retain_as_published |= other.retain_as_published;
        self.kept |= other.kept;
        self.ids.extend(other.ids);
    }
}

#[derive(Debug)]
struct Shared {
    /// Whoever changes them holds this, for one change at a time. Readers have a view.
    subscriptions: Mutex<Subscriptions>,
    figures: Figures,
    retained: Mutex<Retained>,
    /// What is retained under `$SYS`, apart: it takes no room from the clients' messages.
    system: Mutex<Retained>,
    strategy: SharedStrategy,
}

/// Retained messages under `$SYS`, in number and bytes: the broker's own, and the states of bridges.
const MAX_SYSTEM: (usize, usize) = (10_000, 1 << 20);

/// A subscription to be entered: filter, whose, how, and the load of its session if it is shared.
pub type ToEnter<'a> = (&'a str, SubscriberId, SubscriptionOptions, Option<&'a Arc<Load>>);

/// Members of a group that a message has been with, above which it is offered to no other because one is full.
const MOST_OFFERS: u32 = 8;

/// Topics that are looked at for one slice of retained messages.
const LOOKS: usize = 512;

/// Retained messages that are removed at a time.
const EXPIRED_AT_ONCE: usize = 1_000;

/// Subscriptions and retained messages of the node.
#[derive(Debug, Clone)]
pub struct Hub {
    shared: Arc<Shared>,
}

impl Hub {
    /// Nothing subscribed, nothing retained. The subscriptions begin with `first_generation`, which must be above that of
    /// any earlier run whose records are still of use, and rises by one with each change.
    pub fn new(limits: &Limits, first_generation: u64) -> Self {
        let subscriptions = Subscriptions::new(first_generation);
        Self {
            shared: Arc::new(Shared {
                figures: subscriptions.figures(),
                subscriptions: Mutex::new(subscriptions),
                retained: Mutex::new(Retained::new(
                    limits.max_retained_messages,
                    limits.max_retained_bytes,
                )),
                system: Mutex::new(Retained::new(MAX_SYSTEM.0, MAX_SYSTEM.1)),
                strategy: limits.shared_strategy,
            }),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Subscriptions> {
        self.shared
            .subscriptions
            .lock()
            .unwrap_or_else(|e| e.into_inner())
    }

    /// Enters or replaces a subscription: whether it is new, and the first generation that has it. The filter was
    /// checked when it was decoded; a shared one comes with the session's load.
    pub fn subscribe(
        &self,
        filter: &str,
        who: SubscriberId,
        options: SubscriptionOptions,
        load: Option<&Arc<Load>>,
    ) -> (bool, u64) {
        let mut subscriptions = self.lock();
        let is_new = subscriptions.insert(filter, who, options, load);
        (is_new, subscriptions.generation())
    }

    /// Enters many subscriptions, in one change each: nobody waits for all.
    pub fn subscribe_all<'a>(&self, all: impl Iterator<Item = ToEnter<'a>>) {
        for (filter, who, options, load) in all {
            self.lock().insert(filter, who, options, load);
        }
    }

    /// Removes a subscription: the first generation that does not have it; `None` when there was none.
    pub fn unsubscribe(&self, filter: &str, who: SubscriberId) -> Option<u64> {
        let mut subscriptions = self.lock();
        let was_there = subscriptions.remove(filter, who);
        was_there.then(|| subscriptions.generation())
    }

    /// Removes all subscriptions of a session that is gone.
    pub fn remove_all<'a>(&self, filters: impl Iterator<Item = &'a str>, who: SubscriberId) {
        for filter in filters {
            self.lock().remove(filter, who);
        }
    }

    /// The connection of a member of groups has begun or ended, and its load says so: those with a connection are looked at
    /// first, and stand apart.
    pub fn moved<'a>(&self, filters: impl Iterator<Item = &'a str>, who: SubscriberId) {
        for filter in filters.filter(|filter| split_share(filter).is_some()) {
            self.lock().moved(filter, who);
        }
    }

    /// Subscriptions in all.
    pub fn subscriptions(&self) -> usize {
        self.shared.figures.count()
    }

    /// Shared subscriptions among them.
    pub fn shared_subscriptions(&self) -> usize {
        self.shared.figures.shared()
    }

    /// A view for one worker.
    pub fn reader(&self) -> HubReader {
        HubReader {
            view: self.lock().view(),
            hub: self.clone(),
        }
    }

    /// Where messages are retained that have this topic or match this filter: wildcards at the first level match nothing
    /// under `$SYS`.
    fn lock_retained(&self, topic: &str) -> MutexGuard<'_, Retained> {
        let retained = match topic.split('/').next() {
            Some("$SYS") => &self.shared.system,
            _ => &self.shared.retained,
        };
        retained.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Keeps `message` for later subscribers; an empty payload clears what was kept.
    pub fn retain(&self, message: Arc<Message>) -> Result<(), Full> {
        self.lock_retained(&message.topic).set(&message)
    }

    /// Keeps messages of an earlier run. Returns how many found no room, because a limit is lower now.
    pub fn restore_retained(&self, messages: Vec<Arc<Message>>) -> usize {
        messages
            .into_iter()
            .filter(|message| self.retain(message.clone()).is_err())
            .count()
    }

    /// Appends up to `most` retained messages for a filter, from behind the topic `after` on. Returns behind which topic to
    /// go on, `None` at the end. Publishers of retained messages wait for no more than this slice.
    pub fn retained(
        &self,
        filter: &str,
        after: Option<&str>,
        most: usize,
        into: &mut Vec<Arc<Message>>,
    ) -> Option<Box<str>> {
        self.lock_retained(filter).slice(filter, after, most, LOOKS, into)
    }

    /// Removes retained messages whose time has passed, some at a time.
    pub fn expire_retained(&self, now_ms: u64) {
        for place in ["", "$SYS"] {
            self.lock_retained(place).expire(now_ms, EXPIRED_AT_ONCE);
        }
    }

    /// Retained messages of the clients, in number and bytes: without those under `$SYS`.
    pub fn retained_size(&self) -> (usize, usize) {
        let retained = self.lock_retained("");
        (retained.len(), retained.bytes())
    }
}

/// One worker's view of the subscriptions: looking at it takes no lock.
#[derive(Debug)]
pub struct HubReader {
    view: View,
    hub: Hub,
}

impl HubReader {
    /// Appends who is to get a message on `topic`: each subscriber once for what it subscribed to alone, and of each
    /// group one member. Returns the generation of the subscriptions that said so.
    pub fn matches(&mut self, topic: &str, into: &mut Vec<Match>) -> u64 {
        let strategy = self.hub.shared.strategy;
        let choose = |group: &Group| group.choose(strategy);
        if let Some(generation) = self.view.matches(topic, into, choose) {
            return generation;
        }
        // Changes came faster than this could look: one is waited for, and no other comes meanwhile.
        let subscriptions = self.hub.lock();
        let generation = self.view.matches(topic, into, choose);
        generation.unwrap_or_else(|| subscriptions.generation())
    }

    /// Another member for a message of a group whose member is gone.
    pub fn member_of(&mut self, share: &Share) -> Option<Match> {
        let group = self.view.group(share.filter())?;
        group
            .choose(self.hub.shared.strategy)
            .map(|found| share.hand_to(found))
    }

    /// A member that has room for a message of its group, other than those that had none; `None` too when the message has
    /// been with so many that it is to stay where it is.
    pub fn member_with_room(&mut self, share: &Share, may: impl Fn(SubscriberId) -> bool) -> Option<Match> {
        if share.hops >= MOST_OFFERS {
            return None;
        }
        let group = self.view.group(share.filter())?;
        let found = group.choose_with_room(may);
        found.map(|found| share.hand_to(found))
    }

    /// How many members a group has, by its whole filter.
    pub fn members(&mut self, filter: &str) -> usize {
        let group = self.view.group(filter);
        group.map_or(0, |group| group.len())
    }
}
