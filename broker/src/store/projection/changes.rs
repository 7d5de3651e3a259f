//! What a commit writes: rows to be put and keys to be removed. The removals go first: a session's number, or a packet
//! id, may be in use again.

use std::sync::Arc;

use super::Projection;
use super::session::{Number, Saved};
use crate::spool::Position;
use crate::store::rows;

/// Everything that changed since the last commit.
#[derive(Debug, Default)]
pub(crate) struct ChangeSet {
    /// Everything below is in it: where the log is read on.
    pub applied: Option<Position>,
    /// The number that the next message, or place in a queue, gets.
    pub next_number: u64,
    pub remove: Removals,
    pub put: Rows,
}

impl ChangeSet {
    /// Whether it moves the position on at most.
    pub fn is_empty(&self) -> bool {
        self.size().0 == 0
    }

    /// Changes, and the bytes of messages among them.
    pub fn size(&self) -> (usize, usize) {
        let (remove, put) = (&self.remove, &self.put);
        let removed = remove.sessions.len()
            + remove.wills.len()
            + remove.subscriptions.len()
            + remove.queue.len()
            + remove.messages.len()
            + remove.taken.len()
            + remove.retained.len();
        let written = put.sessions.len()
            + put.wills.len()
            + put.subscriptions.len()
            + put.queue.len()
            + put.messages.len()
            + put.taken.len()
            + put.retained.len();
        let bytes = put.messages.iter().map(|(_, row)| row.len()).sum();
        (removed + written, bytes)
    }
}

/// Keys of rows that are needed no more, or that may be.
#[derive(Debug, Default)]
pub(crate) struct Removals {
    pub sessions: Vec<Number>,
    pub wills: Vec<Number>,
    pub subscriptions: Vec<(Number, Box<str>)>,
    pub queue: Vec<(Number, u64)>,
    pub messages: Vec<u64>,
    pub taken: Vec<(Number, u16)>,
    pub retained: Vec<Arc<str>>,
}

/// Rows as they are to stand.
#[derive(Debug, Default)]
pub(crate) struct Rows {
    pub sessions: Vec<(Number, Vec<u8>)>,
    pub wills: Vec<(Number, Vec<u8>)>,
    pub subscriptions: Vec<(Number, Box<str>, Vec<u8>)>,
    pub queue: Vec<(Number, u64, Vec<u8>)>,
    pub messages: Vec<(u64, Box<[u8]>)>,
    pub taken: Vec<(Number, u16, Vec<u8>)>,
    pub retained: Vec<(Arc<str>, u64)>,
}

/// Names of what changed, until a commit looks at how it stands. A name may stand here twice, or for something that is
/// gone.
#[derive(Debug, Default)]
pub(super) struct Touched {
    pub rows: Vec<Number>,
    pub wills: Vec<Number>,
    pub subscriptions: Vec<(Number, Box<str>)>,
    pub queues: Vec<Number>,
    pub queue_changes: usize,
    pub queue_gone: Vec<(Number, u64)>,
    pub taken: Vec<(Number, u16)>,
    pub taken_gone: Vec<(Number, u16)>,
}

impl Projection {
    /// Changes that wait for a commit: about how many, and the bytes of messages among them.
    pub fn pending(&self) -> (usize, usize) {
        let touched = &self.touched;
        let (bytes, messages) = self.messages.pending();
        let count = touched.rows.len()
            + touched.wills.len()
            + touched.subscriptions.len()
            + touched.queue_changes
            + touched.queue_gone.len()
            + touched.taken.len()
            + touched.taken_gone.len()
            + self.retained.pending()
            + messages;
        (count, bytes)
    }

    /// Takes what changed since the last call. The caller makes it durable, in order, before the log is released.
    pub fn take_changes(&mut self) -> ChangeSet {
        let touched = std::mem::take(&mut self.touched);
        let mut set = ChangeSet {
            applied: self.applied,
            next_number: self.next_number,
            ..ChangeSet::default()
        };
        (set.put.messages, set.remove.messages) = self.messages.take_changes();
        for (topic, message) in self.retained.take_changes() {
            match message {
                Some(message) => set.put.retained.push((topic, message)),
                None => set.remove.retained.push(topic),
            }
        }
        set.remove.queue = touched.queue_gone;
        for number in touched.queues {
            self.take_queue(number, &mut set);
        }
        for (number, filter) in touched.subscriptions {
            let held = self.session(number).and_then(|session| session.held(&filter));
            match held.map(rows::subscription) {
                Some(row) => set.put.subscriptions.push((number, filter, row)),
                None => set.remove.subscriptions.push((number, filter)),
            }
        }
        set.remove.taken = touched.taken_gone;
        for (number, packet_id) in touched.taken {
            self.take_taken(number, packet_id, &mut set);
        }
        for number in touched.wills {
            let will = self.session(number).and_then(|session| session.will.as_deref());
            match will.map(|will| rows::will(&will.as_record())) {
                Some(row) => set.put.wills.push((number, row)),
                None => set.remove.wills.push(number),
            }
        }
        // Last: a session's row goes along with its queue.
        for number in touched
            .rows
            .into_iter()
            .chain(std::mem::take(&mut self.touched.rows))
        {
            match self.sessions.get_mut(number as usize) {
                Some(session) => {
                    session.row_touched = false;
                    set.put.sessions.push((number, rows::session(session)));
                }
                None => set.remove.sessions.push(number),
            }
        }
        set
    }

    fn take_queue(&mut self, number: Number, set: &mut ChangeSet) {
        let Some(session) = self.sessions.get_mut(number as usize) else {
            return;
        };
        session.queue_touched = false;
        let mut sent = false;
        for queued in session
            .queue
            .iter_mut()
            .filter(|queued| queued.saved != Saved::Yes)
        {
            queued.saved = Saved::Yes;
            sent |= queued.packet_id.is_some();
            set.put.queue.push((number, queued.order, rows::queued(queued)));
        }
        if sent {
            self.touch_row(number); // the packet id that was used last is in it
        }
    }

    fn take_taken(&mut self, number: Number, packet_id: u16, set: &mut ChangeSet) {
        let Some(session) = self.sessions.get_mut(number as usize) else {
            return;
        };
        let found = session.find_taken(packet_id);
        if let Some(taken) = found.ok().and_then(|at| session.taken.get_mut(at))
            && !std::mem::replace(&mut taken.saved, true)
        {
            set.put.taken.push((number, packet_id, rows::taken(&taken.id)));
        }
    }
}
