//! A plain socket on no reactor: who polls it, a worker with thousands of them, tells it what the kernel says. A runtime's
//! own record of a socket, with its lists of those who wait, costs more than a connection that only stands.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::task::Poll;

use tokio::io::ReadBuf;

use super::transport::Detached;

/// What the kernel says of a socket, each time that something has changed.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct News {
    /// There is something to read.
    pub is_readable: bool,
    /// It takes more.
    pub is_writable: bool,
    /// The peer sends nothing more, or the socket has failed: the next reads come to an end.
    pub has_ended: bool,
    /// The peer took it down, or the system gave the peer up.
    pub has_failed: bool,
}

/// A plain socket on no reactor of its thread's runtime: who polls it tells it what the kernel says.
#[derive(Debug)]
pub(crate) struct Told {
    socket: Detached,
    is_readable: bool,
    /// It took not all of what was written: nothing is tried before it takes more.
    is_full: bool,
    /// Nothing is read from it for now.
    is_held: bool,
    has_ended: bool,
    has_failed: bool,
}

impl Told {
    /// Nothing was said of it yet.
    pub fn new(socket: Detached) -> Self {
        Self {
            socket,
            is_readable: false,
            is_full: false,
            is_held: false,
            has_ended: false,
            has_failed: false,
        }
    }

    /// The socket.
    pub fn into_socket(self) -> Detached {
        self.socket
    }

    /// Nothing is read from it until the next read: what comes meanwhile is no news, only that it has failed.
    pub fn hold(&mut self) {
        self.is_held = true;
    }

    /// What the kernel said. Whether that changes anything.
    pub fn hear(&mut self, news: News) -> bool {
        let takes_more = self.is_full && (news.is_writable || news.has_failed);
        self.is_readable |= news.is_readable;
        self.has_ended |= news.has_ended;
        self.has_failed |= news.has_failed;
        self.is_full &= !takes_more;
        takes_more || news.has_failed || !self.is_held && (news.is_readable || news.has_ended)
    }

    /// Whether it has failed.
    pub fn has_failed(&self) -> bool {
        self.has_failed
    }

    /// A read that does not fill the buffer has taken all there was: what comes then is news.
    pub fn poll_read(&mut self, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let room = buffer.remaining();
        self.is_held = false;
        while self.is_readable || self.has_ended {
            match self.socket.read_now(buffer.initialize_unfilled()) {
                Ok(count) => {
                    self.is_readable &= count == room;
                    buffer.advance(count);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    (self.is_readable, self.has_ended) = (false, false);
                }
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        Poll::Pending
    }

    /// Writes what it takes.
    pub fn poll_write(&mut self, bytes: &[u8]) -> Poll<io::Result<usize>> {
        while !self.is_full {
            match self.socket.write_now(bytes) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.is_full = true,
                result => return Poll::Ready(result),
            }
        }
        Poll::Pending
    }
}

impl AsFd for Told {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    use super::*;

    fn pair() -> (UnixStream, Told) {
        let (peer, socket) = UnixStream::pair().unwrap();
        socket.set_nonblocking(true).unwrap();
        (peer, Told::new(Detached::Unix(socket)))
    }

    fn read(told: &mut Told, most: usize) -> Poll<usize> {
        let mut room = vec![0; most];
        let mut buffer = ReadBuf::new(&mut room);
        told.poll_read(&mut buffer).map(|read| {
            read.unwrap();
            buffer.filled().len()
        })
    }

    const READABLE: News = News {
        is_readable: true,
        is_writable: true,
        has_ended: false,
        has_failed: false,
    };

    #[test]
    fn what_does_not_fill_the_buffer_is_all_until_there_is_news() {
        let (mut peer, mut told) = pair();
        peer.write_all(b"hello").unwrap();
        assert_eq!(
            read(&mut told, 4),
            Poll::Pending,
            "nobody has said that there is something"
        );
        assert!(told.hear(READABLE));
        assert_eq!(read(&mut told, 4), Poll::Ready(4));
        assert_eq!(
            read(&mut told, 4),
            Poll::Ready(1),
            "the buffer was filled: there may be more"
        );
        peer.write_all(b"more").unwrap();
        assert_eq!(read(&mut told, 4), Poll::Pending, "of which the kernel will tell");
        told.hear(READABLE);
        assert_eq!(read(&mut told, 4), Poll::Ready(4));
        assert_eq!(read(&mut told, 4), Poll::Pending);
    }

    #[test]
    fn who_is_held_hears_of_nothing_but_its_failure_and_reads_all_later() {
        let (mut peer, mut told) = pair();
        told.hold();
        peer.write_all(b"more").unwrap();
        assert!(!told.hear(READABLE));
        let ended = News {
            has_ended: true,
            ..READABLE
        };
        assert!(!told.hear(ended));
        let failed = News {
            has_failed: true,
            ..ended
        };
        assert!(told.hear(failed));
        assert_eq!(read(&mut told, 9), Poll::Ready(4));
        assert!(told.hear(READABLE), "it reads again");
    }

    #[test]
    fn the_end_is_read_behind_what_came_before_it() {
        let (mut peer, mut told) = pair();
        peer.write_all(b"bye").unwrap();
        drop(peer);
        told.hear(News {
            has_ended: true,
            ..READABLE
        });
        assert_eq!(read(&mut told, 9), Poll::Ready(3));
        assert_eq!(read(&mut told, 9), Poll::Ready(0), "without further news");
    }

    #[test]
    fn a_full_socket_is_tried_again_when_it_takes_more() {
        let (mut peer, mut told) = pair();
        let much = vec![7; 1 << 16];
        while told.poll_write(&much).is_ready() {}
        peer.read_exact(&mut vec![0; 1 << 16]).unwrap();
        assert!(
            told.poll_write(&much).is_pending(),
            "nobody has said that it takes more"
        );
        let writable = News {
            is_readable: false,
            ..READABLE
        };
        assert!(told.hear(writable));
        assert!(told.poll_write(&much).is_ready());
        assert!(!told.hear(writable), "it is known");
    }
}
