//! The MQTT broker of Forebay: front end, bus and the node's log. It knows nothing of Kafka: whoever embeds it says
//! by [`classify::Classify`] where publishes go, and reads them from the log by [`spool::LogReader`].
//!
//! The rooms, in the order in which a publish passes them: [`listener`](crate), connection, [`session`], [`hub`],
//! worker, [`bus`], [`spool`]. [`codec`] turns bytes into packets for them; [`record`] is what a publish becomes.

pub mod auth;
mod broker;
pub mod bus;
pub mod classify;
pub mod codec;
pub mod config;
mod connection;
pub mod fatal;
pub mod hub;
mod listener;
pub mod metrics;
pub mod record;
pub mod session;
pub mod spool;
pub mod store;
mod sys;
pub mod tls {
    //! The files of TLS, to be checked before a start.

    pub use crate::listener::tls::{Checked, TlsFault, check, validity};
}
#[cfg(test)]
mod testing;
mod worker;

pub use broker::{Broker, StartError, Stopped};
pub use listener::BindError;
