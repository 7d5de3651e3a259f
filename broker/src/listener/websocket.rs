//! MQTT's bytes in binary frames of WebSocket (MQTT section 6). Packets and frames know nothing of each other: what
//! comes is one stream of bytes, wherever frames begin and end [MQTT-6.0.0-2]. What is sent has a frame for each packet:
//! there are clients that wait for the socket while the next packet of a frame is with them already.

use std::io::{self, Read, Write};
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tungstenite::error::ProtocolError;
use tungstenite::protocol::frame::CloseFrame;
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::protocol::{Role, WebSocketConfig, WebSocketContext};
use tungstenite::{Error, Message};

use super::transport::{Transport, yield_to_others};
use crate::codec::frame_len;

/// What a connection's read buffer holds, and what is gathered before a write.
const BUFFER_BYTES: usize = 4 * 1024;

/// Payload of the frames that are made at once; a longer packet has several.
const FRAME_BYTES: usize = 16 * 1024;

/// What may wait to be written: a frame of good-bye and what answers pings.
const MOST_WAITING_BYTES: usize = 256 * 1024;

/// Reads of the socket for one read of MQTT's bytes, before others get their turn: pings and empty frames bring none.
const READS_PER_TURN: u32 = 16;

/// Messages without a byte of MQTT that are taken in one turn: each ping costs a write.
const EMPTY_PER_TURN: u32 = 32;

/// A WebSocket on a plain socket.
#[derive(Debug)]
pub(crate) struct WebSocket {
    socket: Transport,
    framing: Framing,
}

/// The state of a WebSocket without its socket.
#[derive(Debug)]
pub(crate) struct Framing {
    context: WebSocketContext,
    /// Of the message that was read last: what nobody has taken yet.
    unread: Bytes,
    /// Bytes of the caller that stand in a frame which is not written whole yet.
    sending: usize,
    /// Bytes of the packet of which the first ones stand in a frame already.
    packet_left: usize,
}

impl Framing {
    /// A server's end after its handshake. `read` came behind the client's request; a message may have
    /// `max_message_bytes`.
    pub fn new(read: Vec<u8>, max_message_bytes: usize) -> Self {
        let config = WebSocketConfig::default()
            .read_buffer_size(BUFFER_BYTES)
            .write_buffer_size(BUFFER_BYTES)
            .max_write_buffer_size(MOST_WAITING_BYTES)
            .max_message_size(Some(max_message_bytes))
            .max_frame_size(Some(max_message_bytes));
        Self {
            context: WebSocketContext::from_partially_read(read, Role::Server, Some(config)),
            unread: Bytes::new(),
            sending: 0,
            packet_left: 0,
        }
    }

    /// Puts the packets in `bytes` into frames, until `most` bytes stand in some. What the socket does not take waits.
    fn frame(&mut self, socket: &mut Polled<'_, '_>, bytes: &[u8], most: usize) -> tungstenite::Result<()> {
        while let Some(rest) = bytes.get(self.sending..).filter(|rest| !rest.is_empty()) {
            if self.sending >= most {
                break;
            }
            let packet = match self.packet_left {
                0 => frame_len(rest, usize::MAX).ok().flatten().unwrap_or(rest.len()),
                left => left,
            };
            let piece = rest.get(..packet.min(FRAME_BYTES)).unwrap_or(rest);
            self.packet_left = packet - piece.len();
            self.sending += piece.len();
            let frame = Message::Binary(Bytes::copy_from_slice(piece));
            match self.context.write(socket, frame) {
                // It stands in the buffer.
                Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => result?,
            }
        }
        Ok(())
    }
}

/// A socket as the framing wants it: what is not there now "would block", and the task is woken when it is.
struct Polled<'a, 'b> {
    socket: &'a mut Transport,
    cx: &'a mut Context<'b>,
    reads: u32,
}

impl Read for Polled<'_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.reads == READS_PER_TURN {
            yield_to_others(self.cx);
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.reads += 1;
        let mut buffer = ReadBuf::new(buffer);
        match Pin::new(&mut *self.socket).poll_read(self.cx, &mut buffer) {
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
            Poll::Ready(result) => result.map(|()| buffer.filled().len()),
        }
    }
}

impl Write for Polled<'_, '_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match Pin::new(&mut *self.socket).poll_write(self.cx, bytes) {
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
            Poll::Ready(result) => result,
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(()) // sockets keep nothing back
    }
}

impl WebSocket {
    /// Joins them.
    pub fn new(socket: Transport, framing: Framing) -> Self {
        Self { socket, framing }
    }

    /// Takes them apart.
    pub fn into_parts(self) -> (Transport, Framing) {
        (self.socket, self.framing)
    }

    fn split<'a, 'b>(&'a mut self, cx: &'a mut Context<'b>) -> (Polled<'a, 'b>, &'a mut Framing) {
        let polled = Polled {
            socket: &mut self.socket,
            cx,
            reads: 0,
        };
        (polled, &mut self.framing)
    }

    /// The next bytes of MQTT. Pings are answered and a close is on the way.
    pub fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let (mut socket, framing) = self.split(cx);
        let mut empty = 0;
        while framing.unread.is_empty() {
            empty += 1;
            if empty > EMPTY_PER_TURN {
                yield_to_others(socket.cx);
                return Poll::Pending;
            }
            let (code, why) = match framing.context.read(&mut socket) {
                Ok(Message::Binary(bytes)) => {
                    framing.unread = bytes;
                    continue;
                }
                // [MQTT-6.0.0-1]
                Ok(Message::Text(_)) | Err(Error::Utf8(_)) => {
                    (CloseCode::Unsupported, "MQTT comes in binary frames")
                }
                Ok(_) => continue,
                Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => return Poll::Pending,
                Err(Error::Io(error)) => return Poll::Ready(Err(error)),
                Err(
                    Error::ConnectionClosed
                    | Error::AlreadyClosed
                    | Error::Protocol(ProtocolError::ResetWithoutClosingHandshake),
                ) => return Poll::Ready(Ok(())),
                Err(Error::Capacity(_)) => (CloseCode::Size, "greater than limits.max_packet_bytes"),
                Err(_) => (CloseCode::Protocol, "not WebSocket"),
            };
            let reason = why.into();
            let _ = framing
                .context
                .close(&mut socket, Some(CloseFrame { code, reason })); // it may be gone already
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, why)));
        }
        let count = framing.unread.len().min(buffer.remaining());
        buffer.put_slice(&framing.unread.split_to(count));
        if framing.unread.is_empty() {
            framing.unread = Bytes::new(); // lets go of the read buffer behind it
        }
        Poll::Ready(Ok(()))
    }

    /// Puts `bytes` into frames, and is done when the socket has taken all of them.
    pub fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let (mut socket, framing) = self.split(cx);
        if framing.sending == 0 {
            let _ = done(framing.frame(&mut socket, bytes, FRAME_BYTES))?;
        }
        ready!(done(framing.context.flush(&mut socket)))?;
        Poll::Ready(Ok(std::mem::take(&mut framing.sending).min(bytes.len())))
    }

    /// Writes what waits.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let (mut socket, framing) = self.split(cx);
        done(framing.context.flush(&mut socket))
    }

    /// Says close, and closes the socket's writing end.
    pub fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let (mut socket, framing) = self.split(cx);
        match framing.context.close(&mut socket, Some(good_bye())) {
            Err(Error::ConnectionClosed | Error::AlreadyClosed) => {}
            result => ready!(done(result))?,
        }
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }

    /// See [`Transport::say_last`].
    pub fn say_last(&mut self, last: &[u8]) {
        let mut cx = Context::from_waker(Waker::noop());
        let (mut socket, framing) = self.split(&mut cx);
        let _ = framing.frame(&mut socket, last, usize::MAX); // the peer may be gone: nothing is lost by that
        let _ = framing.context.close(&mut socket, Some(good_bye()));
    }
}

fn good_bye() -> CloseFrame {
    CloseFrame {
        code: CloseCode::Normal,
        reason: "".into(),
    }
}

fn done(result: tungstenite::Result<()>) -> Poll<io::Result<()>> {
    match result {
        Ok(()) => Poll::Ready(Ok(())),
        Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
        Err(Error::Io(error)) => Poll::Ready(Err(error)),
        Err(error) => Poll::Ready(Err(io::Error::new(io::ErrorKind::BrokenPipe, error))),
    }
}
