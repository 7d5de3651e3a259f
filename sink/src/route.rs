//! Routes: which of them take a publish, and what they make of it for Kafka (pure but for the gates, which are flags).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

pub(crate) use forebay_broker::classify::NOWHERE;
use forebay_broker::classify::{Class, Classify, Level, Publisher, RouteIds};
use forebay_broker::codec::QoS;
use forebay_broker::codec::property::{Properties, Property};
use forebay_broker::record::PublishRecord;
use smallvec::SmallVec;

use crate::config::{Empty, Fault, HEADERS, RouteConfig, SinkConfig, Undeliverable, Value};
use crate::envelope;
use crate::filter::{Captured, Filter};
use crate::template::{Template, is_topic_name};

/// Routes that one configuration may have; ids above are kept.
pub(crate) const MAX_ROUTES: u16 = 65_000;
/// The route of what no other takes.
pub(crate) const DEFAULT: u16 = u16::MAX - 1;

/// A header on its way to Kafka.
pub(crate) type Header<'a> = (&'a str, &'a [u8]);
/// The headers of one record; rarely more than a few.
pub(crate) type Headers<'a> = SmallVec<[Header<'a>; 8]>;

/// The compiled table of routes.
#[derive(Debug)]
pub struct Routes {
    generation: u32,
    fingerprint: u64,
    default_level: Level,
    table: Vec<Route>,
    default: Route,
}

/// One compiled route.
#[derive(Debug)]
pub(crate) struct Route {
    /// Name in logs and in the position header.
    pub(crate) name: String,
    filter: Filter,
    topic: Template,
    key: Template,
    /// Number of the capture named `device_id`.
    device: Option<usize>,
    value: Value,
    empty: Empty,
    headers: Wanted,
    level: Level,
    sink: bool,
    /// What its topic does not take for long goes to the dead letter topic.
    pub(crate) dead_letter: bool,
    /// Set while a topic of this route can't take records and its share is full.
    closed: AtomicBool,
}

/// Which headers a route sets: one bit each, in the order of [`HEADERS`].
#[derive(Debug, Clone, Copy)]
struct Wanted(u16);

impl Wanted {
    const TOPIC: u16 = 1 << 0;
    const QOS: u16 = 1 << 1;
    const RETAIN: u16 = 1 << 2;
    const CLIENT_ID: u16 = 1 << 3;
    const USERNAME: u16 = 1 << 4;
    const CONTENT_TYPE: u16 = 1 << 5;
    const CORRELATION_DATA: u16 = 1 << 6;
    const RESPONSE_TOPIC: u16 = 1 << 7;
    const USER_PROPERTIES: u16 = 1 << 8;
    const POSITION: u16 = 1 << 9;
    /// What an MQTT 5 publish carries.
    const CARRIED: u16 =
        Self::CONTENT_TYPE | Self::CORRELATION_DATA | Self::RESPONSE_TOPIC | Self::USER_PROPERTIES;
    const USUAL: u16 = Self::TOPIC | Self::POSITION | Self::CARRIED;

    fn of(names: Option<&[String]>) -> Self {
        let Some(names) = names else {
            return Self(Self::USUAL);
        };
        let asked = HEADERS
            .iter()
            .enumerate()
            .filter(|(_, header)| names.iter().any(|name| name == *header));
        Self(asked.fold(0, |set, (bit, _)| set | 1 << bit))
    }

    fn has(self, bit: u16) -> bool {
        self.0 & bit != 0
    }
}

/// Checks `config` and compiles its routes.
pub fn compile(config: &SinkConfig) -> Result<Arc<Routes>, Vec<Fault>> {
    let faults = config.faults();
    if !faults.is_empty() {
        return Err(faults);
    }
    let compiled = config.routes.iter().enumerate();
    let table: Result<Vec<Route>, String> = compiled.map(|(at, route)| Route::new(route, at)).collect();
    let default = Route::new(
        &RouteConfig {
            name: "default".to_owned(),
            topic: config.default_topic.clone(),
            key: Some("{client_id}".to_owned()),
            ack: config.default_ack,
            ..RouteConfig::default()
        },
        usize::from(DEFAULT),
    );
    match (table, default) {
        (Ok(table), Ok(default)) => Ok(Arc::new(Routes {
            generation: 1,
            fingerprint: fingerprint(config),
            default_level: config.default_ack,
            table,
            default,
        })),
        (Err(text), _) | (_, Err(text)) => Err(vec![Fault::new("route", text, "see the fault itself")]),
    }
}

impl Route {
    fn new(config: &RouteConfig, at: usize) -> Result<Self, String> {
        let filter = Filter::parse(&config.filter)?;
        let captures = filter.captures();
        let device = captures.iter().position(|name| *name == "device_id");
        let key = config.key.as_deref().unwrap_or(match device {
            Some(_) => "{device_id}",
            None => "{client_id}",
        });
        // A route that sinks nothing needs no topic.
        let topic = if config.sink { config.topic.as_str() } else { "-" };
        let (topic, key) = (
            Template::parse(topic, &captures)?,
            Template::parse(key, &captures)?,
        );
        Ok(Self {
            name: if config.name.is_empty() {
                at.to_string()
            } else {
                config.name.clone()
            },
            topic,
            key,
            device,
            value: config.value,
            empty: config.empty,
            headers: Wanted::of(config.headers.as_deref()),
            level: config.ack,
            sink: config.sink,
            dead_letter: config.undeliverable == Undeliverable::DeadLetter,
            closed: AtomicBool::new(false),
            filter,
        })
    }

    /// The topic, where it is the same for all publishes.
    pub(crate) fn literal_topic(&self) -> Option<&str> {
        self.topic.literal()
    }
}

fn fingerprint(config: &SinkConfig) -> u64 {
    let routes = config.routes.iter();
    let routes = routes.map(|route| (&route.filter, &route.topic, &route.key, route.sink));
    let text = format!(
        "{:?}",
        (
            routes.collect::<Vec<_>>(),
            &config.default_topic,
            config.max_topics
        )
    );
    // FNV-1a: it must not change from one version of a library to the next.
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    text.bytes().fold(0xcbf2_9ce4_8422_2325, step)
}

/// Why a route can't make a record of a publish: neither can change by waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Reject {
    #[error("a variable of the topic or key is missing in it")]
    MissingVariable,
    #[error("its Kafka topic would not be a topic name")]
    TopicName,
}

/// What a route makes of one publish: reused from record to record, so that it costs no allocation.
#[derive(Debug, Default)]
pub(crate) struct Rendered {
    /// The Kafka topic; empty when the route's topic is the same for all publishes.
    pub(crate) topic: Vec<u8>,
    /// The key.
    pub(crate) key: Vec<u8>,
    value: Vec<u8>,
    value_is: ValueIs,
    position: Vec<u8>,
    /// User properties with names that are Forebay's, in their order, as they are named instead.
    renamed: Vec<String>,
}

#[derive(Debug, Clone, Copy, Default)]
enum ValueIs {
    #[default]
    Payload,
    Written,
    Null,
}

impl Rendered {
    /// The value; `None` is a tombstone.
    pub(crate) fn value<'a>(&'a self, record: &PublishRecord<'a>) -> Option<&'a [u8]> {
        match self.value_is {
            ValueIs::Payload => Some(record.payload),
            ValueIs::Written => Some(&self.value),
            ValueIs::Null => None,
        }
    }
}

impl Routes {
    /// The route of that id.
    pub(crate) fn get(&self, id: u16) -> Option<&Route> {
        if id == DEFAULT {
            return Some(&self.default);
        }
        self.table.get(usize::from(id))
    }

    /// All routes that sink something, with their ids; the default one last.
    pub(crate) fn all(&self) -> impl Iterator<Item = (u16, &Route)> {
        let table = (0u16..).zip(&self.table).filter(|(_, route)| route.sink);
        table.chain(std::iter::once((DEFAULT, &self.default)))
    }

    /// Whether it has no route but the default one.
    pub(crate) fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// The routes that take a record, where those written into it are of another table.
    pub(crate) fn matched(&self, record: &PublishRecord<'_>) -> RouteIds {
        let publisher = Publisher {
            client_id: record.client_id,
            username: record.username,
        };
        self.classify(publisher, record.topic).routes
    }

    /// Renders topic and key.
    pub(crate) fn target(
        &self,
        route: &Route,
        record: &PublishRecord<'_>,
        out: &mut Rendered,
    ) -> Result<(), Reject> {
        out.topic.clear();
        out.key.clear();
        let mut captured = Captured::new();
        if route.filter.has_captures() {
            route.filter.capture(record.topic, &mut captured);
        }
        if route.topic.literal().is_none() {
            let topic = route.topic.render(record, &captured, &mut out.topic);
            topic.map_err(|_| Reject::MissingVariable)?;
            let name = std::str::from_utf8(&out.topic).unwrap_or_default();
            if !is_topic_name(name) {
                return Err(Reject::TopicName);
            }
        }
        let key = route.key.render(record, &captured, &mut out.key);
        key.map_err(|_| Reject::MissingVariable)
    }

    /// Renders the value and the position `prefix` + sequence.
    pub(crate) fn body(
        &self,
        route: &Route,
        record: &PublishRecord<'_>,
        position: &Place<'_>,
        out: &mut Rendered,
    ) {
        out.value_is = match (route.empty, route.value) {
            (Empty::Null, _) if record.payload.is_empty() => ValueIs::Null,
            (_, Value::Raw) => ValueIs::Payload,
            (_, Value::Json) => {
                let mut captured = Captured::new();
                route.filter.capture(record.topic, &mut captured);
                let device = route.device.and_then(|at| captured.get(at).copied());
                out.value.clear();
                envelope::write(record, device.unwrap_or(record.client_id), &mut out.value);
                ValueIs::Written
            }
        };
        out.renamed.clear();
        if let Some(raw) = record.properties
            && route.headers.has(Wanted::USER_PROPERTIES)
        {
            let user = Properties::from_checked(raw).user_properties();
            let ours = user.filter(|(name, _)| is_ours(name));
            out.renamed.extend(ours.map(|(name, _)| format!("user.{name}")));
        }
        out.position.clear();
        if route.headers.has(Wanted::POSITION) {
            position.write(route, &mut out.position);
        }
    }

    /// The headers that the route sets.
    pub(crate) fn headers<'a>(
        &self,
        route: &Route,
        record: &PublishRecord<'a>,
        rendered: &'a Rendered,
    ) -> Headers<'a> {
        let mut headers = Headers::new();
        if route.headers.0 == 0 {
            return headers;
        }
        let mut put = |bit: u16, name: &'static str, value: &'a [u8]| {
            if route.headers.has(bit) {
                headers.push((name, value));
            }
        };
        put(Wanted::TOPIC, "mqtt.topic", record.topic.as_bytes());
        put(Wanted::POSITION, "forebay.position", &rendered.position);
        let qos: &[u8] = match record.qos {
            QoS::AtMostOnce => b"0",
            QoS::AtLeastOnce => b"1",
            QoS::ExactlyOnce => b"2",
        };
        put(Wanted::QOS, "mqtt.qos", qos);
        put(
            Wanted::RETAIN,
            "mqtt.retain",
            if record.retain { b"1" } else { b"0" },
        );
        put(Wanted::CLIENT_ID, "mqtt.client_id", record.client_id.as_bytes());
        if let Some(username) = record.username {
            put(Wanted::USERNAME, "mqtt.username", username.as_bytes());
        }
        if let Some(raw) = record.properties
            && route.headers.has(Wanted::CARRIED)
        {
            carried(
                route.headers,
                Properties::from_checked(raw),
                &rendered.renamed,
                &mut headers,
            );
        }
        headers
    }

    /// Tells this table from others, over starts: the same where every publish goes to the same topics by the same keys.
    pub(crate) fn fingerprint(&self) -> u64 {
        self.fingerprint
    }

    /// Holds publishers of the route back, or lets them go on. True when that is a change.
    pub(crate) fn set_closed(&self, id: u16, closed: bool) -> bool {
        let route = self.get(id);
        route.is_some_and(|route| route.closed.swap(closed, Ordering::Relaxed) != closed)
    }
}

/// The headers of what an MQTT 5 publish carries.
fn carried<'a>(wanted: Wanted, properties: Properties<'a>, renamed: &'a [String], headers: &mut Headers<'a>) {
    let mut renamed = renamed.iter();
    for property in properties.iter() {
        let (bit, header): (u16, Header<'a>) = match property {
            Property::ContentType(text) => (Wanted::CONTENT_TYPE, ("content-type", text.as_bytes())),
            Property::ResponseTopic(text) => (Wanted::RESPONSE_TOPIC, ("response-topic", text.as_bytes())),
            Property::CorrelationData(data) => (Wanted::CORRELATION_DATA, ("correlation-data", data)),
            Property::UserProperty(name, value) => {
                let name = if is_ours(name) {
                    renamed.next().map_or("", String::as_str)
                } else {
                    name
                };
                (Wanted::USER_PROPERTIES, (name, value.as_bytes()))
            }
            _ => continue,
        };
        if wanted.has(bit) {
            headers.push(header);
        }
    }
}

/// Whether a user property has the name of a header that only Forebay may set: a device could pass itself off as
/// another position, and consumers drop duplicates by it.
fn is_ours(name: &str) -> bool {
    name.starts_with("forebay.") || name.starts_with("mqtt.")
}

/// Where a record stands in the log, as its header tells: ASCII `node.id/epoch/sequence`, the sequence as 20 digits,
/// `/route` appended when more than one route took it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place<'a> {
    /// `node.id/epoch/`
    pub(crate) prefix: &'a [u8],
    pub(crate) sequence: u64,
    pub(crate) several: bool,
}

impl Place<'_> {
    /// As a header's value.
    pub(crate) fn text(&self, route: &Route) -> Vec<u8> {
        let mut text = Vec::new();
        self.write(route, &mut text);
        text
    }

    fn write(&self, route: &Route, out: &mut Vec<u8>) {
        out.extend_from_slice(self.prefix);
        let mut digits = [b'0'; 20];
        let mut rest = self.sequence;
        for digit in digits.iter_mut().rev() {
            *digit = b'0' + (rest % 10) as u8;
            rest /= 10;
        }
        out.extend_from_slice(&digits);
        if self.several {
            out.push(b'/');
            out.extend_from_slice(route.name.as_bytes());
        }
    }
}

impl Classify for Routes {
    fn generation(&self) -> u32 {
        self.generation
    }

    fn classify(&self, _publisher: Publisher<'_>, topic: &str) -> Class {
        let mut class = Class {
            generation: self.generation,
            level: Level::Received,
            routes: RouteIds::new(),
        };
        let mut swallowed = topic.starts_with("$SYS/") || topic == "$SYS";
        let mut alone = Level::Received;
        if !swallowed {
            let taking = (0u16..)
                .zip(&self.table)
                .filter(|(_, route)| route.filter.matches(topic));
            for (id, route) in taking {
                if route.sink {
                    class.level = class.level.max(route.level);
                    class.routes.push(id);
                } else {
                    swallowed = true;
                    alone = alone.max(route.level);
                }
            }
        }
        if class.routes.is_empty() && swallowed {
            class.routes.push(NOWHERE);
            class.level = alone.min(Level::Spooled); // there is no Kafka to wait for
        } else if class.routes.is_empty() {
            class.level = self.default_level;
        }
        class
    }

    fn is_open(&self, class: &Class) -> bool {
        // What waits in the log waits for nothing in memory: only who waits for Kafka's acknowledgement is held back.
        if class.level != Level::Kafka {
            return true;
        }
        if class.routes.is_empty() {
            return !self.default.closed.load(Ordering::Relaxed);
        }
        let mut routes = class.routes.iter().filter_map(|id| self.get(*id));
        routes.all(|route| !route.closed.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
#[path = "route_tests.rs"]
pub(crate) mod tests;
