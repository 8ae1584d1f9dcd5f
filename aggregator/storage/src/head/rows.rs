//! The open rows of a group, each with one timestamp and one value per column.

/// The bits that mean "no sample" in a row: a signalling NaN that no arithmetic produces. A sample with exactly these
/// bits is stored out of row, so every bit pattern can be stored.
pub(crate) const ABSENT: u64 = 0x7ff4_a71d_e3a5_0b5e;

/// Rows in ascending time order. A row is as wide as the group was when the row was created; only the last row can
/// grow.
#[derive(Debug, Default, Clone)]
pub(crate) struct Rows {
    times_ms: Vec<i64>,
    /// The start of each row in `cells`; a row ends where the next one starts.
    starts: Vec<usize>,
    cells: Vec<u64>,
    /// The number of cells that hold a sample.
    filled: usize,
}

impl Rows {
    pub(crate) fn len(&self) -> usize {
        self.times_ms.len()
    }

    pub(crate) fn times_ms(&self) -> &[i64] {
        &self.times_ms
    }

    pub(crate) const fn filled(&self) -> usize {
        self.filled
    }

    pub(crate) fn last_ms(&self) -> Option<i64> {
        self.times_ms.last().copied()
    }

    /// Returns the row with this timestamp.
    pub(crate) fn find(&self, timestamp_ms: i64) -> Option<usize> {
        if self.last_ms() == Some(timestamp_ms) {
            return Some(self.len() - 1);
        }
        self.times_ms.binary_search(&timestamp_ms).ok()
    }

    /// Creates a row of `width` columns, which must be later than all others.
    pub(crate) fn begin(&mut self, timestamp_ms: i64, width: usize) -> usize {
        debug_assert!(self.last_ms().is_none_or(|last| last < timestamp_ms));
        self.times_ms.push(timestamp_ms);
        self.starts.push(self.cells.len());
        self.grow(width);
        self.cells.resize(self.cells.len() + width, ABSENT);
        self.len() - 1
    }

    /// Reserves room for `count` more cells, a few rows at a time: most of a doubled buffer would stay empty.
    fn grow(&mut self, count: usize) {
        if self.cells.capacity() - self.cells.len() < count {
            self.cells
                .reserve_exact((count * 4).max(self.cells.len() / 8));
        }
    }

    /// Returns the cells of a row.
    pub(crate) fn row(&self, row: usize) -> &[u64] {
        let end = self
            .starts
            .get(row + 1)
            .copied()
            .unwrap_or(self.cells.len());
        &self.cells[self.starts[row]..end]
    }

    /// Returns the bits in a cell, or [`ABSENT`] if it has no sample.
    pub(crate) fn get(&self, row: usize, column: u32) -> u64 {
        self.row(row)
            .get(column as usize)
            .copied()
            .unwrap_or(ABSENT)
    }

    /// Fills an empty cell. Returns false if the row has no such column and can't grow because it is not the last one.
    pub(crate) fn set(&mut self, row: usize, column: u32, bits: u64, width: usize) -> bool {
        let at = self.starts[row] + column as usize;
        let end = self
            .starts
            .get(row + 1)
            .copied()
            .unwrap_or(self.cells.len());
        if at >= end {
            if row + 1 != self.len() || column as usize >= width {
                return false;
            }
            self.grow(self.starts[row] + width - end);
            self.cells.resize(self.starts[row] + width, ABSENT);
        }
        self.cells[at] = bits;
        self.filled += 1;
        true
    }

    /// Removes the oldest `count` rows.
    pub(crate) fn drop_front(&mut self, count: usize) {
        let end = self.starts.get(count).copied().unwrap_or(self.cells.len());
        let gone = self
            .cells
            .drain(..end)
            .filter(|&bits| bits != ABSENT)
            .count();
        self.filled -= gone;
        self.times_ms.drain(..count);
        self.starts.drain(..count);
        for start in &mut self.starts {
            *start -= end;
        }
    }

    /// Returns the memory used, in bytes.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.cells.capacity() * 8 + self.starts.capacity() * 8 + self.times_ms.capacity() * 8
    }
}
