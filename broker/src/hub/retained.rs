//! Retained messages (section 3.3.1.3): a tree by topic level, persistent, so that a subscriber's walk over it holds up
//! no publisher. Bounded in number and bytes. A pure structure: no lock.

use std::str::Split;
use std::sync::Arc;

use super::small_map::SmallMap;
use crate::session::Message;

/// One level.
#[derive(Debug, Clone, Default)]
struct Node {
    message: Option<Arc<Message>>,
    children: SmallMap<Arc<str>, Arc<Node>>,
}

/// There is no room for one more retained message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("limits.max_retained_messages or limits.max_retained_bytes is reached")]
pub struct Full;

/// All retained messages.
#[derive(Debug, Clone)]
pub struct Retained {
    root: Arc<Node>,
    count: usize,
    bytes: usize,
    max_count: usize,
    max_bytes: usize,
}

impl Retained {
    /// None yet.
    pub fn new(max_count: usize, max_bytes: usize) -> Self {
        Self {
            root: Arc::default(),
            count: 0,
            bytes: 0,
            max_count,
            max_bytes,
        }
    }

    /// Messages kept.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// What they count for.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Keeps `message` in place of its topic's last one; an empty payload only clears that [MQTT-3.3.1-6,
    /// MQTT-3.3.1-7]. When there is no room, the last one is cleared too: it is not the current one any more.
    pub fn set(&mut self, message: Arc<Message>) -> Result<(), Full> {
        self.clear(&message.topic);
        if message.payload.is_empty() {
            return Ok(());
        }
        let bytes = self.bytes + message.cost();
        if self.count >= self.max_count || bytes > self.max_bytes {
            return Err(Full);
        }
        let mut node = Arc::make_mut(&mut self.root);
        for level in message.topic.split('/') {
            let child = node
                .children
                .get_or_insert_with(level, || (level.into(), Arc::default()));
            node = Arc::make_mut(child);
        }
        node.message = Some(message.clone());
        self.count += 1;
        self.bytes = bytes;
        Ok(())
    }

    fn clear(&mut self, topic: &str) {
        let Some(cost) = self.get(topic).map(|message| message.cost()) else {
            return; // so that no path is copied for nothing
        };
        Arc::make_mut(&mut self.root).clear(topic.split('/'));
        self.count -= 1;
        self.bytes -= cost;
    }

    /// The message kept for exactly this topic.
    pub fn get(&self, topic: &str) -> Option<&Arc<Message>> {
        let mut node = &self.root;
        for level in topic.split('/') {
            node = node.children.get(level)?;
        }
        node.message.as_ref()
    }

    /// Up to `limit` messages whose topic matches `filter`. Wildcards at the first level do not match topics that begin
    /// with `$` [MQTT-4.7.2-1].
    pub fn matching(&self, filter: &str, limit: usize) -> Vec<Arc<Message>> {
        let mut found = Vec::new();
        self.root.walk(filter.split('/'), true, limit, &mut found);
        found
    }
}

impl Node {
    /// Topics kept have the levels that a PUBLISH may have: so deep does this go.
    fn clear(&mut self, mut levels: Split<'_, char>) {
        let Some(level) = levels.next() else {
            self.message = None;
            return;
        };
        let Some(child) = self.children.get_mut(level) else {
            return;
        };
        let child = Arc::make_mut(child);
        child.clear(levels);
        if child.message.is_none() && child.children.is_empty() {
            self.children.remove(level);
        }
    }

    fn walk(&self, mut levels: Split<'_, char>, first: bool, limit: usize, found: &mut Vec<Arc<Message>>) {
        let visible = |name: &str| !(first && name.starts_with('$'));
        match levels.next() {
            None => self.take(limit, found),
            Some("#") => {
                self.take(limit, found); // `a/#` matches `a` too; at the root there is nothing to take
                self.children.all(|name, child| {
                    if visible(name) {
                        child.take_all(limit, found);
                    }
                    found.len() < limit
                });
            }
            Some("+") => {
                self.children.all(|name, child| {
                    if visible(name) {
                        child.walk(levels.clone(), false, limit, found);
                    }
                    found.len() < limit
                });
            }
            Some(level) => {
                if let Some(child) = self.children.get(level) {
                    child.walk(levels, false, limit, found);
                }
            }
        }
    }

    fn take(&self, limit: usize, found: &mut Vec<Arc<Message>>) {
        if let Some(message) = self.message.as_ref().filter(|_| found.len() < limit) {
            found.push(message.clone());
        }
    }

    fn take_all(&self, limit: usize, found: &mut Vec<Arc<Message>>) {
        self.take(limit, found);
        self.children.all(|_, child| {
            child.take_all(limit, found);
            found.len() < limit
        });
    }
}
