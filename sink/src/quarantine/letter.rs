//! One refused record as it stands in the quarantine and goes to the dead letter topic (pure). Little endian:
//!
//! ```text
//! offset size
//!      0    4  length of what follows the first 8 bytes
//!      4    4  CRC32C of that
//!      8    1  version of this format, 1
//!      9    1  bit 0: there is a value (else it is a tombstone)
//!     10    8  time of arrival, milliseconds since 1970
//!     18    4  length of the key, and the key
//!           4  length of the value, and the value
//!           2  number of headers; then each:
//!              2  length of its name, and the name
//!              4  length of its value, and the value
//! ```

const VERSION: u8 = 1;
const HEAD: usize = 8;

/// A refused record, as it is to be sent.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Letter {
    pub(crate) arrival_ms: u64,
    pub(crate) key: Vec<u8>,
    pub(crate) value: Option<Vec<u8>>,
    pub(crate) headers: Vec<(String, Vec<u8>)>,
}

impl Letter {
    /// Appends it to `out`.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&[0; HEAD]);
        out.extend_from_slice(&[VERSION, u8::from(self.value.is_some())]);
        out.extend_from_slice(&self.arrival_ms.to_le_bytes());
        put(out, &self.key);
        put(out, self.value.as_deref().unwrap_or_default());
        out.extend_from_slice(&(self.headers.len() as u16).to_le_bytes());
        for (name, value) in &self.headers {
            out.extend_from_slice(&(name.len() as u16).to_le_bytes());
            out.extend_from_slice(name.as_bytes());
            put(out, value);
        }
        let body = out.get(start + HEAD..).unwrap_or_default();
        let (len, crc) = (body.len() as u32, crc32c::crc32c(body));
        let head = out.get_mut(start..start + HEAD).map(|head| head.split_at_mut(4));
        if let Some((at_len, at_crc)) = head {
            at_len.copy_from_slice(&len.to_le_bytes());
            at_crc.copy_from_slice(&crc.to_le_bytes());
        }
    }

    /// Reads the letter at the start of `rest` and moves on; none when it is cut off, damaged or of another version.
    pub(super) fn read(rest: &mut &[u8]) -> Option<Self> {
        let mut bytes = *rest;
        let len = u32::from_le_bytes(number(&mut bytes)?);
        let crc = u32::from_le_bytes(number(&mut bytes)?);
        let (mut body, after) = bytes.split_at_checked(len as usize)?;
        if crc32c::crc32c(body) != crc {
            return None;
        }
        let body = &mut body;
        let [VERSION, flags] = number(body)? else {
            return None;
        };
        let arrival_ms = u64::from_le_bytes(number(body)?);
        let (key, value) = (take(body)?, take(body)?);
        let count = u16::from_le_bytes(number(body)?);
        let mut headers = Vec::with_capacity(usize::from(count));
        for _ in 0..count {
            let len = u16::from_le_bytes(number(body)?);
            let (name, after) = body.split_at_checked(usize::from(len))?;
            *body = after;
            headers.push((std::str::from_utf8(name).ok()?.to_owned(), take(body)?));
        }
        *rest = after;
        Some(Self {
            arrival_ms,
            key,
            value: (flags & 1 != 0).then_some(value),
            headers,
        })
    }

    /// Bytes that it takes in memory, roughly.
    pub(crate) fn bytes(&self) -> usize {
        let headers = self
            .headers
            .iter()
            .map(|(name, value)| name.len() + value.len() + 48);
        let headers: usize = headers.sum();
        self.key.len() + self.value.as_ref().map_or(0, Vec::len) + headers + 96
    }
}

fn put(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
    out.extend_from_slice(bytes);
}

fn number<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (bytes, after) = rest.split_first_chunk::<N>()?;
    *rest = after;
    Some(*bytes)
}

fn take(rest: &mut &[u8]) -> Option<Vec<u8>> {
    let len = u32::from_le_bytes(number(rest)?);
    let (bytes, after) = rest.split_at_checked(len as usize)?;
    *rest = after;
    Some(bytes.to_vec())
}
