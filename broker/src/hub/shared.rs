//! Shared subscriptions (5.0 section 4.8.2): the members of a group, and which of them gets a message. A group is known
//! by its name and its filter.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};

use imbl::Vector;

use super::{Match, SubscriberId, SubscriptionOptions};
use crate::codec::QoS;

/// Members of a large group that are compared for one message.
const COMPARED: usize = 32;

/// Members that are looked at for one message while none is found that has room for it.
const WALKED: usize = 256;

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
    /// How many may wait for it, with those that are not acknowledged: what is above that is dropped.
    most: AtomicU32,
}

impl Default for Load {
    fn default() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            waiting: AtomicU32::new(0),
            window: AtomicU32::new(0),
            most: AtomicU32::new(u32::MAX),
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

    /// How many may wait for it, as it is now.
    pub fn set_most(&self, most: usize) {
        let most = u32::try_from(most).unwrap_or(u32::MAX);
        self.most.store(most, Ordering::Relaxed);
    }

    fn is_connected(&self) -> bool {
        self.window.load(Ordering::Relaxed) > 0
    }

    /// Least first: by what it can do with a message, then by what waits. `keeps`: what comes while it has no connection
    /// waits for it.
    fn rank(&self, keeps: bool) -> (Fitness, u32) {
        let waiting = self.waiting.load(Ordering::Relaxed);
        let is_full = waiting >= self.most.load(Ordering::Relaxed);
        let fitness = match self.window.load(Ordering::Relaxed) {
            0 if !keeps => Fitness::Drops,
            _ if is_full => Fitness::Full,
            0 => Fitness::Keeps,
            window if waiting < window => Fitness::Sends,
            _ => Fitness::Waits,
        };
        (fitness, waiting)
    }
}

/// What a member can do with a message, best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fitness {
    /// Its window has room.
    Sends,
    /// It is connected, and the message waits for its window.
    Waits,
    /// It is not connected, and the message waits for it.
    Keeps,
    /// Its queue has no room.
    Full,
    /// It is not connected, and nothing waits for it.
    Drops,
}

/// The group that a message was given to a member of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Share {
    /// Names the group, also where the store has names of clients.
    pub group: Arc<str>,
    /// A kept session was a member, so that the store has the message until it is told otherwise.
    pub owed: bool,
    /// How many members had it before this one.
    pub hops: u32,
}

impl Share {
    /// The group's whole filter, `$share/...`.
    pub fn filter(&self) -> &str {
        filter_of(&self.group)
    }

    /// Another member gets the message. The store has it, or has it not, since it was published.
    pub(super) fn hand_to(&self, mut member: Match) -> Match {
        member.share = Some(Self {
            hops: self.hops.saturating_add(1),
            ..self.clone()
        });
        member
    }
}

/// The name of the group of a filter `$share/...`.
pub fn group_name(filter: &str) -> String {
    format!("{GROUP_MARK}{filter}")
}

/// The whole filter of a group of this name.
pub fn filter_of(name: &str) -> &str {
    name.strip_prefix(GROUP_MARK).unwrap_or(name)
}

/// Whether the store means a group by this name, and not a client.
pub fn is_group(name: &str) -> bool {
    name.starts_with(GROUP_MARK)
}

/// What all versions of a group share.
#[derive(Debug, Default)]
struct Turn {
    next: AtomicUsize,
    /// The load's id of the member that is stuck to; 0: of none.
    stuck: AtomicU64,
    /// Where that one was found last.
    stuck_at: AtomicUsize,
}

#[derive(Debug, Clone)]
struct Member {
    who: SubscriberId,
    options: SubscriptionOptions,
    load: Arc<Load>,
}

impl Member {
    fn rank(&self) -> (Fitness, u32) {
        self.load.rank(keeps(&self.options))
    }
}

/// Members that are alike, sorted by `who`.
type Members = Vector<Member>;

/// The members of one group. Those with a connection stand apart, so that in a group of very many that are away one is
/// found at once.
#[derive(Debug, Clone)]
pub struct Group {
    name: Arc<str>,
    here: Members,
    /// Without a connection when they were placed, but messages wait for them.
    away: Members,
    /// Without a connection, and nothing waits for them.
    idle: Members,
    /// How many of them are kept and want more than QoS 0.
    keepers: usize,
    turn: Arc<Turn>,
}

fn keeps(options: &SubscriptionOptions) -> bool {
    options.kept && options.qos > QoS::AtMostOnce
}

fn find(members: &Members, who: SubscriberId) -> Result<usize, usize> {
    members.binary_search_by(|member| member.who.cmp(&who))
}

/// The best of those that were looked at.
#[derive(Debug, Default)]
struct Best<'a>(Option<((Fitness, u32), &'a Member)>);

impl<'a> Best<'a> {
    /// Looks at some of `members`; at all of them while none is found that is at least `enough`.
    fn look_at(&mut self, members: impl Iterator<Item = &'a Member>, enough: Fitness) {
        for (seen, member) in members.enumerate() {
            if seen >= COMPARED && self.is(enough) {
                return;
            }
            let rank = member.rank();
            if self.0.is_none_or(|(least, _)| rank < least) {
                self.0 = Some((rank, member));
            }
        }
    }

    fn is(&self, enough: Fitness) -> bool {
        self.0.is_some_and(|((fitness, _), _)| fitness <= enough)
    }
}

impl Group {
    /// The group of a whole filter, without members.
    pub(super) fn new(filter: &str) -> Self {
        Self {
            name: group_name(filter).into(),
            here: Members::new(),
            away: Members::new(),
            idle: Members::new(),
            keepers: 0,
            turn: Arc::default(),
        }
    }

    fn member(&self, who: SubscriberId) -> Option<&Member> {
        let mut parts = [&self.here, &self.away, &self.idle].into_iter();
        parts.find_map(|members| members.get(find(members, who).ok()?))
    }

    pub(super) fn len(&self) -> usize {
        self.here.len() + self.away.len() + self.idle.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.here.is_empty() && self.away.is_empty() && self.idle.is_empty()
    }

    pub(super) fn contains(&self, who: SubscriberId) -> bool {
        self.member(who).is_some()
    }

    /// What a member subscribed with.
    pub(super) fn entry(&self, who: SubscriberId) -> Option<(SubscriptionOptions, Arc<Load>)> {
        let member = self.member(who)?;
        Some((member.options, member.load.clone()))
    }

    /// Enters or replaces a member; true when it is new.
    pub(super) fn insert(
        &mut self,
        who: SubscriberId,
        options: SubscriptionOptions,
        load: Arc<Load>,
    ) -> bool {
        let is_new = !self.remove(who);
        self.keepers += usize::from(keeps(&options));
        let members = match (load.is_connected(), keeps(&options)) {
            (true, _) => &mut self.here,
            (false, true) => &mut self.away,
            (false, false) => &mut self.idle,
        };
        let (Ok(at) | Err(at)) = find(members, who);
        members.insert(at, Member { who, options, load });
        is_new
    }

    /// Removes a member; false when it was none.
    pub(super) fn remove(&mut self, who: SubscriberId) -> bool {
        for members in [&mut self.here, &mut self.away, &mut self.idle] {
            if let Ok(at) = find(members, who) {
                let before = members.remove(at);
                self.keepers -= usize::from(keeps(&before.options));
                return true;
            }
        }
        false
    }

    /// The member that gets the next message.
    pub(super) fn choose(&self, strategy: SharedStrategy) -> Option<Match> {
        let member = match strategy {
            SharedStrategy::LeastInflight => self.least_busy(|_| true),
            SharedStrategy::RoundRobin => self.next_with_room(),
            SharedStrategy::Sticky => self.stuck(),
        }?;
        Some(self.give_to(member))
    }

    /// A member that has room, of those that `may` get the message.
    pub(super) fn choose_with_room(&self, may: impl Fn(SubscriberId) -> bool) -> Option<Match> {
        let member = self.least_busy(may)?;
        (member.rank().0 <= Fitness::Keeps).then(|| self.give_to(member))
    }

    fn give_to(&self, member: &Member) -> Match {
        member.load.waiting.fetch_add(1, Ordering::Relaxed);
        let mut found = member.options.as_match(member.who);
        found.share = Some(Share {
            group: self.name.clone(),
            owed: self.keepers > 0,
            hops: 0,
        });
        found
    }

    /// All of `members`, beginning with another one each time.
    fn round<'a>(&self, members: &'a Members) -> impl Iterator<Item = &'a Member> + use<'a> {
        let len = members.len().max(1);
        let first = self.turn.next.fetch_add(1, Ordering::Relaxed) % len;
        (first..len).chain(0..first).filter_map(|at| members.get(at))
    }

    /// Of a large group some are compared, of those that `may`. Those without a connection come where no other has room.
    fn least_busy(&self, may: impl Fn(SubscriberId) -> bool) -> Option<&Member> {
        let may = |member: &&Member| may(member.who);
        let mut best = Best::default();
        best.look_at(self.round(&self.here).take(WALKED).filter(may), Fitness::Waits);
        if !best.is(Fitness::Waits) {
            best.look_at(self.round(&self.away).take(WALKED).filter(may), Fitness::Keeps);
        }
        let any = || self.idle.front().filter(may);
        best.0.map(|(_, member)| member).or_else(any)
    }

    fn next_with_room(&self) -> Option<&Member> {
        let mut round = self.round(&self.here).take(WALKED);
        round
            .find(|member| member.rank().0 <= Fitness::Waits)
            .or_else(|| self.least_busy(|_| true))
    }

    fn stuck(&self) -> Option<&Member> {
        let known = match self.turn.stuck.load(Ordering::Relaxed) {
            0 => None,
            id => self.find_stuck(id),
        };
        if let Some(member) = known.filter(|member| member.rank().0 <= Fitness::Waits) {
            return Some(member);
        }
        let member = self.least_busy(|_| true)?;
        let id = if member.load.is_connected() {
            member.load.id
        } else {
            0
        };
        self.turn.stuck.store(id, Ordering::Relaxed);
        Some(member)
    }

    /// The member with this load; it is looked for only where others came or went.
    fn find_stuck(&self, id: u64) -> Option<&Member> {
        let at = self.turn.stuck_at.load(Ordering::Relaxed);
        let there = self.here.get(at).filter(|member| member.load.id == id);
        there.or_else(|| {
            let at = self.here.iter().position(|member| member.load.id == id)?;
            self.turn.stuck_at.store(at, Ordering::Relaxed);
            self.here.get(at)
        })
    }
}
