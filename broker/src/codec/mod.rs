//! Bytes to packets and back, for MQTT 3.1, 3.1.1 and 5.0: pure, strict, without copies.

pub mod packet;
pub mod property;
pub mod reason;

pub use packet::*;
pub use property::Properties;
pub use reason::{DecodeError, Reason};
