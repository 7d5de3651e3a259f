//! The machine that all is measured on: what it is, and what its disk can do.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

const MB: usize = 1_000_000;
/// One sync of the disk's watch, and how often there is one.
const SYNC_BYTES: usize = 64 * 1024;
const EVERY: Duration = Duration::from_millis(40);
/// The file that it writes to, round and round.
const WATCH_BYTES: usize = 16 << 20;
const RATE_BYTES: usize = 256 * MB;

/// Times of syncs, in milliseconds.
#[derive(Debug, Default, Clone, Copy)]
pub struct Disk {
    /// The median.
    pub p50: f64,
    /// One in a hundred was slower.
    pub p99: f64,
}

/// Syncs while a broker has work.
pub struct Watch {
    end: Arc<AtomicBool>,
    thread: JoinHandle<Vec<f64>>,
}

/// A file in the folder of the brokers' data, its blocks written once: as the spool's segments are.
fn prepared(bytes: usize) -> Result<File> {
    let file = tempfile::tempfile()?;
    let block = vec![0; 4 * MB];
    let mut at = 0;
    while at < bytes {
        let part = block.get(..block.len().min(bytes - at)).unwrap_or_default();
        file.write_all_at(part, at as u64)?;
        at += part.len();
    }
    file.sync_data()?;
    Ok(file)
}

/// MB/s that the disk takes in groups of 4 MB, each synced.
pub fn disk_rate() -> Result<f64> {
    let file = prepared(RATE_BYTES)?;
    let block = vec![b'x'; 4 * MB];
    let start = Instant::now();
    for at in (0..RATE_BYTES).step_by(block.len()) {
        file.write_all_at(&block, at as u64)?;
        file.sync_data()?;
    }
    Ok((RATE_BYTES / MB) as f64 / start.elapsed().as_secs_f64())
}

/// Begins to sync 64 KiB now and then: what the disk gives in the same run.
pub fn watch_disk() -> Result<Watch> {
    let file = prepared(WATCH_BYTES)?;
    let end = Arc::new(AtomicBool::new(false));
    let stop = Arc::clone(&end);
    let work = move || {
        let block = vec![b'x'; SYNC_BYTES];
        let mut times = Vec::new();
        for at in (0..WATCH_BYTES).step_by(SYNC_BYTES).cycle() {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            let start = Instant::now();
            if file
                .write_all_at(&block, at as u64)
                .and_then(|()| file.sync_data())
                .is_err()
            {
                break;
            }
            times.push(start.elapsed().as_secs_f64() * 1e3);
            std::thread::sleep(EVERY);
        }
        times
    };
    let thread = std::thread::Builder::new().name("disk".to_owned()).spawn(work);
    Ok(Watch {
        end,
        thread: thread.context("thread")?,
    })
}

impl Watch {
    /// What it saw.
    pub fn end(self) -> Disk {
        self.end.store(true, Ordering::Relaxed);
        let mut times = self.thread.join().unwrap_or_default();
        times.sort_by(f64::total_cmp);
        let at = |share: f64| times.get((times.len() as f64 * share) as usize).copied();
        Disk {
            p50: at(0.5).unwrap_or_default(),
            p99: at(0.99).unwrap_or_default(),
        }
    }
}

/// Bytes of a binary without its symbols, where binutils are there to tell.
pub fn stripped_bytes(binary: &Path) -> Result<u64> {
    let bare = tempfile::NamedTempFile::new()?;
    let done = Command::new("strip")
        .arg("-o")
        .arg(bare.path())
        .arg(binary)
        .status();
    let path = match done {
        Ok(status) if status.success() => bare.path(),
        _ => binary,
    };
    Ok(std::fs::metadata(path)?.len())
}

/// Cores, memory, kernel and day.
pub fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let memory = read("/proc/meminfo");
    let kib: u64 = memory
        .split_whitespace()
        .nth(1)
        .and_then(|word| word.parse().ok())
        .unwrap_or_default();
    let kernel = read("/proc/sys/kernel/osrelease");
    let day = Command::new("date").arg("+%F").output();
    let day = day.map_or(String::new(), |output| {
        String::from_utf8_lossy(&output.stdout).into_owned()
    });
    format!(
        "{cores} cores that brokers, Kafka and generator share, {} GiB, Linux {}, {}",
        kib.div_ceil(1 << 20),
        kernel.trim(),
        day.trim()
    )
}

fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}
