//! What the demo shows: records at a pace that can be read, and a line of totals that stays at the bottom of a terminal.

use std::io::{IsTerminal, Stdout, Write};
use std::time::{Duration, Instant};

use crate::fleet::tally::Tally;
use crate::fleet::watch::Arrival;
use crate::logging;

/// Time between two lines for the devices' records: all are counted, some are shown.
const DEVICES_EVERY: Duration = Duration::from_millis(160);
/// Time between two lines for everything else.
const OTHERS_EVERY: Duration = Duration::from_millis(10);
/// Time between two lines of totals, on a terminal and in plain output.
const REDRAW: Duration = Duration::from_millis(100);
const PLAIN_TOTALS: Duration = Duration::from_secs(1);
/// Characters of a payload that are shown.
const PAYLOAD_CHARS: usize = 72;

/// Standard output.
pub struct Screen {
    out: Stdout,
    live: bool,
    colour: bool,
    devices: Instant,
    others: Instant,
    totals: Instant,
}

impl Screen {
    /// Live on a terminal, plain lines elsewhere.
    pub fn new(now: Instant) -> Self {
        let out = std::io::stdout();
        Self {
            live: out.is_terminal(),
            colour: logging::colour(&out),
            out,
            devices: now,
            others: now,
            totals: now,
        }
    }

    /// Text above everything else.
    pub fn say(&mut self, text: &str) -> std::io::Result<()> {
        self.clear()?;
        writeln!(self.out, "{text}")?;
        self.out.flush()
    }

    /// A record, when there is time to read it.
    pub fn record(
        &mut self,
        now: Instant,
        topic: &str,
        record: &Arrival,
        of_device: bool,
    ) -> std::io::Result<()> {
        let (due, every) = match of_device {
            true => (&mut self.devices, DEVICES_EVERY),
            false => (&mut self.others, OTHERS_EVERY),
        };
        if now < *due {
            return Ok(());
        }
        *due = now + every;
        self.clear()?;
        let (on, off) = match (self.colour, of_device) {
            (false, _) => ("", ""),
            (true, true) => ("\x1b[36m", "\x1b[0m"),
            (true, false) => ("\x1b[1;32m", "\x1b[0m"),
        };
        let place = format!("{topic}-{} @ {}", record.partition, record.offset);
        let key = readable(&record.key);
        writeln!(
            self.out,
            "{place:<18} key {on}{key:<10}{off} {}",
            readable(&record.payload)
        )
    }

    /// The line of totals, when it is due.
    pub fn totals(&mut self, now: Instant, tally: &Tally) -> std::io::Result<()> {
        if now < self.totals {
            return Ok(());
        }
        self.totals = now + if self.live { REDRAW } else { PLAIN_TOTALS };
        self.clear()?;
        let end = if self.live { "" } else { "\n" };
        write!(
            self.out,
            "-- published {} | acknowledged {} | in Kafka {} | on the way {} | out of order {}{end}",
            tally.published,
            tally.acknowledged,
            tally.in_kafka + tally.others,
            tally.missing(),
            tally.out_of_order,
        )?;
        self.out.flush()
    }

    /// The line of totals is written over.
    fn clear(&mut self) -> std::io::Result<()> {
        if self.live {
            write!(self.out, "\r\x1b[2K")?;
        }
        Ok(())
    }
}

/// Bytes as text that can't disturb a terminal.
fn readable(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let clean = |c: char| if c.is_control() { '.' } else { c };
    let mut shown: String = text.chars().map(clean).take(PAYLOAD_CHARS).collect();
    if text.chars().nth(PAYLOAD_CHARS).is_some() {
        shown.push_str("...");
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_can_not_disturb_the_terminal() {
        assert_eq!(readable(b"a\x1b[2Jb\n\xff"), "a.[2Jb.\u{fffd}");
        assert_eq!(readable(&[b'x'; 1000]).len(), PAYLOAD_CHARS + 3);
    }
}
