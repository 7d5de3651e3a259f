//! The way into Kafka: reads the broker's log and delivers each record, keyed by its device and in order.
//!
//! | room | what it knows |
//! |---|---|
//! | [`config`], `properties` | what the sink can be told; what librdkafka is told; every fault with its remedy |
//! | [`route`], `template`, `envelope` | publish -> Kafka topic, key, value, headers (pure) |
//! | [`partition`] | the partition of a key, as Java's client computes it (pure) |
//! | `window` | per partition: what is on its way, what is done; how far the log may be released (pure) |
//! | `outcome` | what an error code of Kafka asks for (pure) |
//! | `producer` | rdkafka; asks for topics, makes them, watches their partition counts on a thread of its own |
//! | `quarantine` | refused records on disk, until the dead letter topic has them |
//! | `pump` | log -> route -> window -> producer -> reports and commit; own thread |

pub mod config;
mod envelope;
mod filter;
mod metrics;
mod outcome;
pub mod partition;
mod producer;
mod properties;
mod pump;
mod quarantine;
pub mod route;
mod sink;
mod status;
mod template;
#[doc(hidden)] // for the benchmark of it
pub mod window;

pub use config::{Fault, RouteConfig, SinkConfig, Undeliverable, Value};
pub use partition::partition_for;
pub use route::{Routes, compile};
pub use sink::{Sink, SinkHandle, SinkStatus, StartError, Wiring};
