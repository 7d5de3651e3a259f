//! MQTT's bytes in binary frames of WebSocket (MQTT section 6). Packets and frames know nothing of each other: what
//! comes is one stream of bytes, wherever frames begin and end [MQTT-6.0.0-2]. What is sent has a frame for each packet:
//! there are clients that wait for the socket while the next packet of a frame is with them already.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::frames::{BINARY, CLOSE, Fault, Frames, NORMAL, PONG, put_head};
use super::transport::{Transport, yield_to_others};
use crate::codec::frame_len;

/// Payload of the frames that are made at once; a longer packet has several.
const FRAME_BYTES: usize = 16 * 1024;

/// Reads of the socket for one read of MQTT's bytes, before others get their turn: pings and empty frames bring none.
const READS_PER_TURN: u32 = 16;

/// A WebSocket on a plain socket, or on TLS.
#[derive(Debug)]
pub(crate) struct WebSocket {
    socket: Transport,
    framing: Framing,
}

/// The state of a WebSocket without its socket. One that only stands owns no buffer.
#[derive(Debug)]
pub(crate) struct Framing {
    frames: Frames,
    /// Frames that came along with the client's request.
    came: Vec<u8>,
    /// Why the client's frames are not read on.
    fault: Option<Fault>,
    /// Frames that wait for the socket.
    waiting: Vec<u8>,
    /// Bytes of them that it has taken.
    gone: usize,
    /// Bytes of the caller that stand in a frame which is not written whole yet.
    sending: usize,
    /// Bytes of the packet of which the first ones stand in a frame already.
    packet_left: usize,
    /// A close is on its way to the client, or with it: it is the last frame.
    said_close: bool,
}

impl Framing {
    /// A server's end after its handshake. `read` came behind the client's request; a message may have
    /// `max_message_bytes`.
    pub fn new(read: Vec<u8>, max_message_bytes: usize) -> Self {
        Self {
            frames: Frames::new(max_message_bytes),
            came: read,
            fault: None,
            waiting: Vec::new(),
            gone: 0,
            sending: 0,
            packet_left: 0,
            said_close: false,
        }
    }

    /// Puts the packets in `bytes` into frames, until `most` bytes stand in some.
    fn frame(&mut self, bytes: &[u8], most: usize) {
        while let Some(rest) = bytes.get(self.sending..).filter(|rest| !rest.is_empty()) {
            if self.sending >= most || self.said_close {
                break;
            }
            let packet = match self.packet_left {
                0 => frame_len(rest, usize::MAX).ok().flatten().unwrap_or(rest.len()),
                left => left,
            };
            let piece = rest.get(..packet.min(FRAME_BYTES)).unwrap_or(rest);
            self.packet_left = packet - piece.len();
            self.sending += piece.len();
            self.put(BINARY, piece);
        }
    }

    fn put(&mut self, kind: u8, payload: &[u8]) {
        put_head(kind, payload.len(), &mut self.waiting);
        self.waiting.extend_from_slice(payload);
    }

    /// Says close, unless that was said.
    fn close(&mut self, word: &[u8]) {
        if !std::mem::replace(&mut self.said_close, true) {
            self.put(CLOSE, word);
        }
    }

    /// Answers what the client's frames asked for besides. A ping waits until the socket has taken what was said before:
    /// by then it may be another one.
    fn answer(&mut self) {
        if let Some(word) = self.frames.take_close() {
            self.close(&word);
        }
        if self.waiting.is_empty()
            && !self.said_close
            && let Some(word) = self.frames.take_ping()
        {
            self.put(PONG, &word);
        }
    }
}

impl WebSocket {
    /// Joins them.
    pub fn new(socket: Transport, framing: Framing) -> Self {
        Self { socket, framing }
    }

    /// What its frames travel on.
    pub fn socket(&mut self) -> &mut Transport {
        &mut self.socket
    }

    /// Takes them apart.
    pub fn into_parts(self) -> (Transport, Framing) {
        (self.socket, self.framing)
    }

    /// The next bytes of MQTT. Pings are answered and a close is on the way.
    pub fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        for _ in 0..READS_PER_TURN {
            if let Some((code, why)) = self.framing.fault {
                self.framing
                    .close(&[&code.to_be_bytes(), why.as_bytes()].concat());
                let _ = self.poll_waiting(cx); // it may be gone already
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, why)));
            }
            if self.framing.frames.has_ended() {
                return Poll::Ready(Ok(()));
            }
            let before = buffer.filled().len();
            ready!(self.poll_frames(cx, buffer))?;
            let came = buffer.filled_mut().get_mut(before..).unwrap_or_default();
            if came.is_empty() {
                return Poll::Ready(Ok(())); // the end, without a close
            }
            let (count, fault) = self.framing.frames.unpack(came);
            self.framing.fault = fault;
            buffer.set_filled(before + count);
            self.framing.answer();
            if let Poll::Ready(Err(error)) = self.poll_waiting(cx) {
                return Poll::Ready(Err(error));
            }
            if count > 0 {
                return Poll::Ready(Ok(()));
            }
        }
        yield_to_others(cx);
        Poll::Pending
    }

    /// The next bytes of frames.
    fn poll_frames(&mut self, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.framing.came.is_empty() {
            return Pin::new(&mut self.socket).poll_read(cx, buffer);
        }
        let count = self.framing.came.len().min(buffer.remaining());
        buffer.put_slice(self.framing.came.get(..count).unwrap_or_default());
        self.framing.came = self.framing.came.split_off(count);
        Poll::Ready(Ok(()))
    }

    /// Puts `bytes` into frames, and is done when the socket has taken all of them.
    pub fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.framing.sending == 0 {
            if self.framing.said_close {
                // Nothing may follow a close. What the client sent before its own is handled all the same, as on TCP.
                ready!(self.poll_waiting(cx))?;
                return Poll::Ready(Ok(bytes.len()));
            }
            self.framing.frame(bytes, FRAME_BYTES);
        }
        ready!(self.poll_waiting(cx))?;
        Poll::Ready(Ok(std::mem::take(&mut self.framing.sending).min(bytes.len())))
    }

    /// Writes what waits.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_waiting(cx)
    }

    /// Writes the frames that wait, and an answer to a ping that waits for them.
    fn poll_waiting(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let framing = &mut self.framing;
            while let Some(rest) = framing
                .waiting
                .get(framing.gone..)
                .filter(|rest| !rest.is_empty())
            {
                let count = ready!(Pin::new(&mut self.socket).poll_write(cx, rest))?;
                if count == 0 {
                    return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                }
                framing.gone += count;
            }
            framing.waiting = Vec::new(); // one that only stands owns no buffer
            framing.gone = 0;
            framing.answer();
            if framing.waiting.is_empty() {
                return Pin::new(&mut self.socket).poll_flush(cx);
            }
        }
    }

    /// Says close, and closes the socket's writing end.
    pub fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.framing.close(&NORMAL.to_be_bytes());
        ready!(self.poll_waiting(cx))?;
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }

    /// See [`Transport::say_last`]. What the socket does not take stands in frames and waits.
    pub fn say_last(&mut self, last: &[u8]) -> bool {
        self.framing.frame(last, usize::MAX);
        self.framing.close(&NORMAL.to_be_bytes());
        // The peer may be gone: nothing is lost by that.
        self.poll_waiting(&mut Context::from_waker(Waker::noop()))
            .is_ready()
    }
}
