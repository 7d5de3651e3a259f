//! `forebay-bench watch`: what a process uses, second by second, and whether its memory grows.

use std::fs;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::seconds;

/// Clock ticks of /proc per second: fixed in Linux's interface on all but two dead architectures.
const TICKS_PER_SECOND: f64 = 100.0;

/// Arguments of `watch`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  forebay-bench watch --pid $(pidof forebay) --for 60s
  forebay-bench watch --pid 1234 --for 60s --messages 1200000   # CPU microseconds per message

Ends early when the process does. The slope of RSS leaves out the first third, in which memory still fills up.")]
pub struct Args {
    /// Process to watch
    #[arg(long)]
    pid: u32,
    /// How long
    #[arg(long = "for", default_value = "60s", value_parser = seconds, value_name = "TIME")]
    duration: Duration,
    /// Between two samples
    #[arg(long, default_value = "1s", value_parser = seconds, value_name = "TIME")]
    every: Duration,
    /// Messages handled meanwhile, for the cost of one
    #[arg(long, value_name = "N")]
    messages: Option<u64>,
    /// No table, the summary only
    #[arg(long)]
    quiet: bool,
    /// Exit code 1 when RSS grows by more than this in the last two thirds
    #[arg(long, value_name = "MIB")]
    max_growth_mib: Option<f64>,
}

/// What a process uses at one time.
#[derive(Debug, Clone, Copy)]
pub struct Sample {
    /// Seconds since the first sample.
    pub at_s: f64,
    /// CPU seconds, user and system, since its start.
    pub cpu_s: f64,
    /// Resident memory in KiB.
    pub rss_kib: f64,
    /// Threads.
    pub threads: u64,
    /// Open files; none where they may not be looked at.
    pub files: Option<usize>,
}

/// Looks at a process.
pub fn sample(pid: u32, since: Instant) -> Result<Sample> {
    let stat =
        fs::read_to_string(format!("/proc/{pid}/stat")).with_context(|| format!("no process {pid}"))?;
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let ticks = cpu_ticks(&stat).with_context(|| format!("/proc/{pid}/stat: {stat}"))?;
    Ok(Sample {
        at_s: since.elapsed().as_secs_f64(),
        cpu_s: ticks as f64 / TICKS_PER_SECOND,
        rss_kib: field(&status, "VmRSS:").unwrap_or_default() as f64,
        threads: field(&status, "Threads:").unwrap_or_default(),
        files: fs::read_dir(format!("/proc/{pid}/fd")).ok().map(Iterator::count),
    })
}

/// Bytes that a process has had written to disk; none where it may not be looked at.
pub fn written(pid: u32) -> Option<u64> {
    field(
        &fs::read_to_string(format!("/proc/{pid}/io")).ok()?,
        "write_bytes:",
    )
}

/// Seconds in which the machine's cores had work, over all of them, since its start.
pub fn busy_s() -> Option<f64> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    let mut ticks = stat.lines().next()?.split_whitespace().skip(1);
    let mut sum = 0;
    for place in 0..8 {
        let ticks: u64 = ticks.next()?.parse().ok()?;
        // The fourth and fifth are idle and waiting for a disk.
        sum += if matches!(place, 3 | 4) { 0 } else { ticks };
    }
    Some(sum as f64 / TICKS_PER_SECOND)
}

/// utime and stime: fields 14 and 15, counted from the name's closing bracket, for the name may hold anything.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

fn field(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Least-squares slope of y over x; none with less than two different x.
pub fn slope(points: &[(f64, f64)]) -> Option<f64> {
    let count = points.len() as f64;
    let (sum_x, sum_y) = points
        .iter()
        .fold((0.0, 0.0), |(x, y), point| (x + point.0, y + point.1));
    let (mean_x, mean_y) = (sum_x / count, sum_y / count);
    let spread: f64 = points.iter().map(|point| (point.0 - mean_x).powi(2)).sum();
    let rise: f64 = points
        .iter()
        .map(|point| (point.0 - mean_x) * (point.1 - mean_y))
        .sum();
    (points.len() > 1 && spread > 0.0).then(|| rise / spread)
}

/// Samples, prints, sums up.
pub fn run(args: &Args) -> Result<ExitCode> {
    let since = Instant::now();
    let mut samples = vec![sample(args.pid, since)?];
    if !args.quiet {
        println!(
            "{:>7} {:>7} {:>9} {:>8} {:>7}",
            "s", "CPU %", "RSS MiB", "threads", "files"
        );
    }
    while since.elapsed() < args.duration {
        let next = args.every * u32::try_from(samples.len()).unwrap_or(u32::MAX);
        std::thread::sleep(next.min(args.duration).saturating_sub(since.elapsed()));
        let Ok(now) = sample(args.pid, since) else {
            println!("the process has ended");
            break;
        };
        if let Some(last) = samples.last().filter(|_| !args.quiet) {
            let cpu = 100.0 * (now.cpu_s - last.cpu_s) / (now.at_s - last.at_s).max(0.001);
            let files = now.files.map_or("-".to_owned(), |files| files.to_string());
            println!(
                "{:7.1} {cpu:7.1} {:9.1} {:8} {files:>7}",
                now.at_s,
                now.rss_kib / 1024.0,
                now.threads
            );
        }
        samples.push(now);
    }
    Ok(sum_up(args, &samples))
}

fn sum_up(args: &Args, samples: &[Sample]) -> ExitCode {
    let (Some(first), Some(last)) = (samples.first(), samples.last()) else {
        return ExitCode::FAILURE;
    };
    let (cpu_s, took_s) = (last.cpu_s - first.cpu_s, last.at_s - first.at_s);
    println!("watched                        {took_s:.1} s");
    println!(
        "CPU                            {cpu_s:.2} s, {:.1} %",
        100.0 * cpu_s / took_s.max(0.001)
    );
    if let Some(messages) = args.messages.filter(|&messages| messages > 0) {
        println!(
            "CPU per message                {:.3} us",
            1e6 * cpu_s / messages as f64
        );
    }
    let mib = || samples.iter().map(|sample| sample.rss_kib / 1024.0);
    println!(
        "RSS min                        {:.1} MiB",
        mib().fold(f64::INFINITY, f64::min)
    );
    println!(
        "RSS max                        {:.1} MiB",
        mib().fold(0.0, f64::max)
    );
    let late = samples.iter().filter(|sample| sample.at_s >= took_s / 3.0);
    let points: Vec<(f64, f64)> = late
        .map(|sample| (sample.at_s, sample.rss_kib / 1024.0))
        .collect();
    let Some(per_second) = slope(&points) else {
        return ExitCode::SUCCESS;
    };
    let growth = per_second * took_s * 2.0 / 3.0;
    println!(
        "RSS slope                      {:+.2} MiB/min ({growth:+.2} MiB in the last two thirds)",
        per_second * 60.0
    );
    let grows = args.max_growth_mib.is_some_and(|most| growth > most);
    if grows {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_can_be_looked_at() {
        let sample = sample(std::process::id(), Instant::now()).unwrap();
        assert!(sample.rss_kib > 100.0 && sample.threads >= 1 && sample.files.unwrap() >= 3);
        assert!(written(std::process::id()).is_some() && busy_s().unwrap() > 0.0);
    }

    #[test]
    fn a_name_with_brackets_and_blanks_does_not_shift_the_fields() {
        let stat = "7 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 30 12 0 0";
        assert_eq!(cpu_ticks(stat), Some(42));
    }

    #[test]
    fn the_slope_is_that_of_the_line() {
        let line: Vec<_> = (0..10)
            .map(|x| (f64::from(x), 3.0 - 0.5 * f64::from(x)))
            .collect();
        assert!((slope(&line).unwrap() + 0.5).abs() < 1e-9);
        assert_eq!(slope(&line[..1]), None);
        assert_eq!(slope(&[]), None);
    }
}
