//! Which message is retained for which topic, within the bounds that the hub has too.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use super::Bounds;
use crate::codec::{QoS, topic};

/// A retained message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Kept {
    pub message: u64,
    pub qos: QoS,
    pub cost: usize,
    /// It stands in the list of those that changed.
    touched: bool,
}

/// All retained messages by topic.
#[derive(Debug, Default)]
pub(crate) struct RetainedTopics {
    all: BTreeMap<Arc<str>, Kept>,
    bytes: usize,
    touched: Vec<Arc<str>>,
}

impl RetainedTopics {
    /// Forgets what is retained for `name`; its message.
    pub fn clear(&mut self, name: &str) -> Option<u64> {
        let (name, kept) = self.all.remove_entry(name)?;
        self.bytes -= kept.cost;
        if !kept.touched {
            self.touched.push(name);
        }
        Some(kept.message)
    }

    /// Whether one more of `cost` may be retained.
    pub fn has_room(&self, cost: usize, bounds: Bounds) -> bool {
        self.all.len() < bounds.max_retained && self.bytes + cost <= bounds.max_retained_bytes
    }

    /// Retains a message for a topic that was cleared.
    pub fn set(&mut self, name: &str, message: u64, qos: QoS, cost: usize) {
        let name: Arc<str> = name.into();
        self.touched.push(name.clone());
        self.enter(name, message, qos, cost, true);
    }

    /// Enters what stands in the file.
    pub fn load(&mut self, name: &str, message: u64, qos: QoS, cost: usize) {
        self.enter(name.into(), message, qos, cost, false);
    }

    fn enter(&mut self, name: Arc<str>, message: u64, qos: QoS, cost: usize, touched: bool) {
        self.bytes += cost;
        let kept = Kept {
            message,
            qos,
            cost,
            touched,
        };
        if let Some(before) = self.all.insert(name, kept) {
            self.bytes -= before.cost;
        }
    }

    /// The messages whose topics match `filter`, at most `limit`.
    pub fn matching(&self, filter: &str, limit: usize) -> Vec<Kept> {
        let Some(wild) = filter.find(['+', '#']) else {
            return self.all.get(filter).copied().into_iter().collect();
        };
        let prefix = filter.get(..wild).unwrap_or_default();
        let above = filter
            .strip_suffix("/#")
            .and_then(|above| self.all.get(above)) // "a/#" takes "a" too, which stands before all that begins with "a/"
            .copied();
        let range = (Bound::Included(prefix), Bound::Unbounded);
        let below = self
            .all
            .range::<str, _>(range)
            .take_while(|(name, _)| name.starts_with(prefix))
            .filter(|(name, _)| topic::matches(filter, name))
            .map(|(_, kept)| *kept);
        above.into_iter().chain(below).take(limit).collect()
    }

    /// Every topic with its message.
    pub fn iter(&self) -> impl Iterator<Item = (&Arc<str>, u64)> {
        self.all.iter().map(|(name, kept)| (name, kept.message))
    }

    /// Changes that wait for a commit.
    pub fn pending(&self) -> usize {
        self.touched.len()
    }

    /// Takes what changed: a topic and its message now.
    pub fn take_changes(&mut self) -> Vec<(Arc<str>, Option<u64>)> {
        let touched = std::mem::take(&mut self.touched);
        let state = |name: Arc<str>| {
            let kept = self.all.get_mut(&name).map(|kept| {
                kept.touched = false;
                kept.message
            });
            (name, kept)
        };
        touched.into_iter().map(state).collect()
    }
}
