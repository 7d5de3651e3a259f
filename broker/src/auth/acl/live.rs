//! Rules in force, which a reload replaces while they are asked.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;

use super::super::file::FileFault;
use super::{Acl, Act, FileRules, Granted, Rule, Rules, Who};

/// The rules of one or more listeners.
pub struct Live {
    path: Option<PathBuf>,
    acl: ArcSwap<Acl>,
    generation: AtomicU64,
}

impl Live {
    /// `rules`, then those of the file at `path`.
    pub fn load(rules: &[Rule], path: Option<PathBuf>) -> Result<Self, Vec<FileFault>> {
        let file = path.as_deref().map(FileRules::load).transpose()?;
        let rules = rules.to_vec();
        Ok(Self {
            path,
            acl: ArcSwap::from_pointee(Acl { rules, file }),
            generation: AtomicU64::new(0),
        })
    }

    /// Reads the file again, and takes `rules` in place of those from before. A file that is not as it must be stays as it was.
    pub fn reload(&self, rules: Option<&[Rule]>) -> Result<(), Vec<FileFault>> {
        let before = self.acl.load_full();
        let read = self.path.as_deref().map(FileRules::load).transpose();
        let (file, faults) = match read {
            Ok(file) => (file, Ok(())),
            Err(faults) => (before.file.clone(), Err(faults)),
        };
        let rules = rules.unwrap_or(&before.rules).to_vec();
        self.acl.store(Arc::new(Acl { rules, file }));
        self.generation.fetch_add(1, Ordering::Release); // after the store: who sees the number sees the rules
        faults
    }

    /// Whether nothing is said, and so all is allowed.
    pub fn is_empty(&self) -> bool {
        self.acl.load().is_empty()
    }
}

impl Rules for Live {
    fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    fn may_publish(&self, who: Who<'_>, topic: &str) -> bool {
        self.acl.load().may(Act::Write, who, topic)
    }

    fn may_read(&self, who: Who<'_>, topic: &str) -> bool {
        self.acl.load().may(Act::Read, who, topic)
    }

    fn subscription(&self, who: Who<'_>, filter: &str) -> Granted {
        self.acl.load().subscription(who, filter)
    }

    fn denies_by_name(&self, who: Who<'_>, filter: &str) -> bool {
        self.acl.load().denies_by_name(who, filter)
    }
}

/// Allowed is what one of them allows: for sessions of which it is not known by which listener they came.
pub struct AnyOf(pub Vec<Arc<dyn Rules>>);

impl Rules for AnyOf {
    fn generation(&self) -> u64 {
        self.0.iter().map(|rules| rules.generation()).sum()
    }

    fn may_publish(&self, who: Who<'_>, topic: &str) -> bool {
        self.0.iter().any(|rules| rules.may_publish(who, topic))
    }

    fn may_read(&self, who: Who<'_>, topic: &str) -> bool {
        self.0.iter().any(|rules| rules.may_read(who, topic))
    }

    fn subscription(&self, who: Who<'_>, filter: &str) -> Granted {
        let each = self.0.iter().map(|rules| rules.subscription(who, filter));
        each.max().unwrap_or(Granted::Refused)
    }
}
