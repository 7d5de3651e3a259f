//! The whole on real parts: the binary as a process, Apache Kafka as a process, and clients that others wrote.
//!
//! `make setup` fetches what these need. Cases share one Kafka, each with topics of its own; those that stop or freeze
//! Kafka have one to themselves.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]
#![allow(missing_docs)]

mod auth;
mod clients;
mod deploy;
mod foreign;
mod harness;
mod hostile;
mod load;
mod metrics;
mod mqtt;
mod publish;
mod support;
mod tls;
mod topics;
mod torture;
mod verify;
