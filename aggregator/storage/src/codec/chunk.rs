//! A chunk: its timestamps, its columns and its planes.

use crate::bytes::{Malformed, Reader, put_varint, zigzag};

use super::column::{self, Description, Scratch};
use super::pack::{pack, store, unpack};

/// Rows that a chunk may have.
pub(crate) const ROWS_MAX: usize = 1 << 16;
/// Columns that a chunk may have.
pub(crate) const COLUMNS_MAX: usize = 64;

const ALL: u8 = 0;
const RUN: u8 = 1;
const BITMAP: u8 = 2;
const NONE: u8 = 3;

/// The rows in which a column has a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Presence {
    All,
    None,
    /// In this many rows from this row on.
    Run {
        first: u32,
        count: u32,
    },
    /// In these rows, ascending.
    Rows(Vec<u32>),
}

/// Builds a chunk from columns. Can be reused for the next one.
#[derive(Debug, Default)]
pub(crate) struct ChunkBuilder {
    rows: usize,
    columns: usize,
    head: Vec<u8>,
    planes: [Vec<u8>; 8],
    scratch: Scratch,
}

impl ChunkBuilder {
    /// Begins a chunk with these timestamps: ascending, from one to [`ROWS_MAX`].
    pub(crate) fn begin(&mut self, times_ms: &[i64]) {
        debug_assert!(!times_ms.is_empty() && times_ms.len() <= ROWS_MAX);
        self.rows = times_ms.len();
        self.columns = 0;
        self.head.clear();
        for plane in &mut self.planes {
            plane.clear();
        }
        let (mut before, mut step) = (0_i64, 0_i64);
        for &time in times_ms {
            let this = time.wrapping_sub(before);
            put_varint(&mut self.head, zigzag(this.wrapping_sub(step)));
            (before, step) = (time, this);
        }
    }

    /// Adds a column with a value in every row.
    pub(crate) fn push_full(&mut self, values: &[u64]) {
        debug_assert_eq!(values.len(), self.rows);
        self.head.push(ALL);
        self.push_values(values);
    }

    /// Adds a column with values in `rows` (ascending) only.
    pub(crate) fn push_sparse(&mut self, rows: &[u32], values: &[u64]) {
        debug_assert_eq!(rows.len(), values.len());
        let (Some(&first), Some(&last)) = (rows.first(), rows.last()) else {
            self.head.push(NONE);
            self.columns += 1;
            return;
        };
        if rows.len() == self.rows {
            return self.push_full(values);
        }
        if (last - first) as usize + 1 == rows.len() {
            self.head.push(RUN);
            put_varint(&mut self.head, u64::from(first));
            put_varint(&mut self.head, rows.len() as u64);
        } else {
            self.head.push(BITMAP);
            let start = self.head.len();
            self.head.resize(start + self.rows.div_ceil(8), 0);
            for &row in rows {
                self.head[start + row as usize / 8] |= 1 << (row % 8);
            }
        }
        self.push_values(values);
    }

    fn push_values(&mut self, values: &[u64]) {
        let width = column::encode(values, &mut self.scratch, &mut self.head);
        let numbers = &self.scratch.numbers;
        for (index, plane) in self.planes.iter_mut().take(usize::from(width)).enumerate() {
            plane.extend(numbers.iter().map(|number| (number >> (index * 8)) as u8));
        }
        self.columns += 1;
    }

    /// The finished chunk, appended to `to`.
    pub(crate) fn finish(&self, to: &mut Vec<u8>) {
        self.finish_with(pack, to);
    }

    /// Does the same for a chunk that stays in memory: faster to encode and decode, but larger.
    pub(crate) fn finish_light(&self, to: &mut Vec<u8>) {
        self.finish_with(store, to);
    }

    fn finish_with(&self, pack: fn(&[u8], &mut Vec<u8>) -> u8, to: &mut Vec<u8>) {
        put_varint(to, self.rows as u64);
        put_varint(to, self.columns as u64);
        put_varint(to, self.head.len() as u64);
        let mut stored = Vec::new();
        let mut put = |bytes: &[u8], to: &mut Vec<u8>| {
            stored.clear();
            to.push(pack(bytes, &mut stored));
            put_varint(to, stored.len() as u64);
            to.extend_from_slice(&stored);
        };
        put(&self.head, to);
        let used = self.planes.iter().take_while(|plane| !plane.is_empty());
        to.push(used.clone().count() as u8);
        for plane in used {
            put(plane, to);
        }
    }
}

/// One column of a decoded chunk.
#[derive(Debug)]
struct Column {
    presence: Presence,
    count: usize,
    /// `None` when the column has no value.
    description: Option<Description>,
    /// Where its bytes begin in each plane.
    offsets: [u32; 8],
}

/// A chunk with decompressed planes. Columns are decoded on request.
#[derive(Debug)]
pub(crate) struct Chunk {
    times_ms: Vec<i64>,
    /// A hash of the timestamps.
    timestamps_id: u64,
    columns: Vec<Column>,
    planes: Vec<Vec<u8>>,
}

/// Returns a hash of a list of timestamps, which is never 0.
pub(crate) fn timestamps_id_of(times_ms: &[i64]) -> u64 {
    let mut hash = times_ms.len() as u64 ^ 0x9e37_79b9_7f4a_7c15;
    for &time in times_ms {
        let product = u128::from(hash ^ time as u64).wrapping_mul(0xd6e8_feb8_6659_fd93_a5a3_5625);
        hash = (product as u64) ^ ((product >> 64) as u64);
    }
    hash.max(1)
}

impl Chunk {
    /// Decompresses a chunk.
    ///
    /// # Errors
    /// The bytes are not a chunk. No input makes it allocate more than the limits of a chunk.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes);
        let head = Head::read(&mut reader)?;
        let planes = read_planes(&mut reader, &head.lengths)?;
        Ok(Self {
            timestamps_id: timestamps_id_of(&head.times_ms),
            times_ms: head.times_ms,
            columns: head.columns,
            planes,
        })
    }

    /// Returns the numbers of rows and samples of a chunk, without decompressing its values.
    ///
    /// # Errors
    /// The bytes are not a chunk.
    pub(crate) fn counts(bytes: &[u8]) -> Result<Counts, Malformed> {
        let head = Head::read(&mut Reader::new(bytes))?;
        Ok(Counts {
            rows: head.times_ms.len(),
            samples: head.columns.iter().map(|column| column.count as u64).sum(),
        })
    }

    pub(crate) fn times_ms(&self) -> &[i64] {
        &self.times_ms
    }

    /// Returns the hash of the timestamps, which is never 0.
    pub(crate) const fn timestamps_id(&self) -> u64 {
        self.timestamps_id
    }

    #[cfg(test)]
    pub(crate) const fn columns_len(&self) -> usize {
        self.columns.len()
    }

    /// Returns the rows in which the column has values.
    pub(crate) fn presence(&self, column: usize) -> &Presence {
        self.columns
            .get(column)
            .map_or(&Presence::None, |column| &column.presence)
    }

    /// Appends the values of a column, one for each row it is present in.
    pub(crate) fn values(&self, column: usize, scratch: &mut Vec<u64>, to: &mut Vec<f64>) {
        let Some(column) = self.columns.get(column) else {
            return;
        };
        let Some(description) = &column.description else {
            return;
        };
        let planed = description.planed(column.count);
        scratch.clear();
        scratch.resize(planed, 0);
        for index in 0..usize::from(description.width()) {
            let start = column.offsets[index] as usize;
            let plane = self.planes.get(index).map_or(&[][..], Vec::as_slice);
            let bytes = plane.get(start..start + planed).unwrap_or(&[]);
            for (number, &byte) in scratch.iter_mut().zip(bytes) {
                *number |= u64::from(byte) << (index * 8);
            }
        }
        column::decode(description, column.count, scratch, to);
    }

    /// Appends the samples of a column, oldest first.
    pub(crate) fn samples(
        &self,
        column: usize,
        scratch: &mut Vec<u64>,
        times: &mut Vec<i64>,
        values: &mut Vec<f64>,
    ) {
        match self.presence(column) {
            Presence::None => return,
            Presence::All => times.extend_from_slice(&self.times_ms),
            Presence::Run { first, count } => {
                let first = *first as usize;
                let rows = self.times_ms.get(first..first + *count as usize);
                times.extend_from_slice(rows.unwrap_or(&[]));
            }
            Presence::Rows(rows) => {
                times.extend(rows.iter().map(|&row| self.times_ms[row as usize]));
            }
        }
        self.values(column, scratch, values);
    }

    /// Bytes of memory.
    pub(crate) fn memory_bytes(&self) -> usize {
        let planes: usize = self.planes.iter().map(Vec::len).sum();
        planes + self.times_ms.len() * 8 + self.columns.len() * size_of::<Column>()
    }
}

/// The size of a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) rows: usize,
    pub(crate) samples: u64,
}

/// The part of a chunk before the planes.
struct Head {
    times_ms: Vec<i64>,
    columns: Vec<Column>,
    /// Decompressed bytes of each plane.
    lengths: [usize; 8],
}

impl Head {
    fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let rows = usize::try_from(reader.varint()?).map_err(|_| Malformed)?;
        let columns = usize::try_from(reader.varint()?).map_err(|_| Malformed)?;
        let head_bytes = usize::try_from(reader.varint()?).map_err(|_| Malformed)?;
        if rows == 0 || rows > ROWS_MAX || columns > COLUMNS_MAX {
            return Err(Malformed);
        }
        // A timestamp takes at most 10 bytes, and a column at most a bitmap and nine bytes per exception.
        let head_bytes_max = rows * (10 + columns * 12) + columns * 64;
        if head_bytes > head_bytes_max {
            return Err(Malformed);
        }
        let encoding = reader.u8()?;
        let head = unpack(encoding, reader.bytes()?, head_bytes)?;
        let mut head = Reader::new(&head);
        let times_ms = read_times(&mut head, rows)?;
        let mut lengths = [0_usize; 8];
        let mut list = Vec::with_capacity(columns);
        for _ in 0..columns {
            list.push(read_column(&mut head, rows, &mut lengths)?);
        }
        Ok(Self {
            times_ms,
            columns: list,
            lengths,
        })
    }
}

fn read_times(head: &mut Reader<'_>, rows: usize) -> Result<Vec<i64>, Malformed> {
    let mut times = Vec::with_capacity(rows);
    let (mut time, mut step) = (0_i64, 0_i64);
    for _ in 0..rows {
        step = step.wrapping_add(head.signed()?);
        time = time.wrapping_add(step);
        if times.last().is_some_and(|&last| last >= time) {
            return Err(Malformed);
        }
        times.push(time);
    }
    Ok(times)
}

fn read_presence(head: &mut Reader<'_>, rows: usize) -> Result<(Presence, usize), Malformed> {
    match head.u8()? {
        ALL => Ok((Presence::All, rows)),
        NONE => Ok((Presence::None, 0)),
        RUN => {
            let first = head.varint_u32()?;
            let count = head.varint_u32()?;
            let end = first.checked_add(count).ok_or(Malformed)?;
            if count == 0 || end as usize > rows {
                return Err(Malformed);
            }
            Ok((Presence::Run { first, count }, count as usize))
        }
        BITMAP => {
            let bitmap = head.take(rows.div_ceil(8))?;
            let is_set = |row: &u32| {
                let byte = bitmap.get(*row as usize / 8).copied().unwrap_or(0);
                byte >> (row % 8) & 1 == 1
            };
            let present: Vec<u32> = (0..rows as u32).filter(is_set).collect();
            let count = present.len();
            if count == 0 {
                return Err(Malformed);
            }
            Ok((Presence::Rows(present), count))
        }
        _ => Err(Malformed),
    }
}

fn read_column(
    head: &mut Reader<'_>,
    rows: usize,
    lengths: &mut [usize; 8],
) -> Result<Column, Malformed> {
    let (presence, count) = read_presence(head, rows)?;
    let mut offsets = [0; 8];
    let mut description = None;
    if count > 0 {
        let read = column::read(head, count)?;
        let planed = read.planed(count);
        for (offset, length) in offsets
            .iter_mut()
            .zip(lengths.iter_mut())
            .take(usize::from(read.width()))
        {
            *offset = u32::try_from(*length).map_err(|_| Malformed)?;
            *length += planed;
        }
        description = Some(read);
    }
    Ok(Column {
        presence,
        count,
        description,
        offsets,
    })
}

fn read_planes(reader: &mut Reader<'_>, lengths: &[usize; 8]) -> Result<Vec<Vec<u8>>, Malformed> {
    let count = usize::from(reader.u8()?);
    let used = lengths.iter().take_while(|&&length| length > 0).count();
    if count != used {
        return Err(Malformed);
    }
    let mut planes = Vec::with_capacity(count);
    for &length in lengths.iter().take(count) {
        let encoding = reader.u8()?;
        planes.push(unpack(encoding, reader.bytes()?, length)?);
    }
    Ok(planes)
}
