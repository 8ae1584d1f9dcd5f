//! Compression of payloads by zstd, with the previous payload as the dictionary.
//!
//! A tick resembles the previous one. A zstd stream would use that too, but needs about 300 KiB of context per session to
//! decode: 3 GiB for ten thousand agents. With the previous payload as the dictionary, all sessions of a thread share a
//! context, and a session keeps a few KiB.

use std::cell::RefCell;

use zstd::zstd_safe::{CCtx, CParameter, DCtx, get_error_name};

use super::WireError;
use super::varint::{self, Reader};
use crate::limits::FRAME_BYTES_MAX;

/// On these payloads, level 1 compresses within a few percent of level 3 at half the cost.
const LEVEL: i32 = 1;

/// Uncompressed, because zstd would add bytes.
const STORED: u8 = 0;
/// A zstd frame.
const PLAIN: u8 = 1;
/// A zstd frame that refers to the previous payload.
const CHAINED: u8 = 2;

/// A reusable compression context of about 100 KiB.
pub struct Compressor {
    context: CCtx<'static>,
}

impl std::fmt::Debug for Compressor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Compressor")
    }
}

impl Default for Compressor {
    fn default() -> Self {
        let mut context = CCtx::create();
        // QUIC and the spool have checksums of their own.
        let checksum = context.set_parameter(CParameter::ChecksumFlag(false));
        debug_assert!(checksum.is_ok());
        Self { context }
    }
}

impl Compressor {
    /// Appends `raw` to `out` in compressed form: kind, raw length, bytes. `previous` is the dictionary, if any.
    pub fn compress(&mut self, raw: &[u8], previous: Option<&[u8]>, out: &mut Vec<u8>) {
        let head = out.len();
        let (kind, dictionary) = match previous {
            Some(previous) if !previous.is_empty() => (CHAINED, previous),
            _ => (PLAIN, [].as_slice()),
        };
        out.push(kind);
        varint::put(out, raw.len() as u64);
        let start = out.len();
        // zstd fails when the result would be longer than the input.
        out.resize(start + raw.len(), 0);
        let room = &mut out[start..];
        match self
            .context
            .compress_using_dict(room, raw, dictionary, LEVEL)
        {
            Ok(written) => out.truncate(start + written),
            Err(_no_gain) => {
                out[head] = STORED;
                out[start..].copy_from_slice(raw);
            }
        }
    }
}

thread_local! {
    static DECOMPRESS: RefCell<DCtx<'static>> = RefCell::new(DCtx::create());
}

/// Decompresses a payload of [`Compressor::compress`] into `out`, whose content is replaced.
///
/// # Errors
/// The payload exceeds [`FRAME_BYTES_MAX`], has another length than stated, or is damaged.
pub fn decompress(
    payload: &[u8],
    previous: Option<&[u8]>,
    out: &mut Vec<u8>,
) -> Result<(), WireError> {
    let mut reader = Reader::new(payload);
    let kind = reader.byte("kind of compression")?;
    let claimed = reader.varint("raw length")?;
    let raw_len = usize::try_from(claimed).unwrap_or(usize::MAX);
    if raw_len > FRAME_BYTES_MAX {
        let (bytes, limit) = (claimed, FRAME_BYTES_MAX);
        let what = "decompressed payload";
        return Err(WireError::TooLong { what, bytes, limit });
    }
    let dictionary = match (kind, previous) {
        (STORED, _) => {
            let stored = reader.bytes(raw_len, "stored payload")?;
            out.clear();
            out.extend_from_slice(stored);
            return ended(reader);
        }
        (PLAIN, _) => [].as_slice(),
        (CHAINED, Some(previous)) => previous,
        (CHAINED, None) => {
            let what = "payload without the one that it refers to";
            return Err(WireError::Bad { what });
        }
        (kind, _) => {
            let (what, tag) = ("kind of compression", u32::from(kind));
            return Err(WireError::Unknown { what, tag });
        }
    };
    out.clear();
    out.reserve(raw_len);
    let compressed = reader.rest();
    let written = DECOMPRESS.with_borrow_mut(|context| {
        out.resize(raw_len, 0);
        context.decompress_using_dict(&mut out[..], compressed, dictionary)
    });
    match written {
        Ok(written) if written == raw_len => Ok(()),
        Ok(_) => {
            let what = "length differs from the stated one";
            Err(WireError::Bad { what })
        }
        Err(code) => {
            let message = get_error_name(code);
            Err(WireError::Compression { message })
        }
    }
}

fn ended(reader: Reader<'_>) -> Result<(), WireError> {
    match reader.rest().len() {
        0 => Ok(()),
        bytes => Err(WireError::Trailing { bytes }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compressed(raw: &[u8], previous: Option<&[u8]>) -> Vec<u8> {
        let mut out = Vec::new();
        Compressor::default().compress(raw, previous, &mut out);
        out
    }

    #[track_caller]
    fn check(raw: &[u8], previous: Option<&[u8]>) {
        let mut back = vec![1, 2, 3];
        decompress(&compressed(raw, previous), previous, &mut back).unwrap();
        assert_eq!(back, raw);
    }

    #[test]
    fn payloads_round_trip_with_and_without_dictionary() {
        let long: Vec<u8> = (0..10_000u32).map(|n| ((n * n) >> 7) as u8).collect();
        for raw in [&[][..], b"x", b"abcabcabcabcabcabcabcabcabcabcabc", &long] {
            for previous in [None, Some(&[][..]), Some(b"y".as_slice()), Some(&long[5..])] {
                check(raw, previous);
            }
        }
        let gain = compressed(&long, Some(&long.clone())).len() * 10; // zstd does not accept an overlapping dictionary.
        assert!(gain < compressed(&long, None).len(), "{gain}");
    }

    #[test]
    fn decompression_bomb_is_refused_early() {
        let mut bomb = Vec::new();
        bomb.push(PLAIN);
        varint::put(&mut bomb, 1 << 40);
        let error = decompress(&bomb, None, &mut Vec::new()).unwrap_err();
        assert!(
            matches!(error, WireError::TooLong { bytes, .. } if bytes == 1 << 40),
            "{error}"
        );

        // 64 MiB of zeros after a claim of 1000 bytes.
        let zeros = zstd::bulk::compress(&vec![0; 64 << 20], 1).unwrap();
        let mut bomb = vec![PLAIN];
        varint::put(&mut bomb, 1000);
        bomb.extend_from_slice(&zeros);
        let mut out = Vec::new();
        decompress(&bomb, None, &mut out).unwrap_err();
        assert!(out.capacity() < 1 << 20);
    }

    #[test]
    fn damaged_and_truncated_payloads_are_refused() {
        let raw: Vec<u8> = (0..1000u32).map(|n| (n / 7) as u8).collect();
        let good = compressed(&raw, None);
        for len in 0..good.len() {
            decompress(&good[..len], None, &mut Vec::new()).unwrap_err();
        }
        let chained = compressed(&raw, Some(&raw));
        decompress(&chained, None, &mut Vec::new()).unwrap_err();
        let mut longer = good.clone();
        longer.push(0);
        decompress(&longer, None, &mut Vec::new()).unwrap_err();
        decompress(&[9, 0], None, &mut Vec::new()).unwrap_err();
    }
}
