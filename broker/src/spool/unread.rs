//! Says which consumers hold the log back though nobody reads for them any more, such as the sink of a configuration of
//! yesterday: the log grows up to its bound, and from outside nothing tells why.

use std::time::{Duration, Instant};

use super::cursor;
use super::shared::Shared;

/// From the start until a consumer is missed.
const PATIENCE: Duration = Duration::from_secs(10);

/// Between two lines while the log is full.
const REPEAT: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(super) struct Unread {
    begun: Instant,
    said: Option<Instant>,
}

impl Unread {
    pub fn new() -> Self {
        Self {
            begun: Instant::now(),
            said: None,
        }
    }

    /// Called now and then.
    pub fn look(&mut self, shared: &Shared) {
        let due = match self.said {
            None => self.begun.elapsed() >= PATIENCE,
            Some(said) => said.elapsed() >= REPEAT && shared.pressure.is_full(),
        };
        if !due {
            return;
        }
        self.said = Some(Instant::now());
        for (name, records) in shared.unread() {
            tracing::error!(
                consumer = name,
                records,
                file = %cursor::path(&shared.config.dir, &name).display(),
                "the spool keeps records for a consumer that does not run: configure it again, or, if it is gone for \
                 good, stop forebay and run `forebay spool forget DIR NAME --yes`"
            );
        }
    }
}
