//! Aggregations that merge the series of a group into one.
//!
//! The store forms the groups from its ids, and values stream from the scan into them. Neither the values nor the labels
//! of single series are kept.

use common::model::{Labels, label::METRIC_NAME};
use tidemark_storage::read::{Grouping, Groups};

use super::budget::Budget;
use super::materialize::PartResult;
use super::range_call::RangeCall;
use super::selector_scan::ScanKind;
use super::series::{MISSING, Series, Steps, Vector, is_missing};
use super::subquery_result::group_labels;
use super::top::nan_wins;
use super::{Evaluated, Evaluator, is_vector};
use crate::functions::kahan::{Kahan, Mean, Variance};
use crate::functions::over_time::quantile::quantile;
use crate::parser::Aggregator;
use crate::parser::ast::{Aggregation, Expr};

/// The operand of an aggregation: a scan to stream, or evaluated series.
pub(super) enum AggregationInput {
    Scan(Box<RangeCall>),
    Vector(Vector),
}

/// The labels of a `by` or `without` clause, as they apply to the input.
pub(super) struct GroupingClause {
    names: Vec<String>,
    without: bool,
}

impl GroupingClause {
    fn new(aggregation: &Aggregation) -> Self {
        let mut names = aggregation.grouping.clone();
        if aggregation.without {
            names.push(METRIC_NAME.to_owned());
        }
        Self {
            names,
            without: aggregation.without,
        }
    }

    /// Ignores labels that the operand drops.
    fn hide(&mut self, hidden: impl Fn(&str) -> bool) {
        if self.without {
            for name in [METRIC_NAME, "__type__", "__unit__"] {
                if hidden(name) {
                    self.names.push(name.to_owned());
                }
            }
        } else {
            self.names.retain(|name| !hidden(name));
        }
    }

    pub(super) fn with<T>(&self, apply: impl FnOnce(Grouping<'_>) -> T) -> T {
        let names: Vec<&str> = self.names.iter().map(String::as_str).collect();
        if self.without {
            apply(Grouping::Without(&names))
        } else {
            apply(Grouping::By(&names))
        }
    }
}

impl Evaluator<'_> {
    pub(super) fn aggregation(&self, aggregation: &Aggregation, steps: Steps) -> Evaluated<Vector> {
        match aggregation.op {
            Aggregator::CountValues => self.count_values(aggregation, steps),
            Aggregator::Topk
            | Aggregator::Bottomk
            | Aggregator::Limitk
            | Aggregator::LimitRatio => self.select_rows(aggregation, steps),
            Aggregator::Quantile => self.quantile(aggregation, steps),
            Aggregator::Sum => self.merge(aggregation, steps, |sum: &mut Kahan| sum.total()),
            Aggregator::Avg => self.merge(aggregation, steps, |mean: &mut Mean| mean.value()),
            Aggregator::Count => self.merge(aggregation, steps, |count: &mut Count| count.0),
            Aggregator::Group => self.merge(aggregation, steps, |_: &mut Count| 1.0),
            Aggregator::Min => self.merge(aggregation, steps, |min: &mut Min| min.0),
            Aggregator::Max => self.merge(aggregation, steps, |max: &mut Max| max.0),
            Aggregator::Stddev => self.merge(aggregation, steps, |variance: &mut Variance| {
                variance.value().sqrt()
            }),
            Aggregator::Stdvar => self.merge(aggregation, steps, |variance: &mut Variance| {
                variance.value()
            }),
        }
    }

    /// Merges the values of each group with an accumulator.
    fn merge<A: Accumulator>(
        &self,
        aggregation: &Aggregation,
        steps: Steps,
        finish: impl Fn(&mut A) -> f64,
    ) -> Evaluated<Vector> {
        let (input, clause) = self.aggregation_input(aggregation, steps)?;
        let run = AggregationRun {
            evaluator: self,
            input: &input,
            clause: &clause,
            steps,
        };
        run.merge(|_, accumulator| finish(accumulator))
    }

    fn quantile(&self, aggregation: &Aggregation, steps: Steps) -> Evaluated<Vector> {
        let Some(param) = &aggregation.param else {
            return Err(self.internal("aggregation without a parameter"));
        };
        let quantiles = self.scalar(param, steps)?;
        let (input, clause) = self.aggregation_input(aggregation, steps)?;
        // After the operand: a warning with the same text replaces the operand's.
        self.annotate_quantiles_of(&quantiles, param);
        let run = AggregationRun {
            evaluator: self,
            input: &input,
            clause: &clause,
            steps,
        };
        run.merge(|step, values: &mut AllValues| quantile(quantiles[step], &mut values.0))
    }

    fn annotate_quantiles_of(&self, quantiles: &[f64], param: &Expr) {
        let span = param.unwrap_parens().span();
        if quantiles.iter().any(|quantile| quantile.is_nan()) {
            self.annotations.invalid_quantile(f64::NAN, span);
        }
        let max = quantiles.iter().copied().fold(f64::MIN, nan_wins(f64::max));
        if max > 1.0 {
            self.annotations.invalid_quantile(max, span);
        }
        let min = quantiles.iter().copied().fold(f64::MAX, nan_wins(f64::min));
        if min < 0.0 {
            self.annotations.invalid_quantile(min, span);
        }
    }

    /// Returns the operand, as a scan where that is possible, and the clause as it applies to it.
    pub(super) fn aggregation_input(
        &self,
        aggregation: &Aggregation,
        steps: Steps,
    ) -> Evaluated<(AggregationInput, GroupingClause)> {
        let mut clause = GroupingClause::new(aggregation);
        let operand = aggregation.expr.unwrap_parens();
        debug_assert!(is_vector(operand), "the parser checks types");
        match operand {
            Expr::Vector(selector) => {
                let scan = self.instant_scan(selector, steps, ScanKind::Newest)?;
                let input = AggregationInput::Scan(Box::new(RangeCall::from_instant(scan)));
                return Ok((input, clause));
            }
            Expr::Call(call) if !self.features.delayed_name_removal => {
                if let Some(call) = self.streamable_call(call, steps)? {
                    clause.hide(|name| call.drops(name));
                    return Ok((AggregationInput::Scan(Box::new(call)), clause));
                }
            }
            _ => {}
        }
        Ok((
            AggregationInput::Vector(self.vector(operand, steps)?),
            clause,
        ))
    }
}

/// One aggregation.
struct AggregationRun<'j> {
    evaluator: &'j Evaluator<'j>,
    input: &'j AggregationInput,
    clause: &'j GroupingClause,
    steps: Steps,
}

impl AggregationRun<'_> {
    fn merge<A: Accumulator>(&self, finish: impl Fn(usize, &mut A) -> f64) -> Evaluated<Vector> {
        // With delayed name removal, a group takes the mark of its first series.
        let mut marks: Vec<bool> = Vec::new();
        let (mut cells, labels) = match self.input {
            AggregationInput::Vector(vector) => {
                let groups = self.clause.with(|grouping| {
                    group_labels(vector.iter().map(|series| &series.labels), grouping)
                });
                let budget = &self.evaluator.budget;
                for (series, &group) in vector.iter().zip(&groups.group_of) {
                    if group as usize == marks.len() {
                        marks.push(series.drop_name);
                    }
                }
                let cells = self.vector_cells(vector, &groups, budget);
                let cells = cells.map_err(|error| self.evaluator.read_error(error))?;
                (cells, groups.labels)
            }
            AggregationInput::Scan(call) => self.scan_cells(call)?,
        };
        let count = self.steps.count;
        let groups = labels.into_iter().enumerate().map(|(group, labels)| {
            let cells = &mut cells[group * count..(group + 1) * count];
            let value = |(step, cell): (usize, &mut Option<A>)| match cell {
                Some(cell) => finish(step, cell),
                None => MISSING,
            };
            Series {
                labels,
                drop_name: marks.get(group).copied().unwrap_or(false),
                values: cells.iter_mut().enumerate().map(value).collect(),
            }
        });
        Ok(groups.filter(|series| !series.is_empty()).collect())
    }

    fn vector_cells<A: Accumulator>(
        &self,
        vector: &[Series],
        groups: &Groups,
        budget: &Budget<'_>,
    ) -> PartResult<Vec<Option<A>>> {
        let mut cells = new_cells(groups.labels.len(), self.steps.count, budget)?;
        for (series, &group) in vector.iter().zip(&groups.group_of) {
            budget.check()?;
            add_all(&mut cells, group as usize, &series.values);
        }
        Ok(cells)
    }

    fn scan_cells<A: Accumulator>(
        &self,
        call: &RangeCall,
    ) -> Evaluated<(Vec<Option<A>>, Vec<Labels>)> {
        let scan = &call.scan;
        let groups = self.clause.with(|grouping| scan.set.group(grouping));
        let checks = call.checks();
        let budget = &self.evaluator.budget;
        let parts = self.evaluator.scan_in_parts(scan, |range, stats| {
            let mut cells: Vec<Option<A>> =
                new_cells(groups.labels.len(), self.steps.count, budget)?;
            let mut state = checks.start();
            scan.read(range, budget, stats, &mut |index, values| {
                state.record(index);
                add_all(&mut cells, groups.group_of[index] as usize, values);
                Ok(())
            })?;
            Ok((cells, state))
        })?;
        let mut parts = parts.into_iter();
        let Some((mut cells, mut state)) = parts.next() else {
            return Ok((Vec::new(), Vec::new()));
        };
        for (part, part_state) in parts {
            state.merge(&part_state);
            for (cell, part) in cells.iter_mut().zip(part) {
                match (cell, part) {
                    (Some(cell), Some(part)) => cell.merge(part),
                    (cell @ None, part) => *cell = part,
                    (Some(_), None) => {}
                }
            }
        }
        checks.report(&state, self.evaluator)?;
        Ok((cells, groups.labels))
    }
}

fn new_cells<A: Accumulator>(
    groups: usize,
    steps: usize,
    budget: &Budget<'_>,
) -> PartResult<Vec<Option<A>>> {
    let count = groups.saturating_mul(steps);
    // The cell of a sum is as large as three values.
    budget.hold(count.saturating_mul(3))?;
    let mut cells = Vec::new();
    cells.resize_with(count, || None);
    Ok(cells)
}

#[inline]
fn add_all<A: Accumulator>(cells: &mut [Option<A>], group: usize, values: &[f64]) {
    let from = group * values.len();
    let cells = cells.get_mut(from..from + values.len()).unwrap_or_default();
    for (cell, &value) in cells.iter_mut().zip(values) {
        if is_missing(value) {
            continue;
        }
        match cell {
            Some(cell) => cell.add(value),
            None => *cell = Some(A::first(value)),
        }
    }
}

/// The state of a group at a step.
trait Accumulator: Send + Sized {
    fn first(value: f64) -> Self;
    fn add(&mut self, value: f64);
    /// Adds the values that another thread read.
    fn merge(&mut self, other: Self);
}

impl Accumulator for Kahan {
    fn first(value: f64) -> Self {
        Self::new(value)
    }

    fn add(&mut self, value: f64) {
        Self::add(self, value);
    }

    fn merge(&mut self, other: Self) {
        Self::add(self, other.sum);
        if other.compensation != 0.0 {
            Self::add(self, other.compensation);
        }
    }
}

impl Accumulator for Mean {
    fn first(value: f64) -> Self {
        Self::new(value)
    }

    fn add(&mut self, value: f64) {
        Self::add(self, value);
    }

    fn merge(&mut self, other: Self) {
        Self::merge(self, &other);
    }
}

impl Accumulator for Variance {
    fn first(value: f64) -> Self {
        Self::new(value)
    }

    fn add(&mut self, value: f64) {
        Self::add(self, value);
    }

    fn merge(&mut self, other: Self) {
        Self::merge(self, &other);
    }
}

struct Count(f64);

impl Accumulator for Count {
    fn first(_: f64) -> Self {
        Self(1.0)
    }

    fn add(&mut self, _: f64) {
        self.0 += 1.0;
    }

    fn merge(&mut self, other: Self) {
        self.0 += other.0;
    }
}

struct Min(f64);

impl Accumulator for Min {
    fn first(value: f64) -> Self {
        Self(value)
    }

    fn add(&mut self, value: f64) {
        if value < self.0 || self.0.is_nan() {
            self.0 = value;
        }
    }

    fn merge(&mut self, other: Self) {
        self.add(other.0);
    }
}

struct Max(f64);

impl Accumulator for Max {
    fn first(value: f64) -> Self {
        Self(value)
    }

    fn add(&mut self, value: f64) {
        if value > self.0 || self.0.is_nan() {
            self.0 = value;
        }
    }

    fn merge(&mut self, other: Self) {
        self.add(other.0);
    }
}

struct AllValues(Vec<f64>);

impl Accumulator for AllValues {
    fn first(value: f64) -> Self {
        Self(vec![value])
    }

    fn add(&mut self, value: f64) {
        self.0.push(value);
    }

    fn merge(&mut self, mut other: Self) {
        self.0.append(&mut other.0);
    }
}
