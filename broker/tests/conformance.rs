//! MQTT's normative statements as a client sees them: a whole broker on loopback and raw packets. One file a chapter;
//! docs/conformance.md says which test shows which statement, and `table` holds it to that.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

// The wire cases name the codec's types from the crate's root.
use forebay_broker::codec;

#[path = "conformance/acks.rs"]
mod acks;
#[path = "conformance/aliases.rs"]
mod aliases;
#[path = "conformance/behaviour.rs"]
mod behaviour;
#[allow(dead_code)]
#[path = "../src/codec/cases/mod.rs"]
mod cases;
#[path = "conformance/connack.rs"]
mod connack;
#[path = "conformance/connect.rs"]
mod connect;
#[path = "conformance/data.rs"]
mod data;
#[path = "conformance/disconnect.rs"]
mod disconnect;
#[path = "conformance/malformed.rs"]
mod malformed;
#[path = "conformance/peer.rs"]
mod peer;
#[path = "conformance/publish.rs"]
mod publish;
#[path = "conformance/retain.rs"]
mod retain;
#[path = "conformance/subscribe.rs"]
mod subscribe;
#[allow(dead_code)]
#[path = "front/support.rs"]
mod support;
#[path = "conformance/table.rs"]
mod table;
#[path = "conformance/wills.rs"]
mod wills;

use forebay_broker::classify::Level;
use support::TestBroker;

/// A broker whose acknowledgements wait for nothing.
fn broker() -> TestBroker {
    TestBroker::start(|_| {}, Level::Received)
}
