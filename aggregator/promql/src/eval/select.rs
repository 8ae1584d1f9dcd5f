//! Selectors to leaves, and leaves to vectors.

use std::ops::Range;
use std::sync::Arc;

use common::model::{Labels, Matcher, Sample, is_stale};
use tidemark_storage::read::{ReadError, Selection, Values};

use super::Evaluated;
use super::Evaluator;
use super::collected::Collected;
use super::leaf::{Kind, Leaf, Looked};
use super::series::{MISSING, Series, Steps, Vector, is_missing};
use crate::parser::ast::{At, DurationValue, Expr, Subquery, VectorSelector};
use crate::signature::Function;
use crate::value::MatrixSeries;

/// Below this many values a query gains nothing from a second thread.
const VALUES_PER_THREAD: usize = 50_000;

/// What a part of a parallel read returns.
pub(super) type PartResult<T> = Result<T, ReadError>;

impl Evaluator<'_> {
    pub(super) fn instant_selector(
        &self,
        selector: &VectorSelector,
        steps: Steps,
    ) -> Evaluated<Vector> {
        let leaf = self.instant_leaf(selector, steps, Kind::Instant)?;
        self.materialize(&leaf)
    }

    /// The leaf of an instant selector.
    pub(super) fn instant_leaf(
        &self,
        selector: &VectorSelector,
        steps: Steps,
        kind: Kind,
    ) -> Evaluated<Leaf> {
        let place = self.place(selector.at, &selector.offset);
        self.leaf(&selector.matchers, steps, place, self.lookback_ms, kind)
    }

    /// The leaf of `timestamp(selector)`. With `@` Prometheus 3.5 looks from the pinned moment itself, offset or not,
    /// among the samples it loaded, which are those of the offset.
    pub(super) fn timestamp_leaf(
        &self,
        selector: &VectorSelector,
        steps: Steps,
    ) -> Evaluated<Leaf> {
        let (pinned_ms, offset_ms) = self.place(selector.at, &selector.offset);
        let (offset_ms, range_ms) = if pinned_ms.is_some() {
            let range_ms = self.lookback_ms.saturating_sub(offset_ms.saturating_abs());
            (offset_ms.max(0), range_ms.max(0))
        } else {
            (offset_ms, self.lookback_ms)
        };
        let place = (pinned_ms, offset_ms);
        self.leaf(&selector.matchers, steps, place, range_ms, Kind::Timestamp)
    }

    /// The leaf of a function of a range vector: a selector with a range, or a subquery.
    pub(super) fn range_leaf(&self, expr: &Expr, steps: Steps, kind: Kind) -> Evaluated<Leaf> {
        match expr.unwrap_parens() {
            Expr::Matrix(matrix) => {
                let selector = &matrix.selector;
                let place = self.place(selector.at, &selector.offset);
                let range_ms = matrix.range.millis();
                self.leaf(&selector.matchers, steps, place, range_ms, kind)
            }
            Expr::Subquery(subquery) => self.subquery_leaf(subquery, steps, kind),
            _ => Err(self.internal("expected a range vector")),
        }
    }

    /// The times, in seconds, of the samples that an instant selector of these matchers would find.
    pub(crate) fn sample_times(&self, matchers: &[Matcher], steps: Steps) -> Evaluated<Vector> {
        let leaf = self.leaf(
            matchers,
            steps,
            (None, 0),
            self.lookback_ms,
            Kind::Timestamp,
        )?;
        self.materialize(&leaf)
    }

    fn leaf(
        &self,
        matchers: &[Matcher],
        steps: Steps,
        (pinned_ms, offset_ms): (Option<i64>, i64),
        range_ms: i64,
        kind: Kind,
    ) -> Evaluated<Leaf> {
        let mut leaf = Leaf {
            set: Arc::new(Collected::new(Vec::new(), steps.first())),
            kind,
            steps,
            offset_ms,
            pinned_ms,
            range_ms,
            marked: Vec::new(),
            inside: None,
        };
        if steps.count == 0 {
            return Ok(leaf);
        }
        let selection = Selection {
            matchers: matchers.to_vec(),
            start_ms: (leaf.reference(0) - range_ms).saturating_add(1),
            end_ms: leaf.reference(steps.count - 1),
        };
        leaf.set = self
            .data
            .select(&selection, self.budget.control)
            .map_err(|error| self.read_error(error))?;
        for warning in leaf.set.warnings() {
            self.annotations.plain_warning(warning);
        }
        Ok(leaf)
    }

    /// The moment of `@` and the offset, milliseconds.
    const fn place(&self, at: Option<At>, offset: &DurationValue) -> (Option<i64>, i64) {
        let pinned = match at {
            Some(At::Time(ms)) => Some(ms),
            Some(At::Start) => Some(self.bounds_ms.0),
            Some(At::End) => Some(self.bounds_ms.1),
            None => None,
        };
        (pinned, offset.millis())
    }

    fn subquery_leaf(&self, subquery: &Subquery, steps: Steps, kind: Kind) -> Evaluated<Leaf> {
        let (pinned_ms, offset_ms) = self.place(subquery.at, &subquery.offset);
        let range_ms = subquery.range.millis();
        let step_ms = match subquery.step.millis() {
            0 => self.default_step_ms,
            step_ms => step_ms,
        };
        let mut leaf = Leaf {
            set: Arc::new(Collected::new(Vec::new(), steps.first())),
            kind,
            steps,
            offset_ms,
            pinned_ms,
            range_ms,
            marked: Vec::new(),
            inside: None,
        };
        if steps.count == 0 {
            return Ok(leaf);
        }
        let inner = self.subquery_steps(&leaf, step_ms)?;
        leaf.inside = Some(0);
        if inner.count == 0 {
            return Ok(leaf);
        }
        // What it looks at itself is not counted, only what the windows hold of its result.
        let (vector, looked) = self.apart(|| self.vector(&subquery.expr, inner));
        let mut vector = vector?;
        leaf.inside = Some(looked.total);
        vector.retain(|series| !series.is_empty());
        leaf.marked = vector.iter().map(|series| series.drop_name).collect();
        leaf.set = Arc::new(Collected::new(vector, inner));
        Ok(leaf)
    }

    /// The multiples of the resolution inside the windows of all steps.
    fn subquery_steps(&self, leaf: &Leaf, step_ms: i64) -> Evaluated<Steps> {
        let step_ms = step_ms.max(1);
        let open_ms = leaf.reference(0).saturating_sub(leaf.range_ms);
        let start_ms = open_ms
            .div_euclid(step_ms)
            .saturating_add(1)
            .saturating_mul(step_ms);
        let end_ms = leaf.reference(leaf.steps.count - 1);
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

    /// The samples of a range vector that is a query of its own.
    pub(crate) fn range_vector(&self, expr: &Expr, steps: Steps) -> Evaluated<Vec<MatrixSeries>> {
        let kind = Kind::OverTime {
            function: Function::PresentOverTime,
            params: [None, None],
        };
        let leaf = self.range_leaf(expr, steps, kind)?;
        let end_ms = leaf.reference(0);
        let start_ms = end_ms - leaf.range_ms;
        let mut matrix = Vec::new();
        let mut looked = 0;
        let read = leaf.set.read(
            0..leaf.set.len(),
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
                looked += samples.len() as u64;
                let mut labels = leaf.set.labels(index);
                if leaf.marked.get(index) == Some(&true) {
                    labels = super::series::without_name(&labels);
                }
                matrix.push(MatrixSeries { labels, samples });
                Ok(())
            },
        );
        read.map_err(|error| self.read_error(error))?;
        self.add_looked(&Looked {
            // A subquery that is no argument is counted by what it looks at itself.
            total: leaf.inside.unwrap_or(looked),
            per_step: Vec::new(),
        });
        matrix.sort_unstable_by(|a, b| a.labels.cmp(&b.labels));
        if matrix
            .windows(2)
            .any(|pair| pair[0].labels == pair[1].labels)
        {
            return Err(super::series::same_labelset());
        }
        Ok(matrix)
    }

    /// Refuses more steps than values may be held.
    pub(crate) fn check_steps(&self, steps: Steps) -> Evaluated<()> {
        if steps.count as u64 > self.held_max {
            return Err(self.read_error(ReadError::TooManySamples {
                limit: self.held_max,
            }));
        }
        Ok(())
    }

    /// All series of a leaf that have a value, with their labels.
    pub(super) fn materialize(&self, leaf: &Leaf) -> Evaluated<Vector> {
        self.materialize_where(leaf, |_, _| true)
    }

    /// The series of a leaf with the values that `keep`, given step and value, lets pass; labels are built for series
    /// that keep a value, not for the others.
    pub(super) fn materialize_where(
        &self,
        leaf: &Leaf,
        keep: impl Fn(usize, f64) -> bool + Sync,
    ) -> Evaluated<Vector> {
        let passes = |(step, &value): (usize, &f64)| !is_missing(value) && keep(step, value);
        let parts = self.in_parts(leaf, |range, looked| {
            let mut part: Vec<(usize, Vec<f64>)> = Vec::new();
            leaf.read(range, &self.budget, looked, &mut |index, values| {
                if values.iter().enumerate().any(passes) {
                    self.budget.hold(values.len())?;
                    let kept = values.iter().enumerate();
                    let kept = kept.map(|one| if passes(one) { *one.1 } else { MISSING });
                    part.push((index, kept.collect()));
                }
                Ok(())
            })?;
            // Stores visit in an order of their own; results are steadier in that of the series.
            part.sort_unstable_by_key(|&(index, _)| index);
            Ok(part)
        })?;
        let series = parts.into_iter().flatten().map(|(index, values)| {
            let labels: Labels = leaf.set.labels(index);
            Series::new(labels, values)
        });
        Ok(series.collect())
    }

    /// Reads a leaf in parts, by several threads when there is enough to do. Results are in the order of the parts.
    pub(super) fn in_parts<T: Send>(
        &self,
        leaf: &Leaf,
        read: impl Fn(Range<usize>, &mut Looked) -> PartResult<T> + Sync,
    ) -> Evaluated<Vec<T>> {
        let ranges = self.parts(leaf);
        let run = |range: Range<usize>| {
            let mut looked = Looked::default();
            if self.counts_steps(leaf.steps) {
                looked.per_step.resize(leaf.steps.count, 0);
            }
            let part = read(range, &mut looked)?;
            self.add_looked(&looked);
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

    fn parts(&self, leaf: &Leaf) -> Vec<Range<usize>> {
        let series = leaf.set.len();
        let values = series.saturating_mul(leaf.steps.count + 16);
        let count = (values / VALUES_PER_THREAD).clamp(1, self.threads_max.max(1));
        let size = series.div_ceil(count).max(1);
        (0..count)
            .map(|part| (part * size).min(series)..((part + 1) * size).min(series))
            .collect()
    }

    /// Only the steps of the query itself are counted one by one, not those of subqueries.
    pub(super) fn counts_steps(&self, steps: Steps) -> bool {
        let looked = self.looked.lock();
        let looked = looked.unwrap_or_else(std::sync::PoisonError::into_inner);
        looked.per_step.len() == steps.count && steps.start_ms == self.bounds_ms.0
    }
}
