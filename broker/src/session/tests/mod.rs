//! The session against a scripted peer.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod connect;
mod from_client;
mod model;
mod names;
mod queue;
mod restart;
mod sent;
mod to_client;
mod told;
mod will;
mod wire;
