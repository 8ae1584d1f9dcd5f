//! Which samples of a series fall into the window of each step.

use std::ops::Range;

use common::model::is_stale;
use tidemark_storage::read::Column;

use super::selector_scan::SelectorScan;

/// Buffers shared by all series of a scan.
#[derive(Default)]
pub(super) struct ScanBuffers {
    pub(super) times: Vec<i64>,
    pub(super) floats: Vec<f64>,
    pub(super) resets: Vec<usize>,
    pub(super) ranges: WindowRanges,
}

impl ScanBuffers {
    pub(super) fn copy_without_stale(&mut self, times: &[i64], floats: &[f64]) {
        self.times.clear();
        self.floats.clear();
        for (&time, &float) in times.iter().zip(floats) {
            if !is_stale(float) {
                self.times.push(time);
                self.floats.push(float);
            }
        }
    }
}

/// The windows of the last column. They hold for the next one, too, when it has the same timestamps.
#[derive(Default)]
pub(super) struct WindowRanges {
    /// The timestamps id of the last column; 0 for none.
    timestamps_id: u64,
    /// Indices of the samples in each step's window.
    pub(super) windows: Vec<Range<u32>>,
    /// Index of the newest sample of each step, `u32::MAX` for none.
    pub(super) newest: Vec<u32>,
}

impl WindowRanges {
    pub(super) fn find_newest(&mut self, scan: &SelectorScan, column: &Column<'_>) {
        if self.is_known(column.timestamps_id) {
            return;
        }
        self.newest.clear();
        let times = column.timestamps_ms;
        let mut next = 0;
        for step in 0..scan.steps.count {
            let reference_ms = scan.reference_ms(step);
            next = first_after(times, next, reference_ms);
            let newest = next.checked_sub(1);
            let fresh = newest.filter(|&newest| times[newest] > reference_ms - scan.range_ms);
            self.newest
                .push(fresh.map_or(u32::MAX, |newest| newest as u32));
        }
    }

    pub(super) fn find_windows(&mut self, scan: &SelectorScan, timestamps_id: u64, times: &[i64]) {
        if self.is_known(timestamps_id) {
            return;
        }
        self.windows.clear();
        let (mut from, mut to) = (0, 0);
        for step in 0..scan.steps.count {
            let reference_ms = scan.reference_ms(step);
            to = first_after(times, to, reference_ms);
            from = first_after(times, from, reference_ms - scan.range_ms);
            self.windows.push(from as u32..to as u32);
        }
    }

    /// Returns whether the last column had these timestamps, and remembers them.
    fn is_known(&mut self, timestamps_id: u64) -> bool {
        let known = timestamps_id != 0 && timestamps_id == self.timestamps_id;
        self.timestamps_id = timestamps_id;
        known
    }
}

/// Returns the index of the first sample after `time_ms`, at least `from`.
#[inline]
fn first_after(times: &[i64], from: usize, time_ms: i64) -> usize {
    let rest = times.get(from..).unwrap_or_default();
    // Steps are mostly a few samples apart; longer distances are searched.
    let near = rest
        .iter()
        .take(16)
        .take_while(|&&time| time <= time_ms)
        .count();
    if near < 16 {
        return from + near;
    }
    from + rest.partition_point(|&time| time <= time_ms)
}
