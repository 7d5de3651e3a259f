//! Arguments that `pub` and `idle` have in common, and what they make of them.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use forebay_broker::codec::{QoS, Version};

use crate::client::net;
use crate::client::plan::Plan;
use crate::client::run::Run;
use crate::client::stats::{Live, Stats, percentiles};
use crate::client::stream::Tls;
use crate::seconds;

/// Where to connect, as whom, how.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// MQTT broker
    #[arg(long, default_value = "127.0.0.1:1883", value_name = "HOST:PORT")]
    pub broker: String,
    /// Connections, one device each
    #[arg(short = 'n', long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..), value_name = "N")]
    pub connections: u32,
    /// How long, from the time when all are connected
    #[arg(long = "for", default_value = "10s", value_parser = seconds, value_name = "TIME")]
    pub duration: Duration,
    /// Connections begun per second
    #[arg(long, default_value_t = 2000.0, value_name = "N")]
    pub connect_rate: f64,
    /// Start without those that could not connect by then
    #[arg(long, default_value = "60s", value_parser = seconds, value_name = "TIME")]
    pub connect_within: Duration,
    /// MQTT version: 3.1, 3.1.1 or 5
    #[arg(long, default_value = "3.1.1", value_parser = version, value_name = "V")]
    pub mqtt: Version,
    /// Device id; {n} is the device's number
    #[arg(long, default_value = "dev-{n}", value_name = "TEMPLATE")]
    pub device: String,
    /// Number of the first device
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub first: u32,
    /// Client id; {id} is the device id
    #[arg(long, default_value = "{id}", value_name = "TEMPLATE")]
    pub client_id: String,
    /// Keep-alive; 0: none
    #[arg(long, default_value_t = 60, value_name = "SECONDS")]
    pub keep_alive: u16,
    /// USER:PASSWORD of all devices
    #[arg(long, value_name = "USER:PASSWORD")]
    pub login: Option<String>,
    /// TLS; whatever certificate the broker shows is taken
    #[arg(long)]
    pub tls: bool,
    /// TLS; the broker's certificate must be of an authority in this file
    #[arg(long, value_name = "FILE")]
    pub cafile: Option<PathBuf>,
    /// Local addresses to connect from, in turn (default: the kernel's choice; on loopback a new one each 20,000)
    #[arg(long, value_name = "IP")]
    pub source: Vec<IpAddr>,
    /// Threads
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64), value_name = "N")]
    pub threads: u32,
    /// MQTT over WebSocket, at /mqtt
    #[arg(long)]
    pub websocket: bool,
    /// No progress lines
    #[arg(long, short)]
    pub quiet: bool,
}

fn version(text: &str) -> Result<Version> {
    Ok(match text {
        "3.1" | "31" => Version::V31,
        "3.1.1" | "311" | "4" => Version::V311,
        "5" | "5.0" => Version::V5,
        _ => bail!("3.1, 3.1.1 or 5"),
    })
}

impl Options {
    fn tls(&self) -> Result<Option<Tls>> {
        if !self.tls && self.cafile.is_none() {
            return Ok(None);
        }
        let host = self.broker.rsplit_once(':').map_or("", |(host, _)| host);
        Tls::new(net::resolve(&self.broker)?, host, self.cafile.as_deref()).map(Some)
    }

    /// A plan that only connects.
    pub fn plan(&self) -> Result<Plan> {
        let login = self
            .login
            .as_ref()
            .map(|login| login.split_once(':').context("--login takes USER:PASSWORD"));
        let login = login
            .transpose()?
            .map(|(user, password)| (user.to_owned(), password.to_owned()));
        Ok(Plan {
            connections: self.connections,
            first: self.first,
            device: self.device.clone(),
            topic: String::new(),
            client_id: self.client_id.clone(),
            run: format!("{:x}", SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis()),
            version: self.mqtt,
            qos: QoS::AtMostOnce,
            in_flight: 0,
            payload_bytes: 0,
            keep_alive_s: self.keep_alive,
            websocket: self.websocket,
            reconnect: false,
            login,
            tls: self.tls()?,
            subscribe: None,
            publish: false,
            count: u64::MAX,
            feed: None,
        })
    }

    /// A run of the plan.
    pub fn run(&self, plan: Plan, rate: f64, drain: Duration) -> Result<Arc<Run>> {
        Ok(Arc::new(Run {
            plan,
            broker: net::resolve(&self.broker)?,
            sources: self.source.clone(),
            threads: self.threads.min(self.connections),
            rate,
            connect_rate: self.connect_rate,
            duration: self.duration,
            drain,
            handshake: self.connect_within.min(Duration::from_secs(20)),
            connect_deadline: self.connect_within,
            origin: Instant::now(),
            start: OnceLock::new(),
            live: Live::default(),
        }))
    }
}

/// The lines on connections that `pub` and `idle` share.
pub fn print_connections(run: &Run, stats: &Stats) {
    println!(
        "connections made               {} of {}",
        stats.connects, run.plan.connections
    );
    println!("connects failed                {}", stats.connect_failures);
    println!("connections lost               {}", stats.disconnects);
    println!(
        "connect time                   {}",
        percentiles(&stats.connect_us)
    );
    if let Some(start) = run.start.get() {
        let took = start.saturating_duration_since(run.origin).as_secs_f64();
        println!("all connected after            {took:.2} s");
    }
    if let Some(failure) = &stats.last_failure {
        println!("last failure                   {failure}");
    }
}
