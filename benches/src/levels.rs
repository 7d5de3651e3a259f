//! `forebay-bench levels`: what the levels of acknowledgement cost, side by side in one run, Kafka included.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};

use crate::stage::{self, Recipe, Sink};

/// Arguments of `levels`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  forebay-bench levels --bootstrap 127.0.0.1:9092 --max-ratio 1.3

For each round a broker per level is started, takes the same work, and is waited for until all is in Kafka. CPU is that of
the process over records. The ratio is that of the medians. Exit code 1: it is above --max-ratio.")]
pub struct Args {
    /// The broker's binary (default: `forebay` beside this one)
    #[arg(long, value_name = "FILE")]
    forebay: Option<PathBuf>,
    /// Kafka; the topic forebay-bench is made there
    #[arg(long, default_value = "127.0.0.1:9092", value_name = "HOST:PORT")]
    bootstrap: String,
    /// Levels, the first of which the others are compared with
    #[arg(
        long,
        default_value = "received,spooled",
        value_delimiter = ',',
        value_name = "LEVELS"
    )]
    levels: Vec<String>,
    /// Rounds
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..), value_name = "N")]
    rounds: u32,
    /// Connections
    #[arg(short = 'n', long, default_value = "50", value_name = "N")]
    connections: String,
    /// Unacknowledged publishes per connection at most
    #[arg(long, default_value = "64", value_name = "N")]
    in_flight: String,
    /// Publishes per connection
    #[arg(long, default_value = "20000", value_name = "N")]
    count: String,
    /// Exit code 1 when a level costs more than so many times the first
    #[arg(long, value_name = "RATIO")]
    max_ratio: Option<f64>,
}

/// What one level cost in one round.
struct Cost {
    cpu_us: f64,
    rate: f64,
    p99_ms: f64,
}

/// Runs it, prints the table.
pub fn run(args: &Args) -> Result<ExitCode> {
    let binary = stage::forebay(args.forebay.as_ref())?;
    let mut costs: Vec<Vec<Cost>> = args.levels.iter().map(|_| Vec::new()).collect();
    println!(
        "{:>5} {:>10} {:>12} {:>12} {:>11}",
        "round", "level", "CPU us/msg", "published/s", "ack p99 ms"
    );
    for round in 1..=args.rounds {
        for (level, costs) in args.levels.iter().zip(&mut costs) {
            let sink = Sink {
                bootstrap: &args.bootstrap,
                level,
                more: "",
            };
            let cost = measure(args, &Recipe::forebay(&binary, level, Some(sink)))?;
            println!(
                "{round:>5} {level:>10} {:>12.3} {:>12.0} {:>11.2}",
                cost.cpu_us, cost.rate, cost.p99_ms
            );
            costs.push(cost);
        }
    }
    let medians: Vec<f64> = costs.iter().map(|costs| median(costs)).collect();
    let mut above = false;
    for (level, cost) in args.levels.iter().zip(&medians).skip(1) {
        let (first, base) = (
            args.levels.first().context("no level")?,
            medians.first().context("none")?,
        );
        let ratio = cost / base;
        println!("{level} / {first}: {ratio:.2} ({cost:.3} us / {base:.3} us)");
        above |= args.max_ratio.is_some_and(|most| ratio > most);
    }
    Ok(if above {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

fn measure(args: &Args, recipe: &Recipe) -> Result<Cost> {
    let stage = recipe.start()?;
    let work = [
        "pub",
        "-n",
        &args.connections,
        "--in-flight",
        &args.in_flight,
        "--count",
        &args.count,
    ];
    let figures = stage.work(&[&work[..], &["--for", "10m"]].concat())?;
    Ok(Cost {
        cpu_us: figures
            .number("CPU per publish")
            .context("nothing was published")?,
        rate: figures.number("published rate").unwrap_or_default(),
        p99_ms: figures
            .percentile("ack latency from sent", "p99")
            .unwrap_or_default(),
    })
}

fn median(costs: &[Cost]) -> f64 {
    let mut all: Vec<f64> = costs.iter().map(|cost| cost.cpu_us).collect();
    all.sort_by(f64::total_cmp);
    all.get(all.len() / 2).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_no_outlier() {
        let cost = |cpu_us| Cost {
            cpu_us,
            rate: 0.0,
            p99_ms: 0.0,
        };
        assert_eq!(median(&[cost(9.0), cost(2.0), cost(3.0)]), 3.0);
    }
}
