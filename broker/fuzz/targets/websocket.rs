//! Fuzz target: any bytes, in any pieces, to a WebSocket listener: the request, or from behind it the frames. Nothing may
//! panic; what is held in memory stays within a message and the buffers; what comes out as MQTT's bytes is no more than
//! came in; and the broker's own frames can be read by a client of the same kind.
#![no_main]

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use libfuzzer_sys::fuzz_target;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

// The broker's files on WebSocket, with what they name.

#[allow(dead_code, unused_imports)]
#[path = "../../src/codec/mod.rs"]
mod codec;
#[path = "../../src/listener/upgrade.rs"]
mod upgrade;

#[allow(dead_code)]
#[path = "../../src/listener/frames.rs"]
mod frames;
#[allow(dead_code)]
#[path = "../../src/listener/websocket.rs"]
mod websocket;

/// The socket, with the name and the methods that the two files know.
mod transport {
    pub use crate::socket::{Transport, yield_to_others};
}

/// The one section of it that they ask for.
mod config {
    pub const EVERY_PATH: &str = "*";

    pub struct WebSocketConfig {
        pub path: String,
        pub origins: Vec<String>,
    }
}

mod socket {
    use super::*;
    use crate::websocket::WebSocket;

    /// What the client sends, and how much of it each read brings; what it has been sent.
    #[derive(Debug, Default)]
    pub struct Memory {
        pub input: Vec<u8>,
        pub at: usize,
        /// Sizes of the pieces, over and over; 0: nothing is there yet, look again.
        pub pieces: Vec<u8>,
        pub piece: usize,
        pub output: Vec<u8>,
        /// What the client has taken of the output; with little room the socket takes no more.
        pub room: usize,
    }

    #[derive(Debug)]
    pub enum Transport {
        Memory(Box<Memory>),
        WebSocket(Box<WebSocket>),
    }

    pub fn yield_to_others(cx: &mut Context<'_>) {
        cx.waker().wake_by_ref();
    }

    impl Transport {
        pub async fn linger(self, _: Vec<u8>) {}

        pub fn memory(&mut self) -> &mut Memory {
            match self {
                Self::Memory(memory) => memory,
                Self::WebSocket(_) => panic!("a socket in a socket"),
            }
        }
    }

    impl AsyncRead for Transport {
        fn poll_read(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            buffer: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            let memory = self.memory();
            let piece = memory.pieces.get(memory.piece % memory.pieces.len().max(1));
            memory.piece += 1;
            let most = piece.map_or(usize::MAX, |piece| usize::from(*piece));
            let rest = &memory.input[memory.at..];
            if most == 0 && !rest.is_empty() {
                return Poll::Pending;
            }
            let count = rest.len().min(most).min(buffer.remaining());
            buffer.put_slice(&rest[..count]);
            memory.at += count;
            Poll::Ready(Ok(()))
        }
    }

    impl AsyncWrite for Transport {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            let memory = self.memory();
            let count = memory.room.saturating_sub(memory.output.len()).min(bytes.len());
            if count == 0 && !bytes.is_empty() {
                return Poll::Pending;
            }
            memory.output.extend_from_slice(&bytes[..count]);
            Poll::Ready(Ok(count))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }
}

use socket::{Memory, Transport};
use websocket::{Framing, WebSocket};

const MAX_MESSAGE_BYTES: usize = 2_000;

fuzz_target!(|input: &[u8]| {
    let [flags, pieces, rest @ ..] = input else { return };
    let (pieces, rest) = rest.split_at(usize::from(pieces % 8).min(rest.len()));
    let memory = Memory {
        input: rest.to_vec(),
        // All of it at once now and then, or it would wait for ever.
        pieces: pieces.iter().copied().chain([255]).collect(),
        room: if flags & 2 == 0 { usize::MAX } else { 300 },
        ..Memory::default()
    };
    let socket = Transport::Memory(Box::new(memory));
    if flags & 1 == 0 {
        serve(
            WebSocket::new(socket, Framing::new(Vec::new(), MAX_MESSAGE_BYTES)),
            rest.len(),
            flags & 4 != 0,
        );
        return;
    }
    let config = config::WebSocketConfig {
        path: "/mqtt".to_owned(),
        origins: if flags & 8 == 0 {
            Vec::new()
        } else {
            vec!["https://a".to_owned()]
        },
    };
    let upgrade = upgrade::upgrade(socket, Vec::new(), &config, MAX_MESSAGE_BYTES);
    let mut upgrade = std::pin::pin!(upgrade);
    let mut cx = Context::from_waker(Waker::noop());
    // Each poll takes a piece, so that there are never more polls than bytes and pieces.
    for _ in 0..4 * rest.len() + 64 {
        match upgrade.as_mut().poll(&mut cx) {
            Poll::Pending => {}
            Poll::Ready(Ok(Transport::WebSocket(websocket))) => {
                return serve(*websocket, rest.len(), flags & 4 != 0);
            }
            Poll::Ready(Ok(Transport::Memory(_))) => panic!("it was not upgraded"),
            Poll::Ready(Err(_)) => return,
        }
    }
    // A request of which no more comes, or an answer that is not taken: the deadline of the listener ends it.
});

/// Reads to the end and writes in between, as a connection does.
fn serve(mut websocket: WebSocket, came: usize, writes: bool) {
    let mut cx = Context::from_waker(Waker::noop());
    let mut got = 0;
    for turn in 0..4 * came + 64 {
        let mut space = [0; 777];
        let mut buffer = ReadBuf::new(&mut space);
        match websocket.poll_read(&mut cx, &mut buffer) {
            Poll::Pending => {}
            Poll::Ready(Ok(())) if buffer.filled().is_empty() => break,
            Poll::Ready(Ok(())) => got += buffer.filled().len(),
            Poll::Ready(Err(_)) => break,
        }
        assert!(got <= came, "MQTT's bytes are some of those that came");
        if writes && turn % 3 == 0 {
            // The same bytes until they are taken, as the contract of a write wants it.
            let _ = websocket.poll_write(&mut cx, &[0xd0, 0]);
            let _ = websocket.poll_flush(&mut cx);
        }
    }
    websocket.say_last(&[]);
    let _ = websocket.poll_shutdown(&mut cx);
    let (mut socket, _) = websocket.into_parts();
    let output = &socket.memory().output;
    // A ping is answered with what it brought; each frame has a head of two bytes where the client's has six.
    assert!(
        output.len() <= came + 16 * 1024,
        "{} bytes for {came}",
        output.len()
    );
    frames(output);
}

/// What the broker sent, behind the answer to the request: whole frames but for the last, not masked, control frames
/// short and in one piece.
fn frames(output: &[u8]) {
    let mut rest = match output.starts_with(b"HTTP/1.1 ") {
        true => match output.windows(4).position(|window| window == b"\r\n\r\n") {
            Some(at) => &output[at + 4..],
            None => return,
        },
        false => output,
    };
    let mut closed = false;
    while let [first, second, behind @ ..] = rest {
        assert!(!closed, "nothing comes behind a close");
        assert_eq!(first & 0xf0, 0x80, "whole, without reserved bits");
        assert_eq!(second & 0x80, 0, "not masked");
        let short = usize::from(second & 0x7f);
        assert!(short < 126, "nothing here is long");
        match first & 0x0f {
            2 | 10 => {}
            8 => closed = true,
            kind => panic!("a frame of kind {kind}"),
        }
        rest = behind.get(short..).unwrap_or_default();
    }
}
