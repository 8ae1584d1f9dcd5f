//! `info()`: adds the labels of info metrics, such as `target_info`, to series of the same instance and job.

use common::model::label::METRIC_NAME;
use common::model::{Labels, MatchOp, Matcher};
use hashbrown::HashMap;
use rustc_hash::FxBuildHasher;

use crate::error::QueryError;
use crate::eval::Evaluator;
use crate::eval::series::{MISSING, Series, Steps, Vector, is_missing, merge_same_labels};
use crate::parser::ast::{Call, Expr};

/// The labels that an info series shares with the series it is about.
const IDENTIFYING: [&str; 2] = ["instance", "job"];
/// The info metric when none is named.
const TARGET_INFO: &str = "target_info";

pub(crate) fn info(
    evaluator: &Evaluator<'_>,
    call: &Call,
    steps: Steps,
) -> Result<Vector, QueryError> {
    let base = evaluator.argument(call, 0, steps)?;
    let matchers: &[Matcher] = match call.args.get(1) {
        Some(Expr::Vector(selector)) => &selector.matchers,
        _ => &[],
    };
    let names: Vec<Matcher> = matchers
        .iter()
        .filter(|matcher| matcher.name() == METRIC_NAME)
        .cloned()
        .collect();
    let names = if names.is_empty() {
        vec![Matcher::equal(METRIC_NAME, TARGET_INFO)]
    } else {
        names
    };
    let data: Vec<&Matcher> = matchers
        .iter()
        .filter(|matcher| matcher.name() != METRIC_NAME)
        .collect();
    // What is an info series itself is passed on as it is.
    let given = call.args.len() < 2 || matchers.iter().any(|m| m.name() == METRIC_NAME);
    let (own, base): (Vector, Vector) = base.into_iter().partition(|series| {
        let name = series.labels.metric_name().unwrap_or("");
        given && names.iter().all(|matcher| matcher.matches(name))
    });
    let infos = info_series(evaluator, &base, &names, &data, steps)?;
    let Some(infos) = infos else {
        // Without instance and job there is nothing to join on; then the matchers decide alone.
        if matchers.iter().all(Matcher::matches_empty) {
            let mut result = own;
            result.extend(base);
            return merge_same_labels(result, evaluator.features);
        }
        return merge_same_labels(own, evaluator.features);
    };
    let join = Join::new(evaluator, infos, &data, steps);
    join.refuse_conflicts(&base)?;
    let mut result = own;
    for series in &mut result {
        series.drop_name = false;
    }
    for series in base {
        evaluator.check()?;
        join.enrich(&series, &mut result)?;
    }
    merge_same_labels(result, evaluator.features)
}

/// The info series about any of the base series; their values are the times of samples in seconds. `None` when no
/// base series has an identifying label.
fn info_series(
    evaluator: &Evaluator<'_>,
    base: &[Series],
    names: &[Matcher],
    data: &[&Matcher],
    steps: Steps,
) -> Result<Option<Vector>, QueryError> {
    let mut matchers = names.to_vec();
    let mut identified = false;
    for label in IDENTIFYING {
        let mut values: Vec<&str> = base
            .iter()
            .filter_map(|series| series.labels.get(label))
            .collect();
        values.sort_unstable();
        values.dedup();
        if values.is_empty() {
            continue;
        }
        identified = true;
        let escaped: Vec<_> = values.into_iter().map(regex::escape).collect();
        let matcher = Matcher::new(label, MatchOp::Regex, escaped.join("|"));
        matchers.push(matcher.map_err(|error| evaluator.execution(error.to_string()))?);
    }
    if !identified {
        return Ok(None);
    }
    matchers.extend(data.iter().map(|&matcher| matcher.clone()));
    evaluator.sample_times(&matchers, steps).map(Some)
}

/// The metric name and identifying labels of info series with equal ones.
type Key = (String, Labels);

struct Join<'j> {
    evaluator: &'j Evaluator<'j>,
    data: &'j [&'j Matcher],
    steps: Steps,
    infos: Vector,
    /// Info series by key; normally one each, more while a target changes.
    by_key: HashMap<Key, Vec<usize>, FxBuildHasher>,
    names: Vec<String>,
}

impl<'j> Join<'j> {
    fn new(
        evaluator: &'j Evaluator<'j>,
        infos: Vector,
        data: &'j [&'j Matcher],
        steps: Steps,
    ) -> Self {
        let mut by_key: HashMap<Key, Vec<usize>, FxBuildHasher> = HashMap::default();
        let mut names = Vec::new();
        for (index, series) in infos.iter().enumerate() {
            let name = series.labels.metric_name().unwrap_or("").to_owned();
            let key = (name.clone(), identity(&series.labels));
            by_key.entry(key).or_default().push(index);
            names.push(name);
        }
        names.sort_unstable();
        names.dedup();
        Self {
            evaluator,
            data,
            steps,
            infos,
            by_key,
            names,
        }
    }

    /// The newest of some info series at a step.
    fn newest(&self, group: &[usize], step: usize) -> Option<usize> {
        let time = |&index: &usize| self.infos[index].values[step];
        let present = group.iter().filter(|index| !is_missing(time(index)));
        present.max_by(|a, b| time(a).total_cmp(&time(b))).copied()
    }

    /// Two info series of one key with samples of the same time say different things: an error.
    fn refuse_conflicts(&self, base: &[Series]) -> Result<(), QueryError> {
        for group in self.by_key.values().filter(|group| group.len() > 1) {
            for step in 0..self.steps.count {
                if base.iter().all(|series| is_missing(series.values[step])) {
                    continue;
                }
                let Some(newest) = self.newest(group, step) else {
                    continue;
                };
                let time = self.infos[newest].values[step];
                let other = group
                    .iter()
                    .find(|&&index| index != newest && self.infos[index].values[step] == time);
                if let Some(&other) = other {
                    let ms = (time * 1000.0).round() as i64;
                    let (first, second) = (&self.infos[newest].labels, &self.infos[other].labels);
                    return Err(self.evaluator.execution(format!(
                        "found duplicate series for info metric: existing {first} @ {ms}, new {second} @ {ms}"
                    )));
                }
            }
        }
        Ok(())
    }

    /// Adds what becomes of one series: several, when its info series change over time.
    fn enrich(&self, series: &Series, result: &mut Vector) -> Result<(), QueryError> {
        let identity = identity(&series.labels);
        let groups: Vec<&Vec<usize>> = self
            .names
            .iter()
            .filter_map(|name| self.by_key.get(&(name.clone(), identity.clone())))
            .collect();
        // Place in the result by the info series in force, `None` for a series that goes.
        let mut places: HashMap<Vec<usize>, Option<usize>, FxBuildHasher> = HashMap::default();
        for (step, &value) in series.values.iter().enumerate() {
            if is_missing(value) {
                continue;
            }
            let chosen: Vec<usize> = groups
                .iter()
                .filter_map(|group| self.newest(group, step))
                .collect();
            let place = match places.get(&chosen) {
                Some(&place) => place,
                None => {
                    let labels = self.labels(series, &chosen)?;
                    let place = labels.is_some().then_some(result.len());
                    if let Some(labels) = labels {
                        self.evaluator.hold(self.steps.count)?;
                        result.push(Series {
                            labels,
                            // With names that go at the end: info() forgets that this one was to.
                            drop_name: false,
                            values: vec![MISSING; self.steps.count],
                        });
                    }
                    places.insert(chosen, place);
                    place
                }
            };
            if let Some(place) = place {
                result[place].values[step] = value;
            }
        }
        Ok(())
    }

    /// The labels with those of the chosen info series; `None` when a matcher asks for what is not there.
    fn labels(&self, series: &Series, chosen: &[usize]) -> Result<Option<Labels>, QueryError> {
        let mut added: Vec<(&str, &str)> = Vec::new();
        for &index in chosen {
            for (name, value) in &self.infos[index].labels {
                let wanted =
                    self.data.is_empty() || self.data.iter().any(|matcher| matcher.name() == name);
                if name == METRIC_NAME || !wanted {
                    continue;
                }
                if added
                    .iter()
                    .any(|&(other, seen)| other == name && seen != value)
                {
                    let message = format!("conflicting label: {name}");
                    return Err(self.evaluator.execution(message));
                }
                if series.labels.get(name).is_none() {
                    added.push((name, value));
                }
            }
        }
        if added.is_empty() && !self.data.iter().all(|matcher| matcher.matches_empty()) {
            return Ok(None);
        }
        let mut builder = series.labels.to_builder();
        for (name, value) in added {
            builder.set(name, value);
        }
        let labels = builder
            .build()
            .map_err(|error| self.evaluator.execution(error.to_string()))?;
        Ok(Some(labels))
    }
}

fn identity(labels: &Labels) -> Labels {
    labels.filtered(|name| IDENTIFYING.contains(&name))
}
