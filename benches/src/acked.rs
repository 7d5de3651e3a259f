//! The file of what was acknowledged: one line per device, `id sent missing`, where `missing` are the numbers below
//! `sent` that were not acknowledged (`3,7-9`, or `-` for none).

use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::Path;

use anyhow::{Context, Result};

use crate::client::ranges::Ranges;

/// First word of the file.
const MAGIC: &str = "forebay-bench-acked-1";

/// What one device was promised.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Promise {
    /// Device id.
    pub id: String,
    /// Numbers below this were sent.
    pub sent: u64,
    /// Those of them that were not acknowledged: they may be in Kafka or not.
    pub open: Ranges,
}

/// All promises of a run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Promises {
    /// Which run's payloads count.
    pub run: String,
    /// One per device.
    pub devices: Vec<Promise>,
}

impl Promises {
    /// Writes the file.
    pub fn write(&self, path: &Path) -> Result<()> {
        let write = || -> std::io::Result<()> {
            let mut file = BufWriter::new(std::fs::File::create(path)?);
            writeln!(file, "{MAGIC} {}", self.run)?;
            for device in &self.devices {
                let open = device.open.to_text();
                let open = if open.is_empty() { "-" } else { &open };
                writeln!(file, "{} {} {open}", device.id, device.sent)?;
            }
            file.flush()
        };
        write().with_context(|| format!("writing {}", path.display()))
    }

    /// Reads the file.
    pub fn read(path: &Path) -> Result<Self> {
        let file = std::fs::File::open(path).with_context(|| format!("reading {}", path.display()))?;
        let mut lines = BufReader::new(file).lines();
        let first = lines.next().transpose()?.unwrap_or_default();
        let run = first
            .strip_prefix(MAGIC)
            .with_context(|| format!("{} is no file of `pub --acked`", path.display()))?;
        let mut promises = Self {
            run: run.trim().to_owned(),
            devices: Vec::new(),
        };
        for (number, line) in lines.enumerate() {
            let line = line?;
            let promise = read_line(&line)
                .with_context(|| format!("{} line {}: {line}", path.display(), number + 2))?;
            promises.devices.push(promise);
        }
        Ok(promises)
    }
}

fn read_line(line: &str) -> Option<Promise> {
    let mut words = line.split(' ');
    let (id, sent, open) = (words.next()?, words.next()?, words.next()?);
    let open = Ranges::from_text(if open == "-" { "" } else { open })?;
    Some(Promise {
        id: id.to_owned(),
        sent: sent.parse().ok()?,
        open,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let path = std::env::temp_dir().join(format!("forebay-bench-acked-{}", std::process::id()));
        let device = |id: &str, sent, open| Promise {
            id: id.to_owned(),
            sent,
            open: Ranges::from_text(open).unwrap(),
        };
        let promises = Promises {
            run: "r1".to_owned(),
            devices: vec![device("d0", 9, ""), device("d1", 7, "3,5-6")],
        };
        promises.write(&path).unwrap();
        let read = Promises::read(&path).unwrap();
        std::fs::write(&path, "d0 9 -\n").unwrap();
        let other = Promises::read(&path);
        std::fs::remove_file(&path).unwrap();
        assert_eq!(read, promises);
        assert!(other.is_err());
        assert!(read_line("d0 9").is_none() && read_line("d0 x -").is_none());
    }
}
