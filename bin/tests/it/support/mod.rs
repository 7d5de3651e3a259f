//! What the cases stand on: a real Kafka, the binary as a process, clients that others wrote, and a small load of our own.

pub mod audit;
pub mod certificates;
pub mod chance;
pub mod cluster;
pub mod device;
pub mod forebay;
pub mod kafka;
pub mod process;
pub mod records;
pub mod tools;
pub mod wire;

use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

/// The top of the repository.
pub fn root() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// A port that nobody has now, outside of those that the kernel gives to clients: a process that ends and comes back
/// would find its port taken by one of them.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    loop {
        let turn = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = 10_000 + (std::process::id() as u16 % 200 * 100 + turn) % 20_000;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// Looks until `probe` gives something; fails the test after `within`.
pub fn wait_for<T>(what: &str, within: Duration, mut probe: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + within;
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what}: not within {within:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Runs a future on a runtime of its own, with a deadline.
pub fn block_on<T>(within: Duration, future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        tokio::time::timeout(within, future)
            .await
            .unwrap_or_else(|_| panic!("not done within {within:?}"))
    })
}

/// The arguments of a command, as strings.
#[macro_export]
macro_rules! args {
    ($($arg:expr),* $(,)?) => { [$($arg.to_string()),*] };
}
