//! The format of the log of state changes.
//!
//! The file starts with a magic, followed by records `magic: u32, length: u32, crc32c(body): u32, body`. A body is a
//! sequence of changes, each `table: u8, has_value: u8, key_len: u32, value_len: u32, key, value`. Numbers are
//! little-endian. A record is a transaction, which applies as a whole or not at all. A damaged record does not affect
//! others: reading resumes at the next valid record.

use super::{Change, StoreError, Table};

/// The first bytes of the file.
pub(super) const FILE_MAGIC: &[u8; 8] = b"TMSTATE1";
const RECORD_MAGIC: u32 = 0x5441_4c52;
const RECORD_HEADER: usize = 12;
const CHANGE_HEADER: usize = 10;
/// Maximum size of one record in bytes.
pub(super) const RECORD_BYTES_MAX: usize = 256 << 20;

/// Appends the record of `changes` to `out`.
pub(super) fn encode(changes: &[Change], out: &mut Vec<u8>) -> Result<(), StoreError> {
    let start = out.len();
    out.extend_from_slice(&[0; RECORD_HEADER]);
    for change in changes {
        let value = change.value.as_deref().unwrap_or_default();
        out.push(change.table as u8);
        out.push(u8::from(change.value.is_some()));
        out.extend_from_slice(&(change.key.len() as u32).to_le_bytes());
        out.extend_from_slice(&(value.len() as u32).to_le_bytes());
        out.extend_from_slice(&change.key);
        out.extend_from_slice(value);
    }
    let bytes = out.len() - start - RECORD_HEADER;
    if bytes > RECORD_BYTES_MAX {
        out.truncate(start);
        return Err(StoreError::TooLarge { bytes });
    }
    let crc = crc32c::crc32c(&out[start + RECORD_HEADER..]);
    out[start..start + 4].copy_from_slice(&RECORD_MAGIC.to_le_bytes());
    out[start + 4..start + 8].copy_from_slice(&(bytes as u32).to_le_bytes());
    out[start + 8..start + 12].copy_from_slice(&crc.to_le_bytes());
    Ok(())
}

/// The decoded content of a log.
#[derive(Debug, Default)]
pub(super) struct Replay {
    /// The transactions, oldest first.
    pub(super) transactions: Vec<Vec<Change>>,
    /// The offset of the end of the last valid record. Anything after it is a torn write.
    pub(super) good_bytes: usize,
    /// The number of bytes before that offset that do not belong to a valid record.
    pub(super) damaged_bytes: usize,
    /// The offsets at which these bytes begin.
    pub(super) damage: Vec<usize>,
}

/// Decodes all valid records in `bytes`, the file content after the magic.
pub(super) fn decode(bytes: &[u8]) -> Replay {
    let mut replay = Replay::default();
    let mut position = 0;
    while position < bytes.len() {
        match record(bytes.get(position..).unwrap_or_default()) {
            Some((changes, length)) => {
                if position > replay.good_bytes {
                    replay.damaged_bytes += position - replay.good_bytes;
                    replay.damage.push(replay.good_bytes);
                }
                position += length;
                replay.good_bytes = position;
                replay.transactions.push(changes);
            }
            None => position += 1,
        }
    }
    replay
}

fn record(bytes: &[u8]) -> Option<(Vec<Change>, usize)> {
    if number(bytes, 0)? != RECORD_MAGIC {
        return None;
    }
    let length = number(bytes, 4)? as usize;
    let body = bytes.get(RECORD_HEADER..)?.get(..length)?;
    if crc32c::crc32c(body) != number(bytes, 8)? {
        return None;
    }
    let mut changes = Vec::new();
    let mut rest = body;
    while !rest.is_empty() {
        let (change, length) = change(rest)?;
        changes.push(change);
        rest = rest.get(length..)?;
    }
    Some((changes, RECORD_HEADER + length))
}

fn change(bytes: &[u8]) -> Option<(Change, usize)> {
    let table = Table::from_byte(*bytes.first()?)?;
    let has_value = *bytes.get(1)? != 0;
    let key_end = CHANGE_HEADER.checked_add(number(bytes, 2)? as usize)?;
    let end = key_end.checked_add(number(bytes, 6)? as usize)?;
    let key = bytes.get(CHANGE_HEADER..key_end)?.to_vec();
    let value = bytes.get(key_end..end)?.to_vec();
    Some((
        Change {
            table,
            key,
            value: has_value.then_some(value),
        },
        end,
    ))
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes: [u8; 4] = bytes.get(at..at + 4)?.try_into().ok()?;
    Some(u32::from_le_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log() -> (Vec<u8>, Vec<usize>) {
        let mut bytes = Vec::new();
        let mut ends = vec![0];
        for n in 0..20_u8 {
            let changes = [
                Change {
                    table: Table::Alerts,
                    key: vec![n],
                    value: Some(vec![n; usize::from(n)]),
                },
                Change::remove(Table::Silences, vec![n, n]),
            ];
            encode(&changes, &mut bytes).unwrap();
            ends.push(bytes.len());
        }
        (bytes, ends)
    }

    #[test]
    fn torn_tail_costs_only_the_record_it_tears() {
        let (bytes, ends) = log();
        for cut in 0..=bytes.len() {
            let replay = decode(&bytes[..cut]);
            let whole = ends.iter().filter(|&&end| end <= cut).count() - 1;
            assert_eq!(replay.transactions.len(), whole, "cut at {cut}");
            assert_eq!(replay.good_bytes, ends[whole]);
        }
    }

    #[test]
    fn flipped_bit_costs_at_most_one_record() {
        let (bytes, _) = log();
        let all = decode(&bytes).transactions;
        for index in 0..bytes.len() * 8 {
            let mut bytes = bytes.clone();
            bytes[index / 8] ^= 1 << (index % 8);
            let left = decode(&bytes).transactions;
            assert_eq!(left.len(), all.len() - 1, "bit {index}");
            assert!(left.iter().all(|transaction| all.contains(transaction)));
        }
    }
}
