//! Encoding of sample rows in the log, against the [`Reference`] of their group.
//!
//! ```text
//! record:  kind u8 | shard u8 | encoding u8 | [length varint] | sections
//! section: group varint | flags u8 | [sequence varint] | time zigzag varint | number varint | cells varint |
//!          length varint | columns | exceptions | differences
//! columns: first zigzag varint, then the distance of each next one, unless they are a run
//! exceptions: count varint, { cells before it varint, exponent u8, whole zigzag varint; or 0xff, bits u64 }*
//! differences: a varint for each cell that is not an exception
//! ```
//! `number` is the number of the key row that the differences refer to. A key row has its own number there, and its
//! differences refer to the previous key row.

use super::record;
use super::reference::Reference;
use crate::bytes::{Malformed, Reader, put_varint, unzigzag, zigzag};
use crate::codec::decimal::{EXPONENT_MAX, POWERS, from_whole, to_whole};

const SEQUENCE: u8 = 1;
/// The columns are `first, first + 1, …`.
const RUN: u8 = 2;
/// The row is a key row.
const KEY: u8 = 4;
/// The key row can be read without an earlier one.
const FIRST: u8 = 8;
/// The row is the second copy of a key row.
const COPY: u8 = 16;

/// Marks an exception that is not a short decimal number.
const BITS: u8 = 0xff;

/// Number of rows from one key row to the next.
const KEY_ROWS: u32 = 16;
/// Key row numbers skipped after a restart, because a damaged log may have lost that many key rows.
const NUMBERS_SKIPPED: u64 = 1 << 16;
/// Number of shards of groups, for reading a log on several threads. Shard 0 marks a record with several shards.
const SHARDS: u32 = 255;

/// The fields of a row in the log besides its cells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RowHead {
    pub(crate) group: u32,
    /// The stream's sequence that becomes durable with this row.
    pub(crate) sequence: Option<u64>,
    pub(crate) timestamp_ms: i64,
}

/// Encodes and decodes the rows of one group, in log order.
#[derive(Debug, Clone, Default)]
pub(crate) struct RowCoder {
    reference: Reference,
    /// Number of rows since the last key row.
    rows: u32,
    last_ms: i64,
    /// Many values of a row since the last key row did not fit the keys of their columns.
    unsuited: bool,
    /// The second copy of the last key row, until it is in the log.
    copy: Option<Vec<u8>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Plain,
    Key,
    First,
}

impl RowCoder {
    /// Returns the record that must be in the log before the group's next row, if there is one.
    pub(crate) const fn take_copy(&mut self) -> Option<Vec<u8>> {
        self.copy.take()
    }

    /// Makes the next row readable without earlier ones, because the retained log begins there.
    pub(crate) fn begin(&mut self) {
        self.restart(0);
    }

    /// Continues after a replay.
    pub(crate) fn resume(&mut self) {
        self.restart(NUMBERS_SKIPPED);
    }

    fn restart(&mut self, skip: u64) {
        self.reference.reset(skip);
        *self = Self {
            reference: std::mem::take(&mut self.reference),
            ..Self::default()
        };
    }

    fn role(&mut self, time_ms: i64, cells: usize) -> Role {
        if cells == 0 || self.copy.is_some() {
            return Role::Plain;
        }
        if self.reference.is_empty() {
            return Role::First;
        }
        let later = time_ms > self.reference.time_ms();
        if time_ms > self.last_ms {
            self.rows += 1;
            self.last_ms = time_ms;
        }
        // If a row arrives in several requests, all its parts are key rows.
        let is_due = later && (self.rows >= KEY_ROWS || self.unsuited);
        let goes_with = time_ms == self.reference.time_ms() && self.rows == 0;
        if is_due || goes_with {
            Role::Key
        } else {
            Role::Plain
        }
    }

    fn took_key(&mut self, head: RowHead, cells: impl Iterator<Item = (u32, u64)>) {
        let number = self.reference.number() + 1;
        self.reference.take(number, head.timestamp_ms, cells);
        self.rows = 0;
        self.last_ms = head.timestamp_ms;
        self.unsuited = false;
    }

    /// Returns the memory used, in bytes.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.reference.memory_bytes() + self.copy.as_ref().map_or(0, Vec::capacity)
    }
}

/// Builds one record from rows.
#[derive(Debug, Default)]
pub(crate) struct RowsBuilder {
    sections: Vec<u8>,
    shard: Option<u8>,
    /// The part of the current section that follows its length.
    rest: Vec<u8>,
    exceptions: Vec<u8>,
    differences: Vec<u8>,
}

const fn shard_of(group: u32) -> u8 {
    (1 + group % SHARDS) as u8
}

impl RowsBuilder {
    /// Adds a row. `cells` are columns with the bits of their values.
    pub(crate) fn push(
        &mut self,
        head: RowHead,
        coder: &mut RowCoder,
        cells: impl ExactSizeIterator<Item = (u32, u64)> + Clone,
    ) {
        let role = coder.role(head.timestamp_ms, cells.len());
        let count = cells.len();
        self.rest.clear();
        let is_run = put_columns(&mut self.rest, cells.clone());
        let unsuited = self.put_values(&coder.reference, head.timestamp_ms, cells.clone());
        coder.unsuited |= unsuited * 8 > count;
        let mut flags = u8::from(is_run) * RUN;
        let mut number = coder.reference.number();
        if role != Role::Plain {
            flags |= KEY | if role == Role::First { FIRST } else { 0 };
            number += 1;
        }
        let shard = shard_of(head.group);
        self.shard = match self.shard {
            None => Some(shard),
            Some(other) if other == shard => Some(shard),
            Some(_) => Some(0),
        };
        put_section(&mut self.sections, head, flags, number, count, &self.rest);
        if role != Role::Plain {
            let mut copy = Vec::with_capacity(self.rest.len() + 32);
            put_section(&mut copy, head, flags | COPY, number, count, &self.rest);
            coder.copy = Some(record::finish_rows(shard, &copy));
            coder.took_key(head, cells);
        }
    }

    /// Writes exceptions and differences; returns how many finite values did not fit the keys of their columns.
    fn put_values(
        &mut self,
        reference: &Reference,
        time_ms: i64,
        cells: impl Iterator<Item = (u32, u64)>,
    ) -> usize {
        self.exceptions.clear();
        self.differences.clear();
        let (mut exceptions, mut unsuited, mut since) = (0_u64, 0, 0_u64);
        let at = reference.at(time_ms);
        for (column, bits) in cells {
            if let Some(difference) = reference.difference(at, column, bits) {
                put_varint(&mut self.differences, difference);
                since += 1;
                continue;
            }
            put_varint(&mut self.exceptions, since);
            put_exception(&mut self.exceptions, bits);
            since = 0;
            exceptions += 1;
            unsuited += usize::from(f64::from_bits(bits).is_finite());
        }
        put_varint(&mut self.rest, exceptions);
        self.rest.extend_from_slice(&self.exceptions);
        self.rest.extend_from_slice(&self.differences);
        unsuited
    }

    /// Returns the finished record.
    pub(crate) fn finish(&self) -> Vec<u8> {
        record::finish_rows(self.shard.unwrap_or(0), &self.sections)
    }
}

fn put_section(to: &mut Vec<u8>, head: RowHead, flags: u8, number: u64, cells: usize, rest: &[u8]) {
    put_varint(to, u64::from(head.group));
    let sequence = if head.sequence.is_some() { SEQUENCE } else { 0 };
    to.push(flags | sequence);
    if let Some(sequence) = head.sequence {
        put_varint(to, sequence);
    }
    put_varint(to, zigzag(head.timestamp_ms));
    put_varint(to, number);
    put_varint(to, cells as u64);
    put_varint(to, rest.len() as u64);
    to.extend_from_slice(rest);
}

/// Writes the columns; returns whether they are a run.
fn put_columns(to: &mut Vec<u8>, cells: impl ExactSizeIterator<Item = (u32, u64)> + Clone) -> bool {
    let next = cells.clone().skip(1);
    let is_run = cells
        .clone()
        .zip(next)
        .all(|((a, _), (b, _))| a.checked_add(1) == Some(b));
    let mut expected = 0;
    let written = if is_run { 1 } else { cells.len() };
    for (column, _) in cells.take(written) {
        put_varint(to, zigzag(i64::from(column) - expected));
        expected = i64::from(column) + 1;
    }
    is_run
}

fn put_exception(to: &mut Vec<u8>, bits: u64) {
    match (0..=EXPONENT_MAX).find_map(|e| Some((e, to_whole(bits, e)?))) {
        Some((exponent, whole)) => {
            to.push(exponent);
            put_varint(to, zigzag(whole));
        }
        None => {
            to.push(BITS);
            to.extend_from_slice(&bits.to_le_bytes());
        }
    }
}

/// A row in the log with cells that are not decoded yet.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Section<'a> {
    pub(crate) head: RowHead,
    flags: u8,
    number: u64,
    cells: usize,
    rest: &'a [u8],
}

impl<'a> Section<'a> {
    /// Reads the next section.
    ///
    /// # Errors
    /// The bytes are not a section.
    pub(crate) fn read(reader: &mut Reader<'a>) -> Result<Self, Malformed> {
        let group = reader.varint_u32()?;
        let flags = reader.u8()?;
        let sequence = (flags & SEQUENCE != 0)
            .then(|| reader.varint())
            .transpose()?;
        let timestamp_ms = reader.signed()?;
        let number = reader.varint()?;
        let cells = reader.varint_u32()? as usize;
        let rest = reader.bytes()?;
        // Each cell takes at least one byte.
        if cells > rest.len() {
            return Err(Malformed);
        }
        Ok(Self {
            head: RowHead {
                group,
                sequence,
                timestamp_ms,
            },
            flags,
            number,
            cells,
            rest,
        })
    }
}

/// Whether a record of this shard may hold groups read by thread `own` out of `of` threads.
pub(crate) const fn may_hold(shard: u8, own: u32, of: u32) -> bool {
    shard == 0 || (shard as u32) % of == own
}

/// Whether the group is read by thread `own` out of `of` threads.
pub(crate) const fn is_own(group: u32, own: u32, of: u32) -> bool {
    shard_of(group) as u32 % of == own
}

/// The cells of a row.
#[derive(Debug, Default)]
pub(crate) struct Cells {
    pub(crate) columns: Vec<u32>,
    /// The bits of the values, one for each column.
    pub(crate) values: Vec<u64>,
}

/// The result of decoding a section.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Decoded {
    /// The cells were decoded.
    Row,
    /// The section is the second copy of a row that was read before.
    Repeated,
}

/// Why the cells of a section can't be decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RowError {
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// Both copies of the key row that the section refers to are lost.
    #[error("key row is lost")]
    KeyLost,
}

impl RowCoder {
    /// Decodes a section into `cells`. `has_room` is called with the number of columns the group needs, before memory
    /// is allocated for them, and decides whether the group may have that many.
    ///
    /// # Errors
    /// See [`RowError`].
    pub(crate) fn decode(
        &mut self,
        section: &Section<'_>,
        cells: &mut Cells,
        has_room: impl FnOnce(u32) -> bool,
    ) -> Result<Decoded, RowError> {
        cells.columns.clear();
        cells.values.clear();
        let is_key = section.flags & KEY != 0;
        if is_key && section.flags & COPY != 0 && section.number == self.reference.number() {
            return Ok(Decoded::Repeated);
        }
        if is_key && section.flags & FIRST != 0 {
            self.reference.reset(0);
        } else if section.cells > 0 {
            let needs = section.number.checked_sub(u64::from(is_key));
            if needs != Some(self.reference.number()) {
                return Err(RowError::KeyLost);
            }
        }
        let mut reader = Reader::new(section.rest);
        read_columns(&mut reader, section, &mut cells.columns)?;
        let last = cells.columns.iter().copied().max();
        if !last.is_none_or(|last| has_room(last.saturating_add(1))) {
            return Err(Malformed.into());
        }
        self.read_values(&mut reader, section, cells)?;
        if is_key {
            let row = cells.columns.iter().copied();
            let row = row.zip(cells.values.iter().copied());
            let time_ms = section.head.timestamp_ms;
            self.reference.take(section.number, time_ms, row);
        }
        Ok(Decoded::Row)
    }

    fn read_values(
        &self,
        reader: &mut Reader<'_>,
        section: &Section<'_>,
        cells: &mut Cells,
    ) -> Result<(), Malformed> {
        let Cells { columns, values } = cells;
        let count = reader.count(3)?;
        let mut exceptions = *reader;
        for _ in 0..count {
            skip_exception(reader)?;
        }
        let at = self.reference.at(section.head.timestamp_ms);
        let mut columns = columns.iter();
        let mut differences = |columns: &mut dyn Iterator<Item = &u32>, values: &mut Vec<u64>| {
            for &column in columns {
                let value = self.reference.value(at, column, reader.varint()?);
                values.push(value.ok_or(Malformed)?);
            }
            Ok::<(), Malformed>(())
        };
        for _ in 0..count {
            let before = exceptions.varint_u32()? as usize;
            if before >= columns.len() {
                return Err(Malformed);
            }
            differences(&mut columns.by_ref().take(before), values)?;
            columns.next();
            values.push(read_exception(&mut exceptions)?);
        }
        differences(&mut columns, values)
    }
}

fn read_columns(
    reader: &mut Reader<'_>,
    section: &Section<'_>,
    to: &mut Vec<u32>,
) -> Result<(), Malformed> {
    if section.cells == 0 {
        return Ok(());
    }
    let column = |wide: i64| u32::try_from(wide).map_err(|_| Malformed);
    if section.flags & RUN != 0 {
        let first = column(reader.signed()?)?;
        let end = u32::try_from(section.cells).map_err(|_| Malformed)?;
        let end = first.checked_add(end).ok_or(Malformed)?;
        to.extend(first..end);
        return Ok(());
    }
    let mut expected = 0_i64;
    for _ in 0..section.cells {
        expected = expected.checked_add(reader.signed()?).ok_or(Malformed)?;
        to.push(column(expected)?);
        expected += 1;
    }
    Ok(())
}

fn skip_exception(reader: &mut Reader<'_>) -> Result<(), Malformed> {
    reader.varint()?;
    read_exception(reader).map(|_| ())
}

fn read_exception(reader: &mut Reader<'_>) -> Result<u64, Malformed> {
    match reader.u8()? {
        BITS => reader.u64(),
        exponent => {
            let power = POWERS.get(usize::from(exponent)).ok_or(Malformed)?;
            Ok(from_whole(unzigzag(reader.varint()?), *power).to_bits())
        }
    }
}

#[cfg(test)]
mod tests;
