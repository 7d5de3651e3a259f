//! What was durable and can't be read any more: counted once, reported, and its bytes set aside.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::PathBuf;
use std::sync::Mutex;

use super::fs::{Fs, Mode};

/// Bytes of one damaged place that are set aside, and files of them that are kept.
const ASIDE_BYTES: u64 = 4 << 20;
const ASIDE_FILES: usize = 64;

/// A damaged place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Damage {
    /// Number of the segment, and the place in its file at which something else was due.
    pub segment: u64,
    /// Bytes from the file's start.
    pub offset: u64,
    /// Bytes up to the next group that is good, or to the end.
    pub bytes: u64,
    /// The first record that is lost.
    pub first: u64,
    /// The sequence after the last record that is lost.
    pub end: u64,
}

/// Those that were found since the spool was opened, by the segment and the sequence at which each ends: two readers
/// may come to the same place from different sides.
#[derive(Debug)]
pub(super) struct Damages {
    dir: PathBuf,
    found: Mutex<BTreeMap<(u64, u64), Damage>>,
}

impl Damages {
    pub fn new(dir: PathBuf) -> Self {
        Self {
            dir,
            found: Mutex::default(),
        }
    }

    /// Reports it, unless it was found before; then false.
    pub fn note(&self, fs: &dyn Fs, damage: Damage, bytes: &mut dyn FnMut(u64, u64) -> Vec<u8>) -> bool {
        let mut found = self.found.lock().unwrap_or_else(|e| e.into_inner());
        let Entry::Vacant(place) = found.entry((damage.segment, damage.end)) else {
            return false;
        };
        place.insert(damage);
        let few = found.len() <= ASIDE_FILES;
        drop(found);
        tracing::error!(
            segment = damage.segment,
            offset = damage.offset,
            bytes = damage.bytes,
            first = damage.first,
            records = damage.end.saturating_sub(damage.first),
            "the spool is damaged: records that were acknowledged are lost"
        );
        if few && damage.bytes > 0 {
            self.set_aside(fs, damage, &bytes(damage.offset, damage.bytes.min(ASIDE_BYTES)));
        }
        true
    }

    /// All that were found, in order.
    pub fn all(&self) -> Vec<Damage> {
        let found = self.found.lock().unwrap_or_else(|e| e.into_inner());
        found.values().copied().collect()
    }

    fn set_aside(&self, fs: &dyn Fs, damage: Damage, bytes: &[u8]) {
        let name = format!("damage-{:020}-{}.bin", damage.segment, damage.offset);
        let path = self.dir.join(name);
        let written = || {
            let file = fs.open(&path, Mode::Create)?;
            file.write_at(bytes, 0)
        };
        if let Err(error) = written() {
            tracing::warn!(file = %path.display(), %error, "what is damaged can't be set aside");
        }
    }
}
