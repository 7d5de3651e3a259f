//! Where a publish goes and when its acknowledgement is due, as told to the broker from outside.
//!
//! The broker knows no Kafka topic. Whoever reads its log hands in a [`Classify`]; the broker asks it once per
//! connection and topic, keeps the answer with the connection, and writes it into the record.

use smallvec::SmallVec;

/// When PUBACK or PUBREC is sent, in rising strictness.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Level {
    /// The chunk that holds the publish is on the bus: survives nothing.
    Received = 0,
    /// The chunk is synced to the spool: survives kill -9 and power cuts.
    Spooled = 1,
    /// Kafka has acknowledged the record with acks=all: survives the loss of this machine.
    Kafka = 2,
}

impl TryFrom<u8> for Level {
    type Error = ();

    fn try_from(value: u8) -> Result<Self, ()> {
        match value {
            0 => Ok(Level::Received),
            1 => Ok(Level::Spooled),
            2 => Ok(Level::Kafka),
            _ => Err(()),
        }
    }
}

/// The routes that take a publish, by their number in the table of one generation. Rarely more than one.
pub type RouteIds = SmallVec<[u16; 4]>;

/// Stands alone among route ids for "goes nowhere": whoever reads the log has no use for it.
pub const NOWHERE: u16 = u16::MAX;

/// The answer for one publisher and topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Class {
    /// Generation of the route table that gave this answer; a kept answer of another generation is asked for again.
    pub generation: u32,
    /// The strictest level of all routes that take it.
    pub level: Level,
    /// The routes that take it; empty when none does.
    pub routes: RouteIds,
}

/// The publisher of a message, as far as routes may look at it.
#[derive(Debug, Clone, Copy)]
pub struct Publisher<'a> {
    /// The client identifier.
    pub client_id: &'a str,
    /// The user name it was let in under.
    pub username: Option<&'a str>,
}

/// Says where publishes go. Called from every worker: answers must not block.
pub trait Classify: Send + Sync + 'static {
    /// Generation of the table in use. Rises when the routes change.
    fn generation(&self) -> u32;

    /// Which routes take a publish of `publisher` on `topic`, and its level.
    fn classify(&self, publisher: Publisher<'_>, topic: &str) -> Class;

    /// Whether the routes of `class` can take more now. While this is false, the publisher is held back as if the
    /// window were full. Whoever turns it back to true calls [`crate::bus::Reports::reopened`].
    fn is_open(&self, class: &Class) -> bool;
}

/// Takes everything at level `spooled` and sends it nowhere: the broker on its own.
#[derive(Debug, Clone, Copy)]
pub struct NoRoutes;

impl Classify for NoRoutes {
    fn generation(&self) -> u32 {
        0
    }

    fn classify(&self, _publisher: Publisher<'_>, _topic: &str) -> Class {
        Class {
            generation: 0,
            level: Level::Spooled,
            routes: RouteIds::new(),
        }
    }

    fn is_open(&self, _class: &Class) -> bool {
        true
    }
}
