//! What is kept of sessions over a restart: the types that workers and the store exchange.

pub mod event;
pub mod kept;

pub use event::{StoreEvent, TakeEvents};
pub use kept::{KeptMessage, KeptSession, Restored, TakenId};
