//! SIGHUP: users, rules and certificates are read again. What is faulty is told with its place, and what it said before stays in force.

use forebay_broker::auth::FileAuth;
use forebay_broker::tls::TlsFault;

use crate::config::{Refused, Settings};

/// What a reload needs.
pub struct Reload<R> {
    /// Reads the configuration again, without the files that it names.
    read: R,
    started: Vec<(&'static str, String)>,
}

impl<R: Fn() -> anyhow::Result<Settings>> Reload<R> {
    /// For a node that is started with `settings`.
    pub fn new(settings: &Settings, read: R) -> Self {
        Self {
            read,
            started: fixed(settings),
        }
    }

    /// Reads all again that can be; `of_tls`: what was wrong with the files of TLS.
    pub fn run(&self, auth: &FileAuth, of_tls: &[TlsFault]) {
        let settings = (self.read)().inspect_err(tell).ok();
        let were_open = auth.has_open_listeners();
        let faults = auth.reload(settings.as_ref().map(|settings| settings.broker.acl.as_slice()));
        for fault in &faults {
            tracing::error!("SIGHUP: {fault}; what this file said before stays in force");
        }
        if were_open && !auth.has_open_listeners() {
            tracing::warn!(
                "SIGHUP: there were no rules before: clients that are connected have none until they connect again"
            );
        }
        for (sections, _) in settings.iter().flat_map(|settings| self.changed(settings)) {
            tracing::warn!("SIGHUP: {sections} changed: that takes effect at the next start");
        }
        for fault in of_tls {
            tracing::error!("SIGHUP: {fault}; its listener goes on with the certificates that it has");
        }
        let faults = faults.len() + of_tls.len() + usize::from(settings.is_none());
        tracing::info!(faults, "SIGHUP: users, rules and certificates were read again");
    }

    /// What is other than at the start and stays as it was.
    fn changed(&self, settings: &Settings) -> Vec<(&'static str, String)> {
        let now = fixed(settings);
        now.into_iter()
            .filter(|part| !self.started.contains(part))
            .collect()
    }
}

fn tell(error: &anyhow::Error) {
    const STAYS: &str = "the [[acl]] rules from before stay in force";
    match error.downcast_ref::<Refused>() {
        Some(refused) => {
            for (fault, hint) in refused.each() {
                tracing::error!(hint, "SIGHUP: {fault}; {STAYS}");
            }
        }
        None => tracing::error!("SIGHUP: {error:#}; {STAYS}"),
    }
}

/// What only a start takes up: the names of sections, and what they say, to be compared alone.
fn fixed(settings: &Settings) -> Vec<(&'static str, String)> {
    let Settings {
        broker,
        data_dir,
        spool,
        kafka,
        admin,
        log,
        notices: _,
    } = settings;
    let mut broker = broker.clone();
    broker.acl = Vec::new();
    vec![
        (
            "a section that the broker is made of",
            format!("{broker:?} {data_dir:?} {spool:?}"),
        ),
        ("[kafka] or [[route]]", format!("{kafka:?}")),
        ("[admin]", format!("{admin:?}")),
        ("[log]", format!("{log:?}")),
    ]
}
