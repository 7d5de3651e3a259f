//! The messages that sessions and topics refer to: each once, with a count of who does. Their text and bytes are here
//! only until they are in the file.

use std::collections::HashMap;

use ahash::RandomState;

use crate::codec::QoS;
use crate::record::Origin;
use crate::store::rows;

/// Number and bytes of a message as the file has it.
pub type Row = (u64, Box<[u8]>);

/// One message.
#[derive(Debug, Clone)]
pub(crate) struct Shared {
    pub origin: Origin,
    pub qos: QoS,
    /// RETAIN as it was published.
    pub retain: bool,
    /// What it counts for in the bounds of queues.
    pub cost: usize,
    /// Queues and topics that refer to it.
    pub references: u32,
    /// Its row, until it is handed to a commit.
    pub row: Option<Box<[u8]>>,
}

/// All messages by their numbers.
#[derive(Debug, Default)]
pub(crate) struct Messages {
    all: HashMap<u64, Shared, RandomState>,
    /// Those whose row is here, and some that were.
    fresh: Vec<u64>,
    fresh_bytes: usize,
    /// Those that are in the file and are needed no more.
    gone: Vec<u64>,
    /// The topics of those whose rows were handed out last.
    recent: HashMap<u64, Box<str>, RandomState>,
}

impl Messages {
    /// Enters a message with its row; nobody refers to it yet.
    pub fn insert(&mut self, number: u64, message: Shared) {
        self.fresh_bytes += message.row.as_ref().map_or(0, |row| row.len());
        self.fresh.extend(message.row.is_some().then_some(number));
        self.all.insert(number, message);
    }

    /// One message.
    pub fn get(&self, number: u64) -> Option<&Shared> {
        self.all.get(&number)
    }

    /// The topic of a message that has come lately: the file has it before long, and it is not kept here besides.
    pub fn topic(&self, number: u64) -> Option<&str> {
        let row = self.all.get(&number)?.row.as_deref();
        row.and_then(rows::topic)
            .or_else(|| self.recent.get(&number).map(|topic| &**topic))
    }

    /// One more refers to it; what it costs.
    pub fn refer(&mut self, number: u64) -> usize {
        self.all.get_mut(&number).map_or(0, |message| {
            message.references += 1;
            message.cost
        })
    }

    /// One fewer refers to it: it goes with the last. What it costs.
    pub fn release(&mut self, number: u64) -> usize {
        let Some(message) = self.all.get_mut(&number) else {
            return 0;
        };
        message.references = message.references.saturating_sub(1);
        let cost = message.cost;
        if message.references == 0 {
            self.drop_unused(number);
        }
        cost
    }

    /// Drops a message that nobody refers to.
    pub fn drop_unused(&mut self, number: u64) {
        if self.all.get(&number).is_none_or(|message| message.references > 0) {
            return;
        }
        match self.all.remove(&number).and_then(|message| message.row) {
            Some(row) => self.fresh_bytes -= row.len(), // the file has never seen it
            None => self.gone.push(number),
        }
    }

    /// Messages that are known.
    pub fn numbers(&self) -> Vec<u64> {
        self.all.keys().copied().collect()
    }

    /// Rows that wait for a commit, in bytes, and changes in number.
    pub fn pending(&self) -> (usize, usize) {
        (self.fresh_bytes, self.fresh.len() + self.gone.len())
    }

    /// Copies of the rows that wait for a commit.
    pub fn fresh_rows(&self) -> Vec<Row> {
        let row = |number: &u64| Some((*number, self.all.get(number)?.row.clone()?));
        self.fresh.iter().filter_map(row).collect()
    }

    /// Takes the rows that the file does not have, and the numbers of those that it need not have any more.
    pub fn take_changes(&mut self) -> (Vec<Row>, Vec<u64>) {
        self.fresh_bytes = 0;
        self.recent.clear();
        let fresh = std::mem::take(&mut self.fresh);
        let rows = fresh.into_iter().filter_map(|number| {
            let row = self.all.get_mut(&number)?.row.take()?;
            self.recent
                .extend(rows::topic(&row).map(|topic| (number, topic.into())));
            Some((number, row))
        });
        (rows.collect(), std::mem::take(&mut self.gone))
    }
}
