//! Bytes to packets and back, for MQTT 3.1, 3.1.1 and 5.0: pure, strict, without copies.
//!
//! [`frame_len`] says how long the frame at the start of a buffer is, [`decode`] reads one whole frame, [`encode`]
//! appends one. A decoded packet borrows its texts and payload from the frame. What a rule of the specification leaves
//! to the state of a session (topic alias ranges, flow control, who may send what) is not checked here.

mod connect;
mod cursor;
mod decode;
mod encode;
pub mod packet;
pub mod property;
pub mod reason;
pub mod topic;

pub use connect::peek_version;
pub(crate) use decode::decode_publish;
pub use decode::{decode, frame_len, payload_len};
pub use encode::encode;
pub(crate) use encode::{PUBACK_BYTES, put_puback};
pub use packet::*;
pub use property::{Place, Properties, PropertiesBuf, Property};
pub use reason::{DecodeError, EncodeError, Reason};

#[cfg(test)]
pub mod cases;
#[cfg(test)]
mod generated;
#[cfg(test)]
mod tests;
