//! A persistent map that costs little while it is small: most nodes of a topic tree hold one entry, a few hold a
//! hundred thousand. Cloning the small one copies a few entries, cloning the large one shares it.

use std::borrow::Borrow;
use std::hash::{BuildHasher, Hash};
use std::sync::OnceLock;

use ahash::RandomState;

/// Entries from which a map is a tree; the way back is at half of that.
const LARGE: usize = 8;

/// Hashes with keys that are drawn once per process, so that clients can't choose names that collide, and that take no
/// room in each map.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Seeded;

impl BuildHasher for Seeded {
    type Hasher = ahash::AHasher;

    fn build_hasher(&self) -> Self::Hasher {
        static STATE: OnceLock<RandomState> = OnceLock::new();
        STATE.get_or_init(RandomState::new).build_hasher()
    }
}

type Tree<K, V> = imbl::GenericHashMap<K, V, Seeded, imbl::shared_ptr::DefaultSharedPtr>;

/// The map.
#[derive(Debug, Clone)]
pub(super) enum SmallMap<K, V> {
    Small(Vec<(K, V)>),
    Large(Box<Tree<K, V>>),
}

impl<K, V> Default for SmallMap<K, V> {
    fn default() -> Self {
        SmallMap::Small(Vec::new())
    }
}

impl<K: Hash + Eq + Clone, V: Clone> SmallMap<K, V> {
    pub fn len(&self) -> usize {
        match self {
            SmallMap::Small(entries) => entries.len(),
            SmallMap::Large(tree) => tree.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn get<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        match self {
            SmallMap::Small(entries) => entries.iter().find(|(k, _)| k.borrow() == key).map(|(_, v)| v),
            SmallMap::Large(tree) => tree.get(key),
        }
    }

    pub fn get_mut<Q: Hash + Eq + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        match self {
            SmallMap::Small(entries) => entries
                .iter_mut()
                .find(|(k, _)| (*k).borrow() == key)
                .map(|(_, v)| v),
            SmallMap::Large(tree) => tree.get_mut(key),
        }
    }

    /// The value of `key`, made first if there is none.
    pub fn get_or_insert_with<Q: Hash + Eq + ?Sized>(
        &mut self,
        key: &Q,
        make: impl FnOnce() -> (K, V),
    ) -> &mut V
    where
        K: Borrow<Q>,
    {
        if let SmallMap::Small(entries) = self
            && entries.len() >= LARGE
            && entries.iter().all(|(k, _)| k.borrow() != key)
        {
            let tree: Tree<K, V> = std::mem::take(entries).into_iter().collect();
            *self = SmallMap::Large(Box::new(tree));
        }
        match self {
            SmallMap::Small(entries) => {
                if entries.capacity() == 0 {
                    entries.reserve_exact(1);
                }
                let entry = match entries.iter().position(|(k, _)| k.borrow() == key) {
                    Some(at) => entries.swap_remove(at),
                    None => make(),
                };
                &mut entries.push_mut(entry).1
            }
            SmallMap::Large(tree) => {
                let (key, value) = make();
                tree.entry(key).or_insert(value)
            }
        }
    }

    /// Returns what was there.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        if let Some(there) = self.get_mut(&key) {
            return Some(std::mem::replace(there, value));
        }
        self.get_or_insert_with(&key.clone(), || (key, value));
        None
    }

    /// Returns what was there.
    pub fn remove<Q: Hash + Eq + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        match self {
            SmallMap::Small(entries) => {
                let at = entries.iter().position(|(k, _)| k.borrow() == key)?;
                let (_, value) = entries.swap_remove(at);
                Some(value)
            }
            SmallMap::Large(tree) => {
                let value = tree.remove(key)?;
                if tree.len() <= LARGE / 2 {
                    *self = SmallMap::Small(tree.iter().map(|(k, v)| (k.clone(), v.clone())).collect());
                }
                Some(value)
            }
        }
    }

    /// Calls `each` for every entry, which it may keep.
    pub fn each<'a>(&'a self, mut each: impl FnMut(&'a K, &'a V)) {
        match self {
            SmallMap::Small(entries) => entries.iter().for_each(|(k, v)| each(k, v)),
            SmallMap::Large(tree) => tree.iter().for_each(|(k, v)| each(k, v)),
        }
    }
}
