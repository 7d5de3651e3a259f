//! `forebay-bench compare`: Forebay and each other broker that is there, on the same work in one run, as a table.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};

use crate::stage::{self, Figures, Recipe};

/// The table in the file stands between these.
const BEGIN: &str = "<!-- compare: written by `forebay-bench compare --write` -->";
const END: &str = "<!-- compare: end -->";

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
    /// These works only: pub0, pub1, many, fan0, fan1, storm, idle
    #[arg(long, value_delimiter = ',', value_name = "WORKS")]
    only: Vec<String>,
    /// Seconds of each work that has no end of its own
    #[arg(long, default_value_t = 10, value_name = "S")]
    seconds: u32,
    /// Connections of many, storm and idle
    #[arg(long, default_value_t = 10_000, value_name = "N")]
    many: u32,
    /// Put the table into this file, between its marks
    #[arg(long, value_name = "FILE")]
    write: Option<PathBuf>,
}

/// One work, and the line of its report that is the figure.
struct Work {
    name: &'static str,
    title: String,
    args: Vec<String>,
    figure: &'static str,
    unit: &'static str,
    /// A second figure, in brackets: its line and unit.
    more: (&'static str, &'static str),
    /// Whether the records are waited for.
    publishes: bool,
}

fn works(args: &Args) -> Vec<Work> {
    let (seconds, many) = (format!("{}s", args.seconds), args.many.to_string());
    let split = |text: &str| {
        text.split_whitespace()
            .map(str::to_owned)
            .collect::<Vec<String>>()
    };
    let publishes = |name, title: &str, text: &str| Work {
        name,
        title: title.to_owned(),
        args: split(text),
        figure: "CPU per publish",
        unit: "us",
        more: ("published rate", "/s"),
        publishes: true,
    };
    let fan = |name, qos: u8| Work {
        name,
        title: format!("fan-out, 400 msg/s to 500, QoS {qos}: a delivery"),
        args: split(&format!("sub -n 500 --rate 400 --qos {qos} --for {seconds}")),
        figure: "CPU per delivery",
        unit: "us",
        more: ("deliveries missing", "missing"),
        publishes: false,
    };
    vec![
        publishes(
            "pub0",
            "50 connections, QoS 0, flat out: a message",
            &format!("pub -n 50 --qos 0 --for {seconds}"),
        ),
        publishes(
            "pub1",
            "50 connections, QoS 1, 64 in flight, flat out: a message",
            &format!("pub -n 50 --qos 1 --in-flight 64 --for {seconds}"),
        ),
        publishes(
            "many",
            &format!("{many} connections, QoS 1, 20,000 msg/s: a message"),
            &format!("pub -n {many} --qos 1 --rate 20000 --for {seconds}"),
        ),
        fan("fan0", 0),
        fan("fan1", 1),
        Work {
            name: "storm",
            title: format!("{many} connect at once: a connection"),
            args: split(&format!("storm -n {many}")),
            figure: "CPU per connection",
            unit: "us",
            more: ("connect rate", "/s"),
            publishes: false,
        },
        Work {
            name: "idle",
            title: format!("{many} idle with a subscription: a connection"),
            args: split(&format!(
                "idle -n {many} --subscribe devices/{{id}}/commands --for 5s"
            )),
            figure: "memory per connection (slope)",
            unit: "KiB",
            more: ("connections lost", "lost"),
            publishes: false,
        },
    ]
}

fn recipes(args: &Args) -> Result<Vec<Recipe>> {
    let binary = stage::forebay(args.forebay.as_ref())?;
    let mut all = Vec::new();
    if let Some(bootstrap) = &args.bootstrap {
        let with = |name, headers| Recipe::forebay(&binary, name, Some((bootstrap, "spooled", headers)));
        all.push(with("Forebay, spooled, to Kafka", ""));
        all.push(with("the same, no headers", "headers = []"));
    }
    all.push(Recipe::forebay(&binary, "Forebay, spooled, no Kafka", None));
    all.extend(Recipe::mosquitto());
    all.extend(Recipe::rumqttd());
    for peer in &args.peer {
        all.push(Recipe::other(peer)?);
    }
    all.push(Recipe::floor()?);
    Ok(all)
}

/// Runs it, prints the table.
pub fn run(args: &Args) -> Result<ExitCode> {
    let recipes = recipes(args)?;
    let wanted = |work: &Work| args.only.is_empty() || args.only.iter().any(|name| name == work.name);
    let works: Vec<Work> = works(args).into_iter().filter(wanted).collect();
    let mut cells = Vec::new();
    for work in &works {
        let mut row = Vec::new();
        for recipe in &recipes {
            eprintln!("{}: {}", work.name, recipe.name);
            // One that can't do it has a gap in its column, and its reason here.
            row.push(measure(work, recipe).unwrap_or_else(|error| {
                eprintln!("  {error:#}");
                "-".to_owned()
            }));
        }
        cells.push(row);
    }
    let table = table(args, &recipes, &works, &cells);
    print!("{table}");
    if let Some(file) = &args.write {
        let text = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
        std::fs::write(file, put(&text, &table)?)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn measure(work: &Work, recipe: &Recipe) -> Result<String> {
    let stage = recipe.start()?;
    let before = stage.cpu_s()?;
    let args: Vec<&str> = work.args.iter().map(String::as_str).collect();
    let figures = stage.work(&args)?;
    let mut figure = figures.number(work.figure);
    if work.publishes && recipe.sinks {
        stage.drained()?;
        let published = figures.number("published").filter(|count| *count > 0.0);
        let used = stage.cpu_s()? - before;
        figure = published.map(|published| 1e6 * used / published);
    }
    Ok(cell(work, figure, &figures))
}

fn cell(work: &Work, figure: Option<f64>, figures: &Figures) -> String {
    let Some(figure) = figure else {
        return "-".to_owned();
    };
    let mut text = format!("{figure:.2} {}", work.unit);
    if let Some(more) = figures.number(work.more.0).filter(|more| *more > 0.0) {
        let _ = write!(text, " ({more:.0} {})", work.more.1);
    }
    if let Some(p99) = figures.percentile("ack latency from due", "p99")
        && work.name == "many"
    {
        let _ = write!(text, " p99 {p99:.1} ms");
    }
    text
}

fn table(args: &Args, recipes: &[Recipe], works: &[Work], cells: &[Vec<String>]) -> String {
    let mut out = String::new();
    let command: Vec<String> = std::env::args().skip(1).collect();
    let _ = writeln!(
        out,
        "`forebay-bench {}`, {}. CPU is that of the broker's process, Forebay's until the last record is in Kafka; {} s a work; \
         versions: {}.\n",
        command.join(" "),
        machine(),
        args.seconds,
        recipes
            .iter()
            .filter(|recipe| !recipe.version.is_empty())
            .map(|recipe| format!("{} {}", recipe.name, recipe.version))
            .collect::<Vec<_>>()
            .join("; ")
    );
    let names: Vec<&str> = recipes.iter().map(|recipe| recipe.name.as_str()).collect();
    let _ = writeln!(out, "| work | {} |", names.join(" | "));
    let _ = writeln!(out, "|---|{}", "---|".repeat(names.len()));
    for (work, row) in works.iter().zip(cells) {
        let _ = writeln!(out, "| {} | {} |", work.title, row.join(" | "));
    }
    out
}

/// Cores, memory, kernel and day.
fn machine() -> String {
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
    std::fs::read_to_string(Path::new(path)).unwrap_or_default()
}

/// The text with the table between its marks.
fn put(text: &str, table: &str) -> Result<String> {
    let (before, rest) = text
        .split_once(BEGIN)
        .context("the file has no mark for the table")?;
    let (_, after) = rest
        .split_once(END)
        .context("the file has no mark for the table's end")?;
    Ok(format!("{before}{BEGIN}\n{table}{END}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_stands_between_its_marks() {
        let text = format!("a\n{BEGIN}\nold\n{END}\nb\n");
        let new = put(&text, "new\n").unwrap();
        assert_eq!(new, format!("a\n{BEGIN}\nnew\n{END}\nb\n"));
        assert_eq!(put(&new, "new\n").unwrap(), new);
        assert!(put("a", "new").is_err());
    }
}
