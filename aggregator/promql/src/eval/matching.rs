//! Operators between two vectors: which series belong together, and what becomes of them.

use common::model::{Labels, label::METRIC_NAME};
use hashbrown::HashMap;
use rustc_hash::FxBuildHasher;

use super::binary::apply;
use super::series::{
    MISSING, Series, Steps, Vector, is_missing, merge_same_labels, merge_steps, same_labelset,
};
use super::{Evaluated, Evaluator};
use crate::error::QueryError;
use crate::parser::Operator;
use crate::parser::ast::{Binary, Cardinality, Matching};

/// The labels that decide about a match.
fn signature(labels: &Labels, matching: &Matching) -> Labels {
    let listed = |name: &str| matching.labels.iter().any(|label| label == name);
    if matching.on {
        labels.filtered(listed)
    } else {
        labels.filtered(|name| name != METRIC_NAME && !listed(name))
    }
}

/// A number for each signature that occurs, and the series of both sides that have it.
#[derive(Default)]
struct Signatures {
    numbers: HashMap<Labels, usize, FxBuildHasher>,
}

impl Signatures {
    fn of(&mut self, vector: &[Series], matching: &Matching) -> Vec<usize> {
        let numbers = vector.iter().map(|series| {
            let next = self.numbers.len();
            *self
                .numbers
                .entry(signature(&series.labels, matching))
                .or_insert(next)
        });
        numbers.collect()
    }
}

/// Series by the number of their signature.
fn by_signature(signatures: &[usize], count: usize) -> Vec<Vec<usize>> {
    let mut members = vec![Vec::new(); count];
    for (index, &signature) in signatures.iter().enumerate() {
        members[signature].push(index);
    }
    members
}

/// For each step, whether any series has a value there.
fn presence(vector: &[Series], steps: usize) -> Vec<bool> {
    let mut present = vec![false; steps];
    for series in vector {
        for (present, &value) in present.iter_mut().zip(&series.values) {
            *present |= !is_missing(value);
        }
    }
    present
}

impl Evaluator<'_> {
    pub(super) fn set_operation(
        &self,
        binary: &Binary,
        mut lhs: Vector,
        mut rhs: Vector,
    ) -> Evaluated<Vector> {
        let Some(matching) = &binary.matching else {
            return Err(self.internal("a set operation without matching"));
        };
        let mut signatures = Signatures::default();
        let left = signatures.of(&lhs, matching);
        let right = signatures.of(&rhs, matching);
        let count = signatures.numbers.len();
        let (kept, kept_signatures, other, other_signatures) = match binary.op {
            Operator::Or => (&mut rhs, &right, &lhs, &left),
            _ => (&mut lhs, &left, &rhs, &right),
        };
        let members = by_signature(other_signatures, count);
        for (series, &signature) in kept.iter_mut().zip(kept_signatures) {
            self.check()?;
            for (step, value) in series.values.iter_mut().enumerate() {
                let matched = members[signature]
                    .iter()
                    .any(|&index| !is_missing(other[index].values[step]));
                if matched != (binary.op == Operator::And) {
                    *value = MISSING;
                }
            }
        }
        if binary.op == Operator::Or {
            lhs.append(&mut rhs);
        }
        lhs.retain(|series| !series.is_empty());
        merge_same_labels(lhs, self.features)
    }

    pub(super) fn vector_vector(
        &self,
        binary: &Binary,
        lhs: Vector,
        rhs: Vector,
        steps: Steps,
    ) -> Evaluated<Vector> {
        let Some(matching) = &binary.matching else {
            return Err(self.internal("a vector operation without matching"));
        };
        // The "one" side stands right from here on; values are put back in order when the operator is applied.
        let swapped = matching.card == Cardinality::OneToMany;
        let (many, one) = if swapped { (rhs, lhs) } else { (lhs, rhs) };
        let mut signatures = Signatures::default();
        let many_signatures = signatures.of(&many, matching);
        let one_signatures = signatures.of(&one, matching);
        let count = signatures.numbers.len();
        let join = Join {
            evaluator: self,
            binary,
            matching,
            swapped,
            many: &many,
            one: &one,
            steps: steps.count,
        };
        let many_of = by_signature(&many_signatures, count);
        let one_of = by_signature(&one_signatures, count);
        let mut failure = join.check_one_side(&one_of);
        let mut result = Vec::new();
        for (many, one) in many_of.iter().zip(&one_of) {
            if !many.is_empty() && !one.is_empty() {
                self.check()?;
                failure = earlier(failure, join.group(many, one, &mut result)?);
            }
        }
        result.retain(|series| !series.is_empty());
        let merged = merge_steps(result, self.features);
        if let Err(step) = merged {
            failure = earlier(failure, Some((step, Failure::SameLabels)));
        }
        match (failure, merged) {
            (None, Ok(merged)) => Ok(merged),
            (Some((_, failure)), _) => Err(join.error(failure)),
            (None, Err(_)) => Err(same_labelset()),
        }
    }
}

/// Why vectors cannot be joined. Prometheus goes step by step, so the first step that fails decides; the order here
/// is that within a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Failure {
    /// Two series of the "one" side, by their places, the second of them first.
    OneSide(usize, usize),
    ManyToOne,
    Grouping,
    SameLabels,
}

type Failed = Option<(usize, Failure)>;

fn earlier(a: Failed, b: Failed) -> Failed {
    a.into_iter().chain(b).min()
}

/// One operation between vectors under way.
struct Join<'j> {
    evaluator: &'j Evaluator<'j>,
    binary: &'j Binary,
    matching: &'j Matching,
    swapped: bool,
    many: &'j [Series],
    one: &'j [Series],
    steps: usize,
}

impl Join<'_> {
    /// Two series of the "one" side with one signature at one step are an error, matched or not.
    fn check_one_side(&self, groups: &[Vec<usize>]) -> Failed {
        if groups.iter().all(|group| group.len() < 2) {
            return None;
        }
        let many_present = presence(self.many, self.steps);
        let first_of = |group: &Vec<usize>| {
            let steps = (0..self.steps).filter(|&step| many_present[step]);
            steps.into_iter().find_map(|step| {
                let mut present = group
                    .iter()
                    .filter(|&&index| !is_missing(self.one[index].values[step]));
                let (first, second) = (*present.next()?, *present.next()?);
                Some((step, Failure::OneSide(second, first)))
            })
        };
        let groups = groups.iter().filter(|group| group.len() > 1);
        groups.filter_map(first_of).min()
    }

    fn error(&self, failure: Failure) -> QueryError {
        match failure {
            Failure::OneSide(second, first) => {
                self.duplicate(&self.one[first], &self.one[second])
            }
            Failure::ManyToOne => self.evaluator.execution(
                "multiple matches for labels: many-to-one matching must be explicit (group_left/group_right)",
            ),
            Failure::Grouping => self
                .evaluator
                .execution("multiple matches for labels: grouping labels must ensure unique matches"),
            Failure::SameLabels => same_labelset(),
        }
    }

    fn duplicate(&self, first: &Series, second: &Series) -> QueryError {
        let group = signature(&second.labels, self.matching);
        let side = if self.swapped { "left" } else { "right" };
        self.evaluator.execution(format!(
            "found duplicate series for the match group {group} on the {side} hand-side of the operation: [{}, {}];many-to-many matching not allowed: matching labels must be unique on one side",
            second.labels, first.labels
        ))
    }

    /// Joins the series of one signature.
    fn group(&self, many: &[usize], one: &[usize], result: &mut Vector) -> Evaluated<Failed> {
        // Whether a many-side series was already matched at a step, for one-to-one.
        let mut matched = vec![false; if many.len() > 1 { self.steps } else { 0 }];
        let from = result.len();
        let mut failure = None;
        for &many_index in many {
            let many_series = &self.many[many_index];
            for &one_index in one {
                let one_series = &self.one[one_index];
                let mut values: Option<Vec<f64>> = None;
                for step in 0..self.steps {
                    let Some(value) = self.value(many_series, one_series, step) else {
                        continue;
                    };
                    if self.matching.card == Cardinality::OneToOne
                        && let Some(matched) = matched.get_mut(step)
                        && std::mem::replace(matched, true)
                    {
                        failure = earlier(failure, Some((step, Failure::ManyToOne)));
                    }
                    let values = values.get_or_insert_with(|| vec![MISSING; self.steps]);
                    values[step] = value;
                }
                if let Some(values) = values {
                    self.evaluator.hold(self.steps)?;
                    result.push(Series {
                        labels: self.labels(many_series, one_series),
                        drop_name: self.drops_name_later(),
                        values,
                    });
                }
            }
        }
        Ok(earlier(failure, self.check_unique(&result[from..])))
    }

    fn value(&self, many: &Series, one: &Series, step: usize) -> Option<f64> {
        let (many, one) = (many.values[step], one.values[step]);
        if is_missing(many) || is_missing(one) {
            return None;
        }
        let (lhs, rhs) = if self.swapped {
            (one, many)
        } else {
            (many, one)
        };
        let (value, keep) = apply(self.binary.op, lhs, rhs);
        if self.binary.return_bool {
            return Some(f64::from(u8::from(keep)));
        }
        keep.then_some(value)
    }

    /// In many-to-one matching the labels of the result must tell the series apart.
    fn check_unique(&self, group: &[Series]) -> Failed {
        if self.matching.card == Cardinality::OneToOne || group.len() < 2 {
            return None;
        }
        let mut seen: HashMap<&Labels, Vec<usize>, FxBuildHasher> = HashMap::default();
        for (index, series) in group.iter().enumerate() {
            seen.entry(&series.labels).or_default().push(index);
        }
        let groups = seen.values().filter(|same| same.len() > 1);
        let meet = |same: &Vec<usize>| {
            (0..self.steps).find(|&step| {
                let present = same
                    .iter()
                    .filter(|&&index| !is_missing(group[index].values[step]));
                present.count() > 1
            })
        };
        let first = groups.filter_map(meet).min();
        first.map(|step| (step, Failure::Grouping))
    }

    const fn drops_name(&self) -> bool {
        !self.binary.op.is_comparison() || self.binary.return_bool
    }

    const fn drops_name_later(&self) -> bool {
        self.evaluator.features.delayed_name_removal && self.binary.return_bool
    }

    /// The labels of the result (Prometheus `resultMetric`).
    fn labels(&self, many: &Series, one: &Series) -> Labels {
        let matching = self.matching;
        let listed = |name: &str| matching.labels.iter().any(|label| label == name);
        let dropped = |name: &str| {
            let keeps_now = !self.drops_name() || self.drops_name_later();
            !keeps_now && super::series::is_metadata_label(name)
        };
        let kept = many.labels.filtered(|name| {
            let by_matching = match matching.card {
                Cardinality::OneToOne => matching.on == listed(name),
                _ => true,
            };
            by_matching && !dropped(name)
        });
        if matching.include.is_empty() {
            return kept;
        }
        // What `bool` drops it drops behind the labels that came from the other side, arithmetic before them.
        let drops_last = self.binary.return_bool && !self.drops_name_later();
        let mut builder = kept.to_builder();
        for name in &matching.include {
            if drops_last && super::series::is_metadata_label(name) {
                continue;
            }
            match one.labels.get(name) {
                Some(value) => builder.set(name.as_str(), value),
                None => builder.remove(name),
            }
        }
        // Names come from valid sets or the parser, each once: there is nothing to refuse.
        builder.build().unwrap_or(kept)
    }
}
