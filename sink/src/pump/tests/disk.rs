//! A log for tests that outlives the pump: its readers begin where the last save stands, and a save can be made to fail.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use forebay_broker::bus::Chunk;
use forebay_broker::spool::memory::{self, MemoryLog, MemoryReader, MemoryWriter};
use forebay_broker::spool::{Entry, LogError, LogReader, LogScan, LogWriter};

#[derive(Debug, Default)]
pub(super) struct Saved {
    pub(super) committed: u64,
    pub(super) state: Vec<u8>,
    pub(super) saves: usize,
    pub(super) fails: bool,
    /// The chunk that begins here is damaged.
    pub(super) damaged: Option<u64>,
    /// Where each epoch begins; the first is 1.
    epochs: Vec<u64>,
}

/// The log.
pub(super) struct Disk {
    writer: MemoryWriter,
    log: MemoryLog,
    /// Reads nothing: what is committed is kept all the same.
    _all: MemoryReader,
    pub(super) saved: Arc<Mutex<Saved>>,
}

impl Disk {
    pub(super) fn new() -> Self {
        let (writer, log) = memory::open(1, 1 << 24);
        let saved = Saved {
            epochs: vec![0],
            ..Saved::default()
        };
        Self {
            writer,
            _all: log.reader(),
            log,
            saved: Arc::new(Mutex::new(saved)),
        }
    }

    pub(super) fn append(&mut self, chunk: &Chunk) {
        self.writer.append(chunk).unwrap();
    }

    /// Says where it ends.
    pub(super) fn end(&self) -> Box<dyn Fn() -> u64 + Send> {
        let log = self.log.clone();
        Box::new(move || log.status().durable_sequence)
    }

    pub(super) fn next_sequence(&self) -> u64 {
        self.log.status().next_sequence
    }

    /// The process starts again: what is appended from here on has the next epoch, which is returned.
    pub(super) fn restart(&self) -> u64 {
        let mut saved = self.saved.lock().unwrap();
        saved.epochs.push(self.next_sequence());
        saved.epochs.len() as u64
    }

    /// The reader of a new start.
    pub(super) fn reader(&self) -> DiskReader {
        let mut inner = self.log.reader();
        let saved = self.saved.lock().unwrap();
        inner.seek(saved.committed).unwrap();
        DiskReader {
            inner,
            begin: saved.committed,
            committed: saved.committed,
            state: saved.state.clone(),
            saved: Arc::clone(&self.saved),
        }
    }
}

pub(super) struct DiskReader {
    inner: MemoryReader,
    begin: u64,
    committed: u64,
    state: Vec<u8>,
    saved: Arc<Mutex<Saved>>,
}

fn epoch(mut entry: Entry, saved: &Mutex<Saved>) -> Entry {
    let saved = saved.lock().unwrap();
    let starts = saved
        .epochs
        .iter()
        .filter(|start| **start <= entry.first.sequence);
    entry.first.epoch = starts.count() as u64;
    entry
}

impl LogReader for DiskReader {
    fn read(&mut self, timeout: Duration) -> Result<Option<Entry>, LogError> {
        let mut entry = self.inner.read(timeout)?;
        let damaged = self.saved.lock().unwrap().damaged;
        if entry
            .as_ref()
            .is_some_and(|entry| Some(entry.first.sequence) == damaged)
        {
            entry = self.inner.read(timeout)?;
        }
        Ok(entry.map(|entry| epoch(entry, &self.saved)))
    }

    fn rest(&mut self, timeout: Duration) {
        self.inner.rest(timeout);
    }

    fn seek(&mut self, sequence: u64) -> Result<(), LogError> {
        self.inner.seek(sequence)
    }

    fn commit(&mut self, sequence: u64) -> Result<(), LogError> {
        assert!(sequence >= self.committed, "it only rises");
        self.committed = sequence;
        Ok(())
    }

    fn save(&mut self, state: &[u8]) -> Result<(), LogError> {
        let mut saved = self.saved.lock().unwrap();
        if saved.fails {
            return Err(LogError::Io("no space left on device".to_owned()));
        }
        saved.committed = self.committed;
        saved.state = state.to_vec();
        saved.saves += 1;
        self.state = state.to_vec();
        Ok(())
    }

    fn state(&self) -> &[u8] {
        &self.state
    }

    fn begin(&self) -> u64 {
        self.begin
    }

    fn scan(&self, sequence: u64) -> Result<Box<dyn LogScan>, LogError> {
        let saved = self.saved.lock().unwrap().committed;
        assert!(
            sequence >= saved,
            "what is saved as done is released: {sequence} is below {saved}"
        );
        Ok(Box::new(DiskScan {
            inner: self.inner.scan(sequence)?,
            saved: Arc::clone(&self.saved),
        }))
    }
}

struct DiskScan {
    inner: Box<dyn LogScan>,
    saved: Arc<Mutex<Saved>>,
}

impl LogScan for DiskScan {
    fn read(&mut self) -> Result<Option<Entry>, LogError> {
        let entry = self.inner.read()?;
        Ok(entry.map(|entry| epoch(entry, &self.saved)))
    }
}
