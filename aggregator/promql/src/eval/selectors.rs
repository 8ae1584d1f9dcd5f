//! Scans of selectors and subqueries.

use std::sync::Arc;

use common::model::{Matcher, Sample, is_stale};
use tidemark_storage::read::{ReadError, Selection, Values};

use super::selector_scan::{SampleStats, ScanKind, SelectorScan, TimeShift};
use super::series::{Steps, Vector, same_labelset, without_name};
use super::subquery_result::SubqueryResult;
use super::{Evaluated, Evaluator};
use crate::parser::ast::{At, DurationValue, Expr, Subquery, VectorSelector};
use crate::value::MatrixSeries;

impl Evaluator<'_> {
    pub(super) fn instant_selector(
        &self,
        selector: &VectorSelector,
        steps: Steps,
    ) -> Evaluated<Vector> {
        let scan = self.instant_scan(selector, steps, ScanKind::Newest)?;
        self.materialize(&scan)
    }

    /// Returns the scan of an instant selector.
    pub(super) fn instant_scan(
        &self,
        selector: &VectorSelector,
        steps: Steps,
        kind: ScanKind,
    ) -> Evaluated<SelectorScan> {
        let shift = self.time_shift(selector.at, &selector.offset);
        self.scan(&selector.matchers, steps, shift, self.lookback_ms, kind)
    }

    /// Returns the scan of `timestamp(selector)`.
    ///
    /// With `@`, Prometheus 3.5 looks back from the pinned time itself, whatever the offset, but among the samples that it
    /// loaded for the offset.
    pub(crate) fn timestamp_scan(
        &self,
        selector: &VectorSelector,
        steps: Steps,
    ) -> Evaluated<SelectorScan> {
        let mut shift = self.time_shift(selector.at, &selector.offset);
        let mut range_ms = self.lookback_ms;
        if shift.pinned_ms.is_some() {
            let loaded_ms = range_ms.saturating_sub(shift.offset_ms.saturating_abs());
            range_ms = loaded_ms.max(0);
            shift.offset_ms = shift.offset_ms.max(0);
        }
        let kind = ScanKind::NewestTimestamp;
        self.scan(&selector.matchers, steps, shift, range_ms, kind)
    }

    /// Returns the scan of a range vector: a selector with a range, or a subquery.
    pub(crate) fn range_scan(
        &self,
        expr: &Expr,
        steps: Steps,
        kind: ScanKind,
    ) -> Evaluated<SelectorScan> {
        match expr.unwrap_parens() {
            Expr::Matrix(matrix) => {
                let selector = &matrix.selector;
                let shift = self.time_shift(selector.at, &selector.offset);
                let range_ms = matrix.range.millis();
                self.scan(&selector.matchers, steps, shift, range_ms, kind)
            }
            Expr::Subquery(subquery) => self.subquery_scan(subquery, steps, kind),
            _ => Err(self.internal("expected a range vector")),
        }
    }

    /// Returns the times, in seconds, of the samples that an instant selector with these matchers finds.
    pub(crate) fn sample_times(&self, matchers: &[Matcher], steps: Steps) -> Evaluated<Vector> {
        let shift = TimeShift {
            pinned_ms: None,
            offset_ms: 0,
        };
        let kind = ScanKind::NewestTimestamp;
        let scan = self.scan(matchers, steps, shift, self.lookback_ms, kind)?;
        self.materialize(&scan)
    }

    fn scan(
        &self,
        matchers: &[Matcher],
        steps: Steps,
        shift: TimeShift,
        range_ms: i64,
        kind: ScanKind,
    ) -> Evaluated<SelectorScan> {
        let mut scan = empty_scan(steps, shift, range_ms, kind);
        if steps.count == 0 {
            return Ok(scan);
        }
        let selection = Selection {
            matchers: matchers.to_vec(),
            start_ms: (scan.reference_ms(0) - range_ms).saturating_add(1),
            end_ms: scan.reference_ms(steps.count - 1),
        };
        scan.set = self
            .data
            .select(&selection, self.budget.control)
            .map_err(|error| self.read_error(error))?;
        for warning in scan.set.warnings() {
            self.annotations.storage_warning(warning);
        }
        Ok(scan)
    }

    /// Resolves `@` and `offset`.
    const fn time_shift(&self, at: Option<At>, offset: &DurationValue) -> TimeShift {
        let pinned_ms = match at {
            Some(At::Time(ms)) => Some(ms),
            Some(At::Start) => Some(self.bounds_ms.0),
            Some(At::End) => Some(self.bounds_ms.1),
            None => None,
        };
        TimeShift {
            pinned_ms,
            offset_ms: offset.millis(),
        }
    }

    fn subquery_scan(
        &self,
        subquery: &Subquery,
        steps: Steps,
        kind: ScanKind,
    ) -> Evaluated<SelectorScan> {
        let shift = self.time_shift(subquery.at, &subquery.offset);
        let step_ms = match subquery.step.millis() {
            0 => self.default_step_ms,
            step_ms => step_ms,
        };
        let mut scan = empty_scan(steps, shift, subquery.range.millis(), kind);
        if steps.count == 0 {
            return Ok(scan);
        }
        let inner = self.subquery_steps(&scan, step_ms)?;
        scan.subquery_samples = Some(0);
        if inner.count == 0 {
            return Ok(scan);
        }
        // As an argument, a subquery counts the samples of its result that the windows read, not those that it reads.
        let (vector, stats) = self.with_own_stats(|| self.vector(&subquery.expr, inner));
        let mut vector = vector?;
        scan.subquery_samples = Some(stats.total);
        vector.retain(|series| !series.is_empty());
        scan.marked = vector.iter().map(|series| series.drop_name).collect();
        scan.set = Arc::new(SubqueryResult::new(vector, inner));
        Ok(scan)
    }

    /// Returns the multiples of the resolution that fall into the windows of all steps.
    fn subquery_steps(&self, scan: &SelectorScan, step_ms: i64) -> Evaluated<Steps> {
        let step_ms = step_ms.max(1);
        let exclusive_ms = scan.reference_ms(0).saturating_sub(scan.range_ms);
        let start_ms = exclusive_ms
            .div_euclid(step_ms)
            .saturating_add(1)
            .saturating_mul(step_ms);
        let end_ms = scan.reference_ms(scan.steps.count - 1);
        let count = if start_ms > end_ms {
            0
        } else {
            (end_ms - start_ms) / step_ms + 1
        };
        if count as u64 > self.held_max {
            return Err(self.read_error(ReadError::TooManySamples {
                limit: self.held_max,
            }));
        }
        Ok(Steps {
            start_ms,
            step_ms,
            count: count as usize,
        })
    }

    /// Evaluates a range vector that is the whole query.
    pub(crate) fn range_vector(&self, expr: &Expr, steps: Steps) -> Evaluated<Vec<MatrixSeries>> {
        // Only the set of the scan and its window are used: samples are returned unchanged.
        let scan = self.range_scan(expr, steps, ScanKind::Newest)?;
        let end_ms = scan.reference_ms(0);
        let start_ms = end_ms - scan.range_ms;
        let mut matrix = Vec::new();
        let mut samples_read = 0;
        let read = scan.set.read(
            0..scan.set.len(),
            self.budget.control,
            &mut |index, column| {
                let Values::Floats(floats) = column.values;
                self.budget.check()?;
                let samples: Vec<_> = column
                    .timestamps_ms
                    .iter()
                    .zip(floats)
                    .filter(|&(&time, &value)| {
                        time > start_ms && time <= end_ms && !is_stale(value)
                    })
                    .map(|(&timestamp_ms, &value)| Sample {
                        timestamp_ms,
                        value,
                    })
                    .collect();
                if samples.is_empty() {
                    return Ok(());
                }
                self.budget.hold(samples.len())?;
                samples_read += samples.len() as u64;
                let mut labels = scan.set.labels(index);
                if scan.marked.get(index) == Some(&true) {
                    labels = without_name(&labels);
                }
                matrix.push(MatrixSeries { labels, samples });
                Ok(())
            },
        );
        read.map_err(|error| self.read_error(error))?;
        self.add_stats(&SampleStats {
            // A subquery that is not an argument counts the samples that it reads.
            total: scan.subquery_samples.unwrap_or(samples_read),
            per_step: Vec::new(),
        });
        matrix.sort_unstable_by(|a, b| a.labels.cmp(&b.labels));
        if matrix
            .windows(2)
            .any(|pair| pair[0].labels == pair[1].labels)
        {
            return Err(same_labelset());
        }
        Ok(matrix)
    }
}

/// Returns a scan without series.
fn empty_scan(steps: Steps, shift: TimeShift, range_ms: i64, kind: ScanKind) -> SelectorScan {
    SelectorScan {
        set: Arc::new(SubqueryResult::new(Vec::new(), steps.first())),
        kind,
        steps,
        shift,
        range_ms,
        marked: Vec::new(),
        subquery_samples: None,
    }
}
