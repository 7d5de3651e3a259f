//! Which pairs of user and password were found right: a device that connects again costs one hash, not thousands. What
//! is remembered is a hash under a key of this process, so that it is worth nothing to who reads the memory's image.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard};

use sha2::{Digest, Sha512};

use super::password::Stored;

/// Pairs that are remembered at least; twice as many at most.
const PAIRS: usize = 100_000;

/// A pair with what it was checked against: it is forgotten when the file has another hash.
type Tag = [u8; 32];

/// The pairs, in two ages: when the young ones are many they become the old ones.
#[derive(Default)]
struct Ages {
    young: HashSet<Tag>,
    old: HashSet<Tag>,
}

/// What was found right before.
pub(super) struct Verified {
    key: [u8; 32],
    pairs: usize,
    /// Held for a look-up, by one of a few threads.
    ages: Mutex<Ages>,
}

impl Verified {
    pub fn new() -> Result<Self, getrandom::Error> {
        let mut key = [0; 32];
        getrandom::fill(&mut key)?;
        Ok(Self {
            key,
            pairs: PAIRS,
            ages: Mutex::default(),
        })
    }

    /// Names a pair.
    pub fn tag(&self, user: &str, password: &[u8], stored: &Stored) -> Tag {
        let (salt, hash) = stored.parts();
        let mut digest = Sha512::new().chain_update(self.key);
        for part in [user.as_bytes(), password, salt, hash] {
            digest = digest
                .chain_update((part.len() as u64).to_le_bytes())
                .chain_update(part);
        }
        let whole: [u8; 64] = digest.finalize().into();
        let mut tag = [0; 32];
        tag.copy_from_slice(whole.get(..32).unwrap_or(&[0; 32]));
        tag
    }

    fn ages(&self) -> MutexGuard<'_, Ages> {
        self.ages.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Whether this pair was found right.
    pub fn knows(&self, tag: &Tag) -> bool {
        let mut ages = self.ages();
        if ages.young.contains(tag) {
            return true;
        }
        let known = ages.old.remove(tag);
        if known {
            self.put(&mut ages, *tag);
        }
        known
    }

    /// This pair is right.
    pub fn learn(&self, tag: Tag) {
        self.put(&mut self.ages(), tag);
    }

    fn put(&self, ages: &mut Ages, tag: Tag) {
        if ages.young.len() >= self.pairs {
            ages.old = std::mem::take(&mut ages.young);
        }
        ages.young.insert(tag);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_is_known_until_very_many_others_came_and_none_is_taken_for_another() {
        let mut verified = Verified::new().unwrap();
        verified.pairs = 4;
        let stored = Stored::nobody(1);
        let tag = |user: &str, password: &str| verified.tag(user, password.as_bytes(), &stored);
        verified.learn(tag("a", "bc"));
        assert!(verified.knows(&tag("a", "bc")));
        assert!(!verified.knows(&tag("ab", "c")));
        assert!(!verified.knows(&verified.tag("a", b"bc", &Stored::nobody(1).with_salt(b"x"))));
        for round in 0..100 {
            verified.learn(tag("other", &round.to_string()));
            assert!(
                verified.knows(&tag("a", "bc")),
                "used all the time, and forgotten"
            );
            let ages = verified.ages();
            assert!(ages.young.len() + ages.old.len() <= 8);
        }
        for round in 100..200 {
            verified.learn(tag("other", &round.to_string()));
        }
        assert!(!verified.knows(&tag("a", "bc")));
    }
}
