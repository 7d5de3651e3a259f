//! Stands for the room of this name: what the configuration names of it.

use std::path::PathBuf;

/// Nobody opens one here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpoolConfig {
    pub dir: PathBuf,
    pub max_bytes: u64,
    pub segment_bytes: u64,
    pub tail_bytes: usize,
}
