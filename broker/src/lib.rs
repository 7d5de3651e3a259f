//! The MQTT broker of Forebay: front end, bus and the node's log. Knows nothing of Kafka.

pub mod bus;
pub mod classify;
pub mod codec;
pub mod config;
pub mod fatal;
pub mod record;
pub mod spool;
