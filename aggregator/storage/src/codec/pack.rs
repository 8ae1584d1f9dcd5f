//! Compresses with zstd in per-thread contexts, and stores incompressible bytes as they are.

use std::cell::RefCell;

use crate::bytes::Malformed;

const RAW: u8 = 0;
const ZEROES: u8 = 1;
const ZSTD: u8 = 2;

/// The zstd level. Level 1 compresses planes as well as level 3 does, at half the cost.
const LEVEL: i32 = 1;

thread_local! {
    static COMPRESSOR: RefCell<Option<zstd::bulk::Compressor<'static>>> =
        const { RefCell::new(None) };
    static DECOMPRESSOR: RefCell<Option<zstd::bulk::Decompressor<'static>>> =
        const { RefCell::new(None) };
}

/// Appends `bytes` in the shortest encoding to `to`, and returns the encoding.
pub(super) fn pack(bytes: &[u8], to: &mut Vec<u8>) -> u8 {
    if bytes.iter().all(|&byte| byte == 0) {
        return ZEROES;
    }
    if bytes.len() >= 32
        && let Some(packed) = compress(bytes)
        && packed.len() < bytes.len()
    {
        to.extend_from_slice(&packed);
        return ZSTD;
    }
    to.extend_from_slice(bytes);
    RAW
}

/// Appends `bytes` as they are, unless they are all zero. Returns the encoding, as [`pack`] does.
pub(super) fn store(bytes: &[u8], to: &mut Vec<u8>) -> u8 {
    if bytes.iter().all(|&byte| byte == 0) {
        return ZEROES;
    }
    to.extend_from_slice(bytes);
    RAW
}

/// Returns `None` if zstd fails, which happens only for lack of memory.
fn compress(bytes: &[u8]) -> Option<Vec<u8>> {
    COMPRESSOR.with_borrow_mut(|slot| {
        let compressor = match slot {
            Some(compressor) => compressor,
            None => slot.insert(zstd::bulk::Compressor::new(LEVEL).ok()?),
        };
        compressor.compress(bytes).ok()
    })
}

/// Decompresses the output of [`pack`] to exactly `length` bytes.
///
/// # Errors
/// The encoding is unknown, or the decompressed length differs.
pub(super) fn unpack(encoding: u8, stored: &[u8], length: usize) -> Result<Vec<u8>, Malformed> {
    let bytes = match encoding {
        RAW => stored.to_vec(),
        ZEROES if stored.is_empty() => vec![0; length],
        ZSTD => decompress(stored, length).ok_or(Malformed)?,
        _ => return Err(Malformed),
    };
    if bytes.len() == length {
        Ok(bytes)
    } else {
        Err(Malformed)
    }
}

fn decompress(stored: &[u8], length: usize) -> Option<Vec<u8>> {
    DECOMPRESSOR.with_borrow_mut(|slot| {
        let decompressor = match slot {
            Some(decompressor) => decompressor,
            None => slot.insert(zstd::bulk::Decompressor::new().ok()?),
        };
        decompressor.decompress(stored, length).ok()
    })
}
