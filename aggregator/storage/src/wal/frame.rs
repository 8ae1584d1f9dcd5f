//! The frame around a record. Records can be found again after damage, and are never confused with the content of
//! another record.
//!
//! ```text
//! marker u32 | payload length u32 | number u64 | CRC of payload u32 | CRC of the 20 bytes before u32 | payload
//! ```
//! Numbers are little-endian, checksums CRC32C. The header's checksum is seeded per data directory, so a label value
//! cannot pose as a record. The header is checked separately from the payload, so a damaged payload costs only its own
//! record.

/// The first bytes of each record.
pub(crate) const MARKER: u32 = 0x9e57_4d54;
/// Number of bytes before the payload.
pub(crate) const HEADER: usize = 24;

/// Appends a framed record.
pub(crate) fn put(to: &mut Vec<u8>, seed: u32, number: u64, payload_crc: u32, payload: &[u8]) {
    let start = to.len();
    to.extend_from_slice(&MARKER.to_le_bytes());
    to.extend_from_slice(&(payload.len() as u32).to_le_bytes());
    to.extend_from_slice(&number.to_le_bytes());
    to.extend_from_slice(&payload_crc.to_le_bytes());
    let crc = crc32c::crc32c_append(seed, &to[start..]);
    to.extend_from_slice(&crc.to_le_bytes());
    to.extend_from_slice(payload);
}

/// What was found at an offset in a segment.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found<'a> {
    /// A whole record; the next one begins `bytes` later.
    Record {
        number: u64,
        payload: &'a [u8],
        bytes: usize,
    },
    /// A sound header with a damaged payload.
    DamagedPayload { number: u64, bytes: usize },
    /// A sound header whose payload runs past the end.
    Cut,
    /// No record.
    Nothing,
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let (array, _) = bytes.get(at..)?.split_first_chunk()?;
    Some(u32::from_le_bytes(*array))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    let (array, _) = bytes.get(at..)?.split_first_chunk()?;
    Some(u64::from_le_bytes(*array))
}

/// Examines the start of `bytes`.
pub(crate) fn find(bytes: &[u8], seed: u32) -> Found<'_> {
    let header = || {
        let marker = u32_at(bytes, 0)?;
        let length = u32_at(bytes, 4)? as usize;
        let number = u64_at(bytes, 8)?;
        let payload_crc = u32_at(bytes, 16)?;
        let crc = u32_at(bytes, 20)?;
        let sound = marker == MARKER && crc32c::crc32c_append(seed, bytes.get(..20)?) == crc;
        sound.then_some((length, number, payload_crc))
    };
    let Some((length, number, payload_crc)) = header() else {
        return Found::Nothing;
    };
    let Some(end) = HEADER.checked_add(length) else {
        return Found::Nothing;
    };
    match bytes.get(HEADER..end) {
        None => Found::Cut,
        Some(payload) if crc32c::crc32c(payload) == payload_crc => Found::Record {
            number,
            payload,
            bytes: end,
        },
        Some(_) => Found::DamagedPayload { number, bytes: end },
    }
}

/// Returns the offset of the next marker in `bytes` at or after `from`.
pub(crate) fn next_marker(bytes: &[u8], from: usize) -> Option<usize> {
    let marker = MARKER.to_le_bytes();
    let rest = bytes.get(from..)?;
    rest.windows(marker.len())
        .position(|window| window == marker)
        .map(|at| from + at)
}
