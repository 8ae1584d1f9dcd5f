//! One rule at work.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use common::model::Labels;
use common::model::label::METRIC_NAME;
use common::report::chain;
use rustc_hash::FxBuildHasher;
use tracing::warn;

use super::alert::{Alert, AlertState, Alerts, Element, Timing, Transitions};
use super::file::{RuleKind, RuleSpec};
use super::group::{AlertToSend, Context};
use super::output::Output;
use super::persist;
use super::source::{EvaluationError, VectorElement};
use super::written_series::WrittenSeries;
use crate::store::Durability;
use crate::template::Env;
use crate::template::rule::{Dependence, Text, data};

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
    /// Where results go.
    pub(super) output: Output,
    /// Elements of the previous evaluation, in the order of its result.
    pub(super) previous: PreviousEval,
    /// The series of each active alert, by its labels.
    pub(super) alert_series: HashMap<Labels, AlertSeries, FxBuildHasher>,
}

/// Elements of the previous evaluation. Most elements do not change from one evaluation to the next, so their labels and
/// annotations are reused.
#[derive(Debug, Default)]
pub(super) struct PreviousEval {
    /// Of a recording rule: labels of the element, and the column of the series.
    recorded: Vec<(Labels, Option<u32>)>,
    /// Of an alerting rule.
    elements: Vec<PreviousElement>,
    /// The external labels that `elements` were expanded with.
    external_labels: Labels,
}

#[derive(Debug)]
struct PreviousElement {
    input: Labels,
    element: Element,
}

/// The columns of an alert's series.
#[derive(Debug, Clone, Copy)]
pub(super) struct AlertSeries {
    /// The state of the series in `state_column`.
    state: AlertState,
    state_column: Option<u32>,
    since_column: Option<u32>,
    /// The evaluation that wrote them last.
    at_ms: i64,
}

/// What an evaluation leads to.
#[derive(Debug, Default)]
pub(super) struct Evaluated {
    /// Alerts to send, once the stored state is synced.
    pub(super) outgoing: Vec<AlertToSend>,
    /// State was stored and not synced yet.
    pub(super) has_changed: bool,
    /// The evaluation failed; whether because of a timeout.
    pub(super) failed: Option<EvaluationError>,
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
    /// What labels and annotations change with, besides the element's labels.
    dependence: Dependence,
    state: Mutex<RuleState>,
}

/// Parameters of one evaluation.
#[derive(Debug, Clone, Copy)]
pub(super) struct EvalContext<'a> {
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
    /// Series that earlier rules of the same name wrote in this evaluation; `None` if the name is unique in the group.
    pub(super) written_series: Option<&'a RefCell<WrittenSeries>>,
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
            dependence: labels
                .iter()
                .chain(&annotations)
                .map(|(_, text)| text.dependence())
                .max()
                .unwrap_or(Dependence::Nothing),
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

    /// Evaluates the rule and keeps its result.
    pub(super) fn evaluate(&self, context: &Context, eval: EvalContext<'_>) -> Evaluated {
        let start = Instant::now();
        let mut has_changed = false;
        let result = context
            .source
            .query(&self.spec.expr, eval.query_ms, eval.timeout)
            .and_then(|vector| match &self.spec.kind {
                RuleKind::Recording { record } => self.record(context, record, vector, eval),
                RuleKind::Alerting { .. } => self.alert(context, vector, eval, &mut has_changed),
            });
        let mut state = self.state();
        state.last_evaluation_ms = Some(eval.at_ms);
        state.evaluation_time = start.elapsed();
        if let Err(error) = result {
            warn!(
                rule = self.spec.name(),
                group = self.key,
                error = chain(&error),
                "evaluate rule"
            );
            state.health = Health::Err;
            state.last_error = Some(error.to_string());
            return Evaluated {
                outgoing: Vec::new(),
                has_changed,
                failed: Some(error),
            };
        }
        let refusal = result.ok().flatten();
        // The evaluation succeeded, and its alerts are sent. Samples that could not be stored are reported as an error.
        state.health = if refusal.is_none() {
            Health::Ok
        } else {
            Health::Err
        };
        state.last_error = refusal;
        let outgoing = self.due(&mut state, context, eval);
        Evaluated {
            has_changed: has_changed || !outgoing.is_empty(),
            outgoing,
            failed: None,
        }
    }

    /// Writes the samples of a recording rule.
    fn record(
        &self,
        context: &Context,
        record: &str,
        vector: Vec<VectorElement>,
        eval: EvalContext<'_>,
    ) -> Result<Option<String>, EvaluationError> {
        let (limit, count) = (eval.limit, vector.len());
        if limit > 0 && count as u64 > limit {
            let message = format!("exceeded limit of {limit} with {count} series");
            return Err(message.into());
        }
        let mut state = self.state();
        let RuleState {
            output, previous, ..
        } = &mut *state;
        output.discard();
        if eval.written_series.is_some() {
            // Not all of the last row need have been written.
            previous.recorded.clear();
        }
        let mut recorded = Vec::with_capacity(vector.len());
        for (index, (labels, value)) in vector.into_iter().enumerate() {
            let before = previous.recorded.get(index);
            let column = match before.filter(|(input, _)| *input == labels) {
                Some((_, column)) => *column,
                None => {
                    let series = self.recorded_labels(record, &labels)?;
                    output.column(context.source.as_ref(), &self.key, &series)
                }
            };
            if let Some(column) = column {
                output.push(column, value);
            }
            recorded.push((labels, column));
        }
        let (values, is_distinct) = output.row();
        if !is_distinct {
            let message =
                "vector contains metrics with the same labelset after applying rule labels";
            return Err(message.to_owned().into());
        }
        let unnamed = recorded.len() - values;
        previous.recorded = recorded;
        self.write(output, unnamed, eval)
    }

    fn recorded_labels(&self, record: &str, labels: &Labels) -> Result<Labels, String> {
        let mut builder = labels.to_builder();
        builder.set(METRIC_NAME, record);
        for (name, value) in &self.spec.labels {
            builder.set(name.as_str(), value.as_str());
        }
        builder.build().map_err(|error| error.to_string())
    }

    /// Updates the alerts, stores the changes, and writes their series.
    fn alert(
        &self,
        context: &Context,
        vector: Vec<VectorElement>,
        eval: EvalContext<'_>,
        has_changed: &mut bool,
    ) -> Result<Option<String>, EvaluationError> {
        // Templates may query, which takes long: the state is not locked meanwhile.
        let mut previous = std::mem::take(&mut self.state().previous.elements);
        if self.state().previous.external_labels != context.external_labels {
            previous.clear();
        }
        let mut elements = Vec::with_capacity(vector.len());
        for (index, (labels, value)) in vector.into_iter().enumerate() {
            let element = match previous.get(index) {
                Some(before) if self.is_same(before, &labels, value) => Element {
                    value,
                    ..before.element.clone()
                },
                _ => self.element(context, &labels, value, eval)?,
            };
            let now = PreviousElement {
                input: labels,
                element: element.clone(),
            };
            match previous.get_mut(index) {
                Some(before) => *before = now,
                None => previous.push(now),
            }
            elements.push(element);
        }
        previous.truncate(elements.len());
        let mut transitions = Transitions::default();
        let mut state = self.state();
        state.previous.elements = previous;
        state.previous.external_labels = context.external_labels.clone();
        let updated =
            state
                .alerts
                .update(elements, self.timing(eval), eval.at_ms, &mut transitions);
        // Stored while the state is locked, so that no reader sees a state that a crash could undo.
        *has_changed = self.persist(context, &transitions);
        updated.map_err(|error| error.to_string())?;
        self.write_alerts(context, &mut state, eval)
    }

    /// Reports whether an element's labels and annotations are unchanged.
    fn is_same(&self, before: &PreviousElement, labels: &Labels, value: f64) -> bool {
        let is_same_value = || before.element.value.to_bits() == value.to_bits();
        before.input == *labels
            && match self.dependence {
                Dependence::Nothing => true,
                Dependence::Data => is_same_value(),
                Dependence::Anything => false,
            }
    }

    /// Writes `ALERTS` and `ALERTS_FOR_STATE` of the active alerts.
    fn write_alerts(
        &self,
        context: &Context,
        state: &mut RuleState,
        eval: EvalContext<'_>,
    ) -> Result<Option<String>, EvaluationError> {
        let RuleState {
            alerts,
            output,
            alert_series,
            ..
        } = state;
        output.discard();
        if eval.written_series.is_some() {
            // Not all of the last row need have been written.
            alert_series.clear();
        }
        let mut unnamed = 0;
        let mut active = 0;
        for alert in alerts.active() {
            active += 1;
            let previous = alert_series
                .get_mut(&alert.labels)
                .filter(|series| series.state == alert.state);
            let series = if let Some(series) = previous {
                series.at_ms = eval.at_ms;
                *series
            } else {
                let mut column = |name: &str, state: Option<AlertState>| {
                    let labels = alert_series_labels(alert, name, state)?;
                    Ok::<_, String>(output.column(context.source.as_ref(), &self.key, &labels))
                };
                let series = AlertSeries {
                    state: alert.state,
                    state_column: column("ALERTS", Some(alert.state))?,
                    since_column: column("ALERTS_FOR_STATE", None)?,
                    at_ms: eval.at_ms,
                };
                alert_series.insert(alert.labels.clone(), series);
                series
            };
            let since_s = alert.active_at_ms.div_euclid(1000) as f64;
            for (column, value) in [(series.state_column, 1.0), (series.since_column, since_s)] {
                match column {
                    Some(column) => output.push(column, value),
                    None => unnamed += 1,
                }
            }
        }
        if active < alert_series.len() {
            alert_series.retain(|_, series| series.at_ms == eval.at_ms);
        }
        self.write(output, unnamed, eval)
    }

    fn timing(&self, eval: EvalContext<'_>) -> Timing {
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
            limit: eval.limit,
        }
    }

    fn element(
        &self,
        context: &Context,
        labels: &Labels,
        value: f64,
        eval: EvalContext<'_>,
    ) -> Result<Element, String> {
        let is_template =
            |texts: &[(String, Text)]| texts.iter().any(|(_, text)| text.is_template());
        let mut query = |expr: &str| {
            let result = context.source.query(expr, eval.at_ms, eval.timeout);
            result.map_err(|error| error.to_string())
        };
        let mut env = Env {
            now_ms: eval.at_ms,
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
        let annotations = annotations.collect();
        let labels = builder.build().map_err(|error| error.to_string())?;
        Ok(Element {
            labels,
            annotations,
            value,
        })
    }

    /// Writes the row of `output`; `unnamed` of its values have no series. Returns the error for values that were not
    /// stored.
    fn write(
        &self,
        output: &mut Output,
        unnamed: usize,
        eval: EvalContext<'_>,
    ) -> Result<Option<String>, EvaluationError> {
        let mut reasons = Vec::new();
        let mut refused = unnamed as u64;
        if unnamed > 0 {
            reasons.push(format!("{unnamed} series refused, see the log"));
        }
        if let Some(written_series) = eval.written_series {
            let mut written_series = written_series.borrow_mut();
            output.retain(|series, value| {
                let claimed = written_series.record(series, value, eval.query_ms);
                if let Err(reason) = claimed {
                    refused += 1;
                    reasons.push(reason);
                    return false;
                }
                true
            });
        }
        let written = output.write(eval.query_ms)?;
        if written.count > 0 {
            refused += written.count;
            reasons.push(written.reason);
        }
        let Some(reason) = reasons.into_iter().next() else {
            return Ok(None);
        };
        let (rule, group) = (self.spec.name(), &self.key);
        warn!(rule, group, refused, reason, "samples of rule were refused");
        Ok(Some(reason))
    }

    /// Stores changes; the group syncs them. Returns whether there were any.
    fn persist(&self, context: &Context, transitions: &Transitions) -> bool {
        let mut has_changed = false;
        // The forms that a change takes on its way to the disk are large: not those of all alerts at a time.
        for changes in persist::changes(&self.key, transitions) {
            has_changed = true;
            if let Err(error) = context.store.commit(changes, Durability::Written) {
                // Alerting continues: a restart may repeat a notification, which is better than sending none.
                warn!(
                    rule = self.spec.name(),
                    error = chain(&error),
                    "store alert state"
                );
                break;
            }
        }
        has_changed
    }

    /// The alerts to send now; that they were sent is stored.
    fn due(
        &self,
        state: &mut RuleState,
        context: &Context,
        eval: EvalContext<'_>,
    ) -> Vec<AlertToSend> {
        if matches!(self.spec.kind, RuleKind::Recording { .. }) {
            return Vec::new();
        }
        let due = state.alerts.take_due(context.resend_delay, eval.at_ms);
        if due.is_empty() {
            return Vec::new();
        }
        let window_ms = 4 * eval.interval.max(context.resend_delay).as_millis() as i64;
        let url = self.generator_url(context);
        let outgoing = due
            .iter()
            .map(|alert| alert_to_send(context, alert, eval.at_ms + window_ms, &url))
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

    fn generator_url(&self, context: &Context) -> String {
        let query = context.source.query_text(&self.spec.expr);
        let link = crate::template::rule::expression_link(&query, 1);
        format!("{}{link}", context.external_url.trim_end_matches('/'))
    }
}

/// An alert for the notifier, with the external labels.
fn alert_to_send(
    context: &Context,
    alert: &Alert,
    valid_until_ms: i64,
    generator_url: &str,
) -> AlertToSend {
    let external = context.external_labels.iter();
    let mut missing = external
        .filter(|(name, _)| alert.labels.get(name).is_none())
        .peekable();
    let labels = if missing.peek().is_none() {
        alert.labels.clone()
    } else {
        let mut labels = alert.labels.to_builder();
        missing.for_each(|(name, value)| labels.push(name, value));
        labels.build().unwrap_or_else(|_| alert.labels.clone())
    };
    AlertToSend {
        labels,
        annotations: alert.annotations.clone(),
        starts_at_ms: alert.fired_at_ms.unwrap_or(alert.active_at_ms),
        ends_at_ms: alert.resolved_at_ms.unwrap_or(valid_until_ms),
        is_resolved: alert.resolved_at_ms.is_some(),
        generator_url: generator_url.to_owned(),
    }
}

/// Returns the labels of an alert's series.
fn alert_series_labels(
    alert: &Alert,
    name: &str,
    state: Option<AlertState>,
) -> Result<Labels, String> {
    let mut builder = alert.labels.to_builder();
    builder.set(METRIC_NAME, name);
    if let Some(state) = state {
        builder.set("alertstate", state.as_str());
    }
    builder.build().map_err(|error| error.to_string())
}
