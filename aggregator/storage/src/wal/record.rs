//! The content of log records.
//!
//! ```text
//! type u8 | [shard u8, of rows] | [value kind u8, of typed definitions] | encoding u8 (0 plain, 1 zstd with the length before it) | body
//! define:   group varint, key str, definitions, see [`super::definitions`]; columns of floats
//! define typed: the same for columns of the value kind that the record names
//! rows:     see [`super::rows`]
//! metadata: family str, type u8, help str, unit str
//! checkpoint: number varint
//! end:      nothing
//! ```

use std::cell::RefCell;
use std::io;

use common::model::{Metadata, MetricType};

use super::definitions::{self, DecodedDefinitions, Definition};
use crate::block::format::unpacked_bytes_max;
use crate::bytes::{Malformed, Reader, put_bytes, put_varint};
use crate::series_hash::HashKey;
use crate::value_kind::{KindCode, UnknownKind, ValueKind};

const DEFINE: u8 = 1;
pub(super) const ROWS: u8 = 2;
const METADATA: u8 = 3;
const CHECKPOINT: u8 = 4;
const END: u8 = 5;
const DEFINE_TYPED: u8 = 6;

const PLAIN: u8 = 0;
const ZSTD: u8 = 1;
/// Smaller bodies are not worth compressing.
const COMPRESS_BYTES: usize = 256;

/// Why a record can't be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RecordError {
    /// The payload is not a record of this format.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// A newer version wrote a record of this type.
    #[error("record type {0} is not supported by this version")]
    UnknownType(u8),
    /// A newer version wrote columns of this kind.
    #[error(transparent)]
    UnknownKind(#[from] UnknownKind),
}

/// One record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Record<'a> {
    Define {
        group: u32,
        key: String,
        definitions: Vec<Definition>,
    },
    /// Rows of samples.
    Rows(Rows<'a>),
    Metadata {
        family: String,
        metadata: Metadata,
    },
    /// The first record of a checkpoint.
    Checkpoint {
        /// The number of the first log record that the checkpoint does not cover.
        from: u64,
        /// The base checkpoint that this one extends; without that base, this one is void.
        base: Option<u64>,
    },
    /// The last record of a checkpoint.
    End,
}

thread_local! {
    static COMPRESSOR: RefCell<Option<zstd::bulk::Compressor<'static>>> =
        const { RefCell::new(None) };
    static DECOMPRESSOR: RefCell<Option<zstd::bulk::Decompressor<'static>>> =
        const { RefCell::new(None) };
}

/// Decompresses `packed` to `length` bytes and appends them to `to`. The context is kept per thread.
fn decompress(packed: &[u8], length: usize, to: &mut Vec<u8>) -> Result<(), Malformed> {
    DECOMPRESSOR.with_borrow_mut(|slot| {
        let decompressor = match slot {
            Some(decompressor) => decompressor,
            None => slot.insert(zstd::bulk::Decompressor::new().map_err(|_| Malformed)?),
        };
        let bytes = decompressor
            .decompress(packed, length)
            .map_err(|_| Malformed)?;
        to.extend_from_slice(&bytes);
        Ok(())
    })
}

/// Compresses with level 1. The context is kept per thread.
pub(crate) fn compress(bytes: &[u8]) -> io::Result<Vec<u8>> {
    COMPRESSOR.with_borrow_mut(|slot| {
        let compressor = match slot {
            Some(compressor) => compressor,
            None => slot.insert(zstd::bulk::Compressor::new(1)?),
        };
        compressor.compress(bytes)
    })
}

/// Builds a record. `kind` is the bytes before the encoding.
fn finish(kind: &[u8], body: &[u8]) -> Vec<u8> {
    if body.len() >= COMPRESS_BYTES
        && let Ok(packed) = compress(body)
        && packed.len() + 8 < body.len()
        && body.len() as u64 <= unpacked_bytes_max(packed.len() as u64)
    {
        let mut payload = Vec::with_capacity(packed.len() + 8);
        payload.extend_from_slice(kind);
        payload.push(ZSTD);
        put_varint(&mut payload, body.len() as u64);
        payload.extend_from_slice(&packed);
        return payload;
    }
    let mut payload = Vec::with_capacity(body.len() + 2);
    payload.extend_from_slice(kind);
    payload.push(PLAIN);
    payload.extend_from_slice(body);
    payload
}

/// Returns a record that defines columns of a group, all of one kind.
pub(crate) fn define(group: u32, key: &str, definitions: &[Definition]) -> Vec<u8> {
    let kind = definitions.first().map_or(ValueKind::Float, |one| one.kind);
    debug_assert!(definitions.iter().all(|one| one.kind == kind));
    define_coded(kind.code(), group, key, definitions)
}

/// Like [`define`], with the kind as it is stored.
pub(crate) fn define_coded(
    code: KindCode,
    group: u32,
    key: &str,
    definitions: &[Definition],
) -> Vec<u8> {
    let mut body = Vec::new();
    put_varint(&mut body, u64::from(group));
    put_bytes(&mut body, key.as_bytes());
    definitions::put(&mut body, definitions);
    match code.kind() {
        // Versions before value kinds wrote this format and can read it.
        Ok(ValueKind::Float) => finish(&[DEFINE], &body),
        Err(_) => finish(&[DEFINE_TYPED, code.0], &body),
    }
}

/// Returns a record with the metadata of a metric family.
pub(crate) fn metadata(family: &str, metadata: &Metadata) -> Vec<u8> {
    let mut body = Vec::new();
    put_bytes(&mut body, family.as_bytes());
    body.push(metadata.metric_type as u8);
    put_bytes(&mut body, metadata.help.as_bytes());
    put_bytes(&mut body, metadata.unit.as_bytes());
    finish(&[METADATA], &body)
}

/// Returns the record that begins a checkpoint.
pub(crate) fn checkpoint(from: u64, base: Option<u64>) -> Vec<u8> {
    let mut body = Vec::new();
    put_varint(&mut body, from);
    if let Some(base) = base {
        put_varint(&mut body, base);
    }
    finish(&[CHECKPOINT], &body)
}

/// Returns the record that ends a checkpoint.
pub(crate) fn end() -> Vec<u8> {
    finish(&[END], &[])
}

/// A record of rows, with its sections packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rows<'a> {
    /// The shard of its groups, for [`super::rows::may_hold`].
    pub(crate) shard: u8,
    encoding: u8,
    packed: &'a [u8],
}

impl Rows<'_> {
    /// Unpacks the sections into `to`.
    ///
    /// # Errors
    /// The sections can't be unpacked.
    pub(crate) fn unpack(&self, to: &mut Vec<u8>) -> Result<(), Malformed> {
        to.clear();
        unpack(self.encoding, self.packed, to)
    }
}

/// Returns a record of rows with these sections.
pub(super) fn finish_rows(shard: u8, sections: &[u8]) -> Vec<u8> {
    finish(&[ROWS, shard], sections)
}

/// Unpacks a body packed by [`finish`] and appends it to `to`.
fn unpack(encoding: u8, packed: &[u8], to: &mut Vec<u8>) -> Result<(), Malformed> {
    match encoding {
        PLAIN => to.extend_from_slice(packed),
        ZSTD => {
            let mut reader = Reader::new(packed);
            let length = usize::try_from(reader.varint()?).map_err(|_| Malformed)?;
            let packed = reader.take(reader.remaining())?;
            // As in a block, the packed length limits the unpacked length.
            if length as u64 > unpacked_bytes_max(packed.len() as u64) {
                return Err(Malformed);
            }
            decompress(packed, length, to)?;
        }
        _ => return Err(Malformed),
    }
    Ok(())
}

/// Whether a record defines columns.
pub(crate) const fn is_define(payload: &[u8]) -> bool {
    matches!(payload, [DEFINE | DEFINE_TYPED, ..])
}

/// Decodes a record that [`is_define`] without making labels. `key` hashes the series.
///
/// # Errors
/// See [`RecordError`].
pub(crate) fn decode_definitions(
    payload: &[u8],
    key: &HashKey,
) -> Result<DecodedDefinitions, RecordError> {
    let mut reader = Reader::new(payload);
    let mut decoded = DecodedDefinitions::default();
    decoded.kind = match reader.u8()? {
        DEFINE => ValueKind::Float,
        DEFINE_TYPED => KindCode(reader.u8()?).kind()?,
        other => return Err(RecordError::UnknownType(other)),
    };
    let mut body = Vec::new();
    let encoding = reader.u8()?;
    unpack(encoding, reader.take(reader.remaining())?, &mut body)?;
    let mut reader = Reader::new(&body);
    decoded.group = reader.varint_u32()?;
    reader.str()?.clone_into(&mut decoded.key);
    decoded.read(&mut reader, key)?;
    Ok(decoded)
}

/// Checks that this version knows the record's type and the kind of the columns it defines. Does not decompress.
///
/// # Errors
/// [`RecordError::UnknownType`] or [`RecordError::UnknownKind`].
pub(crate) fn check_known(payload: &[u8]) -> Result<(), RecordError> {
    match payload {
        [DEFINE_TYPED, code, ..] => Ok(KindCode(*code).kind().map(drop)?),
        [DEFINE..=END, ..] | [] => Ok(()),
        [unknown, ..] => Err(RecordError::UnknownType(*unknown)),
    }
}

/// Decodes a record.
///
/// # Errors
/// See [`RecordError`].
pub(crate) fn decode(payload: &[u8]) -> Result<Record<'_>, RecordError> {
    check_known(payload)?;
    let mut reader = Reader::new(payload);
    let record_type = reader.u8()?;
    if record_type == ROWS {
        let (shard, encoding) = (reader.u8()?, reader.u8()?);
        let packed = reader.take(reader.remaining())?;
        return Ok(Record::Rows(Rows {
            shard,
            encoding,
            packed,
        }));
    }
    let value_kind = match record_type {
        DEFINE_TYPED => KindCode(reader.u8()?).kind()?,
        _ => ValueKind::Float,
    };
    let mut body = Vec::new();
    let encoding = reader.u8()?;
    unpack(encoding, reader.take(reader.remaining())?, &mut body)?;
    let mut reader = Reader::new(&body);
    match record_type {
        DEFINE | DEFINE_TYPED => decode_define(&mut reader, value_kind),
        METADATA => decode_metadata(&mut reader),
        CHECKPOINT => decode_checkpoint(&mut reader),
        END => Ok(Record::End),
        unknown => Err(RecordError::UnknownType(unknown)),
    }
}

fn decode_define<'a>(reader: &mut Reader<'_>, kind: ValueKind) -> Result<Record<'a>, RecordError> {
    let group = reader.varint_u32()?;
    let key = reader.str()?.to_owned();
    let definitions = definitions::read(reader, kind)?;
    Ok(Record::Define {
        group,
        key,
        definitions,
    })
}

fn decode_checkpoint<'a>(reader: &mut Reader<'_>) -> Result<Record<'a>, RecordError> {
    let from = reader.varint()?;
    let base = (!reader.is_empty()).then(|| reader.varint()).transpose()?;
    Ok(Record::Checkpoint { from, base })
}

fn decode_metadata<'a>(reader: &mut Reader<'_>) -> Result<Record<'a>, RecordError> {
    let family = reader.str()?.to_owned();
    let metric_type = MetricType::from_u8(reader.u8()?).ok_or(Malformed)?;
    let metadata = Metadata {
        metric_type,
        help: reader.str()?.to_owned(),
        unit: reader.str()?.to_owned(),
    };
    Ok(Record::Metadata { family, metadata })
}
