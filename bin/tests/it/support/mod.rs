//! What the cases stand on: a real Kafka, the binary as a process, clients that others wrote, and a small load of our own.

pub mod device;
pub mod forebay;
pub mod kafka;
pub mod process;
pub mod records;
pub mod tools;

use std::net::TcpListener;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// The top of the repository.
pub fn root() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// A port that the kernel says is free.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
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
