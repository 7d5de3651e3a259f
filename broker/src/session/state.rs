//! The states of a session's connection, and which moves are legal.
//!
//! ```text
//!            attach (CONNECT)
//!   Detached ───────────────▶ Attached ── close(reason) ──▶ Closing ── DISCONNECT sent ──▶ Closed
//!      ▲                         │                             │                             │
//!      └─────── detach ──────────┴─────────────────────────────┴─────────────────────────────┘
//! ```
//!
//! The client's publishes, by QoS ([`inbound`](super::inbound)): `waiting` until they are settled, then acknowledged
//! in the order in which they came. A QoS 2 packet id stays taken until PUBREL:
//!
//! ```text
//!   PUBLISH 1 ─▶ waiting ─ settle ─▶ PUBACK
//!   PUBLISH 2 ─▶ waiting ─ settle ─▶ PUBREC ─▶ taken ─ PUBREL ─▶ PUBCOMP, free
//!                                └─ refused (5.0): PUBREC 0x80+, free
//! ```
//!
//! Messages to the client ([`inflight`](super::inflight)):
//!
//! ```text
//!   queue ─▶ PUBLISH 1 sent ─ PUBACK ─▶ free
//!   queue ─▶ PUBLISH 2 sent ─ PUBREC ─▶ PUBREL sent ─ PUBCOMP ─▶ free
//!                          └─ PUBREC 0x80+ ─▶ free
//! ```

use super::event::Violation;
use crate::codec::Reason;

/// Where the session stands with its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Phase {
    /// No connection.
    #[default]
    Detached,
    /// CONNECT was answered.
    Attached,
    /// A last DISCONNECT waits to be sent.
    Closing(Reason),
    /// The client said DISCONNECT: what came before that may still be answered.
    Leaving,
    /// Nothing more may be sent.
    Closed,
}

impl Phase {
    /// A packet from the client may be handled.
    #[inline]
    pub fn check_receive(self) -> Result<(), Violation> {
        match self {
            Phase::Attached => Ok(()),
            Phase::Detached => Err(Violation::protocol("a packet before CONNECT [MQTT-3.1.0-1]")),
            Phase::Closing(reason) => Err(Violation::new(reason, "a packet after the connection was closed")),
            Phase::Leaving | Phase::Closed => {
                Err(Violation::protocol("a packet after DISCONNECT [MQTT-3.14.4-1]"))
            }
        }
    }

    /// The broker ends the connection.
    pub fn close(self, reason: Reason) -> Self {
        match self {
            Phase::Attached => Phase::Closing(reason),
            Phase::Detached | Phase::Closing(_) | Phase::Leaving | Phase::Closed => self,
        }
    }
}
