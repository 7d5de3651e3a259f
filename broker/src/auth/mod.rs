//! Who you are: the question that is asked once per CONNECT. What you may do (access rules) will stand beside it.

use std::net::IpAddr;

use crate::codec::{Connect, Reason};

/// Who a connection was let in as.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Principal {
    /// The user name, when one was given and accepted.
    pub username: Option<String>,
}

/// What is known of the connection besides its CONNECT.
#[derive(Debug, Clone, Copy)]
pub struct Origin {
    /// The peer's address.
    pub peer: IpAddr,
    /// The listener lets clients without a user name in.
    pub allow_anonymous: bool,
    /// The listener takes peers on a loopback address only.
    pub loopback_only: bool,
}

/// Decides whether a CONNECT is let in. Called on a worker's thread: must not block.
pub trait Authenticator: Send + Sync + 'static {
    /// The principal, or the reason to refuse with (5.0 section 3.2.2.2).
    fn authenticate(&self, connect: &Connect<'_>, origin: Origin) -> Result<Principal, Reason>;
}

/// Lets in by the listener's rules alone: there are no passwords yet, so a user name proves nothing and is refused
/// where anonymous clients are.
#[derive(Debug, Clone, Copy, Default)]
pub struct ListenerRules;

impl Authenticator for ListenerRules {
    fn authenticate(&self, connect: &Connect<'_>, origin: Origin) -> Result<Principal, Reason> {
        if origin.loopback_only && !is_loopback(origin.peer) {
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
        })
    }
}

fn is_loopback(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_loopback(),
        IpAddr::V6(v6) => v6.is_loopback() || v6.to_ipv4_mapped().is_some_and(|v4| v4.is_loopback()),
    }
}
