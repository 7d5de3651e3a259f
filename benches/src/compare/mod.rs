//! `forebay-bench compare`: Forebay and each other broker that is there, on the same work in one run, as a table.

mod aims;
mod machine;
mod page;
mod works;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};

use crate::client::net;
use crate::marks;
use crate::stage::{self, Figures, Recipe, Sink};
use machine::Disk;
pub use page::thousands;
use works::{Column, Figure, Size, Work};

/// Arguments of `compare`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  forebay-bench compare --bootstrap 127.0.0.1:9092 --write docs/benchmarks.md
  forebay-bench compare --peer 'FlashMQ=/opt/flashmq --config-file /opt/flashmq.{port}.conf' --only pub1

Each broker is started anew for each work. Mosquitto is taken where it is installed, stock rumqttd where stock-rumqttd stands
beside this binary. Without --bootstrap Forebay runs as a plain broker, with its spool.")]
pub struct Args {
    /// The broker's binary (default: `forebay` beside this one)
    #[arg(long, value_name = "FILE")]
    forebay: Option<PathBuf>,
    /// Kafka; the topic forebay-bench is made there
    #[arg(long, value_name = "HOST:PORT")]
    bootstrap: Option<String>,
    /// Another broker; {port} in its command is filled in
    #[arg(long, value_name = "NAME=COMMAND")]
    peer: Vec<String>,
    /// These works only: pub0, pub1, many, calm, fan0, fan1, storm, idle
    #[arg(long, value_delimiter = ',', value_name = "WORKS")]
    only: Vec<String>,
    /// These brokers only, by their names' beginnings
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    brokers: Vec<String>,
    /// Seconds of each work that has no end of its own; twice as many of the paced one
    #[arg(long, default_value_t = 5, value_name = "S")]
    seconds: u32,
    /// Connections of many and storm
    #[arg(long, default_value_t = 10_000, value_name = "N")]
    many: u32,
    /// Connections of idle
    #[arg(long, default_value_t = 15_000, value_name = "N")]
    idle: u32,
    /// Put the tables into this file, between its marks
    #[arg(long, value_name = "FILE")]
    write: Option<PathBuf>,
}

/// A broker and the column that it fills.
#[derive(Debug)]
pub struct Entry {
    column: Column,
    recipe: Recipe,
}

/// What one broker gave at one work.
#[derive(Debug)]
pub struct Cell {
    work: &'static str,
    column: Column,
    figures: Figures,
    /// Times of a sync of 64 KiB meanwhile, in milliseconds.
    disk: Disk,
}

/// All that was measured.
#[derive(Debug, Default)]
pub struct Results {
    cells: Vec<Cell>,
    /// MB/s that the disk takes in groups of 4 MB.
    disk_rate: f64,
    /// Forebay's without symbols, in MB.
    binary_mb: f64,
    /// Forebay's, from its start until it takes connections.
    start_ms: f64,
}

impl Results {
    /// The report of a broker on a work.
    fn of(&self, work: &str, column: Column) -> Option<&Cell> {
        let mut cells = self.cells.iter();
        cells.find(|cell| cell.work == work && cell.column == column)
    }
}

fn entries(args: &Args) -> Result<Vec<Entry>> {
    let binary = stage::forebay(args.forebay.as_ref())?;
    let mut all = Vec::new();
    let mut add = |column, recipe| all.push(Entry { column, recipe });
    if let Some(bootstrap) = &args.bootstrap {
        let with = |name, more| {
            let sink = Sink {
                bootstrap,
                level: "spooled",
                more,
            };
            Recipe::forebay(&binary, name, Some(sink))
        };
        add(Column::Kafka, with("Forebay, spooled, to Kafka", ""));
        add(Column::Bare, with("the same, no headers", "headers = []"));
    }
    add(
        Column::Plain,
        Recipe::forebay(&binary, "Forebay, spooled, no Kafka", None),
    );
    // Nothing of it goes to Kafka, so that none need be there.
    let received = Sink {
        bootstrap: "127.0.0.1:1",
        level: "received",
        more: "sink = false",
    };
    let received = Recipe::forebay(&binary, "Forebay, received, no Kafka", Some(received));
    add(Column::Received, received.without_kafka());
    let kafka = args.bootstrap.as_deref();
    let peers = [
        (Column::Mosquitto, Recipe::mosquitto()),
        (Column::Rumqttd, Recipe::rumqttd(None)),
        (
            Column::RumqttdKafka,
            kafka.and_then(|at| Recipe::rumqttd(Some(at))),
        ),
    ];
    for (column, recipe) in peers {
        all.extend(recipe.map(|recipe| Entry { column, recipe }));
    }
    for peer in &args.peer {
        all.push(Entry {
            column: Column::Other,
            recipe: Recipe::other(peer)?,
        });
    }
    all.push(Entry {
        column: Column::Floor,
        recipe: Recipe::floor()?,
    });
    all.retain(|entry| {
        let name = &entry.recipe.name;
        args.brokers.is_empty() || args.brokers.iter().any(|start| name.starts_with(start))
    });
    Ok(all)
}

/// Runs it, prints the tables.
pub fn run(args: &Args) -> Result<ExitCode> {
    // The brokers inherit it.
    net::make_room(args.many.max(args.idle))?;
    let entries = entries(args)?;
    let size = Size {
        seconds: args.seconds,
        many: args.many,
        idle: args.idle,
    };
    let wanted = |work: &Work| args.only.is_empty() || args.only.iter().any(|name| name == work.name);
    let works: Vec<Work> = Work::all(size).into_iter().filter(wanted).collect();
    let mut results = Results {
        disk_rate: machine::disk_rate()?,
        ..Results::default()
    };
    let binary = stage::forebay(args.forebay.as_ref())?;
    results.binary_mb = machine::stripped_bytes(&binary)? as f64 / 1e6;
    warm_up(&entries);
    let mut rows = Vec::new();
    for work in &works {
        let mut row = Vec::new();
        for entry in &entries {
            row.push(one(work, entry, &mut results));
        }
        rows.push(row);
    }
    let page = page::page(args, &entries, &works, &rows, &results);
    print!("{page}");
    if let Some(file) = &args.write {
        let text = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
        std::fs::write(file, marks::put(&text, page::MARKS, &page)?)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The first records that a fresh Kafka takes cost its compiler's time, of which the brokers would have less.
fn warm_up(entries: &[Entry]) {
    let Some(entry) = entries.iter().find(|entry| entry.column == Column::Kafka) else {
        return;
    };
    eprintln!("warming up");
    let work = ["pub", "-n", "50", "--for", "4s"];
    if let Err(error) = entry.recipe.start().and_then(|stage| stage.work(&work)) {
        eprintln!("  {error:#}");
    }
}

/// The text of a cell; what was measured goes to the results.
fn one(work: &Work, entry: &Entry, results: &mut Results) -> String {
    if !work.is_for(entry.column) {
        return String::new();
    }
    eprintln!("{}: {}", work.name, entry.recipe.name);
    let cell = match measure(work, entry, results) {
        Ok(cell) => cell,
        // One that can't do it has a gap in its column, and its reason here.
        Err(error) => {
            eprintln!("  {error:#}");
            return "-".to_owned();
        }
    };
    let text = page::cell(work, &cell);
    eprintln!("  {text}");
    results.cells.push(cell);
    text
}

fn measure(work: &Work, entry: &Entry, results: &mut Results) -> Result<Cell> {
    let stage = entry.recipe.start()?;
    if entry.column == Column::Plain {
        results.start_ms = stage.started().as_secs_f64() * 1e3;
    }
    let args: Vec<&str> = work.args.iter().map(String::as_str).collect();
    let looks = matches!(work.figure, Figure::Calm | Figure::Publish { paced: true });
    let disk = looks.then(machine::watch_disk).transpose()?;
    let figures = stage.work(&args)?;
    Ok(Cell {
        work: work.name,
        column: entry.column,
        figures,
        disk: disk.map(machine::Watch::end).unwrap_or_default(),
    })
}
