//! Operators between two vectors: set operators, and one-to-one and many-to-one matching.

use common::model::{Labels, label::METRIC_NAME};
use hashbrown::HashMap;
use rustc_hash::FxBuildHasher;

use super::binary::apply;
use super::series::{
    MISSING, Series, Steps, Vector, is_metadata_label, is_missing, merge_same_labels, merge_steps,
    same_labelset,
};
use super::{Evaluated, Evaluator};
use crate::error::QueryError;
use crate::parser::Operator;
use crate::parser::ast::{Binary, Cardinality, Matching};

/// Returns the labels that decide about a match.
fn match_group(labels: &Labels, matching: &Matching) -> Labels {
    let listed = |name: &str| matching.labels.iter().any(|label| label == name);
    if matching.on {
        labels.filtered(listed)
    } else {
        labels.filtered(|name| name != METRIC_NAME && !listed(name))
    }
}

/// Numbers the match groups of both sides.
#[derive(Default)]
struct MatchGroups {
    numbers: HashMap<Labels, usize, FxBuildHasher>,
}

impl MatchGroups {
    /// Returns the number of each series' match group.
    fn number(&mut self, vector: &[Series], matching: &Matching) -> Vec<usize> {
        let numbers = vector.iter().map(|series| {
            let next = self.numbers.len();
            *self
                .numbers
                .entry(match_group(&series.labels, matching))
                .or_insert(next)
        });
        numbers.collect()
    }
}

/// Returns the series of each match group.
fn members(group_of: &[usize], count: usize) -> Vec<Vec<usize>> {
    let mut members = vec![Vec::new(); count];
    for (index, &group) in group_of.iter().enumerate() {
        members[group].push(index);
    }
    members
}

/// Returns for each step whether any series has a value.
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
        let mut groups = MatchGroups::default();
        let left = groups.number(&lhs, matching);
        let right = groups.number(&rhs, matching);
        let count = groups.numbers.len();
        let (kept, kept_groups, other, other_groups) = if binary.op == Operator::Or {
            (&mut rhs, &right, &lhs, &left)
        } else {
            (&mut lhs, &left, &rhs, &right)
        };
        let members = members(other_groups, count);
        for (series, &group) in kept.iter_mut().zip(kept_groups) {
            self.check()?;
            for (step, value) in series.values.iter_mut().enumerate() {
                let matched = members[group]
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
        // The "one" side is on the right from here on; `value` swaps the operands back.
        let swapped = matching.card == Cardinality::OneToMany;
        let (many, one) = if swapped { (rhs, lhs) } else { (lhs, rhs) };
        let mut groups = MatchGroups::default();
        let many_groups = groups.number(&many, matching);
        let one_groups = groups.number(&one, matching);
        let count = groups.numbers.len();
        let join = VectorJoin {
            evaluator: self,
            binary,
            matching,
            swapped,
            many: &many,
            one: &one,
            steps: steps.count,
        };
        let many_of = members(&many_groups, count);
        let one_of = members(&one_groups, count);
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
            failure = earlier(failure, Some((step, JoinFailure::SameLabels)));
        }
        match (failure, merged) {
            (None, Ok(merged)) => Ok(merged),
            (Some((_, failure)), _) => Err(join.error(failure)),
            (None, Err(_)) => Err(same_labelset()),
        }
    }
}

/// Why vectors cannot be joined. Prometheus evaluates step by step, so the first step that fails decides; the order of
/// the variants is that within a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum JoinFailure {
    /// Two series of the "one" side have a match group; their indices, the second one first.
    OneSide(usize, usize),
    ManyToOne,
    Grouping,
    SameLabels,
}

/// The first step that fails, and why.
type FirstFailure = Option<(usize, JoinFailure)>;

fn earlier(a: FirstFailure, b: FirstFailure) -> FirstFailure {
    a.into_iter().chain(b).min()
}

/// One operation between two vectors.
struct VectorJoin<'j> {
    evaluator: &'j Evaluator<'j>,
    binary: &'j Binary,
    matching: &'j Matching,
    swapped: bool,
    many: &'j [Series],
    one: &'j [Series],
    steps: usize,
}

impl VectorJoin<'_> {
    /// Fails when two series of the "one" side have a match group and a value at one step, matched or not.
    fn check_one_side(&self, groups: &[Vec<usize>]) -> FirstFailure {
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
                Some((step, JoinFailure::OneSide(second, first)))
            })
        };
        let groups = groups.iter().filter(|group| group.len() > 1);
        groups.filter_map(first_of).min()
    }

    fn error(&self, failure: JoinFailure) -> QueryError {
        match failure {
            JoinFailure::OneSide(second, first) => {
                self.duplicate(&self.one[first], &self.one[second])
            }
            JoinFailure::ManyToOne => self.evaluator.execution(
                "multiple matches for labels: many-to-one matching must be explicit (group_left/group_right)",
            ),
            JoinFailure::Grouping => self
                .evaluator
                .execution("multiple matches for labels: grouping labels must ensure unique matches"),
            JoinFailure::SameLabels => same_labelset(),
        }
    }

    fn duplicate(&self, first: &Series, second: &Series) -> QueryError {
        let group = match_group(&second.labels, self.matching);
        let side = if self.swapped { "left" } else { "right" };
        self.evaluator.execution(format!(
            "found duplicate series for the match group {group} on the {side} hand-side of the operation: [{}, {}];many-to-many matching not allowed: matching labels must be unique on one side",
            second.labels, first.labels
        ))
    }

    /// Joins the series of one match group.
    ///
    /// A filter that removes a pair does not excuse it from being unique: the data decides about that, not the values. So
    /// Prometheus since 3.9 (pull request 17668); 3.5 checks what passed the filter.
    fn group(&self, many: &[usize], one: &[usize], result: &mut Vector) -> Evaluated<FirstFailure> {
        let mut failure = None;
        // Whether a pair met at each step: for one-to-one matching any, else one with the same resulting labels.
        let mut met = vec![false; if many.len() > 1 { self.steps } else { 0 }];
        let mut seen_labels: HashMap<Labels, Vec<bool>, FxBuildHasher> = HashMap::default();
        let checks_labels = self.matching.card != Cardinality::OneToOne && many.len() > 1;
        for &many_index in many {
            let many_series = &self.many[many_index];
            for &one_index in one {
                let one_series = &self.one[one_index];
                let met = if checks_labels {
                    let labels = self.labels(many_series, one_series);
                    let new = || vec![false; self.steps];
                    seen_labels.entry(labels).or_insert_with(new)
                } else {
                    &mut met
                };
                let mut values: Option<Vec<f64>> = None;
                for step in 0..self.steps {
                    let Some((value, keep)) = self.value(many_series, one_series, step) else {
                        continue;
                    };
                    if let Some(met) = met.get_mut(step)
                        && std::mem::replace(met, true)
                    {
                        failure = earlier(failure, Some((step, self.not_unique())));
                    }
                    if keep {
                        values.get_or_insert_with(|| vec![MISSING; self.steps])[step] = value;
                    }
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
        Ok(failure)
    }

    const fn not_unique(&self) -> JoinFailure {
        match self.matching.card {
            Cardinality::OneToOne => JoinFailure::ManyToOne,
            Cardinality::ManyToOne | Cardinality::OneToMany | Cardinality::ManyToMany => {
                JoinFailure::Grouping
            }
        }
    }

    /// Returns the result of a pair, and whether a filter lets it pass; `None` when a side has no value.
    fn value(&self, many: &Series, one: &Series, step: usize) -> Option<(f64, bool)> {
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
            return Some((f64::from(u8::from(keep)), true));
        }
        Some((value, keep))
    }

    const fn drops_name(&self) -> bool {
        !self.binary.op.is_comparison() || self.binary.return_bool
    }

    const fn drops_name_later(&self) -> bool {
        self.evaluator.features.delayed_name_removal && self.binary.return_bool
    }

    /// Returns the labels of the result (Prometheus `resultMetric`).
    fn labels(&self, many: &Series, one: &Series) -> Labels {
        let matching = self.matching;
        let listed = |name: &str| matching.labels.iter().any(|label| label == name);
        let dropped = |name: &str| {
            let keeps_now = !self.drops_name() || self.drops_name_later();
            !keeps_now && is_metadata_label(name)
        };
        let kept = many.labels.filtered(|name| {
            let by_matching = match matching.card {
                Cardinality::OneToOne => matching.on == listed(name),
                Cardinality::ManyToOne | Cardinality::OneToMany | Cardinality::ManyToMany => true,
            };
            by_matching && !dropped(name)
        });
        if matching.include.is_empty() {
            return kept;
        }
        // `bool` drops the name after the labels of the other side are added, arithmetic before.
        let drops_last = self.binary.return_bool && !self.drops_name_later();
        let mut builder = kept.to_builder();
        for name in &matching.include {
            if drops_last && is_metadata_label(name) {
                continue;
            }
            match one.labels.get(name) {
                Some(value) => builder.set(name.as_str(), value),
                None => builder.remove(name),
            }
        }
        // The names come from valid labels or from the parser, so that this cannot fail.
        builder.build().unwrap_or(kept)
    }
}
