//! Accepting sockets. What they bring is on no reactor: the worker that serves it has its own.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use tokio::net::{TcpListener, UnixListener};
use tokio::task::coop::consume_budget;

use super::Socket;
use super::transport::Detached;
use super::unix::SocketFile;

/// An accepting socket: once more outside of the reactor, which has nothing to do with who is there already.
pub(super) enum Accepting {
    Tcp(std::net::TcpListener, TcpListener),
    Unix(std::os::unix::net::UnixListener, UnixListener, SocketFile),
}

impl Accepting {
    pub fn new(socket: Socket) -> io::Result<Self> {
        Ok(match socket {
            Socket::Tcp(socket) => Self::Tcp(socket.try_clone()?, TcpListener::from_std(socket)?),
            Socket::Unix(socket, file) => {
                Self::Unix(socket.try_clone()?, UnixListener::from_std(socket)?, file)
            }
        })
    }

    /// The next connection.
    pub async fn accept(&self) -> io::Result<(Detached, SocketAddr)> {
        consume_budget().await; // with many there, others get their turn
        match self.accept_now() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.wait().await,
            accepted => accepted,
        }
    }

    fn accept_now(&self) -> io::Result<(Detached, SocketAddr)> {
        match self {
            Self::Tcp(listener, _) => {
                let (stream, peer) = listener.accept()?;
                stream.set_nonblocking(true)?;
                Ok((Detached::Tcp(stream), peer))
            }
            Self::Unix(listener, ..) => {
                let (stream, _) = listener.accept()?;
                stream.set_nonblocking(true)?;
                Ok((Detached::Unix(stream), nowhere()))
            }
        }
    }

    async fn wait(&self) -> io::Result<(Detached, SocketAddr)> {
        match self {
            Self::Tcp(_, listener) => {
                let (stream, peer) = listener.accept().await?;
                Ok((Detached::Tcp(stream.into_std()?), peer))
            }
            Self::Unix(_, listener, _file) => {
                let (stream, _) = listener.accept().await?;
                Ok((Detached::Unix(stream.into_std()?), nowhere()))
            }
        }
    }
}

/// Who comes by a unix socket has no address, and is on this machine.
fn nowhere() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, 0))
}
