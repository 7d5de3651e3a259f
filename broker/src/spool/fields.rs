//! Numbers in headers, all little endian: read in order, written in order.

/// Reads one number after the other; `None` when the bytes end.
pub(super) struct Fields<'a>(pub &'a [u8]);

impl Fields<'_> {
    pub fn u32(&mut self) -> Option<u32> {
        let (bytes, rest) = self.0.split_first_chunk::<4>()?;
        self.0 = rest;
        Some(u32::from_le_bytes(*bytes))
    }

    pub fn u64(&mut self) -> Option<u64> {
        let (bytes, rest) = self.0.split_first_chunk::<8>()?;
        self.0 = rest;
        Some(u64::from_le_bytes(*bytes))
    }
}

/// What a header's magic says of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Magic {
    /// Ours.
    Ours,
    /// Ours of another version.
    Version(u8),
    /// Something else.
    Other,
}

/// Compares the eight bytes at the start: seven of name, one of version.
pub(super) fn magic(bytes: &[u8], ours: &[u8; 8]) -> Magic {
    match bytes.first_chunk::<8>() {
        Some(found) if found == ours => Magic::Ours,
        Some([name @ .., version]) if ours.starts_with(name) => Magic::Version(*version),
        _ => Magic::Other,
    }
}

/// Puts `crc` at its place, 8, in a header at `at` of `out`.
pub(super) fn put_crc(out: &mut [u8], at: usize, crc: u32) {
    if let Some(place) = out.get_mut(at + 8..at + 12) {
        place.copy_from_slice(&crc.to_le_bytes());
    }
}
