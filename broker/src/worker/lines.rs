//! The connections over plain sockets that stand: a worker polls them itself, off one epoll of its own that lies in the
//! runtime's. A task for each, with the runtime's record of its socket, would cost more memory than the connection, and
//! more time than most packets.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use slab::Slab;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::Worker;
use crate::codec::Reason;
use crate::connection::Connection;
use crate::listener::told::News;

/// Lines that are polled for one reason before the worker looks at its mail and its reports again.
const AT_ONCE: usize = 128;

/// Lines, or sessions, whose memory is fetched together before it is used.
pub(super) const WARMED: usize = 16;

/// No line.
const NONE: u32 = u32::MAX;

thread_local! {
    /// Lines of this thread's worker that are to be polled though their sockets say nothing.
    static CALLED: RefCell<VecDeque<u32>> = const { RefCell::new(VecDeque::new()) };
}

/// What a session and its connection have in common.
#[derive(Debug)]
pub(crate) struct Tie {
    kick: Cell<Option<Reason>>,
    line: Cell<u32>,
    is_called: Cell<bool>,
}

impl Default for Tie {
    fn default() -> Self {
        Self {
            kick: Cell::new(None),
            line: Cell::new(NONE),
            is_called: Cell::new(false),
        }
    }
}

impl Tie {
    /// Why the connection must end: taken over, timed out, shut down.
    pub fn kicked(&self) -> Option<Reason> {
        self.kick.get()
    }

    /// The connection must end.
    pub fn kick(&self, reason: Reason) {
        self.kick.set(Some(reason));
    }

    /// Has the connection polled soon, if it is a line.
    pub fn call(&self) {
        if self.line.get() != NONE && !self.is_called.replace(true) {
            CALLED.with_borrow_mut(|called| called.push_back(self.line.get()));
        }
    }

    /// It is polled now: whoever calls from now on wants it to be polled again.
    pub fn come(&self) {
        self.is_called.set(false);
    }
}

/// Readable while sockets of lines have something to say.
pub(super) type Sockets = AsyncFd<Rc<OwnedFd>>;

/// The lines of one worker.
pub(super) struct Lines {
    epoll: Rc<OwnedFd>,
    events: Cell<Vec<Event>>,
    lines: RefCell<Slab<Connection>>,
    /// Room for those that are called next.
    spare: Cell<Vec<u32>>,
}

impl Lines {
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            epoll: Rc::new(epoll::create(CreateFlags::CLOEXEC)?),
            events: Cell::new(Vec::with_capacity(AT_ONCE)),
            lines: RefCell::default(),
            spare: Cell::default(),
        })
    }

    /// The epoll among what the runtime waits for.
    #[expect(
        deprecated,
        reason = "what takes its place is unsafe for descriptors that may close: this one is kept open"
    )]
    pub fn in_runtime(&self) -> io::Result<Sockets> {
        AsyncFd::with_interest(self.epoll.clone(), Interest::READABLE)
    }

    /// Takes over a connection over a plain socket, and polls it.
    pub fn adopt(&self, mut connection: Connection) {
        let mut lines = self.lines.borrow_mut();
        let entry = lines.vacant_entry();
        let key = entry.key();
        let wanted = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        let added = connection.become_told().and_then(|told| {
            Ok(epoll::add(
                &*self.epoll,
                told,
                EventData::new_u64(key as u64),
                wanted,
            )?)
        });
        connection.tie().line.set(key as u32); // of which there are fewer than file descriptors
        entry.insert(connection);
        drop(lines);
        match added {
            Ok(()) => self.poll(key, None),
            Err(error) => {
                tracing::warn!(%error, "closed: the socket can't be looked after");
                drop(self.take(key));
            }
        }
    }

    /// Polls those whose sockets have something to say. Whether there may be more of them.
    pub fn hear(&self, worker: &Worker) -> bool {
        let mut events = self.events.take();
        events.clear();
        let at_once = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        let heard = epoll::wait(
            &*self.epoll,
            rustix::buffer::spare_capacity(&mut events),
            Some(&at_once),
        );
        let is_all = heard.is_ok() && events.len() < events.capacity();
        for some in events.chunks(WARMED) {
            self.warm(worker, some.iter().map(|event| event.data.u64() as usize));
            for event in some {
                self.poll(event.data.u64() as usize, Some(news(event.flags)));
            }
        }
        self.events.set(events);
        !is_all
    }

    /// Polls those that were called, the first of them.
    pub fn come(&self, worker: &Worker) {
        let mut called = self.spare.take();
        CALLED.with_borrow_mut(|waiting| called.extend(waiting.drain(..waiting.len().min(AT_ONCE))));
        for some in called.chunks(WARMED) {
            self.warm(worker, some.iter().map(|&key| key as usize));
            for &key in some {
                self.poll(key as usize, None);
            }
        }
        called.clear();
        self.spare.set(called);
    }

    /// Reads from each of these what polling it begins with: none of it is in a near cache, and what does not depend on each
    /// other is fetched at once.
    fn warm(&self, worker: &Worker, keys: impl Iterator<Item = usize> + Clone) {
        let lines = self.lines.borrow();
        let lines = keys.filter_map(|key| lines.get(key));
        let touched = lines.clone().fold(0, |sum, line| sum ^ line.warm());
        let slots = lines.map(|line| line.at().slot);
        std::hint::black_box(touched ^ worker.with(|state| state.warm(slots)));
    }

    /// Whether any are called.
    pub fn is_called(&self) -> bool {
        CALLED.with_borrow(|called| !called.is_empty())
    }

    /// A panic in a connection ends this connection only, as that of a task would.
    fn poll(&self, key: usize, news: Option<News>) {
        let mut lines = self.lines.borrow_mut();
        let Some(connection) = lines.get_mut(key) else {
            return;
        }; // it ended since
        match news {
            Some(news) if !connection.hear(news) => return,
            Some(_) => {} // if it is called too it stands there once, and is polled again
            None => connection.tie().come(),
        }
        let mut cx = Context::from_waker(Waker::noop());
        let end = match catch_unwind(AssertUnwindSafe(|| connection.poll(&mut cx))) {
            Ok(Poll::Pending) => return,
            Ok(Poll::Ready(end)) => Some(end),
            Err(_) => None,
        };
        drop(lines);
        let ended = self.take(key).zip(end);
        let _ = catch_unwind(AssertUnwindSafe(|| {
            ended.map(|(connection, end)| connection.finish(end))
        }));
    }

    fn take(&self, key: usize) -> Option<Connection> {
        let mut connection = self.lines.borrow_mut().try_remove(key)?;
        if let Some(told) = connection.told() {
            let _ = epoll::delete(&*self.epoll, told); // it may linger, of which nobody is to hear here
        }
        connection.tie().line.set(NONE);
        Some(connection)
    }

    /// Drops them all.
    pub fn clear(&self) {
        drop(self.lines.take());
        CALLED.take();
    }
}

fn news(flags: EventFlags) -> News {
    let has_failed = flags.intersects(EventFlags::ERR);
    News {
        is_readable: flags.intersects(EventFlags::IN),
        is_writable: flags.intersects(EventFlags::OUT),
        has_ended: has_failed || flags.intersects(EventFlags::RDHUP | EventFlags::HUP),
        has_failed,
    }
}
