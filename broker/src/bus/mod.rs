//! The bus: chunks of accepted publishes go from the workers to the node's log over an in-process rumqttd router.
//! All rumqttd names stay in this room (design: one router a process, one fixed topic a broker instance).

pub mod chunk;
pub mod report;

pub use chunk::{Chunk, ChunkBuilder, ChunkError, ChunkFull};
pub use report::{Outcome, Report, Reports};
