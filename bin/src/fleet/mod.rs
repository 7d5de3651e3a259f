//! Simulated devices and what becomes of their messages: shared by `demo` and `verify`.
//!
//! Each device numbers its messages from 0 and publishes them at its rate, many on their way at once. One whose
//! connection is lost connects again, its session kept, and sends again what was not acknowledged. All runs on one
//! thread. [`tally`] compares what was promised with what [`watch`] finds in Kafka.

mod client;
mod device;
pub mod tally;
pub mod watch;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use forebay_broker::codec::{QoS, Version};
use tokio::signal::unix::{SignalKind, signal};

use tally::Tally;

/// What the devices do.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Where they connect, `host:port`.
    pub broker: String,
    /// User name and password of all.
    pub login: Option<(String, String)>,
    /// The versions they speak, in turn.
    pub versions: Vec<Version>,
    /// Number of devices.
    pub devices: u32,
    /// Time from one publish of a device to its next.
    pub period: Duration,
    /// Quality of service.
    pub qos: QoS,
    /// Unacknowledged publishes of a device at which it waits.
    pub window: u16,
    /// At the end: longest wait for acknowledgements.
    pub drain: Duration,
}

/// What the devices say.
pub trait Messages: Send + Sync + 'static {
    /// Name of a device: its client id.
    fn name(&self, device: u32) -> String;
    /// Topic of a device.
    fn topic(&self, device: u32) -> String;
    /// Payload of a device's message, the same each time it is asked for.
    fn payload(&self, device: u32, number: u64) -> Vec<u8>;
}

/// The tally, shared with the one who watches Kafka. Nothing is held up by it: a few counts each.
pub type SharedTally = Arc<Mutex<Tally>>;

/// Locks the tally. Counts stay right when a thread that held it has died, so that is no reason to give up.
pub fn lock(tally: &SharedTally) -> std::sync::MutexGuard<'_, Tally> {
    tally.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Running devices.
pub struct Fleet {
    stop: tokio::sync::watch::Sender<bool>,
    thread: JoinHandle<()>,
}

impl Fleet {
    /// Starts them. `interrupted` is set at Ctrl-C or SIGTERM.
    pub fn start(
        plan: Plan,
        messages: Arc<dyn Messages>,
        tally: &SharedTally,
        interrupted: &Arc<AtomicBool>,
    ) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let (stop, stopped) = tokio::sync::watch::channel(false);
        let (tally, interrupted) = (tally.clone(), interrupted.clone());
        let plan = Arc::new(plan);
        let work = move || {
            runtime.block_on(async move {
                tokio::spawn(interrupt(interrupted));
                let mut devices = tokio::task::JoinSet::new();
                for number in 0..plan.devices {
                    let device = device::Device::new(number, &plan, &messages, &tally);
                    devices.spawn(device.run(stopped.clone()));
                }
                while devices.join_next().await.is_some() {}
            });
        };
        let thread = std::thread::Builder::new()
            .name("devices".to_owned())
            .spawn(work)?;
        Ok(Self { stop, thread })
    }

    /// Nothing new is published; what is on its way is waited for, as long as the plan says, while `meanwhile` is
    /// called over and over.
    pub fn stop(self, mut meanwhile: impl FnMut()) {
        let _ = self.stop.send(true);
        while !self.thread.is_finished() {
            meanwhile();
        }
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
