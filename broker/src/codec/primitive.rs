//! The data types of the wire (section 1.5): a cursor that never reads past its end, and the checks on text.

use super::reason::{DecodeError, Reason};

/// The greatest remaining length that four bytes hold (section 1.5.5).
pub const MAX_REMAINING: usize = 268_435_455;

/// Reads forward over the bytes of one packet.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
}

const SHORT: DecodeError = DecodeError::malformed("the packet ends before its fields do");

impl<'a> Cursor<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// All that is left.
    pub fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.bytes)
    }

    #[inline]
    pub fn take(&mut self, len: usize) -> Result<&'a [u8], DecodeError> {
        let (head, tail) = self.bytes.split_at_checked(len).ok_or(SHORT)?;
        self.bytes = tail;
        Ok(head)
    }

    #[inline]
    pub fn u8(&mut self) -> Result<u8, DecodeError> {
        let (first, tail) = self.bytes.split_first().ok_or(SHORT)?;
        self.bytes = tail;
        Ok(*first)
    }

    #[inline]
    pub fn u16(&mut self) -> Result<u16, DecodeError> {
        let (head, tail) = self.bytes.split_first_chunk().ok_or(SHORT)?;
        self.bytes = tail;
        Ok(u16::from_be_bytes(*head))
    }

    pub fn u32(&mut self) -> Result<u32, DecodeError> {
        let (head, tail) = self.bytes.split_first_chunk().ok_or(SHORT)?;
        self.bytes = tail;
        Ok(u32::from_be_bytes(*head))
    }

    /// A packet identifier; 0 is not one [MQTT-2.2.1-3].
    #[inline]
    pub fn packet_id(&mut self) -> Result<super::packet::PacketId, DecodeError> {
        super::packet::PacketId::new(self.u16()?)
            .ok_or(DecodeError::protocol("a packet identifier is 0 [MQTT-2.2.1-3]"))
    }

    /// Binary data (section 1.5.6).
    #[inline]
    pub fn binary(&mut self) -> Result<&'a [u8], DecodeError> {
        let len = self.u16()?;
        self.take(usize::from(len))
    }

    /// A UTF-8 encoded string (section 1.5.4).
    #[inline]
    pub fn string(&mut self) -> Result<&'a str, DecodeError> {
        text(self.binary()?)
    }

    /// A variable byte integer, in as few bytes as it needs [MQTT-1.5.5-1].
    pub fn var_int(&mut self) -> Result<u32, DecodeError> {
        let (value, len) = var_int(self.bytes)?.ok_or(SHORT)?;
        self.take(len)?;
        Ok(value)
    }
}

/// The variable byte integer at the start of `bytes` and its length; `None` when it goes on behind their end.
#[inline]
pub(super) fn var_int(bytes: &[u8]) -> Result<Option<(u32, usize)>, DecodeError> {
    let mut value = 0u32;
    for (index, byte) in bytes.iter().take(4).enumerate() {
        value |= u32::from(byte & 0x7F) << (7 * index);
        if byte & 0x80 == 0 {
            if *byte == 0 && index > 0 {
                return Err(DecodeError::malformed(
                    "a variable byte integer has more bytes than it needs [MQTT-1.5.5-1]",
                ));
            }
            return Ok(Some((value, index + 1)));
        }
    }
    match bytes.len() < 4 {
        true => Ok(None),
        false => Err(DecodeError::malformed(
            "a variable byte integer is longer than four bytes",
        )),
    }
}

/// UTF-8 without U+0000 [MQTT-1.5.4-1, MQTT-1.5.4-2].
#[inline]
pub(super) fn text(bytes: &[u8]) -> Result<&str, DecodeError> {
    let text = std::str::from_utf8(bytes)
        .map_err(|_| DecodeError::malformed("a string is not UTF-8 [MQTT-1.5.4-1]"))?;
    match memchr_zero(bytes) {
        false => Ok(text),
        true => Err(DecodeError::malformed("a string holds U+0000 [MQTT-1.5.4-2]")),
    }
}

#[inline]
fn memchr_zero(bytes: &[u8]) -> bool {
    bytes.iter().fold(false, |found, byte| found | (*byte == 0))
}

/// Size of the frame at the start of `bytes`: `None` when the fixed header is not whole yet. A frame above
/// `max_packet_bytes` is refused before anything of it is kept.
#[inline]
pub fn frame_len(bytes: &[u8], max_packet_bytes: usize) -> Result<Option<usize>, DecodeError> {
    let Some((_, rest)) = bytes.split_first() else {
        return Ok(None);
    };
    let Some((remaining, header)) = var_int(rest)? else {
        return Ok(None);
    };
    let len = 1 + header + remaining as usize;
    match len <= max_packet_bytes {
        true => Ok(Some(len)),
        false => Err(DecodeError {
            reason: Reason::PacketTooLarge,
            text: "the packet is larger than max_packet_bytes [MQTT-3.2.2-15]",
        }),
    }
}
