//! The one place where a socket and a session meet: one task per connection, one loop that reads what is there, feeds
//! every packet, writes once. An idle connection owns no buffer.

mod ahead;
mod exchange;
mod handshake;
mod intake;
mod pace;
mod watch;

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

pub(crate) use ahead::read_ahead;

use crate::codec::{Reason, Version};
use crate::listener::told::{News, Told};
use crate::listener::transport::{Detached, Transport, yield_to_others};
use crate::listener::{Permits, Seat};
use crate::metrics::Closed;
use crate::session::{Detach, of_end, put_disconnect};
use crate::worker::{Attached, SessionRef, Stage, State, Tie, Worker};
use intake::Intake;
use watch::Watch;

/// Reads of one connection in one turn, before others get theirs.
const READS_PER_TURN: usize = 4;

/// Bytes that are gathered for one write.
const WRITE_BYTES: usize = 64 * 1024;

/// A partial frame up to this size is put in front of the next read; a larger one is read on behind itself.
const PREFIX_BYTES: usize = 8 * 1024;

/// A socket on its way to the worker that will serve it.
#[derive(Debug)]
pub(crate) struct Accepted {
    pub stream: Detached,
    /// Its address, or the one that a PROXY header states.
    pub peer: SocketAddr,
    /// Index of its listener in the configuration.
    pub listener: usize,
    pub permits: Permits,
    /// What the listener or another worker has read already: what came behind a PROXY header; the CONNECT, and what
    /// came with it.
    pub read: Vec<u8>,
    /// When CONNECT must be whole.
    pub deadline: Instant,
}

/// Why a connection ends.
#[derive(Debug)]
pub(crate) enum End {
    /// The client sent DISCONNECT.
    Disconnected { with_will: bool },
    /// The peer is gone, or the socket failed.
    Lost,
    /// The client broke the protocol, or the broker ends it for this reason.
    Closed(Reason, &'static str),
    /// The session has another connection now, or the broker stops.
    Kicked(Reason),
}

impl End {
    fn in_short(&self) -> Closed {
        match self {
            Self::Disconnected { .. } => Closed::Disconnect,
            Self::Lost => Closed::Lost,
            Self::Closed(..) => Closed::Protocol,
            Self::Kicked(Reason::SessionTakenOver) => Closed::TakenOver,
            Self::Kicked(Reason::KeepAliveTimeout) => Closed::KeepAlive,
            Self::Kicked(Reason::ServerShuttingDown) => Closed::Shutdown,
            Self::Kicked(_) => Closed::Other,
        }
    }
}

/// Serves one socket from its first byte to its last.
pub(crate) fn serve(worker: Rc<Worker>, accepted: Box<Accepted>) -> impl Future<Output = ()> {
    Serve::Called(worker, accepted)
}

/// A connection's task, written by hand: what the compiler makes of the same steps keeps room for all of them at once.
enum Serve {
    /// Of those that come at once most have sent their CONNECT: they need no more than one handshake's memory, in turn.
    Called(Rc<Worker>, Box<Accepted>),
    Arriving(Pin<Box<dyn Future<Output = Option<Connection>>>>),
    Standing(Connection),
    Gone,
}

impl Future for Serve {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        if matches!(this, Self::Called(..))
            && let Self::Called(worker, accepted) = std::mem::replace(this, Self::Gone)
        {
            *this = Self::Arriving(Box::pin(handshake::connect(worker, accepted)));
        }
        if let Self::Arriving(handshake) = this {
            *this = match ready!(handshake.as_mut().poll(cx)) {
                Some(connection) if connection.is_plain() => {
                    let worker = connection.worker.clone();
                    worker.adopt(connection);
                    Self::Gone
                }
                Some(connection) => Self::Standing(connection),
                None => Self::Gone,
            };
        }
        if let Self::Standing(connection) = this {
            let end = ready!(connection.poll(cx));
            if let Self::Standing(connection) = std::mem::replace(this, Self::Gone) {
                connection.finish(end);
            }
        }
        Poll::Ready(())
    }
}

/// One connected client. Over a plain socket its worker polls it ([`Told`]), else its own task.
pub(crate) struct Connection {
    worker: Rc<Worker>,
    stream: Transport,
    at: SessionRef,
    tie: Rc<Tie>,
    version: Version,
    registered: bool,
    /// The peer sends nothing more.
    eof: bool,
    /// The session was given back.
    ended: bool,
    intake: Intake,
    out: Vec<u8>,
    written: u32,
    seat: Option<Seat>,
    /// Has the socket while nothing is read from it.
    watch: Option<Box<Watch>>,
}

impl Connection {
    fn new(
        worker: Rc<Worker>,
        stream: Transport,
        joined: Attached,
        version: Version,
        intake: Intake,
        seat: Seat,
    ) -> Self {
        Self {
            worker,
            stream,
            at: joined.at,
            tie: joined.tie,
            version,
            registered: false,
            eof: false,
            ended: false,
            intake,
            out: Vec::new(),
            written: 0,
            seat: Some(seat),
            watch: None,
        }
    }

    /// Whether nothing but its socket and its session ever has something for it.
    fn is_plain(&self) -> bool {
        self.stream.is_plain() && !self.intake.has_method()
    }

    /// From now on who polls it tells it of its socket.
    pub fn become_told(&mut self) -> io::Result<&Told> {
        self.registered = true; // it is called by its tie
        self.stream = std::mem::replace(&mut self.stream, Transport::Closed).into_told()?;
        self.told()
            .map(|told| &*told)
            .ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    /// Its socket, if it is told of it.
    pub fn told(&mut self) -> Option<&mut Told> {
        self.stream.told()
    }

    /// What it has in common with its session.
    pub fn tie(&self) -> &Tie {
        &self.tie
    }

    /// Its session.
    pub fn at(&self) -> SessionRef {
        self.at
    }

    /// Reads a little of all its memory.
    pub fn warm(&self) -> u32 {
        self.written
            ^ u32::from(self.eof)
            ^ u32::from(self.intake.is_clear())
            ^ u32::from(self.tie.kicked().is_some())
    }

    /// What the kernel says of its socket. Whether it is to be polled.
    pub fn hear(&mut self, news: News) -> bool {
        self.told().is_some_and(|told| told.hear(news))
    }

    /// Reads, handles and writes what there is.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        if !self.registered {
            self.registered = true;
            let waker = cx.waker().clone();
            self.worker.with(|state| state.register(self.at, waker));
        }
        let has_failed = self.watch.take().is_some_and(|watch| {
            let (stream, has_failed) = watch.end(cx);
            self.stream = stream;
            has_failed
        });
        if let Some(reason) = self.tie.kicked() {
            return Poll::Ready(End::Kicked(reason));
        }
        if has_failed {
            return Poll::Ready(End::Lost);
        }
        self.worker.tick_on();
        for _ in 0..READS_PER_TURN {
            if let Err(end) = self.poll_waiting(cx) {
                return Poll::Ready(end);
            }
            if self.eof && self.intake.is_clear() {
                return Poll::Ready(End::Lost);
            }
            let full = self.intake.is_full() || self.is_too_fast();
            // A peer that takes nothing for long is the system's to give up (TCP_USER_TIMEOUT).
            let held = full || !self.out.is_empty() || self.intake.has_left();
            let held = self.worker.with(|state| state.must_hold(self.at, held));
            if held || self.eof || self.worker.shared.is_past(Stage::Quiet) {
                return self.look_after(cx); // woken by room, by an acknowledgement, by the socket taking more, or kicked
            }
            match self.poll_read(cx) {
                Poll::Pending => return self.flush_acks(cx),
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(end)) => return Poll::Ready(end),
            }
        }
        match self.stream.is_told() {
            true => self.tie.call(),
            false => yield_to_others(cx),
        }
        self.flush_acks(cx)
    }

    /// Waits with nothing read: for what wakes it, or for the peer's reset. Where something waits to be written, the socket
    /// tells of that in any case. A client that has sent DISCONNECT may go as it likes: what it sent before is handled first; so is
    /// what only waits for its time.
    fn look_after(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        let _ = Pin::new(&mut self.stream).poll_flush(cx); // an answer to a ping; a fault shows at the next read
        if let Some(told) = self.told() {
            told.hold();
        }
        if !self.out.is_empty() || self.intake.has_left() || self.intake.resumes_at().is_some() {
            return Poll::Pending;
        }
        if let Some(told) = self.told() {
            return match told.has_failed() {
                true => Poll::Ready(End::Lost),
                false => Poll::Pending,
            };
        }
        let mut watch = Watch::over(std::mem::replace(&mut self.stream, Transport::Closed));
        match watch.poll(cx) {
            Poll::Ready(stream) => {
                self.stream = stream;
                Poll::Ready(End::Lost)
            }
            Poll::Pending => {
                self.watch = Some(Box::new(watch));
                Poll::Pending
            }
        }
    }

    /// Writes what the session has to say, then handles what waits as far as there is room. What is acknowledged makes
    /// room, which nobody tells of, and what is handled may be acknowledged at once: so until nothing moves any more.
    fn poll_waiting(&mut self, cx: &mut Context<'_>) -> Result<(), End> {
        loop {
            self.intake.poll_auth(&self.worker, self.at, cx)?;
            self.poll_say(cx)?;
            let before = self.intake.waiting_bytes();
            self.intake.retry(&self.worker, self.at, self.version)?;
            if self.intake.waiting_bytes() == before {
                return Ok(());
            }
        }
    }

    /// Whether a packet waits for its time; the connection is woken then.
    fn is_too_fast(&mut self) -> bool {
        self.intake
            .resumes_at()
            .is_some_and(|resume_ms| self.worker.with(|state| state.resume_at(self.at, resume_ms)))
    }

    /// What this turn's packets were answered with, written before the task sleeps.
    fn flush_acks(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        match self.poll_say(cx) {
            Ok(()) => Poll::Pending,
            Err(end) => Poll::Ready(end),
        }
    }

    /// Writes what the session has to say. That nobody hears a client that has sent DISCONNECT ends nothing: what it sent
    /// before counts.
    fn poll_say(&mut self, cx: &mut Context<'_>) -> Result<(), End> {
        match self.poll_write(cx) {
            Ok(()) => Ok(()),
            Err(_) if self.intake.has_left() => {
                (self.out, self.written) = (Vec::new(), 0);
                Ok(())
            }
            Err(_) => Err(End::Lost),
        }
    }

    /// Reads once and handles what came.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), End>> {
        let mut scratch = self.worker.lend_scratch();
        let before = self.intake.partial_bytes();
        let prefix = self.intake.prefix_into(&mut scratch, PREFIX_BYTES);
        let read = {
            let mut buffer = ReadBuf::new(scratch.get_mut(prefix..).unwrap_or_default());
            match Pin::new(&mut self.stream).poll_read(cx, &mut buffer) {
                Poll::Pending => None,
                Poll::Ready(result) => Some(result.map(|()| buffer.filled().len())),
            }
        };
        let outcome = match read {
            None => {
                self.intake.keep(scratch.get(..prefix).unwrap_or_default());
                Poll::Pending
            }
            Some(Err(_)) => Poll::Ready(Err(End::Lost)),
            Some(Ok(0)) => {
                self.eof = true;
                Poll::Ready(Ok(()))
            }
            Some(Ok(count)) => {
                let bytes = scratch.get(..prefix + count).unwrap_or_default();
                let quiet_ms = self.worker.with(|state| state.touch(self.at, count));
                let fed = self.intake.feed(&self.worker, self.at, self.version, bytes);
                if self.intake.drips(before, count) {
                    self.worker.with(|state| state.untouch(self.at, quiet_ms));
                }
                Poll::Ready(fed)
            }
        };
        self.worker.return_scratch(scratch);
        outcome
    }

    /// Writes what the session has to say, until it has no more or the socket takes no more.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if !self.out.is_empty() && self.poll_write_out(cx)?.is_pending() {
            return Ok(());
        }
        loop {
            let mut out = self.worker.lend_out();
            let transmit = |state: &mut State| state.transmit(self.at, &mut out, WRITE_BYTES);
            let more = self.worker.with(transmit);
            if out.is_empty() {
                self.worker.return_out(out);
                return Ok(());
            }
            self.out = out;
            if self.poll_write_out(cx)?.is_pending() {
                self.keep_rest();
                return Ok(());
            }
            if !more {
                return Ok(());
            }
        }
    }

    /// A peer that takes nothing keeps what waits for it, not the room that the worker's buffer has grown to.
    fn keep_rest(&mut self) {
        let rest = self.out.get(self.written as usize..).unwrap_or_default();
        if self.out.capacity() > 2 * rest.len() + 1024 {
            let rest = rest.to_vec();
            self.worker.with(|state| state.sent(self.written as usize));
            self.written = 0;
            self.worker.return_out(std::mem::replace(&mut self.out, rest));
        }
    }

    /// An idle connection owns no buffer: it goes back to the worker once all of it is written.
    fn poll_write_out(&mut self, cx: &mut Context<'_>) -> io::Result<Poll<()>> {
        while let Some(rest) = self
            .out
            .get(self.written as usize..)
            .filter(|rest| !rest.is_empty())
        {
            match Pin::new(&mut self.stream).poll_write(cx, rest)? {
                Poll::Pending => return Ok(Poll::Pending),
                Poll::Ready(0) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(count) => self.written += count as u32, // of what was gathered, which is bounded
            }
        }
        self.worker.with(|state| state.sent(self.written as usize));
        self.written = 0;
        self.worker.return_out(std::mem::take(&mut self.out));
        Ok(Poll::Ready(()))
    }

    /// Says good-bye as far as the socket takes it at once, and gives the session back.
    pub fn finish(mut self, end: End) {
        self.worker.with(|state| state.count_closed(end.in_short()));
        let is_lost = matches!(end, End::Lost);
        let (reason, how) = match end {
            End::Kicked(Reason::SessionTakenOver) => (Some((Reason::SessionTakenOver, "")), None),
            End::Kicked(reason) => (Some((reason, of_end(reason))), Some(Detach::Lost)),
            End::Disconnected { with_will: true } => (None, Some(Detach::WithWill)),
            End::Disconnected { with_will: false } => (None, Some(Detach::Clean)),
            End::Lost => (None, Some(Detach::Lost)),
            End::Closed(reason, text) => {
                tracing::debug!(
                    reason = format_args!("0x{:02X}", reason as u8),
                    text,
                    "connection closed"
                );
                (Some((reason, text)), Some(Detach::Lost))
            }
        };
        if is_lost {
            self.out.clear();
            self.written = 0;
        } else if how.is_some() {
            self.worker
                .with(|state| state.transmit(self.at, &mut self.out, WRITE_BYTES));
        }
        self.say_good_bye(reason);
        self.ended = true;
        if let Some(how) = how {
            self.worker.with(|state| state.detach(self.at, how));
        }
    }

    /// What was to be written goes first, the answers to what came before the client's DISCONNECT too; a 5.0 client is
    /// told the reason (section 3.14), a 3.x client sees the socket close. Who is told something gets time to read it.
    fn say_good_bye(&mut self, reason: Option<(Reason, &str)>) {
        if let Some((reason, text)) = reason
            && self.version == Version::V5
        {
            let most = self.worker.with(|state| state.client_max_packet(self.at));
            let told = &self.worker.shared.config.told;
            put_disconnect(most, reason, text, told.reference_for(reason), &mut self.out);
        }
        let mut stream = std::mem::replace(&mut self.stream, Transport::Closed).at_rest();
        let mut last = std::mem::take(&mut self.out);
        last.drain(..last.len().min(self.written as usize));
        let is_told = !last.is_empty() || reason.is_some() || stream.is_websocket();
        let is_said = stream.say_last(&mut last);
        let seat = self.seat.take();
        if is_told && !(self.eof && is_said) {
            tokio::task::spawn_local(async move {
                stream.linger(last).await;
                drop(seat);
            });
        }
    }
}

impl Drop for Connection {
    /// A panic in this connection's task ends this connection only: its session is given back here.
    fn drop(&mut self) {
        if !self.ended && self.tie.kicked() != Some(Reason::SessionTakenOver) {
            self.worker.try_with(|state| state.detach(self.at, Detach::Lost));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Over a plain socket it stands in an array of its worker's, else in a task. tokio puts 96 bytes to that and rounds up to
    /// 128: with more than 160 it takes 384 bytes, not 256.
    #[test]
    fn a_connection_that_only_stands_costs_little() {
        let bytes = std::mem::size_of::<Connection>();
        assert!(bytes <= 160, "a connection takes {bytes} bytes");
        let bytes = std::mem::size_of::<Serve>();
        assert!(bytes <= 160, "the task of a connection takes {bytes} bytes");
    }
}
