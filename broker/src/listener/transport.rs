//! What carries a connection's bytes, behind one type: TCP, a unix socket, or WebSocket over either. A plain socket
//! costs nothing for the others being there: what they need is boxed.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use super::websocket::{Framing, WebSocket};

/// For how long a peer that was told good-bye may take to read it.
const LINGER: Duration = Duration::from_secs(2);

/// Bytes that a peer which was told good-bye may still send: they are thrown away.
const LINGER_BYTES: u64 = 4 * 1024 * 1024;

/// A connection's byte stream, on the reactor of the thread that uses it.
#[derive(Debug)]
pub(crate) enum Transport {
    Tcp(TcpStream),
    Unix(UnixStream),
    WebSocket(Box<WebSocket>),
    /// It was given away.
    Closed,
}

/// The same on its way to another thread, on no reactor.
#[derive(Debug)]
pub(crate) enum Detached {
    Tcp(std::net::TcpStream),
    Unix(std::os::unix::net::UnixStream),
    WebSocket(Box<(Detached, Framing)>),
}

impl Detached {
    /// Puts it on this thread's reactor.
    pub fn attach(self) -> io::Result<Transport> {
        Ok(match self {
            Self::Tcp(stream) => Transport::Tcp(TcpStream::from_std(stream)?),
            Self::Unix(stream) => Transport::Unix(UnixStream::from_std(stream)?),
            Self::WebSocket(parts) => {
                let (socket, framing) = *parts;
                Transport::WebSocket(Box::new(WebSocket::new(socket.attach()?, framing)))
            }
        })
    }
}

impl Transport {
    /// Whether its WebSocket handshake is done.
    pub fn is_websocket(&self) -> bool {
        matches!(self, Self::WebSocket(_))
    }

    /// Takes it off this thread's reactor.
    pub fn detach(self) -> io::Result<Detached> {
        Ok(match self {
            Self::Tcp(stream) => Detached::Tcp(stream.into_std()?),
            Self::Unix(stream) => Detached::Unix(stream.into_std()?),
            Self::WebSocket(websocket) => {
                let (socket, framing) = websocket.into_parts();
                Detached::WebSocket(Box::new((socket.detach()?, framing)))
            }
            Self::Closed => return Err(io::ErrorKind::NotConnected.into()),
        })
    }

    /// Writes `last` as far as it is taken at once, and the transport's own good-bye behind it. `last` begins with what
    /// the latest write that was not done had been given. Returns how much of it is left to [`linger`](Self::linger): a
    /// socket that has just come to this thread takes nothing before its reactor has looked at it.
    pub fn say_last(&mut self, last: &[u8]) -> usize {
        // The peer may be gone: then there is nobody to tell.
        match self {
            Self::Tcp(stream) if !last.is_empty() => last.len() - stream.try_write(last).unwrap_or(0),
            Self::Unix(stream) if !last.is_empty() => last.len() - stream.try_write(last).unwrap_or(0),
            Self::WebSocket(websocket) => {
                websocket.say_last(last);
                0
            }
            Self::Tcp(_) | Self::Unix(_) | Self::Closed => 0,
        }
    }

    /// Writes what is left of the good-bye, and closes so that the peer gets to read it: a socket that is closed with
    /// something unread takes back what is on its way.
    pub async fn linger(mut self, left: Vec<u8>) {
        let rest = async {
            self.write_all(&left).await?;
            self.shutdown().await?;
            let socket = match self {
                Self::WebSocket(websocket) => websocket.into_parts().0,
                socket => socket,
            };
            tokio::io::copy(&mut socket.take(LINGER_BYTES), &mut tokio::io::sink()).await
        };
        let _ = timeout(LINGER, rest).await; // closed in any case
    }
}

impl AsyncRead for Transport {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::WebSocket(websocket) => websocket.poll_read(cx, buffer),
            Self::Closed => Poll::Ready(Ok(())),
        }
    }
}

impl AsyncWrite for Transport {
    /// After `Pending` the next call must begin with the same bytes.
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Unix(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::WebSocket(websocket) => websocket.poll_write(cx, bytes),
            Self::Closed => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Self::Unix(stream) => Pin::new(stream).poll_flush(cx),
            Self::WebSocket(websocket) => websocket.poll_flush(cx),
            Self::Closed => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::WebSocket(websocket) => websocket.poll_shutdown(cx),
            Self::Closed => Poll::Ready(Ok(())),
        }
    }
}

/// Runs this task again after the runtime has looked at all other sockets. A plain wake-up would put it at the end of
/// the line of those that are ready, and nobody else would be for as long as it is the only one in it.
pub(crate) fn yield_to_others(cx: &mut Context<'_>) {
    let deferred = std::pin::pin!(tokio::task::yield_now());
    let _ = deferred.poll(cx); // pending at its first poll, by which the wake-up is due
}
