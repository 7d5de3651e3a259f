//! `forebay-bench size`: what so many devices need, computed from measured costs. docs/sizing.md is written by it.

use std::fmt::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};

/// The tables in the file stand between these.
const BEGIN: &str = "<!-- size: written by `forebay-bench size --write` -->";
const END: &str = "<!-- size: end -->";

/// What was measured, on one core of the machine that docs/benchmarks.md names.
mod cost {
    /// CPU of a message that has a read and a wake-up to itself, Kafka and fsync included.
    pub const MESSAGE_US: f64 = 28.0;
    /// CPU of a message of a device that sends many at once.
    pub const DENSE_US: f64 = 3.0;
    /// CPU of a ping.
    pub const PING_US: f64 = 10.7;
    /// CPU of a connection that is made, without TLS.
    pub const CONNECT_US: f64 = 40.0;
    /// Memory of an idle connection with one subscription.
    pub const CONNECTION_KIB: f64 = 1.6;
    /// Memory of the kernel for its socket.
    pub const SOCKET_KIB: f64 = 4.4;
    /// Memory of a process without connections, and of what is on its way to Kafka at most.
    pub const PROCESS_MIB: f64 = 128.0;
    /// Bytes of a record in the spool beyond payload, topic and client id, headers of chunk and group included.
    pub const RECORD_BYTES: f64 = 40.0;
    /// What the last block of a group leaves empty.
    pub const PADDING: f64 = 1.1;
}

/// What is assumed; each can be given otherwise.
mod rule {
    /// Share of a core that is planned with: the rest is for peaks and for what waits after an outage.
    pub const LOAD: f64 = 0.5;
    /// Bytes a second that a partition is planned with.
    pub const PARTITION_BYTES: f64 = 5e6;
    /// Messages a second that a partition is planned with: what one consumer takes.
    pub const PARTITION_MESSAGES: f64 = 10_000.0;
    /// Fewest partitions.
    pub const PARTITIONS: f64 = 6.0;
    /// Connections of one node: above, a restart takes too many devices with it.
    pub const NODE_DEVICES: f64 = 500_000.0;
    /// Cores of one node.
    pub const NODE_CORES: f64 = 8.0;
}

/// Arguments of `size`.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "Examples:
  forebay-bench size --devices 250000 --every 30 --payload 300
  forebay-bench size --write docs/sizing.md

Without --devices: 10,000, 100,000, 1,000,000 and 10,000,000.")]
pub struct Args {
    /// Devices, each with one connection
    #[arg(long, value_delimiter = ',', default_values_t = [10_000u64, 100_000, 1_000_000, 10_000_000], value_name = "N")]
    devices: Vec<u64>,
    /// Seconds between two messages of a device
    #[arg(long, default_value_t = 10.0, value_name = "S")]
    every: f64,
    /// Bytes of a payload
    #[arg(long, default_value_t = 200.0, value_name = "BYTES")]
    payload: f64,
    /// Bytes of topic and client id
    #[arg(long, default_value_t = 45.0, value_name = "BYTES")]
    names: f64,
    /// Keep-alive of the devices, seconds
    #[arg(long, default_value_t = 60.0, value_name = "S")]
    keep_alive: f64,
    /// Seconds within which all are back after a restart
    #[arg(long, default_value_t = 60.0, value_name = "S")]
    back: f64,
    /// Hours without Kafka that the spool is to bridge
    #[arg(long, default_value_t = 4.0, value_name = "H")]
    outage: f64,
    /// Put the tables into this file, between its marks
    #[arg(long, value_name = "FILE")]
    write: Option<PathBuf>,
}

/// What so many devices need, over all nodes.
#[derive(Debug, Clone, Copy)]
struct Need {
    devices: f64,
    messages: f64,
    pings: f64,
    /// Cores that work all the time; those that all who come back at once take; those to have.
    steady: f64,
    storm: f64,
    cores: f64,
    memory_gib: f64,
    record: f64,
    spool_mb_s: f64,
    disk_gib: f64,
    partitions: f64,
    nodes: f64,
}

impl Args {
    fn need(&self, devices: u64) -> Need {
        let devices = devices as f64;
        let messages = devices / self.every;
        // A device that publishes more often than half its keep-alive has nothing to ping for.
        let pings = match self.every < self.keep_alive / 2.0 {
            true => 0.0,
            false => devices / self.keep_alive,
        };
        let steady = (messages * cost::MESSAGE_US + pings * cost::PING_US) / 1e6;
        let storm = devices * cost::CONNECT_US / 1e6 / self.back;
        let cores = ((steady / rule::LOAD).max(steady + storm)).ceil().max(2.0);
        let nodes = (devices / rule::NODE_DEVICES)
            .max(cores / rule::NODE_CORES)
            .ceil();
        let each_kib = cost::CONNECTION_KIB + cost::SOCKET_KIB;
        let memory_gib = (devices * each_kib / 1024.0 + nodes * cost::PROCESS_MIB) / 1024.0;
        let record = (self.payload + self.names + cost::RECORD_BYTES) * cost::PADDING;
        let by_bytes = messages * (self.payload + self.names) / rule::PARTITION_BYTES;
        let by_count = messages / rule::PARTITION_MESSAGES;
        Need {
            devices,
            messages,
            pings,
            steady,
            storm,
            cores,
            memory_gib,
            record,
            spool_mb_s: messages * record / 1e6,
            disk_gib: messages * record * self.outage * 3600.0 / f64::from(1 << 30),
            partitions: multiple(by_bytes.max(by_count), rule::PARTITIONS),
            nodes,
        }
    }

    fn page(&self) -> String {
        let needs: Vec<Need> = self.devices.iter().map(|devices| self.need(*devices)).collect();
        let mut out = String::new();
        self.write_conditions(&mut out);
        write_table(&mut out, &needs);
        for need in &needs {
            self.write_example(&mut out, need);
        }
        out
    }

    fn write_conditions(&self, out: &mut String) {
        // Writing to a String does not fail.
        let _ = writeln!(
            out,
            "A message of {} B each {} s from each device, topic and client id of {} B together, keep-alive {} s, all back within {} s \
             after a restart, {} h without Kafka bridged. Measured costs: {} us of CPU a message, so that a core takes {}/s ({} us and {}/s where \
             devices send many at once), {} us a ping, {} us a connection; {} KiB of the process's memory and {} KiB of the kernel's an idle connection.\n",
            self.payload,
            self.every,
            self.names,
            self.keep_alive,
            self.back,
            self.outage,
            cost::MESSAGE_US,
            count(1e6 / cost::MESSAGE_US),
            cost::DENSE_US,
            count(1e6 / cost::DENSE_US),
            cost::PING_US,
            cost::CONNECT_US,
            cost::CONNECTION_KIB,
            cost::SOCKET_KIB
        );
    }

    fn write_example(&self, out: &mut String, need: &Need) {
        let Need {
            devices, messages, ..
        } = *need;
        let _ = writeln!(
            out,
            "**{} devices.** {} / {} s = {} msg/s. CPU: {} x {} us + {} pings/s x {} us = {} cores at work; {} connections x {} us \
             within {} s = {} cores while all come back; with half of each core kept free {} cores. Memory: {} x ({} + {}) KiB + {} x \
             {} MiB = {} GiB. Disk: ({} + {} + {}) B x {} = {:.0} B a record, {} MB/s, over {} h {} GiB. Partitions: {}. Nodes: {}.\n",
            count(devices),
            count(devices),
            self.every,
            count(messages),
            count(messages),
            cost::MESSAGE_US,
            count(need.pings),
            cost::PING_US,
            short(need.steady),
            count(devices),
            cost::CONNECT_US,
            self.back,
            short(need.storm),
            count(need.cores),
            count(devices),
            cost::CONNECTION_KIB,
            cost::SOCKET_KIB,
            count(need.nodes),
            cost::PROCESS_MIB,
            short(need.memory_gib),
            self.payload,
            self.names,
            cost::RECORD_BYTES,
            cost::PADDING,
            need.record,
            short(need.spool_mb_s),
            self.outage,
            short(need.disk_gib),
            count(need.partitions),
            count(need.nodes),
        );
    }
}

fn write_table(out: &mut String, needs: &[Need]) {
    let mut line = |name: &str, value: &dyn Fn(&Need) -> String| {
        let cells: Vec<String> = needs.iter().map(value).collect();
        let _ = writeln!(out, "| {name} | {} |", cells.join(" | "));
    };
    line("devices", &|need| count(need.devices));
    line("---", &|_| "---:".to_owned());
    line("messages a second", &|need| count(need.messages));
    line("cores at work, all nodes", &|need| short(need.steady));
    line("cores to have", &|need| count(need.cores));
    line("memory, GiB", &|need| short(need.memory_gib));
    line("written to the spool, MB/s", &|need| short(need.spool_mb_s));
    line("spool, GiB", &|need| short(need.disk_gib));
    line("partitions of the topic", &|need| count(need.partitions));
    line("nodes", &|need| count(need.nodes));
    out.push('\n');
}

/// The next multiple of `step`, at least one.
fn multiple(number: f64, step: f64) -> f64 {
    (number / step).ceil().max(1.0) * step
}

/// `12,345`.
fn count(number: f64) -> String {
    crate::compare::thousands(number)
}

/// Two digits that count.
fn short(number: f64) -> String {
    match number {
        n if n >= 100.0 => count(n),
        n if n >= 10.0 => format!("{n:.0}"),
        n if n >= 1.0 => format!("{n:.1}"),
        n => format!("{n:.2}"),
    }
}

/// Prints it, or writes it.
pub fn run(args: &Args) -> Result<ExitCode> {
    let page = args.page();
    print!("{page}");
    if let Some(file) = &args.write {
        let text = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
        std::fs::write(file, crate::marks::put(&text, (BEGIN, END), &page)?)?;
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn args(line: &str) -> Args {
        Line::parse_from(line.split_whitespace()).args
    }

    #[test]
    fn the_page_is_what_the_costs_give() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/sizing.md");
        let text = std::fs::read_to_string(file).unwrap();
        let page = args("size").page();
        assert_eq!(
            crate::marks::put(&text, (BEGIN, END), &page).unwrap(),
            text,
            "forebay-bench size --write docs/sizing.md"
        );
    }

    #[test]
    fn twice_the_devices_need_twice_as_much() {
        let args = args("size --every 60 --devices 1000000,2000000");
        let [one, two] = [args.need(1_000_000), args.need(2_000_000)];
        assert!(one.pings > 0.0);
        for (a, b) in [
            (one.messages, two.messages),
            (one.steady, two.steady),
            (one.disk_gib, two.disk_gib),
            (one.memory_gib, two.memory_gib),
        ] {
            assert!((b / a - 2.0).abs() < 0.01, "{a} {b}");
        }
    }
}
