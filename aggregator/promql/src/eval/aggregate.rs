//! Aggregations. Groups are formed in the store's id space and values stream into them, so that neither the series
//! nor their labels are ever held.

use common::model::{Labels, label::METRIC_NAME};
use tidemark_storage::read::{Grouping, Groups};

use super::budget::Budget;
use super::call::RangeCall;
use super::collected::group_labels;
use super::kahan::{Kahan, Mean, Variance};
use super::leaf::{Kind, Leaf};
use super::over_time::quantile;
use super::select::PartResult;
use super::series::{MISSING, Series, Steps, Vector, is_missing};
use super::top::nan_wins;
use super::{Evaluated, Evaluator, is_vector};
use crate::parser::Aggregator;
use crate::parser::ast::{Aggregation, Expr};

/// What is aggregated: a leaf to stream, or series at hand.
pub(super) enum Input {
    Leaf(Box<RangeCall>),
    Vector(Vector),
}

/// The labels of a `by` or `without` clause, as they act on the input.
pub(super) struct Clause {
    names: Vec<String>,
    without: bool,
}

impl Clause {
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

    /// Makes labels that the operand drops invisible.
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
            Aggregator::CountValues => return self.count_values(aggregation, steps),
            Aggregator::Topk
            | Aggregator::Bottomk
            | Aggregator::Limitk
            | Aggregator::LimitRatio => return self.select_rows(aggregation, steps),
            _ => {}
        }
        let quantiles = match (&aggregation.param, aggregation.op) {
            (Some(param), Aggregator::Quantile) => self.scalar(param, steps)?,
            _ => Vec::new(),
        };
        let (input, clause) = self.aggregation_input(aggregation, steps)?;
        // Behind the operand, whose own warnings of the same words give way.
        if let Some(param) = aggregation.param.as_ref().filter(|_| !quantiles.is_empty()) {
            self.warn_of_quantiles(&quantiles, param);
        }
        let job = Job {
            evaluator: self,
            input: &input,
            clause: &clause,
            steps,
        };
        match aggregation.op {
            Aggregator::Sum => job.run::<Kahan>(|_, sum| sum.total()),
            Aggregator::Avg => job.run::<Mean>(|_, mean| mean.value()),
            Aggregator::Count => job.run::<Count>(|_, count| count.0),
            Aggregator::Group => job.run::<Count>(|_, _| 1.0),
            Aggregator::Min => job.run::<Min>(|_, min| min.0),
            Aggregator::Max => job.run::<Max>(|_, max| max.0),
            Aggregator::Stddev => job.run::<Variance>(|_, variance| variance.value().sqrt()),
            Aggregator::Stdvar => job.run::<Variance>(|_, variance| variance.value()),
            _ => job.run::<Values>(|step, values| quantile(quantiles[step], &mut values.0)),
        }
    }

    fn warn_of_quantiles(&self, quantiles: &[f64], param: &Expr) {
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

    /// The operand, as a leaf where it is one, and the clause as it acts on it.
    pub(super) fn aggregation_input(
        &self,
        aggregation: &Aggregation,
        steps: Steps,
    ) -> Evaluated<(Input, Clause)> {
        let mut clause = Clause::new(aggregation);
        let operand = aggregation.expr.unwrap_parens();
        debug_assert!(is_vector(operand), "the parser checks types");
        match operand {
            Expr::Vector(selector) => {
                let leaf = self.instant_leaf(selector, steps, Kind::Instant)?;
                let input = Input::Leaf(Box::new(RangeCall::plain(leaf)));
                return Ok((input, clause));
            }
            Expr::Call(call) if !self.features.delayed_name_removal => {
                if let Some(call) = self.streamable_call(call, steps)? {
                    clause.hide(|name| call.drops(name));
                    return Ok((Input::Leaf(Box::new(call)), clause));
                }
            }
            _ => {}
        }
        Ok((Input::Vector(self.vector(operand, steps)?), clause))
    }
}

/// One aggregation under way.
struct Job<'j> {
    evaluator: &'j Evaluator<'j>,
    input: &'j Input,
    clause: &'j Clause,
    steps: Steps,
}

impl Job<'_> {
    fn run<A: Accumulator>(&self, finish: impl Fn(usize, &mut A) -> f64) -> Evaluated<Vector> {
        // With delayed name removal, a group is marked as its first series is.
        let mut marks: Vec<bool> = Vec::new();
        let (mut cells, labels) = match self.input {
            Input::Vector(vector) => {
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
            Input::Leaf(call) => self.leaf_cells(call)?,
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

    fn leaf_cells<A: Accumulator>(
        &self,
        call: &RangeCall,
    ) -> Evaluated<(Vec<Option<A>>, Vec<Labels>)> {
        let leaf: &Leaf = &call.leaf;
        let groups = self.clause.with(|grouping| leaf.set.group(grouping));
        let watch = call.watch();
        let budget = &self.evaluator.budget;
        let parts = self.evaluator.in_parts(leaf, |range, looked| {
            let mut cells: Vec<Option<A>> =
                new_cells(groups.labels.len(), self.steps.count, budget)?;
            let mut seen = watch.seen();
            leaf.read(range, budget, looked, &mut |index, values| {
                seen.note(index);
                add_all(&mut cells, groups.group_of[index] as usize, values);
                Ok(())
            })?;
            Ok((cells, seen))
        })?;
        let mut parts = parts.into_iter();
        let Some((mut cells, mut seen)) = parts.next() else {
            return Ok((Vec::new(), Vec::new()));
        };
        for (part, part_seen) in parts {
            seen.merge(&part_seen);
            for (cell, part) in cells.iter_mut().zip(part) {
                match (cell, part) {
                    (Some(cell), Some(part)) => cell.merge(part),
                    (cell @ None, part) => *cell = part,
                    (Some(_), None) => {}
                }
            }
        }
        watch.report(&seen, self.evaluator)?;
        Ok((cells, groups.labels))
    }
}

fn new_cells<A: Accumulator>(
    groups: usize,
    steps: usize,
    budget: &Budget<'_>,
) -> PartResult<Vec<Option<A>>> {
    let count = groups.saturating_mul(steps);
    // A cell of a sum is as large as three values.
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

/// What an aggregation keeps for a group at a step.
trait Accumulator: Send + Sized {
    fn first(value: f64) -> Self;
    fn add(&mut self, value: f64);
    /// Adds what another thread saw of the group.
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

struct Values(Vec<f64>);

impl Accumulator for Values {
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
