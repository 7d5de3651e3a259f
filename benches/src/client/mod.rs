//! Many MQTT devices on few threads.

pub mod device;
pub mod link;
pub mod net;
pub mod plan;
pub mod ranges;
pub mod run;
pub mod schedule;
pub mod shard;
pub mod stats;
pub mod stream;
pub mod websocket;
pub mod wire;
