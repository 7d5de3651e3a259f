//! What the kernel says of this process, as metrics under their standard names.

use std::fmt::Write;
use std::path::Path;

/// Ticks of the kernel's accounting in a second: USER_HZ, 100 on every Linux that Rust runs on.
const TICKS_PER_SECOND: f64 = 100.0;

/// Appends the metrics in Prometheus' text format. What can't be read is left out.
pub fn render(out: &mut String) {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let uptime = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let boot = uptime
        .lines()
        .find_map(|line| line.strip_prefix("btime ")?.parse::<f64>().ok());
    let mut put = |name: &str, kind: &str, help: &str, value: Option<f64>| {
        if let Some(value) = value {
            // Writing to a String does not fail.
            let _ = writeln!(
                out,
                "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}\n"
            );
        }
    };
    let cpu = field(&stat, 11)
        .zip(field(&stat, 12))
        .map(|(user, system)| (user + system) / TICKS_PER_SECOND);
    let start = field(&stat, 19)
        .zip(boot)
        .map(|(ticks, boot)| boot + ticks / TICKS_PER_SECOND);
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    put(
        "process_cpu_seconds_total",
        "counter",
        "CPU time of this process, user and system",
        cpu,
    );
    put(
        "process_start_time_seconds",
        "gauge",
        "Start of this process, seconds since 1970",
        start,
    );
    put(
        "process_resident_memory_bytes",
        "gauge",
        "Memory of this process that is in RAM",
        kib(&status, "VmRSS:"),
    );
    put(
        "process_virtual_memory_bytes",
        "gauge",
        "Address space of this process",
        kib(&status, "VmSize:"),
    );
    put(
        "process_threads",
        "gauge",
        "Threads of this process",
        field(&stat, 17),
    );
    put(
        "process_open_fds",
        "gauge",
        "Open files and sockets",
        open_files(Path::new("/proc/self/fd")),
    );
    put(
        "process_max_fds",
        "gauge",
        "Greatest number of open files and sockets",
        limit.map(|limit| limit as f64),
    );
}

/// Field `index` of /proc/self/stat, counted after the name in parentheses, which may hold blanks.
fn field(stat: &str, index: usize) -> Option<f64> {
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(index)?.parse().ok()
}

fn kib(status: &str, name: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace()
        .next()?
        .parse::<f64>()
        .ok()
        .map(|kib| kib * 1024.0)
}

fn open_files(dir: &Path) -> Option<f64> {
    std::fs::read_dir(dir).ok().map(|entries| entries.count() as f64)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_metric_is_there_and_plausible() {
        let mut out = String::new();
        render(&mut out);
        let value = |name: &str| -> f64 {
            let line = out.lines().find(|line| line.starts_with(&format!("{name} ")));
            line.unwrap_or_else(|| panic!("{name} in {out}"))
                .rsplit_once(' ')
                .unwrap()
                .1
                .parse()
                .unwrap()
        };
        assert!(value("process_resident_memory_bytes") > 100_000.0);
        assert!(value("process_virtual_memory_bytes") >= value("process_resident_memory_bytes"));
        assert!(value("process_open_fds") >= 3.0);
        assert!(value("process_max_fds") >= value("process_open_fds"));
        assert!(value("process_threads") >= 1.0);
        assert!(value("process_cpu_seconds_total") >= 0.0);
        let now = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap()
            .as_secs_f64();
        assert!((now - value("process_start_time_seconds")).abs() < 3600.0);
    }

    #[test]
    fn a_name_with_blanks_and_parentheses_does_not_shift_the_fields() {
        assert_eq!(field("1 (a) b) S 7 8", 1), Some(7.0));
    }
}
