//! The part of the room of this name that sessions know: its plain types, without the file behind them.

#[path = "../../../src/store/event.rs"]
pub mod event;
#[path = "../../../src/store/kept.rs"]
pub mod kept;

pub use event::StoreEvent;
pub use kept::{KeptMessage, KeptSession, TakenId};
