//! Reads the data types of MQTT (5.0 section 1.5) off the front of a byte slice, never past its end.

use super::reason::DecodeError;

const CUT_OFF: DecodeError = DecodeError::malformed("the packet ends inside a field");

/// What is left to read of a packet.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// All that is left, without taking it.
    pub(super) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    #[inline]
    pub(super) fn take(&mut self, len: usize) -> Result<&'a [u8], DecodeError> {
        let (head, rest) = self.rest.split_at_checked(len).ok_or(CUT_OFF)?;
        self.rest = rest;
        Ok(head)
    }

    #[inline]
    pub(super) fn u8(&mut self) -> Result<u8, DecodeError> {
        let (head, rest) = self.rest.split_first().ok_or(CUT_OFF)?;
        self.rest = rest;
        Ok(*head)
    }

    #[inline]
    pub(super) fn u16(&mut self) -> Result<u16, DecodeError> {
        let (head, rest) = self.rest.split_first_chunk().ok_or(CUT_OFF)?;
        self.rest = rest;
        Ok(u16::from_be_bytes(*head))
    }

    /// Variable byte integer in its shortest form [MQTT-1.5.5-1].
    #[inline]
    pub(super) fn var_int(&mut self) -> Result<u32, DecodeError> {
        match var_int(self.rest)? {
            Some((value, len, true)) => {
                self.take(len)?;
                Ok(value)
            }
            Some((_, _, false)) => Err(DecodeError::malformed(
                "a variable byte integer is longer than needed [MQTT-1.5.5-1]",
            )),
            None => Err(CUT_OFF),
        }
    }

    /// Binary data: two bytes of length and as many bytes (section 1.5.6).
    #[inline]
    pub(super) fn binary(&mut self) -> Result<&'a [u8], DecodeError> {
        let len = self.u16()?;
        self.take(usize::from(len))
    }

    /// A UTF-8 encoded string that names something: without control characters.
    pub(super) fn name(&mut self) -> Result<&'a str, DecodeError> {
        name(self.binary()?)
    }

    /// A UTF-8 encoded string (section 1.5.4).
    #[inline]
    pub(super) fn text(&mut self) -> Result<&'a str, DecodeError> {
        text(self.binary()?)
    }
}

/// Reads a variable byte integer: value, bytes used and whether that is the fewest possible. `None`: it goes on behind
/// the end of `bytes`.
#[inline]
pub(super) fn var_int(bytes: &[u8]) -> Result<Option<(u32, usize, bool)>, DecodeError> {
    if let Some(byte @ 0..0x80) = bytes.first() {
        return Ok(Some((u32::from(*byte), 1, true)));
    }
    let mut value = 0u32;
    for (index, byte) in bytes.iter().take(4).enumerate() {
        value |= u32::from(byte & 0x7F) << (7 * index);
        if byte & 0x80 == 0 {
            return Ok(Some((value, index + 1, index == 0 || *byte != 0)));
        }
    }
    if bytes.len() < 4 {
        return Ok(None);
    }
    Err(DecodeError::malformed(
        "a variable byte integer has more than four bytes (section 1.5.5)",
    ))
}

/// Checks UTF-8 [MQTT-1.5.4-1] without U+0000 [MQTT-1.5.4-2].
#[inline]
pub(super) fn text(bytes: &[u8]) -> Result<&str, DecodeError> {
    if holds_any(bytes, [0]) {
        return Err(DecodeError::malformed("a string holds U+0000 [MQTT-1.5.4-2]"));
    }
    utf8(bytes)
}

#[inline]
pub(super) fn utf8(bytes: &[u8]) -> Result<&str, DecodeError> {
    std::str::from_utf8(bytes).map_err(|_| DecodeError::malformed("a string is not UTF-8 [MQTT-1.5.4-1]"))
}

/// Checks a string as [`text`] does, and that it holds nothing that a name should not (section 1.5.4: a receiver may
/// take it for malformed, and Mosquitto does).
pub(super) fn name(bytes: &[u8]) -> Result<&str, DecodeError> {
    let name = text(bytes)?;
    if holds_control(name) {
        return Err(CONTROL);
    }
    Ok(name)
}

pub(super) const CONTROL: DecodeError =
    DecodeError::malformed("a name holds a control character or a non-character (section 1.5.4)");

/// Whether there are control characters in it, U+0000 included, or code points that are no characters.
pub(super) fn holds_control(name: &str) -> bool {
    let is_character = |c: char| {
        !matches!(u32::from(c) & 0xFFFF, 0xFFFE | 0xFFFF) && !('\u{FDD0}'..='\u{FDEF}').contains(&c)
    };
    !is_plain(name.as_bytes()) && name.chars().any(|c| c.is_control() || !is_character(c))
}

const ONES: u64 = 0x0101_0101_0101_0101;
const TOPS: u64 = ONES << 7;

/// The top bit of the lowest place whose byte is `byte`, and maybe of places above it.
#[inline]
fn places_of(word: u64, byte: u8) -> u64 {
    let zero = word ^ (ONES * u64::from(byte));
    zero.wrapping_sub(ONES) & !zero & TOPS
}

/// Whether all bytes are printable ASCII: eight at a time, for every PUBLISH asks it of its topic.
#[inline]
pub(super) fn is_plain(bytes: &[u8]) -> bool {
    let (words, tail) = bytes.as_chunks::<8>();
    let mut other = 0;
    for word in words {
        let word = u64::from_le_bytes(*word);
        let below_space = word.wrapping_sub(ONES * 0x20) & !word;
        other |= (word | below_space) & TOPS | places_of(word, 0x7F);
    }
    other == 0 && tail.iter().all(|byte| (0x20..0x7F).contains(byte))
}

/// Whether one of these bytes is in there: eight at a time, for every PUBLISH asks it of its topic.
#[inline]
pub(super) fn holds_any<const N: usize>(bytes: &[u8], wanted: [u8; N]) -> bool {
    let (words, tail) = bytes.as_chunks::<8>();
    let mut found = 0;
    for word in words {
        let word = u64::from_le_bytes(*word);
        for byte in wanted {
            found |= places_of(word, byte);
        }
    }
    found != 0 || tail.iter().any(|byte| wanted.contains(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_byte_is_found_wherever_it_stands() {
        for len in 0..40 {
            for filler in [1, b'a', 0x7F, 0x80, 0xFF] {
                let mut bytes = vec![filler; len];
                assert!(!holds_any(&bytes, [0, b'+', b'#']), "{len} of {filler}");
                for place in 0..len {
                    for wanted in [0, b'+', b'#'] {
                        bytes[place] = wanted;
                        assert!(holds_any(&bytes, [0, b'+', b'#']), "{wanted} at {place} of {len}");
                        assert!(
                            !holds_any(&bytes, [b'$', 0x2A, 0x2C]),
                            "{wanted} at {place} of {len}"
                        );
                    }
                    bytes[place] = filler;
                }
            }
        }
    }

    #[test]
    fn every_byte_is_plain_or_not_wherever_it_stands() {
        for len in 1..20 {
            for filler in [b' ', b'a', b'~'] {
                for place in 0..len {
                    for byte in 0..=u8::MAX {
                        let mut bytes = vec![filler; len];
                        bytes[place] = byte;
                        assert_eq!(
                            is_plain(&bytes),
                            (0x20..0x7F).contains(&byte),
                            "{byte:#x} at {place} of {len}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn names_hold_characters_only() {
        for name in [
            "",
            "a",
            "a b",
            "~",
            "\u{A0}",
            "ä/ß",
            "\u{FEFF}",
            "\u{2A6D4}",
            "\u{FFFD}",
            "\u{FDCF}",
        ] {
            assert!(!holds_control(name), "{name:?}");
        }
        for c in [
            '\u{0}',
            '\u{1}',
            '\u{9}',
            '\u{A}',
            '\u{1F}',
            '\u{7F}',
            '\u{80}',
            '\u{9F}',
            '\u{FDD0}',
            '\u{FDEF}',
            '\u{FFFE}',
            '\u{FFFF}',
            '\u{1FFFE}',
            '\u{10FFFF}',
        ] {
            for around in ["", "a", "12345678", "ä"] {
                assert!(holds_control(&format!("{around}{c}{around}")), "{c:?}");
            }
        }
    }
}
