//! Stock rumqttd 0.20 on the port in its first argument, with a local link on `#` that reads and drops all: what the
//! literal shape "rumqttd and a subscriber in process" costs, for `forebay-bench compare`.

use std::net::SocketAddr;
use std::process::ExitCode;

use anyhow::{Context, Result};
use rumqttd::{Broker, Config, ConnectionSettings, Notification, RouterConfig, ServerSettings};

fn settings(port: u16) -> ServerSettings {
    ServerSettings {
        name: "mqtt".to_owned(),
        listen: SocketAddr::from(([127, 0, 0, 1], port)),
        tls: None,
        next_connection_delay_ms: 0,
        connections: ConnectionSettings {
            connection_timeout_ms: 60_000,
            max_payload_size: 1 << 20,
            max_inflight_count: 1000,
            auth: None,
            external_auth: None,
            dynamic_filters: false,
        },
    }
}

fn run() -> Result<()> {
    let port = std::env::args().nth(1).context("usage: stock-rumqttd PORT")?;
    let port: u16 = port.parse().context("no port")?;
    let config = Config {
        router: RouterConfig {
            max_connections: 20_010,
            max_outgoing_packet_count: 200,
            max_segment_size: 100 << 20,
            max_segment_count: 10,
            ..RouterConfig::default()
        },
        v4: Some([("1".to_owned(), settings(port))].into()),
        ..Config::default()
    };
    let mut broker = Broker::new(config);
    let (mut sender, mut receiver) = broker.link("reader")?;
    sender.subscribe("#")?;
    std::thread::spawn(move || {
        // Ends with the router, and with it the process.
        while let Ok(notification) = receiver.recv() {
            if let Some(Notification::Unschedule) = notification
                && receiver.ready().is_err()
            {
                return;
            }
        }
    });
    broker.start()?;
    Ok(())
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("stock-rumqttd: {error:#}");
            ExitCode::FAILURE
        }
    }
}
