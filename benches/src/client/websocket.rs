//! A client's end of WebSocket, as far as a load generator needs it: the request, and MQTT's bytes in and out of frames.

use anyhow::{Result, bail, ensure};

/// Longest answer to the request.
const HEAD_BYTES: usize = 4 * 1024;

/// Asks for `/mqtt`. The key is anyone's: nobody is to be kept from mistaking the answer.
pub const REQUEST: &[u8] = b"GET /mqtt HTTP/1.1\r\nHost: bench\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n";

/// What came and is not whole.
#[derive(Debug, Default)]
pub struct WebSocket {
    upgraded: bool,
    raw: Vec<u8>,
}

impl WebSocket {
    /// Whether the request was answered.
    pub fn is_upgraded(&self) -> bool {
        self.upgraded
    }

    /// Takes what came. MQTT's bytes of it go to `out`. Returns whether the request was answered by now.
    pub fn take(&mut self, fresh: &[u8], out: &mut Vec<u8>) -> Result<bool> {
        self.raw.extend_from_slice(fresh);
        if !self.upgraded {
            let Some(end) = self.raw.windows(4).position(|window| window == b"\r\n\r\n") else {
                ensure!(self.raw.len() < HEAD_BYTES, "no answer to the WebSocket request");
                return Ok(false);
            };
            ensure!(
                self.raw.starts_with(b"HTTP/1.1 101 "),
                "no WebSocket: {}",
                first_line(&self.raw)
            );
            self.raw.drain(..end + 4);
            self.upgraded = true;
        }
        let mut done = 0;
        while let Some((len, payload)) = frame(self.raw.get(done..).unwrap_or_default())? {
            out.extend_from_slice(payload);
            done += len;
        }
        self.raw = self.raw.split_off(done); // ten thousand of these would keep their memory
        Ok(true)
    }
}

fn first_line(answer: &[u8]) -> String {
    let line = answer.split(|byte| *byte == b'\r').next().unwrap_or_default();
    String::from_utf8_lossy(line).into_owned()
}

/// The first frame in `raw`, if it is whole: its length, and what it brings of MQTT.
fn frame(raw: &[u8]) -> Result<Option<(usize, &[u8])>> {
    let [first, second, rest @ ..] = raw else {
        return Ok(None);
    };
    let length_bytes = match second {
        126 => 2,
        127 => 8,
        _ => 0,
    };
    let Some((length, rest)) = rest.split_at_checked(length_bytes) else {
        return Ok(None);
    };
    let bytes = match length_bytes {
        0 => usize::from(*second),
        _ => length.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)),
    };
    let Some(payload) = rest.get(..bytes) else {
        return Ok(None);
    };
    let payload = match first & 0x0f {
        0 | 2 => payload,
        8 => bail!("the broker closed the WebSocket"),
        _ => &[],
    };
    Ok(Some((2 + length_bytes + bytes, payload)))
}

/// Puts `bytes` into a frame. Its mask is zero: it hides nothing from a broker.
pub fn wrap(bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![0x82];
    match u8::try_from(bytes.len()) {
        Ok(len @ 0..=125) => out.push(0x80 | len),
        _ => {
            out.push(0xff);
            out.extend_from_slice(&(bytes.len() as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(bytes);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_read_in_any_pieces() {
        let mut came = b"HTTP/1.1 101 Switching Protocols\r\nx: y\r\n\r\n".to_vec();
        came.extend_from_slice(&[0x82, 2, 0xD0, 0, 0x8A, 1, b'x', 0x82, 126, 1, 0]);
        came.extend_from_slice(&[7; 256]);
        for size in [1, 3, 1_000] {
            let (mut websocket, mut out) = (WebSocket::default(), Vec::new());
            for piece in came.chunks(size) {
                websocket.take(piece, &mut out).unwrap();
            }
            assert_eq!(out, [&[0xD0, 0][..], &[7; 256]].concat());
        }
        assert!(
            WebSocket::default()
                .take(b"HTTP/1.1 404 Not Found\r\n\r\n", &mut Vec::new())
                .is_err()
        );
        assert!(
            WebSocket {
                upgraded: true,
                raw: Vec::new()
            }
            .take(&[0x88, 0], &mut Vec::new())
            .is_err()
        );
    }

    #[test]
    fn a_frame_has_its_length() {
        assert_eq!(wrap(&[0xC0, 0]), [0x82, 0x82, 0, 0, 0, 0, 0xC0, 0]);
        assert_eq!(wrap(&[0; 300])[1..10], [0xff, 0, 0, 0, 0, 0, 0, 1, 44]);
    }
}
