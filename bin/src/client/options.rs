//! The options that `pub` and `sub` have in common, under the names of the Mosquitto clients, and what they come to:
//! a [`Target`].

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{ArgAction, Args};
use forebay_broker::codec::{Property, QoS, Version, topic};

use super::property::Given;
use super::tls::{self, Tls};

const CONNECTION: &str = "Connection";
const WILL: &str = "Will";
/// MQTT 5: a session that never expires.
const NEVER: u32 = u32::MAX;

/// How to connect.
#[derive(Debug, Args)]
pub struct Options {
    /// Broker's name or address.
    #[arg(short = 'h', long, default_value = "localhost", help_heading = CONNECTION)]
    host: String,
    /// Its port. Default: 1883, with TLS 8883.
    #[arg(short, long, help_heading = CONNECTION)]
    port: Option<u16>,
    /// Connect to a Unix domain socket instead.
    #[arg(long, value_name = "PATH", conflicts_with_all = ["host", "port", "url"], help_heading = CONNECTION)]
    unix: Option<PathBuf>,
    /// All in one: mqtt://[username[:password]@]host[:port]/topic, or mqtts:// for TLS.
    #[arg(short = 'L', long, conflicts_with_all = ["host", "port"], help_heading = CONNECTION)]
    url: Option<String>,
    /// Send from this address of this machine.
    #[arg(short = 'A', value_name = "ADDRESS", help_heading = CONNECTION)]
    bind: Option<IpAddr>,
    /// User name.
    #[arg(short, long, allow_hyphen_values = true, help_heading = CONNECTION)]
    username: Option<String>,
    /// Password; better in the environment than in the list of processes.
    #[arg(
        short = 'P',
        long = "pw",
        value_name = "PASSWORD",
        env = "FOREBAY_MQTT_PASSWORD",
        hide_env_values = true,
        allow_hyphen_values = true,
        help_heading = CONNECTION
    )]
    password: Option<String>,
    /// Client id. Default: the broker chooses one.
    #[arg(short, long, allow_hyphen_values = true, help_heading = CONNECTION)]
    id: Option<String>,
    /// Client id: this and the process id.
    #[arg(short = 'I', long, value_name = "PREFIX", conflicts_with = "id", help_heading = CONNECTION)]
    id_prefix: Option<String>,
    /// MQTT version: mqttv31, mqttv311 or mqttv5, or 31, 311, 5.
    #[arg(short = 'V', long, value_name = "VERSION", default_value = "mqttv311", value_parser = version, help_heading = CONNECTION)]
    protocol_version: Version,
    /// Seconds of silence after which the connection is tested; 0: never.
    #[arg(short, long, value_name = "SECONDS", default_value_t = 60, help_heading = CONNECTION)]
    keepalive: u16,
    /// Keep the session: the broker is to hold what comes while this client is away. Needs -i.
    #[arg(short = 'c', long, help_heading = CONNECTION)]
    disable_clean_session: bool,
    /// MQTT 5: seconds that the session outlives the connection; -1: for ever, which is the default with -c.
    #[arg(short = 'x', value_name = "SECONDS", value_parser = expiry, allow_hyphen_values = true, help_heading = CONNECTION)]
    session_expiry: Option<u32>,
    /// Taken and of no effect: small packets are never held back.
    #[arg(long, hide = true)]
    nodelay: bool,
    /// MQTT 5 property: PACKET NAME VALUE, or PACKET user-property NAME VALUE. May be given several times.
    #[arg(short = 'D', long = "property", num_args = 3..=4, value_name = "WORD", action = ArgAction::Append)]
    properties: Vec<String>,
    /// Topic that the broker publishes to when this client is lost.
    #[arg(long, value_name = "TOPIC", help_heading = WILL)]
    will_topic: Option<String>,
    /// Its payload. Default: empty.
    #[arg(long, value_name = "TEXT", requires = "will_topic", allow_hyphen_values = true, help_heading = WILL)]
    will_payload: Option<String>,
    /// Its quality of service.
    #[arg(long, value_name = "QOS", default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=2), help_heading = WILL)]
    will_qos: u8,
    /// It is retained.
    #[arg(long, requires = "will_topic", help_heading = WILL)]
    will_retain: bool,
    /// Show the packets that go and come.
    #[arg(short, long)]
    debug: bool,
    /// No messages about what went wrong; the exit code has it.
    #[arg(long)]
    pub quiet: bool,
    #[command(flatten)]
    tls: tls::TlsOptions,
    /// Print this help.
    #[arg(long, action = ArgAction::Help)]
    help: Option<bool>,
}

/// Where to connect and as whom.
#[derive(Debug)]
pub struct Target {
    /// The address.
    pub address: Address,
    /// TLS, where it was asked for.
    pub tls: Option<Tls>,
    /// MQTT version.
    pub version: Version,
    /// Client id; may be empty.
    pub client_id: String,
    /// Clean Session or Clean Start.
    pub clean: bool,
    /// Seconds; 0: off.
    pub keep_alive_s: u16,
    /// User name.
    pub username: Option<String>,
    /// Password.
    pub password: Option<String>,
    /// The will.
    pub will: Option<Will>,
    /// MQTT 5 properties of each packet.
    pub properties: Given,
    /// Show packets.
    pub debug: bool,
    /// Topic of the URL, where there is one.
    pub topic: Option<String>,
}

/// An address.
#[derive(Debug)]
pub enum Address {
    /// Name or address, port, and the address to send from.
    Tcp(String, u16, Option<IpAddr>),
    /// A Unix domain socket.
    Unix(PathBuf),
}

/// The will.
#[derive(Debug)]
pub struct Will {
    /// Topic.
    pub topic: String,
    /// Payload.
    pub payload: String,
    /// Quality of service.
    pub qos: QoS,
    /// Retained.
    pub retain: bool,
}

impl Options {
    /// What they come to, or what is wrong with them.
    pub fn target(self) -> Result<Target, String> {
        let by_url = self.url.as_ref().is_some_and(|url| url.starts_with("mqtts://"));
        let tls = self.tls.read(by_url)?;
        let mut properties = Given::read(&self.properties)?;
        // As with mosquitto_pub: properties are MQTT 5's.
        let version = if self.properties.is_empty() {
            self.protocol_version
        } else {
            Version::V5
        };
        let keep = self.disable_clean_session;
        if keep && self.id.is_none() && self.id_prefix.is_none() {
            return Err("a kept session (-c) needs a client id (-i)".to_owned());
        }
        if version == Version::V5 {
            let expiry = self.session_expiry.or(keep.then_some(NEVER));
            if let Some(seconds) =
                expiry.filter(|_| properties.connect.as_properties().session_expiry_s().is_none())
            {
                properties.connect.push(Property::SessionExpiryInterval(seconds));
            }
        }
        let port = self.port.unwrap_or(if tls.is_some() { 8883 } else { 1883 });
        let (address, login, topic) = address(self.unix, self.url.as_deref(), self.host, port, self.bind)?;
        let (of_url, secret_of_url) = login;
        let username = self.username.or(of_url);
        let password = self.password.or(secret_of_url);
        if password.is_some() && username.is_none() && version != Version::V5 {
            return Err("a password (-P) needs a user name (-u) before MQTT 5".to_owned());
        }
        Ok(Target {
            address,
            tls,
            version,
            client_id: client_id(version, self.id, self.id_prefix),
            clean: !keep,
            keep_alive_s: self.keepalive,
            username,
            password,
            will: will(
                self.will_topic,
                self.will_payload,
                self.will_qos,
                self.will_retain,
            )?,
            properties,
            debug: self.debug,
            topic,
        })
    }
}

type Login = (Option<String>, Option<String>);

fn address(
    unix: Option<PathBuf>,
    url: Option<&str>,
    host: String,
    port: u16,
    bind: Option<IpAddr>,
) -> Result<(Address, Login, Option<String>), String> {
    let none = (None, None);
    if let Some(path) = unix {
        return Ok((Address::Unix(path), none, None));
    }
    let Some(url) = url else {
        return Ok((Address::Tcp(host, port, bind), none, None));
    };
    let wrong =
        || format!("-L: write mqtt://[username[:password]@]host[:port]/topic, or mqtts://, not {url}");
    let plain = url.strip_prefix("mqtt://").map(|rest| (rest, 1883));
    let (rest, port) = plain
        .or_else(|| url.strip_prefix("mqtts://").map(|rest| (rest, 8883)))
        .ok_or_else(wrong)?;
    let (place, topic) = rest.split_once('/').ok_or_else(wrong)?;
    let (login, place) = match place.rsplit_once('@') {
        Some((login, place)) => (
            login
                .split_once(':')
                .map_or((Some(login), None), |(name, word)| (Some(name), Some(word))),
            place,
        ),
        None => ((None, None), place),
    };
    let (host, port) = match place.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, port.parse().map_err(|_| wrong())?),
        _ => (place, port),
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    if host.is_empty() {
        return Err(wrong());
    }
    let login = (login.0.map(str::to_owned), login.1.map(str::to_owned));
    let topic = Some(topic).filter(|topic| !topic.is_empty()).map(str::to_owned);
    Ok((Address::Tcp(host.to_owned(), port, bind), login, topic))
}

fn client_id(version: Version, id: Option<String>, prefix: Option<String>) -> String {
    let pid = std::process::id();
    match (id, prefix) {
        (Some(id), _) => id,
        (None, Some(prefix)) => format!("{prefix}{pid}"),
        // 3.1 knows no client without an id.
        (None, None) if version == Version::V31 => format!("forebay-{pid}"),
        (None, None) => String::new(),
    }
}

fn will(
    topic: Option<String>,
    payload: Option<String>,
    qos: u8,
    retain: bool,
) -> Result<Option<Will>, String> {
    let Some(topic) = topic else { return Ok(None) };
    topic::check_name(&topic)
        .map_err(|_| format!("--will-topic: \"{topic}\" is no topic; it may hold no '+' and no '#'"))?;
    Ok(Some(Will {
        topic,
        payload: payload.unwrap_or_default(),
        qos: QoS::try_from(qos).unwrap_or(QoS::AtMostOnce),
        retain,
    }))
}

fn version(text: &str) -> Result<Version, String> {
    match text {
        "mqttv31" | "31" | "3.1" => Ok(Version::V31),
        "mqttv311" | "311" | "3.1.1" => Ok(Version::V311),
        "mqttv5" | "mqttv50" | "5" | "5.0" => Ok(Version::V5),
        _ => Err("mqttv31, mqttv311 or mqttv5".to_owned()),
    }
}

fn expiry(text: &str) -> Result<u32, String> {
    match text {
        "-1" | "∞" => Ok(NEVER),
        _ => text.parse().map_err(|_| "seconds, or -1 for ever".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn of_url(url: &str) -> Result<(Address, Login, Option<String>), String> {
        address(None, Some(url), String::new(), 1, None)
    }

    #[test]
    fn a_url_has_all_in_one() {
        let (place, login, topic) = of_url("mqtt://me:p@ss@broker:1884/a/b").unwrap();
        assert!(matches!(place, Address::Tcp(host, 1884, None) if host == "broker"));
        assert_eq!(login, (Some("me".to_owned()), Some("p@ss".to_owned())));
        assert_eq!(topic.as_deref(), Some("a/b"));
        let (place, login, topic) = of_url("mqtt://[::1]/").unwrap();
        assert!(matches!(place, Address::Tcp(host, 1883, None) if host == "::1"));
        assert_eq!((login, topic), ((None, None), None));
        let (place, ..) = of_url("mqtts://broker/a").unwrap();
        assert!(matches!(place, Address::Tcp(host, 8883, None) if host == "broker"));
        for wrong in [
            "broker/a",
            "mqtt://broker",
            "mqtt:///a",
            "mqtt://broker:x/a",
            "mqttss://broker/a",
        ] {
            of_url(wrong).unwrap_err();
        }
    }

    #[test]
    fn versions_and_expiries_have_their_short_forms() {
        assert_eq!(version("5"), Ok(Version::V5));
        assert_eq!(version("mqttv31"), Ok(Version::V31));
        version("4").unwrap_err();
        assert_eq!(expiry("-1"), Ok(NEVER));
        assert_eq!(expiry("60"), Ok(60));
        expiry("-2").unwrap_err();
    }
}
