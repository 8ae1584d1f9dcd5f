//! Divides the samples of consecutive series into chunks: by shared timestamps, and by time.

use crate::codec::ChunkBuilder;

/// Approximate number of rows of a chunk. Longer columns hardly compress better, and reading one sample decompresses all.
pub(crate) const ROWS: usize = 1024;
/// Columns of a chunk.
pub(crate) const COLUMNS: usize = crate::codec::chunk::COLUMNS_MAX;

/// The samples of a series, ascending strictly in time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Samples {
    pub(crate) times_ms: Vec<i64>,
    pub(crate) bits: Vec<u64>,
}

impl Samples {
    /// Removes all samples and keeps the memory.
    pub(crate) fn clear(&mut self) {
        self.times_ms.clear();
        self.bits.clear();
    }

    pub(crate) fn push(&mut self, time_ms: i64, bits: u64) {
        self.times_ms.push(time_ms);
        self.bits.push(bits);
    }

    /// Removes samples outside a range. They must be in order.
    pub(crate) fn keep(&mut self, (first_ms, last_ms): (i64, i64)) {
        let end = self.times_ms.partition_point(|&time| time <= last_ms);
        self.times_ms.truncate(end);
        self.bits.truncate(end);
        let start = self.times_ms.partition_point(|&time| time < first_ms);
        self.times_ms.drain(..start);
        self.bits.drain(..start);
    }

    /// Removes samples inside a range, and returns their number. They must be in order.
    pub(crate) fn remove(&mut self, (first_ms, last_ms): (i64, i64)) -> u64 {
        let start = self.times_ms.partition_point(|&time| time < first_ms);
        let end = self.times_ms.partition_point(|&time| time <= last_ms);
        let end = end.max(start);
        self.times_ms.drain(start..end);
        self.bits.drain(start..end);
        (end - start) as u64
    }

    /// Sorts samples by time. Of equal timestamps, the first sample is kept.
    pub(crate) fn sort(&mut self) {
        if self.times_ms.is_sorted_by(|a, b| a < b) {
            return;
        }
        let mut pairs: Vec<_> = self
            .times_ms
            .iter()
            .copied()
            .zip(self.bits.iter().copied())
            .collect();
        pairs.sort_by_key(|&(time, _)| time);
        pairs.dedup_by_key(|&mut (time, _)| time);
        (self.times_ms, self.bits) = pairs.into_iter().unzip();
    }
}

/// An encoded chunk.
#[derive(Debug)]
pub(crate) struct Encoded<'a> {
    /// The first of its series, relative to the first series of the slice.
    pub(crate) first: usize,
    pub(crate) columns: usize,
    pub(crate) first_ms: i64,
    pub(crate) last_ms: i64,
    pub(crate) bytes: &'a [u8],
}

/// Encodes slices. Reuse it to keep its memory.
#[derive(Debug, Default)]
pub(crate) struct SliceEncoder {
    builder: ChunkBuilder,
    clock: Vec<i64>,
    rows: Vec<u32>,
    values: Vec<u64>,
    bytes: Vec<u8>,
}

impl SliceEncoder {
    /// Encodes at most [`COLUMNS`] series, and passes each chunk to `sink`.
    ///
    /// # Errors
    /// The error of `sink`.
    pub(crate) fn encode<E>(
        &mut self,
        slice: &[Samples],
        sink: &mut dyn FnMut(Encoded<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        debug_assert!(slice.len() <= COLUMNS);
        let shares = self.choose_clock(slice);
        let clock = std::mem::take(&mut self.clock);
        if !clock.is_empty() {
            let members = |index: usize| shares[index].then_some(&slice[index]);
            self.encode_shared(&clock, slice.len(), &members, 0, sink)?;
        }
        self.clock = clock;
        for (index, own) in slice.iter().enumerate() {
            if !shares[index] && !own.times_ms.is_empty() {
                let member = |_| Some(own);
                self.encode_shared(&own.times_ms, 1, &member, index, sink)?;
            }
        }
        Ok(())
    }

    /// Finds the timestamps that most of the series share, and which series use them.
    fn choose_clock(&mut self, slice: &[Samples]) -> Vec<bool> {
        self.clock.clear();
        let longest = slice.iter().max_by_key(|one| one.times_ms.len());
        self.clock
            .extend(longest.iter().flat_map(|one| one.times_ms.iter()));
        let mut shares = vec![false; slice.len()];
        for (share, one) in shares.iter_mut().zip(slice) {
            *share = one.times_ms == self.clock || self.joins(&one.times_ms);
        }
        shares
    }

    /// Reports whether a series can use the shared timestamps, and adds its timestamps to them if so.
    fn joins(&mut self, times: &[i64]) -> bool {
        if times.is_empty() {
            return false;
        }
        let missing = count_missing(times, &self.clock);
        // A row that few series use costs a presence bit in each of the others.
        if missing * 8 > self.clock.len() || times.len() * 16 < self.clock.len() {
            return false;
        }
        if missing > 0 {
            self.clock.extend_from_slice(times);
            self.clock.sort_unstable();
            self.clock.dedup();
        }
        true
    }

    fn encode_shared<'s, E>(
        &mut self,
        clock: &[i64],
        columns: usize,
        member: &dyn Fn(usize) -> Option<&'s Samples>,
        first: usize,
        sink: &mut dyn FnMut(Encoded<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let cuts = clock.len().div_ceil(ROWS);
        let rows = clock.len().div_ceil(cuts.max(1)).max(1);
        for times in clock.chunks(rows) {
            let (Some(&first_ms), Some(&last_ms)) = (times.first(), times.last()) else {
                continue;
            };
            self.builder.begin(times);
            for index in 0..columns {
                self.push_column(times, first_ms, last_ms, member(index));
            }
            self.bytes.clear();
            self.builder.finish(&mut self.bytes);
            sink(Encoded {
                first,
                columns,
                first_ms,
                last_ms,
                bytes: &self.bytes,
            })?;
        }
        Ok(())
    }

    fn push_column(
        &mut self,
        times: &[i64],
        first_ms: i64,
        last_ms: i64,
        samples: Option<&Samples>,
    ) {
        let Some(samples) = samples else {
            self.builder.push_sparse(&[], &[]);
            return;
        };
        let start = samples.times_ms.partition_point(|&time| time < first_ms);
        let end = samples.times_ms.partition_point(|&time| time <= last_ms);
        let own = &samples.times_ms[start..end];
        if own == times {
            self.builder.push_full(&samples.bits[start..end]);
            return;
        }
        self.rows.clear();
        self.values.clear();
        let mut row = 0;
        for (time, &bits) in own.iter().zip(&samples.bits[start..end]) {
            while times.get(row).is_some_and(|at| at < time) {
                row += 1;
            }
            self.rows.push(row as u32);
            self.values.push(bits);
        }
        self.builder.push_sparse(&self.rows, &self.values);
    }
}

fn count_missing(times: &[i64], clock: &[i64]) -> usize {
    let mut at = 0;
    let mut missing = 0;
    for time in times {
        while clock.get(at).is_some_and(|other| other < time) {
            at += 1;
        }
        missing += usize::from(clock.get(at) != Some(time));
    }
    missing
}
