//! A client's frames of WebSocket (RFC 6455), read where they lie: what they carry is moved to the front of the bytes that
//! came, so that a connection holds nothing of what it reads but a head that is not whole and a control frame's word. Pure.

/// A frame's head: two bytes, a length of up to eight, the mask.
const HEAD_BYTES: usize = 14;

/// Payload of a control frame at most (section 5.5).
const CONTROL_BYTES: u64 = 125;

/// First byte: the last frame of its message; bits that no extension uses here; the kind.
const FINAL: u8 = 0x80;
const RESERVED: u8 = 0x70;
const KIND: u8 = 0x0f;
/// A kind of control frame.
const CONTROL: u8 = 0x08;
/// Second byte: masked.
const MASKED: u8 = 0x80;

const CONTINUE: u8 = 0;
const TEXT: u8 = 1;
pub(super) const BINARY: u8 = 2;
pub(super) const CLOSE: u8 = 8;
const PING: u8 = 9;
pub(super) const PONG: u8 = 10;

/// Codes with which a WebSocket is closed (section 7.4.1).
pub(super) const NORMAL: u16 = 1000;
const PROTOCOL: u16 = 1002;
const UNSUPPORTED: u16 = 1003;
const TOO_BIG: u16 = 1009;

/// Why a client's frames are not read on: the code to close with, and a word on it.
pub(super) type Fault = (u16, &'static str);

const NOT_WEBSOCKET: Fault = (PROTOCOL, "not WebSocket");

/// Where the frames of one client stand.
#[derive(Debug)]
pub(super) struct Frames {
    head: [u8; HEAD_BYTES],
    /// Bytes of the head that came. At all of them the payload is read.
    head_len: u8,
    kind: u8,
    is_final: bool,
    /// A message has begun that goes on in further frames.
    in_message: bool,
    mask: [u8; 4],
    /// Bytes of the payload that did not come yet.
    left: u64,
    /// Bytes of the message in its frames so far.
    message_bytes: u32,
    max_message_bytes: u32,
    words: Option<Box<Words>>,
    ended: bool,
}

/// What control frames bring, as long as it is of use.
#[derive(Debug, Default)]
struct Words {
    /// Of the one that is being read.
    control: Vec<u8>,
    /// Of the latest ping, until somebody takes it.
    ping: Option<Vec<u8>>,
    /// The client said close: what it is to be answered.
    close: Option<Vec<u8>>,
}

impl Frames {
    /// A client whose messages may have `max_message_bytes`.
    pub fn new(max_message_bytes: usize) -> Self {
        Self {
            head: [0; HEAD_BYTES],
            head_len: 0,
            kind: BINARY,
            is_final: true,
            in_message: false,
            mask: [0; 4],
            left: 0,
            message_bytes: 0,
            max_message_bytes: u32::try_from(max_message_bytes).unwrap_or(u32::MAX),
            words: None,
            ended: false,
        }
    }

    /// What the latest ping brought, to be sent back. Of several that wait one is answered (section 5.5.3).
    pub fn take_ping(&mut self) -> Option<Vec<u8>> {
        self.take(|words| words.ping.take())
    }

    /// What the client's close is answered with, once.
    pub fn take_close(&mut self) -> Option<Vec<u8>> {
        self.take(|words| words.close.take())
    }

    fn take(&mut self, which: impl Fn(&mut Words) -> Option<Vec<u8>>) -> Option<Vec<u8>> {
        let words = self.words.as_mut()?;
        let taken = which(words);
        if words.control.is_empty() && words.ping.is_none() && words.close.is_none() {
            self.words = None;
        }
        taken
    }

    /// Whether nothing more is read: the client said close, or broke a rule.
    pub fn has_ended(&self) -> bool {
        self.ended
    }

    /// Moves MQTT's bytes of what came to its front and returns how many these are. With a fault, nothing behind them
    /// was looked at.
    pub fn unpack(&mut self, came: &mut [u8]) -> (usize, Option<Fault>) {
        let (mut at, mut done) = (0, 0);
        while at < came.len() && !self.ended {
            if self.left == 0 {
                let Some(byte) = came.get(at) else { break };
                at += 1;
                match self.head_byte(*byte) {
                    Ok(true) if self.left == 0 => self.end_of_frame(),
                    Ok(_) => {}
                    Err(fault) => {
                        self.ended = true;
                        return (done, Some(fault));
                    }
                }
                continue;
            }
            let most = usize::try_from(self.left).unwrap_or(usize::MAX);
            let count = most.min(came.len() - at);
            came.copy_within(at..at + count, done);
            let payload = came.get_mut(done..done + count).unwrap_or_default();
            unmask(payload, self.mask);
            self.mask.rotate_left(count % 4);
            if self.kind & CONTROL == 0 {
                done += count;
            } else {
                let words = self.words.get_or_insert_default();
                words.control.extend_from_slice(payload); // at most CONTROL_BYTES of a frame
            }
            at += count;
            self.left -= count as u64;
            if self.left == 0 {
                self.end_of_frame();
            }
        }
        (done, None)
    }

    /// Takes a byte of a head. True: the head is whole.
    fn head_byte(&mut self, byte: u8) -> Result<bool, Fault> {
        let at = usize::from(self.head_len);
        if let Some(place) = self.head.get_mut(at) {
            *place = byte;
        }
        self.head_len += 1;
        let [first, second, rest @ ..] = &self.head;
        let length_bytes = match second & !MASKED {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        if at == 0 {
            return Ok(false);
        }
        if at == 1 {
            self.check_kind(*first, *second)?;
        }
        if at + 1 < 2 + length_bytes + 4 {
            return Ok(false);
        }
        let (length, mask) = rest.split_at_checked(length_bytes).unwrap_or_default();
        self.left = match length_bytes {
            0 => u64::from(second & !MASKED),
            _ => length.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)),
        };
        self.mask = mask.first_chunk().copied().unwrap_or_default();
        self.is_final = first & FINAL != 0;
        self.kind = first & KIND;
        self.head_len = 0;
        self.begin_frame()?;
        Ok(true)
    }

    /// Looks at the first two bytes of a frame (section 5.2).
    fn check_kind(&self, first: u8, second: u8) -> Result<(), Fault> {
        let is_final = first & FINAL != 0;
        let kept = match first & KIND {
            TEXT => return Err((UNSUPPORTED, "MQTT comes in binary frames")), // [MQTT-6.0.0-1]
            BINARY => !self.in_message,
            CONTINUE => self.in_message,
            CLOSE | PING | PONG => is_final && u64::from(second & !MASKED) <= CONTROL_BYTES,
            _ => false,
        };
        match kept && first & RESERVED == 0 && second & MASKED != 0 {
            true => Ok(()),
            false => Err(NOT_WEBSOCKET),
        }
    }

    /// A head is whole.
    fn begin_frame(&mut self) -> Result<(), Fault> {
        if self.kind & CONTROL != 0 {
            return Ok(());
        }
        if self.kind == BINARY {
            self.message_bytes = 0;
        }
        let bytes = u64::from(self.message_bytes).saturating_add(self.left);
        self.message_bytes = u32::try_from(bytes)
            .ok()
            .filter(|bytes| *bytes <= self.max_message_bytes)
            .ok_or((TOO_BIG, "greater than limits.max_packet_bytes"))?;
        self.in_message = !self.is_final;
        Ok(())
    }

    fn end_of_frame(&mut self) {
        if self.kind & CONTROL == 0 {
            return;
        }
        let words = self.words.get_or_insert_default();
        let word = std::mem::take(&mut words.control);
        match self.kind {
            PING => words.ping = Some(word),
            CLOSE => {
                self.ended = true;
                words.close = Some(close_answer(word));
            }
            _ => {}
        }
    }
}

/// What a close is answered with: the same, or that it was none (sections 5.5.1, 7.4).
fn close_answer(word: Vec<u8>) -> Vec<u8> {
    let is_right = match word.split_first_chunk() {
        Some((code, reason)) => {
            matches!(u16::from_be_bytes(*code), 1000..=1003 | 1007..=1014 | 3000..=4999)
                && std::str::from_utf8(reason).is_ok()
        }
        None => word.is_empty(),
    };
    match is_right {
        true => word,
        false => PROTOCOL.to_be_bytes().to_vec(),
    }
}

fn unmask(payload: &mut [u8], mask: [u8; 4]) {
    let mut chunks = payload.chunks_exact_mut(4);
    for chunk in &mut chunks {
        for (byte, mask) in chunk.iter_mut().zip(mask) {
            *byte ^= mask;
        }
    }
    for (byte, mask) in chunks.into_remainder().iter_mut().zip(mask) {
        *byte ^= mask;
    }
}

/// Puts the head of a whole frame of ours into `out`, which is not masked (section 5.1).
pub(super) fn put_head(kind: u8, payload_bytes: usize, out: &mut Vec<u8>) {
    out.push(FINAL | kind);
    match (u8::try_from(payload_bytes), u16::try_from(payload_bytes)) {
        (Ok(bytes @ 0..=125), _) => out.push(bytes),
        (_, Ok(bytes)) => {
            out.push(126);
            out.extend_from_slice(&bytes.to_be_bytes());
        }
        _ => {
            out.push(127);
            out.extend_from_slice(&(payload_bytes as u64).to_be_bytes());
        }
    }
}

#[cfg(test)]
#[path = "frames_tests.rs"]
mod tests;
