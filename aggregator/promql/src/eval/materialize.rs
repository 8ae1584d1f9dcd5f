//! Scans to vectors, and scans on several threads.

use std::ops::Range;
use std::sync::PoisonError;

use tidemark_storage::read::ReadError;

use super::selector_scan::{SampleStats, SelectorScan};
use super::series::{MISSING, Series, Steps, Vector, is_missing};
use super::{Evaluated, Evaluator};

/// Below this many values a second thread does not pay off.
const VALUES_PER_THREAD: usize = 50_000;

/// What a part of a scan returns.
pub(crate) type PartResult<T> = Result<T, ReadError>;

impl Evaluator<'_> {
    /// Fails when there are more steps than values that may be held.
    pub(crate) fn check_steps(&self, steps: Steps) -> Evaluated<()> {
        if steps.count as u64 > self.held_max {
            return Err(self.read_error(ReadError::TooManySamples {
                limit: self.held_max,
            }));
        }
        Ok(())
    }

    /// Returns the series of a scan that have a value, with their labels.
    pub(crate) fn materialize(&self, scan: &SelectorScan) -> Evaluated<Vector> {
        self.materialize_where(scan, |_, _| true)
    }

    /// Returns the series of a scan with the values for which `keep`, given step and value, is true. Labels are built
    /// only for series that keep a value.
    pub(super) fn materialize_where(
        &self,
        scan: &SelectorScan,
        keep: impl Fn(usize, f64) -> bool + Sync,
    ) -> Evaluated<Vector> {
        let passes = |(step, &value): (usize, &f64)| !is_missing(value) && keep(step, value);
        let parts = self.scan_in_parts(scan, |range, stats| {
            let mut part: Vec<(usize, Vec<f64>)> = Vec::new();
            scan.read(range, &self.budget, stats, &mut |index, values| {
                if values.iter().enumerate().any(passes) {
                    self.budget.hold(values.len())?;
                    let kept = values.iter().enumerate();
                    let kept = kept.map(|one| if passes(one) { *one.1 } else { MISSING });
                    part.push((index, kept.collect()));
                }
                Ok(())
            })?;
            // Stores visit series in any order; results are in the order of the set.
            part.sort_unstable_by_key(|&(index, _)| index);
            Ok(part)
        })?;
        let series = parts.into_iter().flatten().map(|(index, values)| {
            let mut series = Series::new(scan.set.labels(index), values);
            series.drop_name = scan.marked.get(index) == Some(&true);
            series
        });
        Ok(series.collect())
    }

    /// Reads a scan in parts, on several threads when there is enough to do. Results are in the order of the parts.
    pub(crate) fn scan_in_parts<T: Send>(
        &self,
        scan: &SelectorScan,
        read: impl Fn(Range<usize>, &mut SampleStats) -> PartResult<T> + Sync,
    ) -> Evaluated<Vec<T>> {
        let ranges = self.parts(scan);
        let run = |range: Range<usize>| {
            let mut stats = SampleStats::default();
            if self.counts_steps(scan.steps) {
                stats.per_step.resize(scan.steps.count, 0);
            }
            let part = read(range, &mut stats)?;
            self.add_stats(&stats);
            Ok(part)
        };
        let parts: PartResult<Vec<T>> = if let [range] = ranges.as_slice() {
            run(range.clone()).map(|part| vec![part])
        } else {
            std::thread::scope(|scope| {
                let threads: Vec<_> = ranges
                    .into_iter()
                    .map(|range| scope.spawn(|| run(range)))
                    .collect();
                let joined = threads.into_iter().map(|thread| match thread.join() {
                    Ok(part) => part,
                    Err(panic) => std::panic::resume_unwind(panic),
                });
                joined.collect()
            })
        };
        parts.map_err(|error| self.read_error(error))
    }

    fn parts(&self, scan: &SelectorScan) -> Vec<Range<usize>> {
        let series = scan.set.len();
        let values = series.saturating_mul(scan.steps.count + 16);
        let count = (values / VALUES_PER_THREAD).clamp(1, self.threads_max.max(1));
        let size = series.div_ceil(count).max(1);
        (0..count)
            .map(|part| (part * size).min(series)..((part + 1) * size).min(series))
            .collect()
    }

    /// Returns whether samples are counted by step: at the steps of the query itself, not those of subqueries.
    pub(super) fn counts_steps(&self, steps: Steps) -> bool {
        let stats = self.stats.lock().unwrap_or_else(PoisonError::into_inner);
        stats.per_step.len() == steps.count && steps.start_ms == self.bounds_ms.0
    }
}
