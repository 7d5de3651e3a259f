//! Reading numbers and texts from the front of a record's bytes.

use super::RecordError;

#[inline]
pub(super) fn take(bytes: &[u8], len: usize) -> Result<(&[u8], &[u8]), RecordError> {
    bytes.split_at_checked(len).ok_or(RecordError::Truncated)
}

#[inline]
pub(super) fn text(bytes: &[u8], len: u16) -> Result<(&str, &[u8]), RecordError> {
    let (text, rest) = take(bytes, usize::from(len))?;
    let text = std::str::from_utf8(text).map_err(|_| RecordError::Invalid("UTF-8"))?;
    Ok((text, rest))
}

#[inline]
pub(super) fn u8_at(bytes: &[u8]) -> Result<(u8, &[u8]), RecordError> {
    bytes
        .split_first()
        .map(|(first, rest)| (*first, rest))
        .ok_or(RecordError::Truncated)
}

#[inline]
pub(super) fn u16_at(bytes: &[u8]) -> Result<(u16, &[u8]), RecordError> {
    let (head, rest) = bytes.split_first_chunk().ok_or(RecordError::Truncated)?;
    Ok((u16::from_le_bytes(*head), rest))
}

#[inline]
pub(super) fn u32_at(bytes: &[u8]) -> Result<(u32, &[u8]), RecordError> {
    let (head, rest) = bytes.split_first_chunk().ok_or(RecordError::Truncated)?;
    Ok((u32::from_le_bytes(*head), rest))
}

#[inline]
pub(super) fn u64_at(bytes: &[u8]) -> Result<(u64, &[u8]), RecordError> {
    let (head, rest) = bytes.split_first_chunk().ok_or(RecordError::Truncated)?;
    Ok((u64::from_le_bytes(*head), rest))
}
