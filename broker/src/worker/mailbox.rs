//! What other threads hand to a worker: sockets from the listener or another worker, and deliveries from the
//! publishers of other workers. Nobody waits for it: deliveries above the bound are refused and counted.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};

use crate::bus::report::ReportSlot;
use crate::connection::Accepted;
use crate::hub::Match;
use crate::session::Message;

/// Deliveries that may wait for one worker.
const MAX_DELIVERIES: usize = 262_144;

/// One message for one subscriber of another worker.
#[derive(Debug, Clone)]
pub(crate) struct Delivery {
    pub message: Arc<Message>,
    pub to: Match,
}

/// One worker's mailbox. Sockets have no bound of their own: each holds a connection permit.
#[derive(Debug)]
pub(crate) struct Mailbox {
    queues: Mutex<Mail>,
    slot: Arc<ReportSlot>,
}

/// What was in the mailbox.
#[derive(Debug, Default)]
pub(crate) struct Mail {
    pub sockets: VecDeque<Box<Accepted>>,
    pub deliveries: Vec<Delivery>,
}

impl Mailbox {
    /// A mailbox whose worker is woken through `slot`.
    pub fn new(slot: Arc<ReportSlot>) -> Self {
        Self {
            queues: Mutex::default(),
            slot,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Mail> {
        self.queues.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Hands over a socket.
    pub fn put_socket(&self, socket: Box<Accepted>) {
        self.lock().sockets.push_back(socket);
        self.slot.waker.wake();
    }

    /// Hands over deliveries and empties `batch`. Returns how many found no room and are lost.
    pub fn put_deliveries(&self, batch: &mut Vec<Delivery>) -> usize {
        let mut queues = self.lock();
        let room = MAX_DELIVERIES.saturating_sub(queues.deliveries.len());
        let lost = batch.len().saturating_sub(room);
        batch.truncate(batch.len() - lost);
        queues.deliveries.append(batch);
        drop(queues);
        self.slot.waker.wake();
        lost
    }

    /// Lets the worker look at what changed outside its mailbox.
    pub fn wake(&self) {
        self.slot.waker.wake();
    }

    /// Takes all that waits.
    pub fn take(&self) -> Mail {
        std::mem::take(&mut *self.lock())
    }
}
