//! The sections of a block file and its footer.

use crate::bytes::{Malformed, Reader, put_varint, zigzag};
use crate::value_kind::KindCode;

/// The first and the last bytes of a block file.
pub(crate) const MAGIC: [u8; 8] = *b"TDMBLK\x00\x01";
/// Bytes of the footer, the last of the file.
pub(crate) const FOOTER_BYTES: usize = 8 + 4 * 8 + 4 + 4 + SECTIONS * 20 + 4 + 8;
/// Directory, series, symbols, origin.
pub(crate) const SECTIONS: usize = 4;
/// Limit of the decompressed size, as a multiple of the file size: a small forged file can't exhaust the memory. A writer
/// whose index compresses better pads its file.
const UNPACKED_FACTOR: u64 = 64;
const UNPACKED_BYTES_FREE: u64 = 8 << 20;

/// Returns the limit in bytes of a decompressed section, and of the symbols' text, for a file of this size.
pub(crate) const fn unpacked_bytes_max(file_bytes: u64) -> u64 {
    file_bytes
        .saturating_mul(UNPACKED_FACTOR)
        .saturating_add(UNPACKED_BYTES_FREE)
}

/// Returns the file size that allows this decompressed size.
pub(crate) const fn file_bytes_min(unpacked_bytes: u64) -> u64 {
    unpacked_bytes
        .saturating_sub(UNPACKED_BYTES_FREE)
        .div_ceil(UNPACKED_FACTOR)
}

/// Where a section is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Section {
    pub(crate) offset: u64,
    pub(crate) stored: u32,
    pub(crate) unpacked: u32,
    pub(crate) crc: u32,
}

/// The footer of a block, decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Footer {
    pub(crate) first_ms: i64,
    pub(crate) last_ms: i64,
    pub(crate) samples: u64,
    /// The number of merges that its samples went through.
    pub(crate) level: u64,
    pub(crate) series: u32,
    pub(crate) chunks: u32,
    pub(crate) sections: [Section; SECTIONS],
}

impl Footer {
    /// The stored form.
    pub(crate) fn to_bytes(self) -> Vec<u8> {
        let mut to = Vec::with_capacity(FOOTER_BYTES);
        to.extend_from_slice(&MAGIC);
        to.extend_from_slice(&self.first_ms.to_le_bytes());
        to.extend_from_slice(&self.last_ms.to_le_bytes());
        to.extend_from_slice(&self.samples.to_le_bytes());
        to.extend_from_slice(&self.level.to_le_bytes());
        to.extend_from_slice(&self.series.to_le_bytes());
        to.extend_from_slice(&self.chunks.to_le_bytes());
        for section in self.sections {
            to.extend_from_slice(&section.offset.to_le_bytes());
            to.extend_from_slice(&section.stored.to_le_bytes());
            to.extend_from_slice(&section.unpacked.to_le_bytes());
            to.extend_from_slice(&section.crc.to_le_bytes());
        }
        to.extend_from_slice(&crc32c::crc32c(&to).to_le_bytes());
        to.extend_from_slice(&MAGIC);
        to
    }

    /// Reads the last [`FOOTER_BYTES`] of a file, before which there are `file_bytes`.
    ///
    /// # Errors
    /// They are not a footer, are damaged, point outside the file, or state more than a file of that size may contain.
    pub(crate) fn parse(bytes: &[u8], file_bytes: u64) -> Result<Self, Malformed> {
        let (body, tail) = bytes.split_at_checked(FOOTER_BYTES - 12).ok_or(Malformed)?;
        let mut tail = Reader::new(tail);
        if tail.u32()? != crc32c::crc32c(body) || tail.take(8)? != MAGIC {
            return Err(Malformed);
        }
        let mut reader = Reader::new(body);
        if reader.take(8)? != MAGIC {
            return Err(Malformed);
        }
        let mut footer = Self {
            first_ms: reader.u64()? as i64,
            last_ms: reader.u64()? as i64,
            samples: reader.u64()?,
            level: reader.u64()?,
            series: reader.u32()?,
            chunks: reader.u32()?,
            ..Self::default()
        };
        for section in &mut footer.sections {
            *section = Section {
                offset: reader.u64()?,
                stored: reader.u32()?,
                unpacked: reader.u32()?,
                crc: reader.u32()?,
            };
            let end = section.offset.checked_add(u64::from(section.stored));
            let inside = end.is_some_and(|end| end <= file_bytes);
            if !inside || u64::from(section.unpacked) > unpacked_bytes_max(file_bytes) {
                return Err(Malformed);
            }
        }
        Ok(footer)
    }
}

/// The directory stores the kind of a chunk's values above this many bits of the number of columns, which is at most 64.
/// Chunks of floats, kind 0, have the same bytes as before value kinds existed.
const KIND_SHIFT: u32 = 7;

/// The location and the content of a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ChunkEntry {
    /// The first of its consecutive series.
    pub(crate) first_series: u32,
    pub(crate) columns: u32,
    /// The kind of their values.
    pub(crate) kind: KindCode,
    pub(crate) first_ms: i64,
    pub(crate) last_ms: i64,
    pub(crate) offset: u64,
    pub(crate) bytes: u32,
    pub(crate) crc: u32,
}

/// Writes the directory: entries in the order of their first series, then of time.
pub(crate) fn write_directory(entries: &[ChunkEntry]) -> Vec<u8> {
    let mut to = Vec::with_capacity(entries.len() * 16);
    let (mut series, mut time, mut offset) = (0, 0_i64, 0);
    for one in entries {
        put_varint(&mut to, u64::from(one.first_series - series));
        let columns = u64::from(one.columns) | u64::from(one.kind.0) << KIND_SHIFT;
        put_varint(&mut to, columns);
        put_varint(&mut to, zigzag(one.first_ms.wrapping_sub(time)));
        put_varint(&mut to, one.last_ms.wrapping_sub(one.first_ms) as u64);
        put_varint(&mut to, zigzag(one.offset as i64 - offset));
        put_varint(&mut to, u64::from(one.bytes));
        to.extend_from_slice(&one.crc.to_le_bytes());
        (series, time) = (one.first_series, one.first_ms);
        offset = one.offset as i64 + i64::from(one.bytes);
    }
    to
}

/// Reads `count` entries.
///
/// # Errors
/// They are damaged or out of order.
pub(crate) fn read_directory(bytes: &[u8], count: u32) -> Result<Vec<ChunkEntry>, Malformed> {
    let mut reader = Reader::new(bytes);
    // An entry has at least ten bytes.
    if count as usize > bytes.len() / 10 {
        return Err(Malformed);
    }
    let mut entries = Vec::with_capacity(count as usize);
    let (mut series, mut time, mut offset) = (0_u32, 0_i64, 0_i64);
    for _ in 0..count {
        let first_series = series.checked_add(reader.varint_u32()?).ok_or(Malformed)?;
        let columns = reader.varint_u32()?;
        let kind = u8::try_from(columns >> KIND_SHIFT).map_err(|_| Malformed)?;
        let columns = columns & ((1 << KIND_SHIFT) - 1);
        let first_ms = time.wrapping_add(reader.signed()?);
        let last_ms = first_ms.wrapping_add(reader.varint()? as i64);
        let start = offset.checked_add(reader.signed()?).ok_or(Malformed)?;
        let length = reader.varint_u32()?;
        entries.push(ChunkEntry {
            first_series,
            columns,
            kind: KindCode(kind),
            first_ms,
            last_ms,
            offset: u64::try_from(start).map_err(|_| Malformed)?,
            bytes: length,
            crc: reader.u32()?,
        });
        (series, time) = (first_series, first_ms);
        offset = start.checked_add(i64::from(length)).ok_or(Malformed)?;
    }
    Ok(entries)
}
