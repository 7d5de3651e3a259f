//! TLS on a socket, by rustls without buffers of its own: what came and what goes stands in this thread's buffer while it
//! is worked on, so that a connection which only stands holds its keys and nothing else.

mod accept;
mod failure;
mod files;
mod x509;

use std::cell::Cell;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncryptError, InsufficientSizeError, UnbufferedStatus,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::transport::{Transport, yield_to_others};

pub(crate) use accept::accept;
pub(crate) use files::Keys;
pub use files::{Checked, TlsFault, check};
pub use x509::validity;

/// Bytes that are read of a socket at once, at most.
const READ_BYTES: usize = 64 * 1024;

/// Bytes that are read at once, at least: few buffers are smaller.
const LEAST_READ_BYTES: usize = 4 * 1024;

/// Bytes that may wait for what makes them whole: a handshake's message of 64 KiB with what it comes in.
const MOST_COMING_BYTES: usize = 96 * 1024;

/// Bytes of MQTT in one record: small devices have small buffers for records, and say so by an extension that rustls does
/// not know (RFC 6066 section 4).
const RECORD_BYTES: usize = 4 * 1024;

/// Bytes that are encrypted at once.
const WRITE_BYTES: usize = 64 * 1024;

/// What a record has besides its bytes, with room to spare.
const RECORD_OVERHEAD: usize = 64;

/// Reads of the socket for one read of MQTT's bytes, before others get their turn: not every record brings some.
const READS_PER_TURN: u32 = 8;

/// The longest that a record may be, its five first bytes among them (RFC 5246 section 6.2.3; RFC 8446 allows less).
const MOST_RECORD_BYTES: usize = 5 + 16 * 1024 + 2048;

thread_local! {
    /// What is read before it is decrypted: one connection at a time needs it.
    static CIPHERTEXT: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// TLS on a plain socket, after its handshake.
#[derive(Debug)]
pub(crate) struct Tls {
    socket: Transport,
    session: Session,
}

/// The state of TLS without its socket.
pub(crate) struct Session {
    connection: UnbufferedServerConnection,
    /// What came and is no whole record or message yet.
    coming: Vec<u8>,
    /// What was decrypted and nobody has taken yet.
    plain: Vec<u8>,
    /// What waits for the socket, and how much of it was written.
    going: Vec<u8>,
    gone: usize,
    /// Bytes of the caller that stand in `going`.
    sending: usize,
    /// The peer sends nothing more.
    ended: bool,
    /// The peer was told that nothing more comes, or what is wrong.
    closed: bool,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").finish_non_exhaustive()
    }
}

/// What is to be said, once all that came is looked at.
#[derive(Clone, Copy)]
enum Say<'a> {
    Nothing,
    Bytes(&'a [u8]),
    /// That nothing more comes.
    Close,
}

impl Session {
    fn new(connection: UnbufferedServerConnection, coming: Vec<u8>) -> Self {
        Self {
            connection,
            coming,
            plain: Vec::new(),
            going: Vec::new(),
            gone: 0,
            sending: 0,
            ended: false,
            closed: false,
        }
    }

    /// Looks at `input`, gives what it decrypts to `take`, and puts into `going` what is to be sent, `say` at last.
    /// Returns how much of `input` is done with: what is left must come again in front of what comes next, since
    /// rustls knows its place in it.
    fn drive(
        &mut self,
        input: &mut [u8],
        mut say: Say<'_>,
        take: &mut dyn FnMut(&[u8]),
    ) -> (usize, Result<(), rustls::Error>) {
        let mut done = 0;
        loop {
            let rest = input.get_mut(done..).unwrap_or_default();
            let (discard, result) = self.advance(rest, &mut say, take);
            done += discard;
            match result {
                Ok(true) => {}
                Ok(false) => return (done, Ok(())),
                Err(error) => return (done, Err(error)),
            }
        }
    }

    /// One step of it: how much of `input` is done with, and whether there is more to do.
    fn advance(
        &mut self,
        input: &mut [u8],
        say: &mut Say<'_>,
        take: &mut dyn FnMut(&[u8]),
    ) -> (usize, Result<bool, rustls::Error>) {
        let UnbufferedStatus { mut discard, state } = self.connection.process_tls_records(input);
        let result = match state {
            Ok(ConnectionState::ReadTraffic(mut traffic)) => loop {
                match traffic.next_record() {
                    Some(Ok(record)) => {
                        discard += record.discard;
                        take(record.payload);
                    }
                    Some(Err(error)) => break Err(error),
                    None => break Ok(true),
                }
            },
            Ok(ConnectionState::EncodeTlsData(mut data)) => {
                put(&mut self.going, RECORD_OVERHEAD, |out| data.encode(out)).map(|()| true)
            }
            Ok(ConnectionState::TransmitTlsData(data)) => {
                data.done(); // it stands in `going`
                Ok(true)
            }
            Ok(ConnectionState::PeerClosed) => {
                self.ended = true;
                Ok(true)
            }
            Ok(ConnectionState::WriteTraffic(mut traffic)) => match std::mem::replace(say, Say::Nothing) {
                Say::Nothing => Ok(false),
                Say::Bytes(bytes) => bytes
                    .chunks(RECORD_BYTES)
                    .try_for_each(|piece| {
                        let room = piece.len() + RECORD_OVERHEAD;
                        put(&mut self.going, room, |out| traffic.encrypt(piece, out))
                    })
                    .map(|()| true),
                Say::Close => put(&mut self.going, RECORD_OVERHEAD, |out| {
                    traffic.queue_close_notify(out)
                })
                .map(|()| true),
            },
            Ok(ConnectionState::Closed) => {
                self.ended = true;
                Ok(false)
            }
            // Handshaking; or what is not asked for, such as early data.
            Ok(_) => Ok(false),
            Err(error) => Err(error),
        };
        (discard, result)
    }

    /// Looks at what came: `bytes`, which begin with `coming`. What is left of them comes again.
    fn digest(&mut self, bytes: &mut [u8], take: &mut dyn FnMut(&[u8])) -> io::Result<()> {
        let (done, driven) = self.drive(bytes, Say::Nothing, take);
        let left = bytes.get_mut(done..).unwrap_or_default();
        if let Err(error) = driven {
            // What the peer is told of it comes first now. Nothing is asked of it after that.
            let _ = self.advance(left, &mut Say::Nothing, &mut |_| {});
            return Err(self.broken(error));
        }
        if left.len() > MOST_COMING_BYTES {
            return Err(self.broken(rustls::Error::PeerSentOversizedRecord));
        }
        self.coming = left.to_vec();
        Ok(())
    }

    /// It can do nothing any more but write what stands in `going`.
    fn broken(&mut self, error: rustls::Error) -> io::Error {
        self.closed = true;
        io::Error::new(io::ErrorKind::InvalidData, error)
    }

    /// Puts `what` behind all that is to be sent.
    fn say(&mut self, what: Say<'_>) -> io::Result<()> {
        if self.closed {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let mut coming = std::mem::take(&mut self.coming);
        let mut plain = Vec::new();
        let (done, driven) = self.drive(&mut coming, what, &mut |bytes| plain.extend_from_slice(bytes));
        self.plain.append(&mut plain); // none: all that came was looked at before
        driven.map_err(|error| self.broken(error))?;
        self.coming = coming.split_off(done.min(coming.len()));
        Ok(())
    }

    /// Bytes of whole records at the front of `coming`. One that says to be longer than any may be counts as whole: what
    /// looks at it refuses it.
    fn whole_bytes(&self) -> usize {
        let mut whole = 0;
        while let Some(rest) = self.coming.get(whole..)
            && let Some(record) = record_bytes(rest)
            && (record <= rest.len() || record > MOST_RECORD_BYTES)
        {
            whole += record;
        }
        whole
    }

    /// Bytes that make the record whole of which the first ones stand in `coming`; 0 when its length is not known.
    fn missing(&self) -> usize {
        record_bytes(&self.coming).map_or(0, |record| record.saturating_sub(self.coming.len()))
    }
}

/// Bytes of the record that `front` begins with; `None` when it does not say that yet.
fn record_bytes(front: &[u8]) -> Option<usize> {
    let &[high, low] = front.get(3..5)? else {
        return None;
    };
    Some(5 + usize::from(u16::from_be_bytes([high, low])))
}

/// Room for what `write` writes, behind what stands in `going`. `guess`: bytes that it may need.
fn put<E: Needs>(
    going: &mut Vec<u8>,
    guess: usize,
    mut write: impl FnMut(&mut [u8]) -> Result<usize, E>,
) -> Result<(), rustls::Error> {
    let start = going.len();
    let mut room = guess;
    loop {
        going.resize(start + room, 0);
        let result = write(going.get_mut(start..).unwrap_or_default());
        let written = result.as_ref().map_or(0, |written| *written);
        going.truncate(start + written);
        match result.map_err(|error| error.needs()) {
            Ok(_) => return Ok(()),
            Err(Some(needed)) if needed > room => room = needed,
            Err(_) => return Err(rustls::Error::EncryptError),
        }
    }
}

/// An error that may ask for more room.
trait Needs {
    fn needs(&self) -> Option<usize>;
}

impl Needs for EncodeError {
    fn needs(&self) -> Option<usize> {
        match self {
            Self::InsufficientSize(InsufficientSizeError { required_size }) => Some(*required_size),
            Self::AlreadyEncoded => None,
        }
    }
}

impl Needs for EncryptError {
    fn needs(&self) -> Option<usize> {
        match self {
            Self::InsufficientSize(InsufficientSizeError { required_size }) => Some(*required_size),
            Self::EncryptExhausted => None,
        }
    }
}

impl Tls {
    /// Joins them.
    pub fn new(socket: Transport, session: Session) -> Self {
        Self { socket, session }
    }

    /// What its records travel on.
    pub fn socket(&mut self) -> &mut Transport {
        &mut self.socket
    }

    /// Takes them apart.
    pub fn into_parts(self) -> (Transport, Session) {
        (self.socket, self.session)
    }

    /// Reads once, at most `most` bytes, and looks at what came. Ready at the end too, which the session then knows.
    fn poll_coming(
        &mut self,
        cx: &mut Context<'_>,
        most: usize,
        take: &mut dyn FnMut(&[u8]),
    ) -> Poll<io::Result<()>> {
        let held = self.session.coming.len();
        let most = most
            .clamp(LEAST_READ_BYTES, READ_BYTES)
            .max(self.session.missing());
        let mut buffer = CIPHERTEXT.take();
        if buffer.len() < held + most {
            buffer.resize(held + most, 0);
        }
        let mut read = ReadBuf::new(buffer.get_mut(held..held + most).unwrap_or_default());
        let polled = Pin::new(&mut self.socket).poll_read(cx, &mut read);
        let count = read.filled().len();
        let result = match polled {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Ready(Ok(())) if count == 0 => {
                self.session.ended = true;
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Ok(())) => {
                let coming = std::mem::take(&mut self.session.coming);
                if let Some(front) = buffer.get_mut(..held) {
                    front.copy_from_slice(&coming);
                }
                let bytes = buffer.get_mut(..held + count).unwrap_or_default();
                Poll::Ready(self.session.digest(bytes, take))
            }
        };
        buffer.truncate(READ_BYTES + LEAST_READ_BYTES);
        CIPHERTEXT.set(buffer);
        result
    }

    /// The next bytes of MQTT, or of WebSocket.
    pub fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.session.sending == 0 {
            let _ = self.poll_gone(cx)?; // what the peer asked for, such as new keys
        }
        let mut reads = 0;
        loop {
            let plain = &mut self.session.plain;
            if !plain.is_empty() {
                let count = plain.len().min(buffer.remaining());
                buffer.put_slice(plain.get(..count).unwrap_or_default());
                plain.drain(..count);
                if plain.is_empty() {
                    *plain = Vec::new(); // an idle connection owns no buffer
                }
                return Poll::Ready(Ok(()));
            }
            if self.session.ended || self.session.closed || buffer.remaining() == 0 {
                return Poll::Ready(Ok(()));
            }
            if reads == READS_PER_TURN {
                yield_to_others(cx);
                return Poll::Pending;
            }
            reads += 1;
            let before = buffer.filled().len();
            let mut over = Vec::new();
            let most = buffer.remaining();
            let read = self.poll_coming(cx, most, &mut |bytes| {
                let fits = bytes.len().min(buffer.remaining());
                let (now, later) = bytes.split_at(fits);
                buffer.put_slice(now);
                over.extend_from_slice(later);
            });
            self.session.plain = over;
            ready!(read)?;
            if self.session.sending == 0 {
                let _ = self.poll_gone(cx)?;
            }
            if buffer.filled().len() > before {
                return Poll::Ready(Ok(()));
            }
        }
    }

    /// Encrypts `bytes`, and is done when the socket has taken them.
    pub fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.session.sending == 0 && !bytes.is_empty() {
            let now = bytes.get(..bytes.len().min(WRITE_BYTES)).unwrap_or(bytes);
            self.session.say(Say::Bytes(now))?;
            self.session.sending = now.len();
        }
        ready!(self.poll_gone(cx))?;
        Poll::Ready(Ok(std::mem::take(&mut self.session.sending).min(bytes.len())))
    }

    /// Writes what waits.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_gone(cx)
    }

    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let session = &mut self.session;
        while let Some(rest) = session.going.get(session.gone..).filter(|rest| !rest.is_empty()) {
            let count = ready!(Pin::new(&mut self.socket).poll_write(cx, rest))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            session.gone += count;
        }
        if session.gone > 0 {
            session.going = Vec::new(); // an idle connection owns no buffer
            session.gone = 0;
        }
        Poll::Ready(Ok(()))
    }

    /// Says that nothing more comes, and closes the socket's writing end.
    pub fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.close();
        ready!(self.poll_gone(cx))?;
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }

    fn close(&mut self) {
        let _ = self.session.say(Say::Close); // said already, or after an error another thing was
        self.session.closed = true;
    }

    /// See [`Transport::say_last`]. What the socket does not take is encrypted and waits.
    pub fn say_last(&mut self, last: &[u8]) -> bool {
        let new = last.get(self.session.sending..).unwrap_or_default();
        self.session.sending = 0;
        // The peer may be gone: nothing is lost by that.
        if !new.is_empty() {
            let _ = self.session.say(Say::Bytes(new));
        }
        self.close();
        self.poll_gone(&mut Context::from_waker(Waker::noop())).is_ready()
    }
}
