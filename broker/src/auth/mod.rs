//! Who you are, asked once for each CONNECT, and what you may do: users with their passwords, rules on topics. Files
//! are read at load only ([`FileAuth`]); nothing here knows a socket.

mod acl;
mod answer;
mod file;
mod listener;
mod method;
mod password;
mod pool;
mod users;
mod verified;

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

pub use acl::{Acl, Act, FileRules, Granted, NoPattern, Pattern, Rule, Rules, Who, Whom};
pub use acl::{covers, overlaps};
pub use answer::{Answer, Later};
pub use file::{FileFault, read as read_file};
pub use listener::{FileAuth, ListenerFiles, LoadError, MOST_PASSWORD_BYTES};
pub use method::{Exchange, Method, Step, Stepped, Subject};
pub use password::{MOST_ITERATIONS, Scheme, Stored, WrongHash};
pub use users::{USUAL_ITERATIONS, Users};

use crate::codec::{Connect, Reason};

/// Who a connection was let in as.
#[derive(Clone, Default)]
pub struct Principal {
    /// The user name, when one was given and accepted.
    pub username: Option<String>,
    /// What it may do; without any, everything.
    pub rules: Option<Arc<dyn Rules>>,
    /// What the [`Method`] that let it in says at last.
    pub data: Option<Vec<u8>>,
}

impl fmt::Debug for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Principal")
            .field("username", &self.username)
            .finish_non_exhaustive()
    }
}

/// What is known of the connection besides its CONNECT.
#[derive(Debug, Clone, Copy)]
pub struct Origin {
    /// The peer's address.
    pub peer: IpAddr,
    /// Index of its listener in the configuration.
    pub listener: usize,
    /// The listener lets clients without a user name in.
    pub allow_anonymous: bool,
    /// The listener takes peers on a loopback address only.
    pub loopback_only: bool,
}

impl Origin {
    /// Whether the listener takes peers from there at all.
    pub fn is_near_enough(&self) -> bool {
        !self.loopback_only || is_loopback(self.peer)
    }
}

/// The principal, or the reason to refuse with (5.0 section 3.2.2.2).
pub type Verdict = Result<Principal, Reason>;

/// Decides whether a CONNECT is let in. Called on a worker's thread: what may take long is answered later. A later
/// answer that has not come when `limits.connect_timeout_s` is over is dropped, and the connection with it.
pub trait Authenticator: Send + Sync + 'static {
    /// Whether, and as whom.
    fn authenticate(&self, connect: &Connect<'_>, origin: Origin) -> Answer<Verdict>;

    /// The method that a client of 5.0 asks for in Authentication Method; `None`: it is refused with 0x8C. With one, it
    /// decides alone: [`authenticate`](Authenticator::authenticate) is not asked.
    fn method(&self, name: &str, origin: Origin) -> Option<Arc<dyn Method>> {
        let _ = (name, origin);
        None
    }

    /// What clients may do that were connected before a restart and have not come back: it bounds their wills,
    /// which were allowed when they connected.
    fn rules_of_kept(&self) -> Option<Arc<dyn Rules>> {
        None
    }
}

/// What becomes of a client that does what the rules deny.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DenyAction {
    /// It is told, where its protocol can, and goes on.
    #[default]
    Ignore,
    /// Its connection is closed.
    Disconnect,
}

/// Lets in by the listener's rules alone, without passwords: a user name proves nothing and is refused where anonymous
/// clients are.
#[derive(Debug, Clone, Copy, Default)]
pub struct ListenerRules;

impl Authenticator for ListenerRules {
    fn authenticate(&self, connect: &Connect<'_>, origin: Origin) -> Answer<Verdict> {
        Answer::Now(by_listener(connect, origin))
    }
}

/// What the listener alone says.
fn by_listener(connect: &Connect<'_>, origin: Origin) -> Verdict {
    if !origin.is_near_enough() {
        return Err(Reason::NotAuthorized);
    }
    if !origin.allow_anonymous {
        return Err(match connect.username {
            Some(_) => Reason::BadUserNameOrPassword,
            None => Reason::NotAuthorized,
        });
    }
    Ok(Principal {
        username: connect.username.map(str::to_owned),
        ..Principal::default()
    })
}

fn is_loopback(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_loopback(),
        IpAddr::V6(v6) => v6.is_loopback() || v6.to_ipv4_mapped().is_some_and(|v4| v4.is_loopback()),
    }
}
