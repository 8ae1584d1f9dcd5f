//! Assembles the samples of one series from its segments.

use std::sync::Arc;

use crate::codec::chunk::timestamps_id_of;
use crate::codec::{Chunk, Presence};
use crate::read::{Column, ReadControl, ReadError, Values};

/// Samples of one series from one place.
#[derive(Debug)]
pub(super) struct Segment {
    data: Data,
    first_ms: i64,
    last_ms: i64,
    /// The samples inside the range, relative to the first of the segment. Only set with a timestamps_id.
    start: usize,
    end: usize,
    /// Identifies the timestamps of the whole segment, or 0 if the column lacks some of them.
    timestamps_id: u64,
}

/// The samples.
#[derive(Debug)]
pub(super) enum Data {
    Chunk(Arc<Chunk>, usize),
    /// Timestamps that several series share, and the bits of a value for each.
    Shared(Arc<[i64]>, u64, Vec<u64>),
    Loose(Vec<(i64, u64)>),
}

impl Segment {
    pub(super) fn new(data: Data) -> Self {
        let (times, timestamps_id): (&[i64], u64) = match &data {
            Data::Chunk(chunk, column) => {
                let full = *chunk.presence(*column) == Presence::All;
                (
                    chunk.times_ms(),
                    if full { chunk.timestamps_id() } else { 0 },
                )
            }
            Data::Shared(times, timestamps_id, _) => (times, *timestamps_id),
            Data::Loose(samples) => {
                let (first_ms, last_ms) = (
                    samples.first().map_or(0, |&(time, _)| time),
                    samples.last().map_or(0, |&(time, _)| time),
                );
                return Self {
                    first_ms,
                    last_ms,
                    start: 0,
                    end: samples.len(),
                    timestamps_id: 0,
                    data,
                };
            }
        };
        Self {
            first_ms: times.first().copied().unwrap_or(0),
            last_ms: times.last().copied().unwrap_or(0),
            start: 0,
            end: times.len(),
            timestamps_id,
            data,
        }
    }

    fn times(&self) -> &[i64] {
        match &self.data {
            Data::Chunk(chunk, _) => chunk.times_ms(),
            Data::Shared(times, ..) => times,
            Data::Loose(_) => &[],
        }
    }
}

/// Collects segments and joins them to a column. Reuses its memory for the next series.
#[derive(Debug)]
pub(super) struct Assembler {
    start_ms: i64,
    end_ms: i64,
    segments: Vec<Segment>,
    /// Identifies `times` if they are shared, else 0.
    timestamps_id: u64,
    times: Vec<i64>,
    values: Vec<f64>,
    part_times: Vec<i64>,
    part_values: Vec<f64>,
    scratch: Vec<u64>,
}

impl Assembler {
    pub(super) const fn new(start_ms: i64, end_ms: i64) -> Self {
        Self {
            start_ms,
            end_ms,
            segments: Vec::new(),
            timestamps_id: 0,
            times: Vec::new(),
            values: Vec::new(),
            part_times: Vec::new(),
            part_values: Vec::new(),
            scratch: Vec::new(),
        }
    }

    /// Begins the next series.
    pub(super) fn begin(&mut self) {
        self.segments.clear();
    }

    /// Adds a segment of the series if any of it is in the range.
    pub(super) fn add(&mut self, mut segment: Segment) {
        if segment.first_ms > self.end_ms || segment.last_ms < self.start_ms {
            return;
        }
        if segment.timestamps_id != 0 {
            let times = segment.times();
            let start = times.partition_point(|&time| time < self.start_ms);
            let end = times.partition_point(|&time| time <= self.end_ms);
            if start >= end {
                return;
            }
            (segment.first_ms, segment.last_ms) = (times[start], times[end - 1]);
            (segment.start, segment.end) = (start, end);
        }
        self.segments.push(segment);
    }

    /// The samples of the series.
    ///
    /// # Errors
    /// The control's bounds.
    pub(super) fn assemble(&mut self, control: &ReadControl) -> Result<Column<'_>, ReadError> {
        let is_ordered =
            |segments: &[Segment]| segments.is_sorted_by(|a, b| a.last_ms < b.first_ms);
        if !is_ordered(&self.segments) {
            self.segments.sort_by_key(|segment| segment.first_ms);
        }
        let ordered = is_ordered(&self.segments);
        self.values.clear();
        if ordered
            && self
                .segments
                .iter()
                .all(|segment| segment.timestamps_id != 0)
        {
            let count: usize = self.segments.iter().map(|one| one.end - one.start).sum();
            control.charge_samples(count as u64)?;
            self.assemble_shared();
        } else {
            self.assemble_any(ordered);
            control.charge_samples(self.times.len() as u64)?;
        }
        Ok(Column {
            timestamps_id: self.timestamps_id,
            timestamps_ms: &self.times,
            values: Values::Floats(&self.values),
        })
    }

    /// Handles the common case: whole segments in sequence. The timestamps often equal those of the previous series.
    fn assemble_shared(&mut self) {
        let mut timestamps_id = 0_u64;
        for segment in &self.segments {
            for part in [
                segment.timestamps_id,
                segment.start as u64,
                segment.end as u64,
            ] {
                let product =
                    u128::from(timestamps_id ^ part).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c061);
                timestamps_id = ((product as u64) ^ ((product >> 64) as u64)).wrapping_add(1);
            }
        }
        let timestamps_id = timestamps_id.max(1);
        if self.timestamps_id != timestamps_id {
            self.timestamps_id = timestamps_id;
            self.times.clear();
            for segment in &self.segments {
                self.times
                    .extend_from_slice(&segment.times()[segment.start..segment.end]);
            }
        }
        for segment in &self.segments {
            match &segment.data {
                Data::Chunk(chunk, column)
                    if segment.end - segment.start == chunk.times_ms().len() =>
                {
                    chunk.values(*column, &mut self.scratch, &mut self.values);
                }
                Data::Chunk(chunk, column) => {
                    self.part_values.clear();
                    chunk.values(*column, &mut self.scratch, &mut self.part_values);
                    let wanted = self.part_values.get(segment.start..segment.end);
                    self.values.extend_from_slice(wanted.unwrap_or(&[]));
                }
                Data::Shared(_, _, bits) => {
                    let wanted = bits.get(segment.start..segment.end).unwrap_or(&[]);
                    self.values
                        .extend(wanted.iter().map(|&bits| f64::from_bits(bits)));
                }
                Data::Loose(_) => {}
            }
        }
    }

    fn assemble_any(&mut self, ordered: bool) {
        self.timestamps_id = 0;
        self.times.clear();
        for segment in &self.segments {
            self.part_times.clear();
            self.part_values.clear();
            let (times, values) = (&mut self.part_times, &mut self.part_values);
            match &segment.data {
                Data::Chunk(chunk, column) => {
                    chunk.samples(*column, &mut self.scratch, times, values);
                }
                Data::Shared(shared, _, bits) => {
                    times.extend_from_slice(shared);
                    values.extend(bits.iter().map(|&bits| f64::from_bits(bits)));
                }
                Data::Loose(samples) => {
                    times.extend(samples.iter().map(|&(time, _)| time));
                    values.extend(samples.iter().map(|&(_, bits)| f64::from_bits(bits)));
                }
            }
            let start = times.partition_point(|&time| time < self.start_ms);
            let end = times
                .partition_point(|&time| time <= self.end_ms)
                .max(start);
            self.times.extend_from_slice(&times[start..end]);
            self.values.extend_from_slice(&values[start..end]);
        }
        if !ordered {
            self.sort();
        }
        if !self.times.is_empty() {
            self.timestamps_id = 0;
        }
    }

    /// Sorts the samples of overlapping segments. Of equal timestamps, the sample of the first segment is kept.
    fn sort(&mut self) {
        let pairs = self.times.iter().copied().zip(self.values.iter().copied());
        let mut pairs: Vec<(i64, f64)> = pairs.collect();
        pairs.sort_by_key(|&(time, _)| time);
        pairs.dedup_by_key(|&mut (time, _)| time);
        (self.times, self.values) = pairs.into_iter().unzip();
    }
}

/// Returns the timestamps_id of timestamps that are shared outside a chunk.
pub(super) fn shared_timestamps_id(times: &[i64]) -> u64 {
    timestamps_id_of(times)
}
