//! What is to be reached, and whether this run did.

use std::fmt::Write;

use super::page::{line, thousands};
use super::works::{Column, Figure};
use super::{Cell, Results};

/// A line of the table.
#[derive(Debug, Clone, PartialEq)]
struct Aim {
    what: &'static str,
    asked: String,
    /// What was found, as text; none when it was not measured.
    found: Option<String>,
    met: bool,
}

/// `figure` is to be at most `most`.
fn most(what: &'static str, most: f64, unit: &str, figure: Option<f64>) -> Aim {
    Aim {
        what,
        asked: format!("at most {most} {unit}"),
        found: figure.map(|figure| format!("{figure:.2} {unit}")),
        met: figure.is_some_and(|figure| figure <= most),
    }
}

/// `figure` is to be at least `least`.
fn least(what: &'static str, least: f64, unit: &str, figure: Option<f64>) -> Aim {
    Aim {
        what,
        asked: format!("at least {} {unit}", thousands(least)),
        found: figure.map(|figure| match figure < 100.0 {
            true => format!("{figure:.1} {unit}"),
            false => format!("{} {unit}", thousands(figure)),
        }),
        met: figure.is_some_and(|figure| figure >= least),
    }
}

fn cpu(results: &Results, work: &str, column: Column) -> Option<f64> {
    let cell = results.of(work, column)?;
    cell.figures.number(line(Figure::Publish { paced: false }))
}

fn rate(results: &Results, work: &str, column: Column) -> Option<f64> {
    results.of(work, column)?.figures.number("published rate")
}

/// 0.9 M messages a second, or 80 % of what the disk takes, or both cores full: whichever comes first.
fn throughput(results: &Results, what: &'static str, work: &str, column: Column) -> Aim {
    let asked = "0.9 M/s, or 80 % of the disk, or all cores full".to_owned();
    let Some(cell) = results.of(work, column) else {
        return Aim {
            what,
            asked,
            found: None,
            met: false,
        };
    };
    let number = |name| cell.figures.number(name).unwrap_or_default();
    let (rate, busy) = (number("published rate"), number("machine busy"));
    let disk = 100.0 * number("disk rate of --pid") / results.disk_rate.max(1.0);
    Aim {
        what,
        asked,
        found: Some(format!(
            "{}/s, {disk:.0} % of the disk, cores {busy:.0} % busy until all was in Kafka",
            thousands(rate)
        )),
        met: rate >= 900_000.0 || disk >= 80.0 || busy >= 95.0,
    }
}

fn ratio(a: Option<f64>, b: Option<f64>) -> Option<f64> {
    Some(a? / b.filter(|b| *b > 0.0)?)
}

fn flat_out(r: &Results) -> Vec<Aim> {
    vec![
        most(
            "50 connections QoS 1, `headers = []`",
            1.8,
            "us",
            cpu(r, "pub1", Column::Bare),
        ),
        most(
            "50 connections QoS 1, default headers",
            3.0,
            "us",
            cpu(r, "pub1", Column::Kafka),
        ),
        most(
            "50 connections QoS 0, `headers = []`",
            1.5,
            "us",
            cpu(r, "pub0", Column::Bare),
        ),
        most(
            "50 connections QoS 0, default headers",
            2.7,
            "us",
            cpu(r, "pub0", Column::Kafka),
        ),
        throughput(
            r,
            "throughput of that, QoS 1, `headers = []`",
            "pub1",
            Column::Bare,
        ),
        throughput(
            r,
            "throughput of that, QoS 1, default headers",
            "pub1",
            Column::Kafka,
        ),
        least(
            "its rate over Mosquitto's",
            5.0,
            "times",
            ratio(rate(r, "pub1", Column::Kafka), rate(r, "pub1", Column::Mosquitto)),
        ),
        most(
            "`received`, without Kafka, QoS 1",
            0.6,
            "us",
            cpu(r, "pub1", Column::Received),
        ),
    ]
}

fn paced(r: &Results) -> Vec<Aim> {
    let p99 = |cell: &Cell| cell.figures.percentile("ack latency from due", "p99");
    let p50 = |cell: &Cell| cell.figures.percentile(line(Figure::Calm), "p50");
    let many = r.of("many", Column::Kafka);
    let calm = r.of("calm", Column::Kafka);
    let over_sync = calm.and_then(|cell| Some(p50(cell)? - cell.disk.p50));
    vec![
        most(
            "10,000 connections, 20,000 msg/s, over the floor's cost",
            1.3,
            "times",
            ratio(cpu(r, "many", Column::Kafka), cpu(r, "many", Column::Floor)),
        ),
        most(
            "ack p99 there, over the p99 of a sync of 64 KiB meanwhile",
            3.0,
            "times",
            ratio(many.and_then(p99), many.map(|cell| cell.disk.p99)),
        ),
        most(
            "p50 from PUBLISH to PUBACK at 200 msg/s, `received`",
            0.3,
            "ms",
            r.of("calm", Column::Received).and_then(p50),
        ),
        most(
            "the same, `spooled`, beyond the p50 of a sync",
            0.5,
            "ms",
            over_sync,
        ),
    ]
}

fn fan_out_and_connections(r: &Results) -> Vec<Aim> {
    let of = |work, name| r.of(work, Column::Plain)?.figures.number(name);
    let all_in = of("storm", "all connected after");
    vec![
        most(
            "fan-out QoS 0, a delivery",
            4.0,
            "us",
            of("fan0", "CPU per delivery"),
        ),
        most(
            "fan-out QoS 1, a delivery",
            7.0,
            "us",
            of("fan1", "CPU per delivery"),
        ),
        most("connecting", 50.0, "us", of("storm", "CPU per connection")),
        least(
            "connections in a second",
            11_000.0,
            "/s",
            of("storm", "connect rate"),
        ),
        most("10,000 connect at once: all are in after", 5.0, "s", all_in),
        most(
            "an idle connection with a subscription",
            1.7,
            "KiB",
            of("idle", line(Figure::Memory)),
        ),
    ]
}

fn all(results: &Results) -> Vec<Aim> {
    let parts = [
        flat_out(results),
        paced(results),
        fan_out_and_connections(results),
    ];
    parts.into_iter().flatten().collect()
}

/// The aims that this run has figures of, as a table.
pub fn table(results: &Results) -> String {
    let mut out = String::new();
    let all: Vec<Aim> = all(results)
        .into_iter()
        .filter(|aim| aim.found.is_some())
        .collect();
    // Writing to a String does not fail.
    if results.start_ms > 0.0 {
        let _ = writeln!(
            out,
            "\nForebay's binary has {:.1} MB without symbols; from its start until it takes connections {:.0} ms.",
            results.binary_mb, results.start_ms
        );
    }
    if all.is_empty() {
        return out;
    }
    let met = all.iter().filter(|aim| aim.met).count();
    let _ = writeln!(out, "\n{met} of {} aims are met in this run:\n", all.len());
    let _ = writeln!(out, "| aim | asked | found | |\n|---|---|---|---|");
    for aim in &all {
        let found = aim.found.as_deref().unwrap_or_default();
        let met = if aim.met { "met" } else { "**not met**" };
        let _ = writeln!(out, "| {} | {} | {found} | {met} |", aim.what, aim.asked);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::machine::Disk;
    use super::*;
    use crate::stage::Figures;

    fn cell(work: &'static str, column: Column, report: &str) -> Cell {
        Cell {
            work,
            column,
            figures: Figures::read(report),
            disk: Disk { p50: 0.4, p99: 2.0 },
        }
    }

    #[test]
    fn what_was_measured_is_judged_and_nothing_else() {
        let results = Results {
            cells: vec![
                cell(
                    "many",
                    Column::Kafka,
                    "CPU per publish  12.0 us\nack latency from due  p50 1.0  p99 7.0 ms",
                ),
                cell("many", Column::Floor, "CPU per publish  10.0 us"),
                cell(
                    "calm",
                    Column::Kafka,
                    "ack latency from sent  p50 0.8  p99 7.0 ms",
                ),
            ],
            ..Results::default()
        };
        let found: Vec<Aim> = all(&results)
            .into_iter()
            .filter(|aim| aim.found.is_some())
            .collect();
        let said: Vec<(&str, bool)> = found
            .iter()
            .map(|aim| (aim.found.as_deref().unwrap(), aim.met))
            .collect();
        assert_eq!(
            said,
            [("1.20 times", true), ("3.50 times", false), ("0.40 ms", true)]
        );
        let table = table(&results);
        assert!(table.contains("2 of 3 aims are met"), "{table}");
    }
}
