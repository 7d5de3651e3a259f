//! Tests of the spool: what each part promises, each interleaving of a power cut, and a model with random faults.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod basics;
mod damage;
mod full;
mod model;
mod outside;
mod power_cut;
mod support;
