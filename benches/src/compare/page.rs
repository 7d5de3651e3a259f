//! The tables as text, and their place in a file.

use std::fmt::Write;

use super::machine::machine;
use super::works::{Column, Figure, Work};
use super::{Args, Cell, Entry, Results, aims};
use crate::stage::Figures;

/// The tables in the file stand between these.
pub const MARKS: (&str, &str) = (
    "<!-- compare: written by `forebay-bench compare --write` -->",
    "<!-- compare: end -->",
);

/// The line of a report that is a work's figure.
pub fn line(figure: Figure) -> &'static str {
    match figure {
        Figure::Publish { .. } => "CPU per publish",
        Figure::Calm => "ack latency from sent",
        Figure::Delivery => "CPU per delivery",
        Figure::Connection => "CPU per connection",
        Figure::Memory => "memory per connection (slope)",
    }
}

/// What a cell says: the figure, what belongs to it, and what went wrong.
pub fn cell(work: &Work, cell: &Cell) -> String {
    let figures = &cell.figures;
    let mut out = String::new();
    let number = figures.number(line(work.figure));
    // Writing to a String does not fail.
    let _ = match (work.figure, number) {
        (Figure::Calm, _) => {
            let at = |which| figures.percentile(line(Figure::Calm), which).unwrap_or_default();
            write!(out, "p50 {:.2} ms, p99 {:.2} ms", at("p50"), at("p99"))
        }
        (_, None) => write!(out, "-"),
        (Figure::Memory, Some(kib)) => write!(out, "{kib:.2} KiB"),
        (Figure::Delivery, Some(us)) => write!(out, "{us:.2} us"),
        (Figure::Connection, Some(us)) => {
            let rate = figures.number("connect rate").unwrap_or_default();
            write!(out, "{us:.1} us ({}/s)", thousands(rate))
        }
        (Figure::Publish { paced: false }, Some(us)) => {
            let rate = figures.number("published rate").unwrap_or_default();
            write!(out, "{us:.2} us ({}/s)", thousands(rate))
        }
        (Figure::Publish { paced: true }, Some(us)) => {
            let p99 = figures.percentile("ack latency from due", "p99");
            write!(out, "{us:.2} us, p99 {:.1} ms", p99.unwrap_or_default())
        }
    };
    for trouble in troubles(work, figures) {
        let _ = write!(out, "; {trouble}");
    }
    out
}

/// What did not go as asked, so that the figure is that of another work.
fn troubles(work: &Work, figures: &Figures) -> Vec<String> {
    let number = |name| figures.number(name).unwrap_or_default();
    let mut all = Vec::new();
    let mut words = figures.text("connections made").split(" of ");
    let mut count = || words.next()?.trim().parse::<f64>().ok();
    if let (Some(made), Some(asked)) = (count(), count())
        && made < asked
    {
        all.push(format!("{} of {} got in", thousands(made), thousands(asked)));
    }
    let mut note = |count: f64, what: &str| {
        if count > 0.0 {
            all.push(format!("{} {what}", thousands(count)));
        }
    };
    note(number("connections lost"), "connections lost");
    match work.figure {
        Figure::Publish { .. } | Figure::Calm => {
            let published = number("published");
            note(number("due but held back at the end"), "behind at the end");
            note(number("sent but not acknowledged"), "not acknowledged");
            if let Some(in_kafka) = figures.number("in Kafka") {
                note(published - in_kafka, "lost");
            }
        }
        Figure::Delivery => note(number("deliveries missing"), "missing"),
        Figure::Connection | Figure::Memory => {}
    }
    all
}

/// All that is written.
pub fn page(
    args: &Args,
    entries: &[Entry],
    works: &[Work],
    rows: &[Vec<String>],
    results: &Results,
) -> String {
    let mut out = String::new();
    let command: Vec<String> = std::env::args().skip(1).collect();
    let versions: Vec<String> = entries
        .iter()
        .filter(|entry| !entry.recipe.version.is_empty() && entry.column != Column::Bare)
        .map(|entry| format!("{} {}", entry.recipe.name, entry.recipe.version))
        .collect();
    let _ = writeln!(
        out,
        "`forebay-bench {}`, {}; its disk takes {:.0} MB/s in synced groups of 4 MB. CPU is that of the broker's process from the \
         start of publishing to the last acknowledgement, and where Kafka stands behind it until the last record is there; \
         {} s a work, twice as long where there is a rate. Versions: {}.\n",
        command.join(" "),
        machine(),
        results.disk_rate,
        args.seconds,
        versions.join("; ")
    );
    // Works across, so that a broker is a line.
    let titles: Vec<&str> = works.iter().map(|work| work.title.as_str()).collect();
    let _ = writeln!(out, "| | {} |", titles.join(" | "));
    let _ = writeln!(out, "|---|{}", "---|".repeat(titles.len()));
    for (at, entry) in entries.iter().enumerate() {
        let cells: Vec<&str> = rows
            .iter()
            .map(|row| row.get(at).map_or("", String::as_str))
            .collect();
        let _ = writeln!(out, "| {} | {} |", entry.recipe.name, cells.join(" | "));
    }
    out.push_str(&aims::table(results));
    out
}

/// `12,345`.
pub fn thousands(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::works::Size;
    use super::*;

    #[test]
    fn a_cell_tells_what_went_wrong() {
        let size = Size {
            seconds: 1,
            many: 10_000,
            idle: 10_000,
        };
        let works = Work::all(size);
        let work = works.iter().find(|work| work.name == "pub1").unwrap();
        let report = "connections made               3213 of 10000\nconnections lost               0\n\
                      published                      100000\npublished rate                 912345 /s\n\
                      CPU per publish                1.234 us\nin Kafka                       72000\n";
        let cell = super::cell(
            work,
            &Cell {
                work: "pub1",
                column: Column::Kafka,
                figures: Figures::read(report),
                disk: super::super::Disk::default(),
            },
        );
        assert_eq!(cell, "1.23 us (912,345/s); 3,213 of 10,000 got in; 28,000 lost");
    }
}
