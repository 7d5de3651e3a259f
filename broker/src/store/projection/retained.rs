//! Which message is retained for which topic, within the bounds that the hub has too.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use super::Bounds;
use crate::codec::QoS;
use crate::hub::by_level::{self, ByLevel, Look};

/// A retained message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Kept {
    pub message: u64,
    pub qos: QoS,
    pub cost: usize,
    /// When it is of no use any more, milliseconds since 1970; 0: never.
    expires_ms: u64,
    /// It stands in the list of those that changed.
    touched: bool,
}

/// All retained messages by topic.
#[derive(Debug, Default)]
pub(crate) struct RetainedTopics {
    all: BTreeMap<ByLevel<Arc<str>>, Kept>,
    /// Those whose time passes.
    expiring: BTreeSet<(u64, Arc<str>)>,
    bytes: usize,
    touched: Vec<Arc<str>>,
}

impl RetainedTopics {
    /// Forgets what is retained for `name`; its message.
    pub fn clear(&mut self, name: &str) -> Option<u64> {
        let (ByLevel(name), kept) = self.all.remove_entry(&ByLevel(name.into()))?;
        self.bytes -= kept.cost;
        if kept.expires_ms > 0 {
            self.expiring.remove(&(kept.expires_ms, name.clone()));
        }
        if !kept.touched {
            self.touched.push(name);
        }
        Some(kept.message)
    }

    /// Whether `message` is the one that is retained for `name`.
    pub fn is_by(&self, name: &str, message: Option<u64>) -> bool {
        let kept = self.all.get(&ByLevel(Arc::from(name)));
        kept.is_some_and(|kept| Some(kept.message) == message)
    }

    /// Whether one more of `cost` may be retained.
    pub fn has_room(&self, cost: usize, bounds: Bounds) -> bool {
        self.all.len() < bounds.max_retained && self.bytes + cost <= bounds.max_retained_bytes
    }

    /// Retains a message for a topic that was cleared.
    pub fn set(&mut self, name: &str, message: u64, qos: QoS, cost: usize, expires_ms: u64) {
        let name: Arc<str> = name.into();
        self.touched.push(name.clone());
        self.enter(name, message, qos, cost, (expires_ms, true));
    }

    /// Forgets up to `most` that are of no use any more; their messages.
    pub fn expire(&mut self, now_ms: u64, most: usize) -> Vec<u64> {
        let mut gone = Vec::new();
        while gone.len() < most {
            let next = self.expiring.first().filter(|(at_ms, _)| *at_ms <= now_ms);
            let Some((_, name)) = next.cloned() else { break };
            gone.extend(self.clear(&name));
        }
        gone
    }

    /// Enters what stands in the file.
    pub fn load(&mut self, name: &str, message: u64, qos: QoS, cost: usize, expires_ms: u64) {
        self.enter(name.into(), message, qos, cost, (expires_ms, false));
    }

    fn enter(
        &mut self,
        name: Arc<str>,
        message: u64,
        qos: QoS,
        cost: usize,
        (expires_ms, touched): (u64, bool),
    ) {
        self.bytes += cost;
        let kept = Kept {
            message,
            qos,
            cost,
            expires_ms,
            touched,
        };
        if expires_ms > 0 {
            self.expiring.insert((expires_ms, name.clone()));
        }
        if let Some(before) = self.all.insert(ByLevel(name), kept) {
            self.bytes -= before.cost;
        }
    }

    /// The messages whose topics match `filter`, at most `limit`.
    pub fn matching(&self, filter: &str, limit: usize) -> Vec<Kept> {
        let mut found = Vec::new();
        let mut from = by_level::begin(filter).to_owned();
        'jump: loop {
            let range = (Bound::Included(ByLevel(from.as_str().into())), Bound::Unbounded);
            for (ByLevel(name), kept) in self.all.range(range) {
                match by_level::look(filter, name) {
                    Look::Takes => found.push(*kept),
                    Look::NoMore => return found,
                    Look::GoOnAt(topic) => {
                        from = topic;
                        continue 'jump;
                    }
                }
                if found.len() >= limit {
                    return found;
                }
            }
            return found;
        }
    }

    /// Every topic with its message.
    pub fn iter(&self) -> impl Iterator<Item = (&Arc<str>, u64)> {
        self.all.iter().map(|(ByLevel(name), kept)| (name, kept.message))
    }

    /// Changes that wait for a commit.
    pub fn pending(&self) -> usize {
        self.touched.len()
    }

    /// Takes what changed: a topic and its message now.
    pub fn take_changes(&mut self) -> Vec<(Arc<str>, Option<u64>)> {
        let touched = std::mem::take(&mut self.touched);
        let state = |name: Arc<str>| {
            let key = ByLevel(name);
            let kept = self.all.get_mut(&key).map(|kept| {
                kept.touched = false;
                kept.message
            });
            (key.0, kept)
        };
        touched.into_iter().map(state).collect()
    }
}
