//! Aggregations that pick series instead of merging them: `topk`, `bottomk`, `limitk`, `limit_ratio`; and
//! `count_values`, which makes series of values.

use std::cmp::Ordering;

use common::model::{Labels, label::METRIC_NAME};
use tidemark_storage::read::Groups;

use super::aggregate::{Clause, Input};
use super::call::RangeCall;
use super::collected::group_labels;
use super::series::{MISSING, Series, Steps, Vector, is_missing, merge_same_labels};
use super::{Evaluated, Evaluator};
use crate::format::{format_float_plain, format_general};
use crate::parser::Aggregator;
use crate::parser::ast::Aggregation;

/// Rows of values with the group of each; labels are made for those that are picked.
struct Rows {
    rows: Vec<Row>,
    group_count: usize,
    source: Option<Box<RangeCall>>,
}

struct Row {
    /// In the leaf's set, or in the vector.
    index: usize,
    group: usize,
    values: Vec<f64>,
    labels: Option<(Labels, bool)>,
}

impl Evaluator<'_> {
    pub(super) fn select_rows(&self, aggregation: &Aggregation, steps: Steps) -> Evaluated<Vector> {
        let Some(param) = &aggregation.param else {
            return Err(self.execution("aggregation without a parameter"));
        };
        let params = self.scalar(param, steps)?;
        let max = params.iter().copied().fold(f64::MIN, nan_wins(f64::max));
        let min = params.iter().copied().fold(f64::MAX, nan_wins(f64::min));
        let (input, clause) = self.aggregation_input(aggregation, steps)?;
        let mut rows = self.rows(input, &clause, steps)?;
        if aggregation.op == Aggregator::LimitRatio {
            if max == 0.0 && min == 0.0 {
                return Ok(Vec::new());
            }
            if max > 1.0 {
                self.annotations
                    .invalid_ratio(max, 1.0, param.unwrap_parens().span());
            }
            if min < -1.0 {
                self.annotations
                    .invalid_ratio(min, -1.0, param.unwrap_parens().span());
            }
        } else if max < 1.0 {
            return Ok(Vec::new());
        }
        if rows.rows.is_empty() {
            return Ok(Vec::new());
        }
        let picked = self.pick(aggregation.op, &params, &rows, steps)?;
        if self.instant && steps.count == 1 {
            return Ok(rows.take_in_order(&picked));
        }
        Ok(rows.take_marked(&picked, steps))
    }

    fn rows(&self, input: Input, clause: &Clause, steps: Steps) -> Evaluated<Rows> {
        let call = match input {
            Input::Vector(vector) => {
                let groups: Groups = clause.with(|grouping| {
                    group_labels(vector.iter().map(|series| &series.labels), grouping)
                });
                let rows = vector.into_iter().enumerate().map(|(index, series)| Row {
                    index,
                    group: groups.group_of[index] as usize,
                    values: series.values,
                    labels: Some((series.labels, series.drop_name)),
                });
                return Ok(Rows {
                    rows: rows.collect(),
                    group_count: groups.labels.len(),
                    source: None,
                });
            }
            Input::Leaf(call) => call,
        };
        let groups = clause.with(|grouping| call.leaf.set.group(grouping));
        let watch = call.watch();
        let parts = self.in_parts(&call.leaf, |range, looked| {
            let mut seen = watch.seen();
            let mut rows = Vec::new();
            call.leaf
                .read(range, &self.budget, looked, &mut |index, values| {
                    seen.note(index);
                    self.budget.hold(steps.count)?;
                    rows.push(Row {
                        index,
                        group: groups.group_of[index] as usize,
                        values: values.to_vec(),
                        labels: None,
                    });
                    Ok(())
                })?;
            rows.sort_unstable_by_key(|row| row.index);
            Ok((rows, seen))
        })?;
        let mut rows = Vec::new();
        let mut all_seen = watch.seen();
        for (part, seen) in parts {
            all_seen.merge(&seen);
            rows.extend(part);
        }
        watch.report(&all_seen, self)?;
        Ok(Rows {
            rows,
            group_count: groups.labels.len(),
            source: Some(call),
        })
    }

    /// For each step the rows that stay, group by group, best first.
    fn pick(
        &self,
        op: Aggregator,
        params: &[f64],
        rows: &Rows,
        steps: Steps,
    ) -> Evaluated<Vec<Vec<u32>>> {
        let mut members: Vec<Vec<u32>> = vec![Vec::new(); rows.group_count];
        for (at, row) in rows.rows.iter().enumerate() {
            members[row.group].push(at as u32);
        }
        let mut picked = Vec::with_capacity(steps.count);
        let mut present = Vec::new();
        for (step, &param) in params.iter().enumerate() {
            self.check()?;
            let mut stay = Vec::new();
            let count = match op {
                Aggregator::LimitRatio if param.is_nan() => {
                    return Err(self.execution("Ratio value NaN is NaN"));
                }
                Aggregator::LimitRatio => None,
                _ => Some(self.integer(param)?),
            };
            for group in &members {
                present.clear();
                present.extend(
                    group
                        .iter()
                        .copied()
                        .filter(|&at| !is_missing(rows.rows[at as usize].values[step])),
                );
                match count {
                    None => {
                        let ratio = param.clamp(-1.0, 1.0);
                        present.retain(|&at| rows.is_sampled(at as usize, ratio));
                    }
                    Some(count) => best(op, rows, step, count, &mut present),
                }
                stay.extend_from_slice(&present);
            }
            picked.push(stay);
        }
        Ok(picked)
    }

    /// The whole part of `k`, at least 0.
    fn integer(&self, param: f64) -> Evaluated<usize> {
        // 2^63: the first float beyond 64 bits.
        if param.is_nan()
            || !(-9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0).contains(&param)
        {
            let value = format_general(param);
            return Err(self.execution(format!("Scalar value {value} overflows int64")));
        }
        Ok(param.max(0.0) as usize)
    }

    pub(super) fn count_values(
        &self,
        aggregation: &Aggregation,
        steps: Steps,
    ) -> Evaluated<Vector> {
        let Some(param) = &aggregation.param else {
            return Err(self.execution("aggregation without a parameter"));
        };
        let text = self.string(param, steps)?;
        let label = match String::from_utf8(text) {
            Ok(label) if !label.is_empty() => label,
            invalid => {
                let text = crate::parser::quote::go_quote_bytes(
                    &invalid.map_or_else(|error| error.into_bytes(), String::into_bytes),
                );
                return Err(self.execution(format!("invalid label name {text}")));
            }
        };
        let vector = self.vector(&aggregation.expr, steps)?;
        let keep = |name: &str| {
            let listed = aggregation.grouping.iter().any(|label| label == name);
            if aggregation.without {
                !listed && name != METRIC_NAME
            } else {
                listed
            }
        };
        let labelled = !aggregation.without
            || (label != METRIC_NAME && !aggregation.grouping.contains(&label));
        let mut counted: hashbrown::HashMap<(Labels, u64), Vec<f64>> = hashbrown::HashMap::new();
        for series in vector {
            self.check()?;
            let group = series.labels.filtered(|name| keep(name) && name != label);
            for (step, &value) in series.values.iter().enumerate() {
                if is_missing(value) {
                    continue;
                }
                // Every NaN prints alike.
                let bits = if value.is_nan() {
                    f64::NAN.to_bits()
                } else {
                    value.to_bits()
                };
                let key = (group.clone(), if labelled { bits } else { 0 });
                let counts = match counted.entry(key) {
                    hashbrown::hash_map::Entry::Occupied(entry) => entry.into_mut(),
                    hashbrown::hash_map::Entry::Vacant(entry) => {
                        self.hold(steps.count)?;
                        entry.insert(vec![MISSING; steps.count])
                    }
                };
                let count = &mut counts[step];
                *count = if is_missing(*count) {
                    1.0
                } else {
                    *count + 1.0
                };
            }
        }
        let series = counted.into_iter().map(|((group, bits), counts)| {
            let mut builder = group.to_builder();
            if labelled {
                builder.set(label.as_str(), format_float_plain(f64::from_bits(bits)));
            }
            let labels = builder
                .build()
                .map_err(|error| self.execution(error.to_string()))?;
            Ok(Series::new(labels, counts))
        });
        let series: Evaluated<Vector> = series.collect();
        merge_same_labels(series?, self.features)
    }
}

/// A fold that ends as NaN once one is met, as Go's `min` and `max` do.
pub(super) fn nan_wins(pick: impl Fn(f64, f64) -> f64) -> impl Fn(f64, f64) -> f64 {
    move |a, b| {
        if a.is_nan() || b.is_nan() {
            f64::NAN
        } else {
            pick(a, b)
        }
    }
}

/// Keeps the `count` best of the rows that have a value: largest or smallest first, NaN last; or the first ones.
fn best(op: Aggregator, rows: &Rows, step: usize, count: usize, present: &mut Vec<u32>) {
    if op == Aggregator::Limitk {
        present.truncate(count);
        return;
    }
    if count == 0 {
        present.clear();
        return;
    }
    let value = |at: u32| rows.rows[at as usize].values[step];
    let order = |a: &u32, b: &u32| {
        let (x, y) = (value(*a), value(*b));
        let by_value = match (x.is_nan(), y.is_nan()) {
            (true, true) => Ordering::Equal,
            (true, false) => Ordering::Greater,
            (false, true) => Ordering::Less,
            (false, false) if op == Aggregator::Topk => {
                y.partial_cmp(&x).unwrap_or(Ordering::Equal)
            }
            (false, false) => x.partial_cmp(&y).unwrap_or(Ordering::Equal),
        };
        by_value.then(a.cmp(b))
    };
    if count < present.len() {
        present.select_nth_unstable_by(count - 1, order);
        present.truncate(count);
    }
    present.sort_unstable_by(order);
}

impl Rows {
    fn labels(&self, at: usize) -> (Labels, bool) {
        let row = &self.rows[at];
        match (&row.labels, &self.source) {
            (Some(labels), _) => labels.clone(),
            (None, Some(call)) => (call.labels(row.index), false),
            (None, None) => (Labels::empty(), false),
        }
    }

    /// Whether a series is in the sample: by the place of its hash among all hashes (Prometheus `HashRatioSampler`).
    fn is_sampled(&self, at: usize, ratio: f64) -> bool {
        let (labels, _) = self.labels(at);
        let place = super::hash::label_hash(&labels) as f64 / u64::MAX as f64;
        if ratio >= 0.0 {
            place < ratio
        } else {
            place >= 1.0 + ratio
        }
    }

    fn take_in_order(&mut self, picked: &[Vec<u32>]) -> Vector {
        let order = picked.first().map(Vec::as_slice).unwrap_or_default();
        let series = order.iter().map(|&at| {
            let at = at as usize;
            let (labels, drop_name) = self.labels(at);
            Series {
                labels,
                drop_name,
                values: self.rows[at].values.clone(),
            }
        });
        series.collect()
    }

    fn take_marked(&mut self, picked: &[Vec<u32>], steps: Steps) -> Vector {
        let mut kept: Vec<Option<Vec<f64>>> = vec![None; self.rows.len()];
        for (step, order) in picked.iter().enumerate() {
            for &at in order {
                let at = at as usize;
                let values = kept[at].get_or_insert_with(|| vec![MISSING; steps.count]);
                values[step] = self.rows[at].values[step];
            }
        }
        let series = kept.into_iter().enumerate().filter_map(|(at, values)| {
            let (labels, drop_name) = self.labels(at);
            Some(Series {
                labels,
                drop_name,
                values: values?,
            })
        });
        series.collect()
    }
}
