//! Simulated devices: each publishes its readings with QoS 1, one after the other, on one thread of their own.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use forebay_broker::codec::Version;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::client::Client;
use super::tally::Tally;

/// Wait before a device connects again.
const AGAIN: Duration = Duration::from_millis(500);

/// The tally, shared with the one who watches Kafka. Nothing is held up by it: a few counts each.
pub type SharedTally = Arc<Mutex<Tally>>;

/// Locks the tally. Counts stay right when a thread that held it has died, so that is no reason to give up.
pub fn lock(tally: &SharedTally) -> std::sync::MutexGuard<'_, Tally> {
    tally.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Running devices.
pub struct Devices {
    stop: watch::Sender<bool>,
    thread: JoinHandle<()>,
}

/// Name of a device: its client id, the level in its topic, and the key of its records.
pub fn name(device: u16) -> String {
    format!("device-{device:02}")
}

/// The device and the number of a message, from its key and payload; `None` when it is none of the devices'.
pub fn parse(key: &[u8], payload: &[u8]) -> Option<(u16, u64)> {
    let device = std::str::from_utf8(key)
        .ok()?
        .strip_prefix("device-")?
        .parse()
        .ok()?;
    let rest = std::str::from_utf8(payload).ok()?.strip_prefix("{\"seq\":")?;
    let (number, _) = rest.split_once(',')?;
    Some((device, number.parse().ok()?))
}

fn payload(device: u16, number: u64) -> String {
    // A reading that wanders a little, so that the lines do not all look the same.
    let wave = ((number as f64 / 7.0) + f64::from(device)).sin();
    format!("{{\"seq\":{number},\"celsius\":{:.1}}}", 21.0 + 3.0 * wave)
}

impl Devices {
    /// Starts `count` devices that publish `rate` times a second each. `interrupted` is set at Ctrl-C or SIGTERM.
    pub fn start(
        address: SocketAddr,
        count: u16,
        rate: u16,
        tally: &SharedTally,
        interrupted: &Arc<AtomicBool>,
    ) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let (stop, stopped) = watch::channel(false);
        let period = Duration::from_secs(1) / u32::from(rate.max(1));
        let (tally, interrupted) = (tally.clone(), interrupted.clone());
        let work = move || {
            runtime.block_on(async move {
                tokio::spawn(interrupt(interrupted));
                let mut devices = tokio::task::JoinSet::new();
                for device in 0..count {
                    // Spread over a period, as real ones would be.
                    let offset = period * u32::from(device) / u32::from(count);
                    devices.spawn(run(
                        device,
                        address,
                        offset,
                        period,
                        tally.clone(),
                        stopped.clone(),
                    ));
                }
                while devices.join_next().await.is_some() {}
            });
        };
        let thread = std::thread::Builder::new()
            .name("devices".to_owned())
            .spawn(work)?;
        Ok(Self { stop, thread })
    }

    /// Lets each device finish the message it is at.
    pub fn stop(self) {
        let _ = self.stop.send(true);
        let _ = self.thread.join();
    }
}

async fn interrupt(interrupted: Arc<AtomicBool>) {
    let Ok(mut terminate) = signal(SignalKind::terminate()) else {
        return;
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
    interrupted.store(true, Ordering::Relaxed);
}

async fn run(
    device: u16,
    address: SocketAddr,
    offset: Duration,
    period: Duration,
    tally: SharedTally,
    mut stopped: watch::Receiver<bool>,
) {
    sleep(offset).await;
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // Both kinds of device come to one port.
    let version = if device.is_multiple_of(2) {
        Version::V311
    } else {
        Version::V5
    };
    let (name, topic) = (name(device), format!("devices/{}/telemetry", name(device)));
    let mut client = None;
    let mut open: Option<u64> = None;
    loop {
        if open.is_none() {
            tokio::select! {
                _ = ticks.tick() => open = Some(lock(&tally).publish(device)),
                _ = stopped.changed() => break,
            }
        }
        let Some(number) = open else { continue };
        match publish(
            &mut client,
            address,
            version,
            (&name, &topic),
            &payload(device, number),
        )
        .await
        {
            Ok(()) => {
                lock(&tally).acknowledge(device, number);
                open = None;
            }
            Err(error) => {
                // As a real device would: connect again and send the same message again.
                tracing::warn!(device = name, %error, "publishing failed, trying again");
                client = None;
                tokio::select! {
                    () = sleep(AGAIN) => {}
                    _ = stopped.changed() => break,
                }
            }
        }
    }
    if let Some(client) = client {
        let _ = client.disconnect().await;
    }
}

async fn publish(
    client: &mut Option<Client>,
    address: SocketAddr,
    version: Version,
    (name, topic): (&str, &str),
    payload: &str,
) -> anyhow::Result<()> {
    if client.is_none() {
        *client = Some(Client::connect(address, version, name).await?);
    }
    match client {
        Some(client) => client.publish(topic, payload.as_bytes()).await,
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_says_whose_it_is() {
        assert_eq!(
            parse(name(7).as_bytes(), payload(7, 42).as_bytes()),
            Some((7, 42))
        );
        assert_eq!(parse(b"my-device", b"hello"), None);
        assert_eq!(parse(name(7).as_bytes(), b"hello"), None);
        assert_eq!(parse(b"device-\xff", b"{\"seq\":1,"), None);
    }
}
