//! Bytes to packets and back, for MQTT 3.1, 3.1.1 and 5.0: pure, strict, without copies.

mod decode;
mod encode;
pub mod packet;
mod primitive;
pub mod property;
pub mod reason;
pub mod topic;

pub use decode::decode;
pub use encode::{EncodeError, encode};
pub use packet::*;
pub use primitive::frame_len;
pub use property::{Place, Properties, PropertiesBuf, Property};
pub use reason::{DecodeError, Reason};

#[cfg(test)]
mod tests;
