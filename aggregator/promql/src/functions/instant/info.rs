//! `info()`: adds the labels of info metrics, such as `target_info`, to series of the same instance and job.

use common::model::label::METRIC_NAME;
use common::model::{Labels, MatchOp, Matcher};
use hashbrown::HashMap;
use rustc_hash::FxBuildHasher;

use crate::eval::series::{MISSING, Series, Steps, Vector, is_missing, merge_same_labels};
use crate::eval::{Evaluated, Evaluator};
use crate::parser::ast::{Call, Expr};

/// Labels that an info series shares with the series it describes.
const IDENTIFYING: [&str; 2] = ["instance", "job"];
/// The info metric when the selector names none.
const TARGET_INFO: &str = "target_info";

pub(crate) fn info(evaluator: &Evaluator<'_>, call: &Call, steps: Steps) -> Evaluated<Vector> {
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
    // Info series themselves are returned unchanged.
    let given = call.args.len() < 2 || matchers.iter().any(|m| m.name() == METRIC_NAME);
    let (own, base): (Vector, Vector) = base.into_iter().partition(|series| {
        let name = series.labels.metric_name().unwrap_or("");
        given && names.iter().all(|matcher| matcher.matches(name))
    });
    let infos = info_series(evaluator, &base, &names, &data, steps)?;
    let Some(infos) = infos else {
        // Without instance and job there is nothing to join on: only the matchers decide.
        if matchers.iter().all(Matcher::matches_empty) {
            let mut result = own;
            result.extend(base);
            return merge_same_labels(result, evaluator.features);
        }
        return merge_same_labels(own, evaluator.features);
    };
    let join = InfoJoin::new(evaluator, infos, &data, steps);
    join.refuse_conflicts(&base)?;
    let mut result = own;
    for series in base {
        evaluator.check()?;
        join.enrich(&series, &mut result)?;
    }
    merge_same_labels(result, evaluator.features)
}

/// Returns the info series of any of the base series; their values are the times of their samples in seconds. Returns
/// `None` when no base series has an identifying label.
fn info_series(
    evaluator: &Evaluator<'_>,
    base: &[Series],
    names: &[Matcher],
    data: &[&Matcher],
    steps: Steps,
) -> Evaluated<Option<Vector>> {
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

/// What info series of one target share: metric name and identifying labels.
type InfoKey = (String, Labels);

struct InfoJoin<'j> {
    evaluator: &'j Evaluator<'j>,
    data: &'j [&'j Matcher],
    steps: Steps,
    infos: Vector,
    /// Info series by key; normally one each, several while a target changes.
    by_key: HashMap<InfoKey, Vec<usize>, FxBuildHasher>,
    names: Vec<String>,
}

impl<'j> InfoJoin<'j> {
    fn new(
        evaluator: &'j Evaluator<'j>,
        infos: Vector,
        data: &'j [&'j Matcher],
        steps: Steps,
    ) -> Self {
        let mut by_key: HashMap<InfoKey, Vec<usize>, FxBuildHasher> = HashMap::default();
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

    /// Returns the newest of some info series at a step.
    fn newest(&self, group: &[usize], step: usize) -> Option<usize> {
        let time = |&index: &usize| self.infos[index].values[step];
        let present = group.iter().filter(|index| !is_missing(time(index)));
        present.max_by(|a, b| time(a).total_cmp(&time(b))).copied()
    }

    /// Fails when two info series of one key have samples of the same time: they would contradict each other.
    fn refuse_conflicts(&self, base: &[Series]) -> Evaluated<()> {
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

    /// Adds the series with its info labels to the result; as several series when the info series change over time.
    fn enrich(&self, series: &Series, result: &mut Vector) -> Evaluated<()> {
        let identity = identity(&series.labels);
        let groups: Vec<&Vec<usize>> = self
            .names
            .iter()
            .filter_map(|name| self.by_key.get(&(name.clone(), identity.clone())))
            .collect();
        // Index in the result by the current info series; `None` when the series is dropped.
        let mut indices: HashMap<Vec<usize>, Option<usize>, FxBuildHasher> = HashMap::default();
        for (step, &value) in series.values.iter().enumerate() {
            if is_missing(value) {
                continue;
            }
            let chosen: Vec<usize> = groups
                .iter()
                .filter_map(|group| self.newest(group, step))
                .collect();
            let index = match indices.get(&chosen) {
                Some(&index) => index,
                None => {
                    let labels = self.labels(series, &chosen)?;
                    let index = labels.is_some().then_some(result.len());
                    if let Some(labels) = labels {
                        self.evaluator.hold(self.steps.count)?;
                        result.push(Series {
                            labels,
                            drop_name: series.drop_name,
                            values: vec![MISSING; self.steps.count],
                        });
                    }
                    indices.insert(chosen, index);
                    index
                }
            };
            if let Some(index) = index {
                result[index].values[step] = value;
            }
        }
        Ok(())
    }

    /// Returns the labels with those of the chosen info series; `None` when a matcher requires a label that they lack.
    fn labels(&self, series: &Series, chosen: &[usize]) -> Evaluated<Option<Labels>> {
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
