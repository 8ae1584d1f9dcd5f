//! Aggregations that select series instead of merging them: `topk`, `bottomk`, `limitk` and `limit_ratio`.

use std::cmp::Ordering;

use common::model::Labels;
use tidemark_storage::read::Groups;

use super::aggregate::{AggregationInput, GroupingClause};
use super::range_call::RangeCall;
use super::series::{MISSING, Series, Steps, Vector, is_missing};
use super::subquery_result::group_labels;
use super::{Evaluated, Evaluator};
use crate::error::Span;
use crate::format::format_general;
use crate::parser::Aggregator;
use crate::parser::ast::Aggregation;

/// The candidates of a selection. Labels are built only for those that are selected.
struct Candidates {
    rows: Vec<CandidateRow>,
    group_count: usize,
    /// The scan that they come from; `None` when they were evaluated with their labels.
    source: Option<Box<RangeCall>>,
}

struct CandidateRow {
    /// In the set of the scan, or in the vector.
    index: usize,
    group: usize,
    values: Vec<f64>,
    /// Labels, and whether the name is dropped at the end of the query.
    labels: Option<(Labels, bool)>,
}

impl Evaluator<'_> {
    pub(super) fn select_rows(&self, aggregation: &Aggregation, steps: Steps) -> Evaluated<Vector> {
        let Some(param) = &aggregation.param else {
            return Err(self.internal("aggregation without a parameter"));
        };
        let op = aggregation.op;
        let params = self.scalar(param, steps)?;
        let (input, clause) = self.aggregation_input(aggregation, steps)?;
        let mut candidates = self.candidates(input, &clause, steps)?;
        if self.selects_nothing(op, &params, param.unwrap_parens().span()) {
            return Ok(Vec::new());
        }
        // Prometheus since 3.9 refuses a parameter that is NaN even when there is nothing to select from; 3.5 does not.
        if params.iter().all(|param| param.is_nan()) {
            self.limit(op, f64::NAN)?;
        }
        let selected = self.select(op, &params, &candidates, steps)?;
        if self.instant && steps.count == 1 {
            return Ok(candidates.take_in_order(&selected));
        }
        Ok(candidates.take_by_step(&selected, steps))
    }

    /// Returns whether the parameters select nothing at any step, and annotates ratios that are out of range.
    fn selects_nothing(&self, op: Aggregator, params: &[f64], span: Span) -> bool {
        let max = params.iter().copied().fold(f64::MIN, nan_wins(f64::max));
        let min = params.iter().copied().fold(f64::MAX, nan_wins(f64::min));
        if op != Aggregator::LimitRatio {
            return max < 1.0;
        }
        if max == 0.0 && min == 0.0 {
            return true;
        }
        if max > 1.0 {
            self.annotations.invalid_ratio(max, 1.0, span);
        }
        if min < -1.0 {
            self.annotations.invalid_ratio(min, -1.0, span);
        }
        false
    }

    fn candidates(
        &self,
        input: AggregationInput,
        clause: &GroupingClause,
        steps: Steps,
    ) -> Evaluated<Candidates> {
        match input {
            AggregationInput::Vector(vector) => Ok(Candidates::from_vector(vector, clause)),
            AggregationInput::Scan(call) => self.candidates_of_scan(call, clause, steps),
        }
    }

    fn candidates_of_scan(
        &self,
        call: Box<RangeCall>,
        clause: &GroupingClause,
        steps: Steps,
    ) -> Evaluated<Candidates> {
        let groups = clause.with(|grouping| call.scan.set.group(grouping));
        let checks = call.checks();
        let parts = self.scan_in_parts(&call.scan, |range, stats| {
            let mut state = checks.start();
            let mut rows = Vec::new();
            call.scan
                .read(range, &self.budget, stats, &mut |index, values| {
                    state.record(index);
                    self.budget.hold(steps.count)?;
                    rows.push(CandidateRow {
                        index,
                        group: groups.group_of[index] as usize,
                        values: values.to_vec(),
                        labels: None,
                    });
                    Ok(())
                })?;
            rows.sort_unstable_by_key(|row| row.index);
            Ok((rows, state))
        })?;
        let mut rows = Vec::new();
        let mut state = checks.start();
        for (part, part_state) in parts {
            state.merge(&part_state);
            rows.extend(part);
        }
        checks.report(&state, self)?;
        Ok(Candidates {
            rows,
            group_count: groups.labels.len(),
            source: Some(call),
        })
    }

    /// Returns the rows selected at each step, group by group, best first.
    fn select(
        &self,
        op: Aggregator,
        params: &[f64],
        candidates: &Candidates,
        steps: Steps,
    ) -> Evaluated<Vec<Vec<u32>>> {
        let mut members: Vec<Vec<u32>> = vec![Vec::new(); candidates.group_count];
        for (at, row) in candidates.rows.iter().enumerate() {
            members[row.group].push(at as u32);
        }
        let mut selected = Vec::with_capacity(steps.count);
        let mut present = Vec::new();
        for (step, &param) in params.iter().enumerate() {
            self.check()?;
            let mut stay = Vec::new();
            for group in &members {
                present.clear();
                let values = |at: u32| &candidates.rows[at as usize].values;
                let has_value = |&at: &u32| !is_missing(values(at)[step]);
                present.extend(group.iter().copied().filter(has_value));
                // A parameter matters only where there is something to select from.
                if present.is_empty() {
                    continue;
                }
                match self.limit(op, param)? {
                    Limit::Ratio(ratio) => {
                        present.retain(|&at| candidates.is_sampled(at as usize, ratio));
                    }
                    Limit::First(count) => present.truncate(count),
                    Limit::Best(count, direction) => {
                        best(candidates, step, count, direction, &mut present);
                    }
                }
                stay.extend_from_slice(&present);
            }
            selected.push(stay);
        }
        Ok(selected)
    }

    /// Converts the parameter of one step.
    fn limit(&self, op: Aggregator, param: f64) -> Evaluated<Limit> {
        match op {
            Aggregator::LimitRatio if param.is_nan() => {
                Err(self.execution("Ratio value NaN is NaN"))
            }
            Aggregator::LimitRatio => Ok(Limit::Ratio(param.clamp(-1.0, 1.0))),
            Aggregator::Limitk => Ok(Limit::First(self.integer(param)?)),
            Aggregator::Topk => Ok(Limit::Best(self.integer(param)?, Direction::Largest)),
            Aggregator::Bottomk => Ok(Limit::Best(self.integer(param)?, Direction::Smallest)),
            Aggregator::Sum
            | Aggregator::Avg
            | Aggregator::Count
            | Aggregator::Min
            | Aggregator::Max
            | Aggregator::Group
            | Aggregator::Stddev
            | Aggregator::Stdvar
            | Aggregator::CountValues
            | Aggregator::Quantile => Err(self.internal("an aggregation that selects no series")),
        }
    }

    /// Returns the whole part of `k`, at least 0.
    fn integer(&self, param: f64) -> Evaluated<usize> {
        // The upper bound, 2^63, is the first float that `int64` cannot hold.
        let fits = (-9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0).contains(&param);
        if !fits {
            let value = format_general(param);
            return Err(self.execution(format!("Scalar value {value} overflows int64")));
        }
        Ok(param.max(0.0) as usize)
    }
}

/// What a parameter selects from a group.
#[derive(Debug, Clone, Copy)]
enum Limit {
    /// A sample of the series, between -1 and 1.
    Ratio(f64),
    /// Any so many.
    First(usize),
    /// The so many best.
    Best(usize, Direction),
}

/// Which values are best.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    Largest,
    Smallest,
}

/// Returns a fold whose result is NaN once a value is NaN, like Go's `min` and `max`.
pub(super) fn nan_wins(pick: impl Fn(f64, f64) -> f64) -> impl Fn(f64, f64) -> f64 {
    move |a, b| {
        if a.is_nan() || b.is_nan() {
            f64::NAN
        } else {
            pick(a, b)
        }
    }
}

/// Keeps the `count` best of the rows, best first; NaN is worst in either direction.
fn best(
    candidates: &Candidates,
    step: usize,
    count: usize,
    direction: Direction,
    present: &mut Vec<u32>,
) {
    if count == 0 {
        present.clear();
        return;
    }
    let value = |at: u32| candidates.rows[at as usize].values[step];
    let order = |a: &u32, b: &u32| {
        let (x, y) = (value(*a), value(*b));
        let by_value = match (x.is_nan(), y.is_nan()) {
            (false, false) if direction == Direction::Largest => y.partial_cmp(&x),
            (false, false) => x.partial_cmp(&y),
            (x_is_nan, y_is_nan) => Some(x_is_nan.cmp(&y_is_nan)),
        };
        by_value.unwrap_or(Ordering::Equal).then(a.cmp(b))
    };
    if count < present.len() {
        present.select_nth_unstable_by(count - 1, order);
        present.truncate(count);
    }
    present.sort_unstable_by(order);
}

impl Candidates {
    fn from_vector(vector: Vector, clause: &GroupingClause) -> Self {
        let groups: Groups = clause
            .with(|grouping| group_labels(vector.iter().map(|series| &series.labels), grouping));
        let rows = vector
            .into_iter()
            .enumerate()
            .map(|(index, series)| CandidateRow {
                index,
                group: groups.group_of[index] as usize,
                values: series.values,
                labels: Some((series.labels, series.drop_name)),
            });
        Self {
            rows: rows.collect(),
            group_count: groups.labels.len(),
            source: None,
        }
    }

    /// Returns the labels of a row, and whether the name is dropped at the end of the query.
    fn labels(&self, at: usize) -> (Labels, bool) {
        let row = &self.rows[at];
        match (&row.labels, &self.source) {
            (Some(labels), _) => labels.clone(),
            (None, Some(call)) => (call.labels(row.index), false),
            (None, None) => (Labels::empty(), false),
        }
    }

    /// Returns whether a series is in the sample, which its hash decides (Prometheus `HashRatioSampler`).
    fn is_sampled(&self, at: usize, ratio: f64) -> bool {
        let (labels, _) = self.labels(at);
        let hash_ratio = super::hash::label_hash(&labels) as f64 / u64::MAX as f64;
        if ratio >= 0.0 {
            hash_ratio < ratio
        } else {
            hash_ratio >= 1.0 + ratio
        }
    }

    /// Returns the series selected at the only step, in the order of the selection.
    fn take_in_order(&mut self, selected: &[Vec<u32>]) -> Vector {
        let order = selected.first().map(Vec::as_slice).unwrap_or_default();
        let series = order.iter().map(|&at| {
            let at = at as usize;
            let (labels, drop_name) = self.labels(at);
            Series {
                labels,
                drop_name,
                values: std::mem::take(&mut self.rows[at].values),
            }
        });
        series.collect()
    }

    /// Returns the series that are selected at any step, each with its values at those steps.
    fn take_by_step(&mut self, selected: &[Vec<u32>], steps: Steps) -> Vector {
        let mut kept: Vec<Option<Vec<f64>>> = vec![None; self.rows.len()];
        for (step, order) in selected.iter().enumerate() {
            for &at in order {
                let at = at as usize;
                let values = kept[at].get_or_insert_with(|| vec![MISSING; steps.count]);
                values[step] = self.rows[at].values[step];
            }
        }
        let series = kept.into_iter().enumerate().filter_map(|(at, values)| {
            let values = values?;
            let (labels, drop_name) = self.labels(at);
            Some(Series {
                labels,
                drop_name,
                values,
            })
        });
        series.collect()
    }
}
