//! What carries a connection's bytes, behind one type: TCP, a unix socket, TLS over either, WebSocket over any. A plain
//! socket costs nothing for the others being there: what they need is boxed. One that has just come is on no reactor: most
//! that CONNECT leads to needs none.

use std::future::poll_fn;
use std::io::{self, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, Interest, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use super::tls::{Session, Tls};
use super::told::Told;
use super::websocket::{Framing, WebSocket};

/// For how long a peer that was told good-bye may take to read it.
const LINGER: Duration = Duration::from_secs(2);

/// Bytes that a peer which was told good-bye may still send: they are thrown away.
const LINGER_BYTES: usize = 4 * 1024 * 1024;

/// Of these at once.
const LINGER_AT_ONCE: usize = 4 * 1024;

/// A connection's byte stream, on the reactor of the thread that uses it.
#[derive(Debug)]
pub(crate) enum Transport {
    /// A socket on no reactor yet. What is written goes straight to it; who waits for it puts it on the thread's one.
    Resting(Detached),
    Tcp(TcpStream),
    Unix(UnixStream),
    /// A plain socket that the worker itself looks after.
    Told(Told),
    Tls(Box<Tls>),
    WebSocket(Box<WebSocket>),
    /// It was given away.
    Closed,
}

/// The same on its way to another thread, on no reactor.
#[derive(Debug)]
pub(crate) enum Detached {
    Tcp(std::net::TcpStream),
    Unix(std::os::unix::net::UnixStream),
    Tls(Box<(Detached, Session)>),
    WebSocket(Box<(Detached, Framing)>),
}

impl Detached {
    /// For use by this thread. It takes a place on its reactor when that is needed.
    pub fn attach(self) -> Transport {
        match self {
            Self::Tls(parts) => {
                let (socket, session) = *parts;
                Transport::Tls(Box::new(Tls::new(socket.attach(), session)))
            }
            Self::WebSocket(parts) => {
                let (socket, framing) = *parts;
                Transport::WebSocket(Box::new(WebSocket::new(socket.attach(), framing)))
            }
            socket => Transport::Resting(socket),
        }
    }

    /// Puts a plain socket on this thread's reactor.
    fn register(self) -> io::Result<Transport> {
        Ok(match self {
            Self::Tcp(stream) => Transport::Tcp(TcpStream::from_std(stream)?),
            Self::Unix(stream) => Transport::Unix(UnixStream::from_std(stream)?),
            other => other.attach(),
        })
    }

    /// Reads what is there of a plain socket.
    pub fn read_now(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => (&*stream).read(buffer),
            Self::Unix(stream) => (&*stream).read(buffer),
            Self::Tls(_) | Self::WebSocket(_) => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    pub(super) fn write_now(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => (&*stream).write(bytes),
            Self::Unix(stream) => (&*stream).write(bytes),
            Self::Tls(_) | Self::WebSocket(_) => Err(io::ErrorKind::WouldBlock.into()),
        }
    }
}

impl AsFd for Detached {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(stream) => stream.as_fd(),
            Self::Unix(stream) => stream.as_fd(),
            Self::Tls(parts) => parts.0.as_fd(),
            Self::WebSocket(parts) => parts.0.as_fd(),
        }
    }
}

impl Transport {
    /// Whether its WebSocket handshake is done.
    pub fn is_websocket(&self) -> bool {
        matches!(self, Self::WebSocket(_))
    }

    /// Waits until the socket has failed: the peer took it down (RST), or the system gave the peer up. A peer that only says
    /// that it sends nothing more (FIN) may have sent much before, and waits for the answers.
    pub async fn failed(&mut self) {
        let socket = self.socket();
        let waited = match socket.wake_up() {
            Ok(()) => match socket {
                Self::Tcp(stream) => stream.ready(Interest::ERROR).await,
                Self::Unix(stream) => stream.ready(Interest::ERROR).await,
                Self::Resting(_) | Self::Told(_) | Self::Tls(_) | Self::WebSocket(_) | Self::Closed => return,
            },
            Err(_) => return,
        };
        let _ = waited; // without a reactor nothing goes on here in any case
    }

    /// The socket at the bottom.
    fn socket(&mut self) -> &mut Self {
        match self {
            Self::Tls(tls) => tls.socket().socket(),
            Self::WebSocket(websocket) => websocket.socket().socket(),
            socket => socket,
        }
    }

    /// Whether its handshake of TLS is done.
    pub fn is_tls(&mut self) -> bool {
        match self {
            Self::WebSocket(websocket) => matches!(websocket.socket(), Self::Tls(_)),
            transport => matches!(transport, Self::Tls(_)),
        }
    }

    /// Takes it off this thread's reactor.
    pub fn detach(self) -> io::Result<Detached> {
        Ok(match self {
            Self::Resting(socket) => socket,
            Self::Told(told) => told.into_socket(),
            Self::Tcp(stream) => Detached::Tcp(stream.into_std()?),
            Self::Unix(stream) => Detached::Unix(stream.into_std()?),
            Self::Tls(tls) => {
                let (socket, session) = tls.into_parts();
                Detached::Tls(Box::new((socket.detach()?, session)))
            }
            Self::WebSocket(websocket) => {
                let (socket, framing) = websocket.into_parts();
                Detached::WebSocket(Box::new((socket.detach()?, framing)))
            }
            Self::Closed => return Err(io::ErrorKind::NotConnected.into()),
        })
    }

    /// A plain socket, taken off this thread's reactor for who polls it and tells it what the kernel says. Others stay as they
    /// are.
    pub fn into_told(self) -> io::Result<Self> {
        match self {
            Self::Resting(_) | Self::Tcp(_) | Self::Unix(_) => Ok(Self::Told(Told::new(self.detach()?))),
            other => Ok(other),
        }
    }

    /// Whether it is such a socket, or can become one.
    pub fn is_plain(&self) -> bool {
        matches!(
            self,
            Self::Resting(_) | Self::Tcp(_) | Self::Unix(_) | Self::Told(_)
        )
    }

    /// Whether it is such a socket.
    pub fn is_told(&self) -> bool {
        matches!(self, Self::Told(_))
    }

    /// Back to where it can be waited for by a task.
    pub fn at_rest(self) -> Self {
        match self {
            Self::Told(told) => Self::Resting(told.into_socket()),
            other => other,
        }
    }

    /// Such a socket.
    pub fn told(&mut self) -> Option<&mut Told> {
        match self {
            Self::Told(told) => Some(told),
            _ => None,
        }
    }

    /// Sees to it that it is on this thread's reactor.
    fn wake_up(&mut self) -> io::Result<()> {
        if matches!(self, Self::Resting(_))
            && let Self::Resting(socket) = std::mem::replace(self, Self::Closed)
        {
            *self = socket.register()?;
        }
        Ok(())
    }

    /// Writes `last` as far as it is taken at once, and the transport's own good-bye behind it. `last` begins with what
    /// the latest write that was not done had been given; what is left in it is for [`linger`](Self::linger): a socket that
    /// has just come to this thread takes nothing before its reactor has looked at it. Whether the socket has all of it.
    pub fn say_last(&mut self, last: &mut Vec<u8>) -> bool {
        // The peer may be gone: then there is nobody to tell.
        let written = match self {
            Self::Tls(tls) => {
                let is_said = tls.say_last(last);
                last.clear();
                return is_said;
            }
            Self::WebSocket(websocket) => {
                let is_said = websocket.say_last(last);
                last.clear();
                return is_said;
            }
            _ if last.is_empty() => 0,
            Self::Resting(socket) => socket.write_now(last).unwrap_or(0),
            Self::Tcp(stream) => stream.try_write(last).unwrap_or(0),
            Self::Unix(stream) => stream.try_write(last).unwrap_or(0),
            Self::Told(_) | Self::Closed => last.len(),
        };
        last.drain(..written);
        last.is_empty()
    }

    /// Writes what is left of the good-bye, and closes so that the peer gets to read it: a socket that is closed with
    /// something unread takes back what is on its way.
    pub async fn linger(mut self, left: Vec<u8>) {
        let rest = async {
            self.write_all(&left).await?;
            self.shutdown().await?;
            throw_away(self.plain()).await
        };
        let _ = timeout(LINGER, rest).await; // closed in any case
    }
}

impl Transport {
    /// What is below all that lies over it.
    fn plain(self) -> Self {
        let over_tls = match self {
            Self::WebSocket(websocket) => websocket.into_parts().0,
            transport => transport,
        };
        match over_tls {
            Self::Tls(tls) => tls.into_parts().0,
            transport => transport,
        }
    }
}

impl AsyncRead for Transport {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.wake_up()?;
        match this {
            Self::Resting(_) => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
            Self::Told(told) => told.poll_read(buffer),
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Tls(tls) => tls.poll_read(cx, buffer),
            Self::WebSocket(websocket) => websocket.poll_read(cx, buffer),
            Self::Closed => Poll::Ready(Ok(())),
        }
    }
}

impl AsyncWrite for Transport {
    /// After `Pending` the next call must begin with the same bytes.
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if let Self::Resting(socket) = this {
            match socket.write_now(bytes) {
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                    ) =>
                {
                    this.wake_up()?;
                }
                result => return Poll::Ready(result),
            }
        }
        match this {
            Self::Resting(_) => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
            Self::Told(told) => told.poll_write(bytes),
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Unix(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Tls(tls) => tls.poll_write(cx, bytes),
            Self::WebSocket(websocket) => websocket.poll_write(cx, bytes),
            Self::Closed => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Resting(_) | Self::Told(_) => Poll::Ready(Ok(())),
            Self::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Self::Unix(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(tls) => tls.poll_flush(cx),
            Self::WebSocket(websocket) => websocket.poll_flush(cx),
            Self::Closed => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.wake_up()?;
        match this {
            Self::Resting(_) | Self::Told(_) => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(tls) => tls.poll_shutdown(cx),
            Self::WebSocket(websocket) => websocket.poll_shutdown(cx),
            Self::Closed => Poll::Ready(Ok(())),
        }
    }
}

/// Reads what still comes, up to a bound. Into the stack: with a fleet that is told to go, a buffer each is much.
async fn throw_away(mut socket: Transport) -> io::Result<()> {
    let mut left = LINGER_BYTES;
    poll_fn(|cx| {
        loop {
            let mut space = [MaybeUninit::uninit(); LINGER_AT_ONCE];
            let mut buffer = ReadBuf::uninit(&mut space);
            ready!(Pin::new(&mut socket).poll_read(cx, &mut buffer))?;
            let count = buffer.filled().len();
            left = left.saturating_sub(count);
            if count == 0 || left == 0 {
                return Poll::Ready(Ok(()));
            }
        }
    })
    .await
}

/// Runs this task again after the runtime has looked at all other sockets. A plain wake-up would put it at the end of
/// the line of those that are ready, and nobody else would be for as long as it is the only one in it.
pub(crate) fn yield_to_others(cx: &mut Context<'_>) {
    let deferred = std::pin::pin!(tokio::task::yield_now());
    let _ = deferred.poll(cx); // pending at its first poll, by which the wake-up is due
}
