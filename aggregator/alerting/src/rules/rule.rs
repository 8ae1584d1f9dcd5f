//! One rule at work.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use common::model::label::METRIC_NAME;
use common::model::{Labels, STALE_NAN};
use tracing::warn;

use super::alert::{Alert, AlertState, Alerts, Element, Timing, Transitions};
use super::file::{RuleKind, RuleSpec};
use super::group::{Context, Outgoing};
use super::persist;
use super::source::{RuleSample, VectorElement};
use crate::store::Durability;
use crate::template::Env;
use crate::template::rule::{Text, data};

/// The label with an alert's name.
pub const ALERT_NAME: &str = "alertname";

/// What the last evaluation came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Health {
    /// There was none.
    #[default]
    Unknown,
    /// It succeeded.
    Ok,
    /// It failed.
    Err,
}

impl Health {
    /// The word that the API uses.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Ok => "ok",
            Self::Err => "err",
        }
    }
}

/// What changes from evaluation to evaluation.
#[derive(Debug, Default)]
pub struct RuleState {
    /// The alerts of an alerting rule.
    pub alerts: Alerts,
    /// What the last evaluation came to.
    pub health: Health,
    /// Why it failed.
    pub last_error: Option<String>,
    /// When it was, milliseconds since the epoch.
    pub last_evaluation_ms: Option<i64>,
    /// How long it took.
    pub evaluation_time: Duration,
    /// The series that the last successful evaluation wrote.
    pub(super) written: Vec<Labels>,
    /// Labels of elements and what the rule made of them, in the order of the last result.
    pub(super) relabelled: Vec<(Labels, Labels)>,
}

/// A rule and its state.
#[derive(Debug)]
pub struct Rule {
    /// As written.
    pub spec: RuleSpec,
    /// Identifies the rule across restarts and reloads: file, group, name, labels.
    pub(super) key: String,
    labels: Vec<(String, Text)>,
    annotations: Vec<(String, Text)>,
    state: Mutex<RuleState>,
}

/// What holds for one evaluation.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moment {
    /// The slot, milliseconds since the epoch.
    pub(super) at_ms: i64,
    /// The slot less the query offset: time of queries and samples.
    pub(super) query_ms: i64,
    /// The most that a query may take.
    pub(super) timeout: Duration,
    /// The group's interval.
    pub(super) interval: Duration,
    /// The group's limit.
    pub(super) limit: u64,
}

impl Rule {
    /// A rule that starts with `state`.
    pub(super) fn new(spec: RuleSpec, key: String, state: RuleState) -> Self {
        let compiled = |alert: &str, pairs: &[(String, String)]| -> Vec<(String, Text)> {
            pairs
                .iter()
                .map(|(name, text)| (name.clone(), Text::new(alert, text)))
                .collect()
        };
        let (labels, annotations) = match &spec.kind {
            RuleKind::Recording { .. } => (Vec::new(), Vec::new()),
            RuleKind::Alerting {
                alert, annotations, ..
            } => (compiled(alert, &spec.labels), compiled(alert, annotations)),
        };
        Self {
            spec,
            key,
            labels,
            annotations,
            state: Mutex::new(state),
        }
    }

    /// The state. Hold it briefly: evaluation waits for it.
    pub fn state(&self) -> MutexGuard<'_, RuleState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Evaluates the rule and keeps its result. Returns the alerts to send.
    pub(super) fn evaluate(&self, context: &Context, moment: Moment) -> Vec<Outgoing> {
        let start = Instant::now();
        let result = context
            .source
            .query(&self.spec.expr, moment.query_ms, moment.timeout)
            .and_then(|vector| match &self.spec.kind {
                RuleKind::Recording { record } => self.record(record, vector, moment),
                RuleKind::Alerting { .. } => self.alert(context, vector, moment),
            })
            .and_then(|samples| self.write(context, samples, moment));
        let mut state = self.state();
        state.last_evaluation_ms = Some(moment.at_ms);
        state.evaluation_time = start.elapsed();
        match result {
            Ok(()) => {
                state.health = Health::Ok;
                state.last_error = None;
            }
            Err(message) => {
                warn!(
                    rule = self.spec.name(),
                    group = self.key,
                    error = message,
                    "evaluate rule"
                );
                state.health = Health::Err;
                state.last_error = Some(message);
                return Vec::new();
            }
        }
        self.due(&mut state, context, moment)
    }

    /// The samples of a recording rule.
    fn record(
        &self,
        record: &str,
        vector: Vec<VectorElement>,
        moment: Moment,
    ) -> Result<Vec<RuleSample>, String> {
        let mut state = self.state();
        let mut relabelled = Vec::with_capacity(vector.len());
        let mut samples = Vec::with_capacity(vector.len());
        for (index, (labels, value)) in vector.into_iter().enumerate() {
            let known = state
                .relabelled
                .get(index)
                .filter(|(input, _)| *input == labels);
            let output = match known {
                Some((_, output)) => output.clone(),
                None => self.recorded_labels(record, &labels)?,
            };
            samples.push(RuleSample {
                labels: output.clone(),
                timestamp_ms: moment.query_ms,
                value,
            });
            relabelled.push((labels, output));
        }
        // Equal inputs gave equal outputs before, so only a new list can hold a duplicate.
        if relabelled != state.relabelled {
            let distinct: HashSet<&Labels> = relabelled.iter().map(|(_, output)| output).collect();
            if distinct.len() < relabelled.len() {
                return Err(
                    "vector contains metrics with the same labelset after applying rule labels"
                        .to_owned(),
                );
            }
        }
        state.relabelled = relabelled;
        let (limit, count) = (moment.limit, samples.len());
        if limit > 0 && count as u64 > limit {
            return Err(format!("exceeded limit of {limit} with {count} series"));
        }
        Ok(samples)
    }

    fn recorded_labels(&self, record: &str, labels: &Labels) -> Result<Labels, String> {
        let mut builder = labels.to_builder();
        builder.set(METRIC_NAME, record);
        for (name, value) in &self.spec.labels {
            builder.set(name.as_str(), value.as_str());
        }
        builder.build().map_err(|error| error.to_string())
    }

    /// Moves the alerts on, stores what changed, and returns the samples that tell of them.
    fn alert(
        &self,
        context: &Context,
        vector: Vec<VectorElement>,
        moment: Moment,
    ) -> Result<Vec<RuleSample>, String> {
        let mut elements = Vec::with_capacity(vector.len());
        for (labels, value) in vector {
            elements.push(self.element(context, &labels, value, moment)?);
        }
        let mut transitions = Transitions::default();
        let mut state = self.state();
        let updated = state.alerts.update(
            elements,
            self.timing(moment),
            moment.at_ms,
            &mut transitions,
        );
        // Stored while the state is locked: nobody sees a state that a crash could take back.
        self.persist(context, &transitions);
        updated.map_err(|error| error.to_string())?;
        let mut samples = Vec::new();
        for alert in state.alerts.active() {
            let mut push = |name: &str, value: f64, alert_state: Option<AlertState>| {
                let mut builder = alert.labels.to_builder();
                builder.set(METRIC_NAME, name);
                if let Some(alert_state) = alert_state {
                    builder.set("alertstate", alert_state.as_str());
                }
                let labels = builder.build().map_err(|error| error.to_string())?;
                samples.push(RuleSample {
                    labels,
                    timestamp_ms: moment.query_ms,
                    value,
                });
                Ok::<_, String>(())
            };
            push("ALERTS", 1.0, Some(alert.state))?;
            push(
                "ALERTS_FOR_STATE",
                alert.active_at_ms.div_euclid(1000) as f64,
                None,
            )?;
        }
        Ok(samples)
    }

    fn timing(&self, moment: Moment) -> Timing {
        let (for_duration, keep_firing_for) = match &self.spec.kind {
            RuleKind::Alerting {
                for_duration,
                keep_firing_for,
                ..
            } => (*for_duration, *keep_firing_for),
            RuleKind::Recording { .. } => (Duration::ZERO, Duration::ZERO),
        };
        Timing {
            for_ms: for_duration.as_millis() as i64,
            keep_firing_for_ms: keep_firing_for.as_millis() as i64,
            limit: moment.limit,
        }
    }

    fn element(
        &self,
        context: &Context,
        labels: &Labels,
        value: f64,
        moment: Moment,
    ) -> Result<Element, String> {
        let is_template =
            |texts: &[(String, Text)]| texts.iter().any(|(_, text)| text.is_template());
        let mut query = |expr: &str| context.source.query(expr, moment.at_ms, moment.timeout);
        let mut env = Env {
            now_ms: moment.at_ms,
            external_url: &context.external_url,
            query: Some(&mut query),
            queries_left: 0,
        };
        // Templates see the element's own labels, the metric name too.
        let data = if is_template(&self.labels) || is_template(&self.annotations) {
            data(
                labels,
                &context.external_labels,
                &context.external_url,
                value,
            )
        } else {
            crate::template::Value::Nil
        };
        let mut builder = labels.to_builder();
        builder.remove(METRIC_NAME);
        for (name, text) in &self.labels {
            builder.set(name.as_str(), text.expand(&data, &mut env));
        }
        builder.set(ALERT_NAME, self.spec.name());
        let annotations = self
            .annotations
            .iter()
            .map(|(name, text)| (name.clone(), text.expand(&data, &mut env)));
        let annotations = Labels::from_pairs(annotations).map_err(|error| error.to_string())?;
        let labels = builder.build().map_err(|error| error.to_string())?;
        Ok(Element {
            labels,
            annotations,
            value,
        })
    }

    /// Writes the samples, and ends the series that were written last time and not now.
    fn write(
        &self,
        context: &Context,
        mut samples: Vec<RuleSample>,
        moment: Moment,
    ) -> Result<(), String> {
        let written: Vec<Labels> = samples.iter().map(|sample| sample.labels.clone()).collect();
        let mut state = self.state();
        if state.written != written {
            let now: HashSet<&Labels> = written.iter().collect();
            for labels in state.written.iter().filter(|labels| !now.contains(labels)) {
                let timestamp_ms = moment.query_ms;
                samples.push(RuleSample {
                    labels: labels.clone(),
                    timestamp_ms,
                    value: STALE_NAN,
                });
            }
        }
        state.written = written;
        drop(state);
        if samples.is_empty() {
            return Ok(());
        }
        let refused = context.source.append(&samples)?;
        if refused > 0 {
            warn!(
                rule = self.spec.name(),
                group = self.key,
                refused,
                "samples of rule were refused"
            );
        }
        Ok(())
    }

    fn persist(&self, context: &Context, transitions: &Transitions) {
        let changes = persist::changes(&self.key, transitions);
        if let Err(error) = context.store.commit(changes, Durability::Synced) {
            // Alerting goes on: a restart may then repeat a notification, which is better than sending none.
            warn!(rule = self.spec.name(), error = %error, "store alert state");
        }
    }

    /// The alerts to send now; that they were sent is stored before anyone sends them.
    fn due(&self, state: &mut RuleState, context: &Context, moment: Moment) -> Vec<Outgoing> {
        if matches!(self.spec.kind, RuleKind::Recording { .. }) {
            return Vec::new();
        }
        let due = state.alerts.take_due(context.resend_delay, moment.at_ms);
        if due.is_empty() {
            return Vec::new();
        }
        let window_ms = 4 * moment.interval.max(context.resend_delay).as_millis() as i64;
        let outgoing = due
            .iter()
            .map(|alert| self.outgoing(context, alert, moment.at_ms + window_ms))
            .collect();
        self.persist(
            context,
            &Transitions {
                changed: due,
                removed: Vec::new(),
            },
        );
        outgoing
    }

    fn outgoing(&self, context: &Context, alert: &Alert, valid_until_ms: i64) -> Outgoing {
        let mut labels = alert.labels.to_builder();
        for (name, value) in &context.external_labels {
            if labels.get(name).is_none() {
                labels.push(name, value);
            }
        }
        Outgoing {
            labels: labels.build().unwrap_or_else(|_| alert.labels.clone()),
            annotations: alert.annotations.clone(),
            starts_at_ms: alert.fired_at_ms.unwrap_or(alert.active_at_ms),
            ends_at_ms: alert.resolved_at_ms.unwrap_or(valid_until_ms),
            is_resolved: alert.resolved_at_ms.is_some(),
            generator_url: self.generator_url(context),
        }
    }

    fn generator_url(&self, context: &Context) -> String {
        let link = crate::template::rule::expression_link(&self.spec.expr, 1);
        format!("{}{link}", context.external_url.trim_end_matches('/'))
    }
}
