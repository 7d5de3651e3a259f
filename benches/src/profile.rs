//! `forebay-bench profile`: where a Forebay's CPU time goes, by room. Takes samples with Linux's perf, and puts each down to a room by
//! its thread, the system call that it is in, and the function.

use std::collections::BTreeMap;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::{admin, seconds};

/// Arguments of `profile`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example, while a load runs:
  forebay-bench profile --pid $(pidof forebay) --admin 127.0.0.1:9464 --for 8s

Prints ns of CPU per publish by room, and the functions that took most. Needs perf, and symbols in the binary.")]
pub struct Args {
    /// The broker's process
    #[arg(long)]
    pid: u32,
    /// Its admin address: publishes are counted there
    #[arg(long, value_name = "HOST:PORT")]
    admin: String,
    /// How long
    #[arg(long = "for", default_value = "8s", value_parser = seconds, value_name = "TIME")]
    duration: Duration,
    /// Functions to show
    #[arg(long, default_value_t = 25, value_name = "N")]
    top: usize,
}

/// Where CPU time goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Room {
    Socket,
    Session,
    Chunk,
    Bus,
    Spool,
    Store,
    Sink,
    Kafka,
    Other,
}

impl Room {
    fn name(self) -> &'static str {
        match self {
            Self::Socket => "socket: read, write, epoll",
            Self::Session => "connection and session: framing, codec, rules, acknowledgement",
            Self::Chunk => "record into the chunk",
            Self::Bus => "bus: router, links, wake-ups",
            Self::Spool => "spool: write and fdatasync",
            Self::Store => "store",
            Self::Sink => "sink: read, route, render, window, reports",
            Self::Kafka => "librdkafka",
            Self::Other => "other",
        }
    }
}

/// One sample: its thread, and its stack from the innermost function on.
#[derive(Debug, Default)]
struct Sample {
    thread: String,
    stack: Vec<(String, bool)>,
}

impl Sample {
    fn room(&self) -> Room {
        let home = home(&self.thread);
        let leaf = self.stack.first();
        let in_kernel = leaf.is_some_and(|(_, kernel)| *kernel);
        if home == Room::Kafka {
            return home;
        }
        if !in_kernel {
            let name = leaf.map_or("", |(name, _)| name);
            return of_function(name, home).unwrap_or(home);
        }
        let call = self
            .stack
            .iter()
            .filter(|(_, kernel)| *kernel)
            .find_map(|(name, _)| name.split_once("sys_").map(|(_, call)| call));
        let call = call.unwrap_or_default();
        let is_sync = ["fdatasync", "fsync", "pwrite"]
            .iter()
            .any(|name| call.starts_with(name));
        match home {
            _ if is_sync => Room::Spool,
            Room::Session if call.starts_with("futex") => Room::Bus,
            // What arrives meanwhile is taken in on whatever thread runs.
            Room::Session => Room::Socket,
            _ => home,
        }
    }
}

/// Whose the thread is, as far as its functions do not say otherwise.
fn home(thread: &str) -> Room {
    let known = [
        ("worker-", Room::Session),
        ("bus-reader", Room::Spool),
        ("spool", Room::Spool),
        ("rumqttd", Room::Bus),
        ("router", Room::Bus),
        ("store", Room::Store),
        ("forebay-sink", Room::Sink),
        ("forebay-topics", Room::Sink),
        ("rdk:", Room::Kafka),
    ];
    let found = known.iter().find(|(start, _)| thread.starts_with(start));
    found.map_or(Room::Other, |(_, room)| *room)
}

fn of_function(name: &str, home: Room) -> Option<Room> {
    let known = [
        ("rd_kafka", Room::Kafka),
        ("rdkafka", Room::Kafka),
        ("forebay_sink", Room::Sink),
        ("rumqttd", Room::Bus),
        ("flume", Room::Bus),
        ("forebay_broker::spool", Room::Spool),
        ("crc32c", Room::Spool),
        ("forebay_broker::bus::chunk", Room::Chunk),
        ("forebay_broker::record", Room::Chunk),
        ("forebay_broker::bus", Room::Bus),
        ("forebay_broker::store", Room::Store),
    ];
    let (_, room) = known.iter().find(|(part, _)| name.contains(part))?;
    // The sink reads records and chunks; that is its own work.
    let reads = *room == Room::Chunk && home != Room::Session;
    Some(if reads { home } else { *room })
}

/// Reads what `perf script -F comm,ip,sym,dso` prints.
fn parse(text: &str) -> Vec<Sample> {
    let mut all = Vec::new();
    for block in text.split("\n\n") {
        let mut lines = block.lines().filter(|line| !line.is_empty());
        let Some(head) = lines.next() else { continue };
        let stack = lines.filter_map(|line| {
            let (_, rest) = line.trim().split_once(' ')?;
            let (name, object) = rest.rsplit_once(" (")?;
            Some((
                name.to_owned(),
                object.starts_with("[kernel") || object.starts_with("[guest"),
            ))
        });
        all.push(Sample {
            thread: head.trim().to_owned(),
            stack: stack.collect(),
        });
    }
    all
}

fn publishes(args: &Args) -> Result<f64> {
    let metrics = admin::get(&args.admin, "/metrics")?;
    let counts = metrics.lines().filter_map(|line| {
        line.strip_prefix("forebay_publishes_received_total{")?
            .split_once("} ")
    });
    Ok(counts
        .filter_map(|(_, count)| count.trim().parse::<f64>().ok())
        .sum())
}

/// Runs it, prints the tables.
pub fn run(args: &Args) -> Result<ExitCode> {
    const HZ: f64 = 997.0;
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("perf.data");
    let pid = args.pid.to_string();
    let before = publishes(args)?;
    let status = Command::new("perf")
        .args([
            "record",
            "-q",
            "-e",
            "cpu-clock",
            "-F",
            "997",
            "-g",
            "-p",
            &pid,
            "-o",
        ])
        .arg(&file)
        .args(["--", "sleep", &args.duration.as_secs_f64().to_string()])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .context("perf (Debian: linux-perf)")?;
    let count = publishes(args)? - before;
    ensure!(status.success(), "perf record: {status}");
    ensure!(count > 0.0, "nothing was published meanwhile");
    let output = Command::new("perf")
        .args(["script", "--no-inline", "-F", "comm,ip,sym,dso", "-i"])
        .arg(&file)
        .output()?;
    let samples = parse(&String::from_utf8_lossy(&output.stdout));
    let each_ns = 1e9 / HZ / count;
    print_tables(&samples, each_ns, args.top);
    println!("\n{count:.0} publishes, {} samples", samples.len());
    Ok(ExitCode::SUCCESS)
}

fn print_tables(samples: &[Sample], each_ns: f64, top: usize) {
    let mut rooms: BTreeMap<Room, u64> = BTreeMap::new();
    let mut functions: BTreeMap<(Room, &str), u64> = BTreeMap::new();
    for sample in samples {
        let room = sample.room();
        *rooms.entry(room).or_default() += 1;
        let name = sample.stack.first().map_or("?", |(name, _)| name.as_str());
        *functions.entry((room, name)).or_default() += 1;
    }
    println!("| room | ns per publish |\n|---|---:|");
    for (room, count) in &rooms {
        println!("| {} | {:.0} |", room.name(), *count as f64 * each_ns);
    }
    println!("| all | {:.0} |\n", samples.len() as f64 * each_ns);
    let mut functions: Vec<_> = functions.into_iter().collect();
    functions.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    for ((room, name), count) in functions.iter().take(top) {
        println!("{:8.0} ns  {room:?}  {name}", *count as f64 * each_ns);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_is_put_down_to_its_room() {
        let text = "worker-0 \n\tffff tcp_sendmsg ([kernel.kallsyms])\n\tffff __x64_sys_sendto ([kernel.kallsyms])\n\t55 send (/lib/libc.so.6)\n\n\
                    worker-1 \n\t55 forebay_broker::bus::chunk::ChunkBuilder::push (/bin/forebay)\n\n\
                    forebay-sink \n\t55 forebay_broker::record::Record::read (/bin/forebay)\n\n\
                    bus-reader \n\tffff nvme_queue_rq ([kernel.kallsyms])\n\tffff __do_sys_fdatasync ([kernel.kallsyms])\n\n\
                    rdk:broker1 \n\t55 memcpy (/lib/libc.so.6)\n\n\
                    worker-0 \n\t55 memcpy (/lib/libc.so.6)\n\n\
                    worker-0 \n\tffff try_to_wake_up ([kernel.kallsyms])\n\tffff __x64_sys_futex ([kernel.kallsyms])\n";
        let rooms: Vec<Room> = parse(text).iter().map(Sample::room).collect();
        assert_eq!(
            rooms,
            [
                Room::Socket,
                Room::Chunk,
                Room::Sink,
                Room::Spool,
                Room::Kafka,
                Room::Session,
                Room::Bus
            ]
        );
    }
}
