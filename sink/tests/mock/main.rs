//! The sink against librdkafka's mock cluster: real chunks, a real log in memory, real sockets.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod delivery;
mod drain;
mod durable;
mod faults;
mod support;
