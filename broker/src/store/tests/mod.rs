//! The projection against a plain model, and the file against the projection.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod figures;
mod file;
mod groups;
mod model;
mod model_groups;
mod races;
mod random;
mod retained;
mod script;
mod tables;
