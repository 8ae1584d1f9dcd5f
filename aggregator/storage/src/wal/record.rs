//! What a log record says.
//!
//! ```text
//! kind u8 | encoding u8 (0 plain, 1 zstd) | body
//! define:   group varint, key str, count varint, { column varint, packed labels }*
//! rows:     count varint, { group, flags, [sequence], time, columns }*, values as 8 byte planes
//! metadata: family str, type u8, help str, unit str
//! checkpoint: number varint
//! end:      nothing
//! ```

use std::cell::RefCell;
use std::io;

use common::model::{Labels, Metadata, MetricType};

use crate::bytes::{Malformed, Reader, put_bytes, put_varint, zigzag};
use crate::labels::parse_packed;

const DEFINE: u8 = 1;
const ROWS: u8 = 2;
const METADATA: u8 = 3;
const CHECKPOINT: u8 = 4;
const END: u8 = 5;

const PLAIN: u8 = 0;
const ZSTD: u8 = 1;
/// Below this a record is not worth compressing.
const COMPRESS_BYTES: usize = 256;
/// A record never unpacks to more than this: far above the largest request.
const BODY_BYTES_MAX: usize = 1 << 30;

const HAS_SEQUENCE: u8 = 1;
/// The columns are `first, first + 1, …`.
const RUN: u8 = 2;

/// A column of a group gets its series.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Definition {
    pub(crate) column: u32,
    pub(crate) labels: Labels,
}

/// Samples of one group with one timestamp.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Row {
    pub(crate) group: u32,
    /// The stream's sequence that is durable with this row.
    pub(crate) sequence: Option<u64>,
    pub(crate) timestamp_ms: i64,
    pub(crate) columns: Vec<u32>,
    /// Bits of the values, one for each column.
    pub(crate) values: Vec<u64>,
}

/// One record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Record {
    Define {
        group: u32,
        key: String,
        definitions: Vec<Definition>,
    },
    Rows(Vec<Row>),
    Metadata {
        family: String,
        metadata: Metadata,
    },
    /// The first of a checkpoint: records from this number on are not in it.
    Checkpoint(u64),
    /// The last of a checkpoint.
    End,
}

thread_local! {
    static COMPRESSOR: RefCell<Option<zstd::bulk::Compressor<'static>>> =
        const { RefCell::new(None) };
}

/// Compresses with level 1 in a context that the thread keeps.
pub(crate) fn compress(bytes: &[u8]) -> io::Result<Vec<u8>> {
    COMPRESSOR.with_borrow_mut(|slot| {
        let compressor = match slot {
            Some(compressor) => compressor,
            None => slot.insert(zstd::bulk::Compressor::new(1)?),
        };
        compressor.compress(bytes)
    })
}

fn finish(kind: u8, body: &[u8]) -> Vec<u8> {
    if body.len() >= COMPRESS_BYTES
        && let Ok(packed) = compress(body)
        && packed.len() + 8 < body.len()
    {
        let mut payload = Vec::with_capacity(packed.len() + 8);
        payload.extend_from_slice(&[kind, ZSTD]);
        put_varint(&mut payload, body.len() as u64);
        payload.extend_from_slice(&packed);
        return payload;
    }
    let mut payload = Vec::with_capacity(body.len() + 2);
    payload.extend_from_slice(&[kind, PLAIN]);
    payload.extend_from_slice(body);
    payload
}

/// A record that defines columns of a group.
pub(crate) fn define(group: u32, key: &str, definitions: &[Definition]) -> Vec<u8> {
    let mut body = Vec::new();
    put_varint(&mut body, u64::from(group));
    put_bytes(&mut body, key.as_bytes());
    put_varint(&mut body, definitions.len() as u64);
    for one in definitions {
        put_varint(&mut body, u64::from(one.column));
        put_bytes(&mut body, one.labels.as_packed());
    }
    finish(DEFINE, &body)
}

/// A record about a metric family.
pub(crate) fn metadata(family: &str, metadata: &Metadata) -> Vec<u8> {
    let mut body = Vec::new();
    put_bytes(&mut body, family.as_bytes());
    body.push(metadata.metric_type as u8);
    put_bytes(&mut body, metadata.help.as_bytes());
    put_bytes(&mut body, metadata.unit.as_bytes());
    finish(METADATA, &body)
}

/// The record that begins a checkpoint.
pub(crate) fn checkpoint(from: u64) -> Vec<u8> {
    let mut body = Vec::new();
    put_varint(&mut body, from);
    finish(CHECKPOINT, &body)
}

/// The record that ends a checkpoint.
pub(crate) fn end() -> Vec<u8> {
    finish(END, &[])
}

/// Puts rows together to one record.
#[derive(Debug, Default)]
pub(crate) struct RowsBuilder {
    heads: Vec<u8>,
    values: Vec<u64>,
    rows: u64,
}

impl RowsBuilder {
    /// Adds a row; `cells` are columns with the bits of their values.
    pub(crate) fn push(
        &mut self,
        group: u32,
        sequence: Option<u64>,
        timestamp_ms: i64,
        cells: impl ExactSizeIterator<Item = (u32, u64)> + Clone,
    ) {
        let to = &mut self.heads;
        let is_run = cells
            .clone()
            .zip(cells.clone().skip(1))
            .all(|((a, _), (b, _))| a.checked_add(1) == Some(b));
        let flags = u8::from(sequence.is_some()) * HAS_SEQUENCE + u8::from(is_run) * RUN;
        put_varint(to, u64::from(group));
        to.push(flags);
        if let Some(sequence) = sequence {
            put_varint(to, sequence);
        }
        put_varint(to, zigzag(timestamp_ms));
        put_varint(to, cells.len() as u64);
        let mut expected = 0;
        for (index, (column, bits)) in cells.enumerate() {
            if index == 0 || !is_run {
                put_varint(to, zigzag(i64::from(column) - expected));
            }
            expected = i64::from(column) + 1;
            self.values.push(bits);
        }
        self.rows += 1;
    }

    /// The finished record.
    pub(crate) fn finish(&self) -> Vec<u8> {
        let count = self.values.len();
        let mut body = Vec::with_capacity(self.heads.len() + count * 8 + 16);
        put_varint(&mut body, self.rows);
        body.extend_from_slice(&self.heads);
        for plane in (0..64).step_by(8) {
            body.extend(self.values.iter().map(|bits| (bits >> plane) as u8));
        }
        finish(ROWS, &body)
    }
}

/// Reads a record.
///
/// # Errors
/// The payload is no record of this format.
pub(crate) fn decode(payload: &[u8]) -> Result<Record, Malformed> {
    let mut reader = Reader::new(payload);
    let kind = reader.u8()?;
    let unpacked;
    let body = match reader.u8()? {
        PLAIN => reader.take(reader.remaining())?,
        ZSTD => {
            let length = usize::try_from(reader.varint()?).map_err(|_| Malformed)?;
            if length > BODY_BYTES_MAX {
                return Err(Malformed);
            }
            let packed = reader.take(reader.remaining())?;
            unpacked = zstd::bulk::decompress(packed, length).map_err(|_| Malformed)?;
            unpacked.as_slice()
        }
        _ => return Err(Malformed),
    };
    let mut reader = Reader::new(body);
    match kind {
        DEFINE => decode_define(&mut reader),
        ROWS => decode_rows(&mut reader),
        METADATA => decode_metadata(&mut reader),
        CHECKPOINT => reader.varint().map(Record::Checkpoint),
        END => Ok(Record::End),
        _ => Err(Malformed),
    }
}

fn decode_define(reader: &mut Reader<'_>) -> Result<Record, Malformed> {
    let group = reader.varint_u32()?;
    let key = reader.str()?.to_owned();
    let count = reader.count(2)?;
    let mut definitions = Vec::with_capacity(count);
    for _ in 0..count {
        let column = reader.varint_u32()?;
        let labels = parse_packed(reader.bytes()?)?;
        definitions.push(Definition { column, labels });
    }
    Ok(Record::Define {
        group,
        key,
        definitions,
    })
}

fn decode_metadata(reader: &mut Reader<'_>) -> Result<Record, Malformed> {
    let family = reader.str()?.to_owned();
    let metric_type = MetricType::from_u8(reader.u8()?).ok_or(Malformed)?;
    let metadata = Metadata {
        metric_type,
        help: reader.str()?.to_owned(),
        unit: reader.str()?.to_owned(),
    };
    Ok(Record::Metadata { family, metadata })
}

fn decode_rows(reader: &mut Reader<'_>) -> Result<Record, Malformed> {
    let count = reader.count(4)?;
    let mut rows = Vec::with_capacity(count);
    let mut cells = 0_usize;
    for _ in 0..count {
        let row = decode_row_head(reader)?;
        cells += row.columns.len();
        rows.push(row);
    }
    let planes = reader.take(cells.checked_mul(8).ok_or(Malformed)?)?;
    let mut first = 0;
    for row in &mut rows {
        let range = first..first + row.columns.len();
        first = range.end;
        row.values = vec![0; range.len()];
        for (plane, bytes) in planes.chunks_exact(cells.max(1)).enumerate() {
            let bytes = bytes.get(range.clone()).ok_or(Malformed)?;
            for (value, &byte) in row.values.iter_mut().zip(bytes) {
                *value |= u64::from(byte) << (plane * 8);
            }
        }
    }
    Ok(Record::Rows(rows))
}

fn decode_row_head(reader: &mut Reader<'_>) -> Result<Row, Malformed> {
    let group = reader.varint_u32()?;
    let flags = reader.u8()?;
    let sequence = (flags & HAS_SEQUENCE != 0)
        .then(|| reader.varint())
        .transpose()?;
    let timestamp_ms = reader.signed()?;
    // Each cell has eight bytes of value further on.
    let count = reader.count(8)?;
    let mut columns = Vec::with_capacity(count);
    let mut expected = 0_i64;
    for index in 0..count {
        if index == 0 || flags & RUN == 0 {
            expected = expected.checked_add(reader.signed()?).ok_or(Malformed)?;
        }
        columns.push(u32::try_from(expected).map_err(|_| Malformed)?);
        expected += 1;
    }
    Ok(Row {
        group,
        sequence,
        timestamp_ms,
        columns,
        values: Vec::new(),
    })
}
