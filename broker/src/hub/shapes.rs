//! Which levels of a filter are wildcards is its shape. Millions of filters have few shapes, so a topic is asked about once
//! for each shape: by the filter of that shape that would take it, looked up whole.

use std::hash::{BuildHasher, Hasher};

use smallvec::SmallVec;

use super::small_map::Seeded;
use super::table::Key;

/// Levels of a filter that has a shape.
const MOST_LEVELS: usize = 64;

/// Shapes that are asked about for each topic. The filters of further ones stand in a tree.
pub(super) const MOST_SHAPES: usize = 16;

/// The shape of filters without a wildcard, whatever their number of levels.
const EXACT: u32 = 0;

/// Hashes of a topic's levels.
type Levels = SmallVec<[u64; 16]>;

/// Number of levels in front of a `#`, whether there is that, and which of them are `+`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shape {
    levels: u8,
    multi: bool,
    plus: u64,
}

/// The levels of a filter in front of a `#`; none if that is all.
pub(super) fn in_front(filter: &str) -> (Option<&str>, bool) {
    match filter.strip_suffix('#') {
        Some("") => (None, true),
        Some(path) if path.ends_with('/') => (path.strip_suffix('/'), true),
        _ => (Some(filter), false),
    }
}

/// Whether a filter has no wildcard.
pub(super) fn is_exact(filter: &str) -> bool {
    !filter.bytes().any(|byte| matches!(byte, b'+' | b'#'))
}

/// The key of a filter without a wildcard, or of the topic that it takes.
pub(super) fn exact_key(filter: &str) -> Key {
    Key {
        hash: hash(filter),
        shape: EXACT,
    }
}

fn hash(text: &str) -> u64 {
    let mut hasher = Seeded.build_hasher();
    hasher.write(text.as_bytes());
    hasher.finish()
}

/// Takes one more into a hash: what is secret is in the hashes of the levels.
fn mix(hash: u64, more: u64) -> u64 {
    const FACTOR: u128 = 0x9E37_79B9_7F4A_7C15;
    let product = u128::from(hash ^ more) * FACTOR;
    (product >> 64) as u64 ^ product as u64
}

fn each_level(text: &str) -> Levels {
    text.split('/').map(hash).collect()
}

impl Shape {
    /// The shape of a filter with wildcards; none if it has too many levels for one.
    pub fn of(filter: &str) -> Option<Self> {
        let (path, multi) = in_front(filter);
        let (mut levels, mut plus) = (0, 0);
        for level in path.into_iter().flat_map(|path| path.split('/')) {
            if levels >= MOST_LEVELS {
                return None;
            }
            plus |= u64::from(level == "+") << levels;
            levels += 1;
        }
        Some(Self {
            levels: levels as u8,
            multi,
            plus,
        })
    }

    /// Whether filters of this shape take topics of so many levels. Wildcards at the first level take none that begins with
    /// `$` [MQTT-4.7.2-1].
    fn takes(self, levels: usize, begins_with_dollar: bool) -> bool {
        let own = usize::from(self.levels);
        let fits = own == levels || (self.multi && own < levels); // `a/#` takes `a` too
        fits && !(begins_with_dollar && (self.levels == 0 || self.plus & 1 == 1))
    }

    fn hash(self, id: u32, levels: &[u64]) -> u64 {
        let mut hash = u64::from(id);
        for (at, level) in levels.iter().take(usize::from(self.levels)).enumerate() {
            if self.plus >> at & 1 == 0 {
                hash = mix(hash, *level);
            }
        }
        mix(hash, 0)
    }

    /// Whether a filter of this shape takes a topic, if it takes topics of so many levels.
    fn is_met(self, filter: &[u8], topic: &[u8]) -> bool {
        let (mut filter, mut topic) = (filter, topic);
        for at in 0..self.levels {
            let given = topic.iter().position(|byte| *byte == b'/').unwrap_or(topic.len());
            let (level, behind) = topic.split_at(given);
            if self.plus >> at & 1 == 1 {
                filter = filter.get(1..).unwrap_or_default();
            } else {
                match filter.strip_prefix(level) {
                    Some(rest) if rest.first().is_none_or(|byte| *byte == b'/') => filter = rest,
                    _ => return false,
                }
            }
            filter = filter.get(1..).unwrap_or_default();
            topic = behind.get(1..).unwrap_or_default();
        }
        true
    }
}

/// A shape in use, and its number.
#[derive(Debug, Clone, Copy)]
struct Used {
    id: u32,
    shape: Shape,
}

/// The shapes in use.
#[derive(Debug, Clone, Default)]
pub(super) struct Shapes {
    used: SmallVec<[Used; 4]>,
}

impl Shapes {
    pub fn len(&self) -> usize {
        self.used.len()
    }

    /// The key of a filter of this shape, if that is in use.
    pub fn key(&self, shape: Shape, filter: &str) -> Option<Key> {
        let id = self.used.iter().find(|used| used.shape == shape)?.id;
        let hash = shape.hash(id, &each_level(filter));
        Some(Key { hash, shape: id })
    }

    /// One more shape, which is not in use yet.
    pub fn with(&self, shape: Shape) -> Self {
        let mut next = self.clone();
        let is_free = |id: &u32| self.used.iter().all(|used| used.id != *id);
        let id = (EXACT + 1..).find(is_free).unwrap_or(u32::MAX);
        next.used.push(Used { id, shape });
        next
    }

    /// Without the shape of this number.
    pub fn without(&self, id: u32) -> Self {
        let mut next = self.clone();
        next.used.retain(|used| used.id != id);
        next
    }

    /// Calls `ask` for the key of each filter with wildcards that may be there and take `topic`, along with what says whether
    /// a filter of that key does.
    pub fn each(&self, topic: &str, mut ask: impl FnMut(Key, &dyn Fn(&[u8]) -> bool)) {
        if self.used.is_empty() {
            return;
        }
        let levels = each_level(topic);
        let begins_with_dollar = topic.starts_with('$');
        for Used { id, shape } in &self.used {
            if shape.takes(levels.len(), begins_with_dollar) {
                let hash = shape.hash(*id, &levels);
                ask(Key { hash, shape: *id }, &|filter| {
                    shape.is_met(filter, topic.as_bytes())
                });
            }
        }
    }
}
