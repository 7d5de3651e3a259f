//! What other threads hand to a worker: sockets from the listener or another worker, and deliveries from the
//! publishers of other workers. Nobody waits for it: deliveries above the bound are refused and counted.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};

use crate::bus::report::ReportSlot;
use crate::connection::Accepted;
use crate::hub::{Match, Share, SubscriberId};
use crate::record::Origin;
use crate::session::Message;

/// Deliveries that may wait for one worker.
const MAX_DELIVERIES: usize = 262_144;

/// Bytes of the messages that may wait for one worker.
const MAX_BYTES: usize = 64 * 1024 * 1024;

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
    /// Messages of kept sessions that found no room: the store is to be told.
    pub lost: Vec<(SubscriberId, Origin, Option<Share>)>,
    /// What the messages to deliver take.
    bytes: usize,
}

impl Mail {
    /// Bounded too: beyond that the store keeps a message that was lost here, and sends it after the next restart.
    fn note_lost(&mut self, delivery: &Delivery) {
        let share = delivery.to.share.as_ref();
        let stored = share.map_or(delivery.to.kept, |share| share.owed);
        if let Some(origin) = delivery.message.origin
            && stored
            && self.lost.len() < MAX_DELIVERIES
        {
            self.lost.push((delivery.to.who, origin, share.cloned()));
        }
    }
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
        self.slot.wake();
    }

    /// Hands over deliveries and empties `batch`; those that found no room go to `refused`.
    pub fn put_deliveries(&self, batch: &mut Vec<Delivery>, refused: &mut Vec<Delivery>) {
        let mut mail = self.lock();
        for delivery in batch.drain(..) {
            // Deliveries of one message follow each other and share its bytes.
            let shared = mail
                .deliveries
                .last()
                .is_some_and(|last| Arc::ptr_eq(&last.message, &delivery.message));
            let bytes = if shared { 0 } else { delivery.message.cost() };
            if mail.deliveries.len() >= MAX_DELIVERIES || mail.bytes + bytes > MAX_BYTES {
                refused.push(delivery);
                continue;
            }
            mail.bytes += bytes;
            mail.deliveries.push(delivery);
        }
        drop(mail);
        self.slot.wake();
    }

    /// A delivery that was refused goes to nobody else.
    pub fn note_lost(&self, delivery: &Delivery) {
        self.lock().note_lost(delivery);
    }

    /// Lets the worker look at what changed outside its mailbox.
    pub fn wake(&self) {
        self.slot.wake();
    }

    /// Takes all that waits.
    pub fn take(&self) -> Mail {
        std::mem::take(&mut *self.lock())
    }
}
