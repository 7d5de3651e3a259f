//! Shared subscriptions (5.0 section 4.8.2): the members of a group, and which of them gets a message. A group is known
//! by its name and its filter.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};

use imbl::Vector;

use super::{Match, SubscriberId, SubscriptionOptions};
use crate::codec::QoS;

/// Members of a large group that are compared for one message.
const COMPARED: usize = 32;

/// Stands before the filter of a group where clients have their ids: none of those holds it [MQTT-1.5.4-2].
const GROUP_MARK: char = '\0';

/// How the member is chosen that gets a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SharedStrategy {
    /// The one with the fewest messages waiting and unacknowledged; those first whose window has room.
    #[default]
    LeastInflight,
    /// One after the other.
    RoundRobin,
    /// The same one for as long as it is connected.
    Sticky,
}

/// How busy a session is: its worker says so, publishers on all workers look at it.
#[derive(Debug)]
pub struct Load {
    id: u64,
    /// Messages that wait for it or are not acknowledged.
    waiting: AtomicU32,
    /// How many it may have unacknowledged; 0: it has no connection.
    window: AtomicU32,
}

impl Default for Load {
    fn default() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            waiting: AtomicU32::new(0),
            window: AtomicU32::new(0),
        }
    }
}

impl Load {
    /// As it is now. What publishers have chosen it for since is in `waiting` once it has arrived.
    pub fn set(&self, waiting: usize, window: Option<u16>) {
        let waiting = u32::try_from(waiting).unwrap_or(u32::MAX);
        self.waiting.store(waiting, Ordering::Relaxed);
        let window = window.map_or(0, |window| u32::from(window).max(1));
        self.window.store(window, Ordering::Relaxed);
    }

    fn is_connected(&self) -> bool {
        self.window.load(Ordering::Relaxed) > 0
    }

    /// Least first: with room, connected, kept without a connection; then by what waits.
    fn rank(&self) -> (u8, u32) {
        let waiting = self.waiting.load(Ordering::Relaxed);
        match self.window.load(Ordering::Relaxed) {
            0 => (2, waiting),
            window if waiting < window => (0, waiting),
            _ => (1, waiting),
        }
    }
}

/// The group that a message was given to a member of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Share {
    /// Names the group, also where the store has names of clients.
    pub group: Arc<str>,
    /// A kept session was a member, so that the store has the message until it is told otherwise.
    pub owed: bool,
}

impl Share {
    /// The group's whole filter, `$share/...`.
    pub fn filter(&self) -> &str {
        self.group.strip_prefix(GROUP_MARK).unwrap_or(&self.group)
    }
}

/// The name of the group of a filter `$share/...`.
pub fn group_name(filter: &str) -> String {
    format!("{GROUP_MARK}{filter}")
}

/// Whether the store means a group by this name, and not a client.
pub fn is_group(name: &str) -> bool {
    name.starts_with(GROUP_MARK)
}

/// What all versions of a group share.
#[derive(Debug, Default)]
struct Turn {
    next: AtomicUsize,
    /// The load's id of the member that is stuck to.
    stuck: AtomicU64,
}

#[derive(Debug, Clone)]
struct Member {
    who: SubscriberId,
    options: SubscriptionOptions,
    load: Arc<Load>,
}

/// The members of one group.
#[derive(Debug, Clone)]
pub struct Group {
    name: Arc<str>,
    /// Sorted by `who`.
    members: Vector<Member>,
    /// How many of them are kept and want more than QoS 0.
    keepers: usize,
    turn: Arc<Turn>,
}

fn keeps(options: &SubscriptionOptions) -> bool {
    options.kept && options.qos > QoS::AtMostOnce
}

impl Group {
    /// The group of a whole filter, without members.
    pub(super) fn new(filter: &str) -> Self {
        Self {
            name: group_name(filter).into(),
            members: Vector::new(),
            keepers: 0,
            turn: Arc::default(),
        }
    }

    fn find(&self, who: SubscriberId) -> Result<usize, usize> {
        self.members.binary_search_by(|member| member.who.cmp(&who))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    pub(super) fn contains(&self, who: SubscriberId) -> bool {
        self.find(who).is_ok()
    }

    /// Enters or replaces a member; true when it is new.
    pub(super) fn insert(
        &mut self,
        who: SubscriberId,
        options: SubscriptionOptions,
        load: Arc<Load>,
    ) -> bool {
        let member = Member { who, options, load };
        self.keepers += usize::from(keeps(&options));
        match self.find(who) {
            Ok(at) => {
                let before = self.members.set(at, member);
                self.keepers -= usize::from(keeps(&before.options));
                false
            }
            Err(at) => {
                self.members.insert(at, member);
                true
            }
        }
    }

    /// Removes a member; false when it was none.
    pub(super) fn remove(&mut self, who: SubscriberId) -> bool {
        let Ok(at) = self.find(who) else { return false };
        let before = self.members.remove(at);
        self.keepers -= usize::from(keeps(&before.options));
        true
    }

    /// The member that gets the next message.
    pub(super) fn choose(&self, strategy: SharedStrategy) -> Option<Match> {
        let member = match strategy {
            SharedStrategy::LeastInflight => self.least_busy(),
            SharedStrategy::RoundRobin => self.next_connected(),
            SharedStrategy::Sticky => self.stuck(),
        }?;
        member.load.waiting.fetch_add(1, Ordering::Relaxed);
        let mut found = member.options.as_match(member.who);
        found.share = Some(Share {
            group: self.name.clone(),
            owed: self.keepers > 0,
        });
        Some(found)
    }

    /// All members, beginning with another one each time.
    fn round(&self) -> impl Iterator<Item = &Member> {
        let len = self.members.len().max(1);
        let first = self.turn.next.fetch_add(1, Ordering::Relaxed) % len;
        (first..len).chain(0..first).filter_map(|at| self.members.get(at))
    }

    /// Of a large group some are compared; all only while those have no connection.
    fn least_busy(&self) -> Option<&Member> {
        let mut best: Option<((u8, u32), &Member)> = None;
        for (seen, member) in self.round().enumerate() {
            if seen >= COMPARED && best.is_some_and(|((class, _), _)| class < 2) {
                break;
            }
            let rank = member.load.rank();
            if best.is_none_or(|(least, _)| rank < least) {
                best = Some((rank, member));
            }
        }
        best.map(|(_, member)| member)
    }

    fn next_connected(&self) -> Option<&Member> {
        self.round()
            .find(|member| member.load.is_connected())
            .or_else(|| self.round().next())
    }

    fn stuck(&self) -> Option<&Member> {
        let id = self.turn.stuck.load(Ordering::Relaxed);
        let stuck = |member: &&Member| member.load.id == id && member.load.is_connected();
        if let Some(member) = self.members.iter().find(stuck) {
            return Some(member);
        }
        let member = self.least_busy()?;
        self.turn.stuck.store(member.load.id, Ordering::Relaxed);
        Some(member)
    }
}
