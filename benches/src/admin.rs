//! What a Forebay's admin address says, read over plain HTTP.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

/// Longest wait until all that a broker took is in Kafka.
const DRAIN: Duration = Duration::from_secs(120);
const ANSWER: Duration = Duration::from_secs(10);

/// The whole answer to GET `path` at `HOST:PORT`.
pub fn get(address: &str, path: &str) -> Result<String> {
    let mut stream = TcpStream::connect(address).with_context(|| format!("the admin address {address}"))?;
    stream.set_read_timeout(Some(ANSWER))?;
    // In one piece: who answers may not read on.
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// The value of a metric that has no labels.
pub fn value(metrics: &str, name: &str) -> Option<f64> {
    let mut values = metrics
        .lines()
        .filter_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    values.next()?.trim().parse().ok()
}

/// Waits until the broker is ready and nothing that it took waits for Kafka; the metrics then.
pub fn drained(address: &str) -> Result<String> {
    let until = Instant::now() + DRAIN;
    loop {
        let metrics = get(address, "/metrics")?;
        let is_done = value(&metrics, "forebay_sink_backlog_records") == Some(0.0);
        if is_done && get(address, "/readyz")?.starts_with("HTTP/1.1 200") {
            // Counted when all was done: in the answer before, the sink may have shown the one and not yet the other.
            return get(address, "/metrics");
        }
        ensure!(Instant::now() < until, "not all is in Kafka in time");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_found_among_the_metrics() {
        let text = "# TYPE x gauge\nforebay_sink_backlog_records_more 1\nforebay_sink_backlog_records 17\n";
        assert_eq!(value(text, "forebay_sink_backlog_records"), Some(17.0));
        assert_eq!(value(text, "forebay_sink"), None);
    }
}
