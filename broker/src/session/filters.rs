//! The filters that a session holds: only their names, for the bound and for the clean-up.

use smallvec::SmallVec;

use crate::codec::topic::SHARE;
use crate::codec::{QoS, Reason, RetainHandling, Subscription};

/// Filter names, sorted. Most devices have one.
#[derive(Debug, Default)]
pub(super) struct Filters(SmallVec<[Box<str>; 1]>);

impl Filters {
    /// Enters a filter; false when there are `most` already, or it is shared and there are `most_shared` of these.
    pub fn insert(&mut self, filter: &str, most: usize, most_shared: usize) -> bool {
        let Err(at) = self.find(filter) else {
            return true;
        };
        if self.0.len() >= most || filter.starts_with(SHARE) && self.shared() >= most_shared {
            return false;
        }
        self.0.insert(at, filter.into());
        true
    }

    /// Whether it was there.
    pub fn remove(&mut self, filter: &str) -> bool {
        let found = self.find(filter);
        if let Ok(at) = found {
            self.0.remove(at);
        }
        found.is_ok()
    }

    /// How many of them are shared: they stand one behind the other.
    fn shared(&self) -> usize {
        let first = self.0.partition_point(|known| **known < *SHARE);
        let rest = self.0.get(first..).unwrap_or_default();
        rest.partition_point(|known| known.starts_with(SHARE))
    }

    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|filter| &**filter)
    }

    fn find(&self, filter: &str) -> Result<usize, usize> {
        self.0.binary_search_by(|known| (**known).cmp(filter))
    }
}

/// The reason that grants `qos` in SUBACK.
pub(super) fn granted(qos: QoS) -> Reason {
    match qos {
        QoS::AtMostOnce => Reason::Success,
        QoS::AtLeastOnce => Reason::GrantedQoS1,
        QoS::ExactlyOnce => Reason::GrantedQoS2,
    }
}

impl Subscription<'_> {
    /// Whether retained messages are to be sent for it, given that it `is_new` (5.0 section 3.8.3.1).
    pub fn wants_retained(&self, is_new: bool) -> bool {
        match self.retain_handling {
            RetainHandling::Send => true,
            RetainHandling::SendIfNew => is_new,
            RetainHandling::DoNotSend => false,
        }
    }
}
