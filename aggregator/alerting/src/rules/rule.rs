//! A rule, its evaluation, and the state kept between evaluations.

mod alerting;
mod recording;

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

/// The label that holds the name of an alert.
pub const ALERT_NAME: &str = "alertname";

/// The outcome of the last evaluation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Health {
    /// The rule has not been evaluated yet.
    #[default]
    Unknown,
    /// The evaluation succeeded.
    Ok,
    /// The evaluation failed.
    Err,
}

impl Health {
    /// Returns the name of the outcome in the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Ok => "ok",
            Self::Err => "err",
        }
    }
}

/// The state of a rule that evaluations change.
#[derive(Debug, Default)]
pub struct RuleState {
    /// The alerts of an alerting rule.
    pub alerts: Alerts,
    /// The outcome of the last evaluation.
    pub health: Health,
    /// The error of the last evaluation.
    pub last_error: Option<String>,
    /// The time of the last evaluation in milliseconds since the epoch.
    pub last_evaluation_ms: Option<i64>,
    /// The duration of the last evaluation.
    pub evaluation_time: Duration,
    /// The output for results.
    pub(super) output: Output,
    /// The elements of the previous evaluation in the order of its result.
    pub(super) previous: PreviousEval,
    /// The series of each active alert, by its labels.
    pub(super) alert_series: HashMap<Labels, AlertSeries, FxBuildHasher>,
}

/// Elements of the previous evaluation. Most elements do not change from one evaluation to the next, so their labels and
/// annotations are reused.
#[derive(Debug, Default)]
pub(super) struct PreviousEval {
    /// For a recording rule: the labels of each element and the column of its series.
    recorded: Vec<(Labels, Option<u32>)>,
    /// For an alerting rule: each element and its expanded labels and annotations.
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
    /// The time of the evaluation that last wrote the series.
    at_ms: i64,
}

/// The result of an evaluation.
#[derive(Debug, Default)]
pub(super) struct Evaluated {
    /// The alerts to send once the stored state is synced.
    pub(super) outgoing: Vec<AlertToSend>,
    /// Whether state was stored that is not synced yet.
    pub(super) has_changed: bool,
    /// The error of a failed evaluation.
    pub(super) failed: Option<EvaluationError>,
}

/// A rule and its state.
#[derive(Debug)]
pub struct Rule {
    /// The rule as written.
    pub spec: RuleSpec,
    /// Identifies the rule across restarts and reloads: file, group, name, labels.
    pub(super) key: String,
    labels: Vec<(String, Text)>,
    annotations: Vec<(String, Text)>,
    /// The inputs that can change labels and annotations, besides the element's labels.
    dependence: Dependence,
    state: Mutex<RuleState>,
}

/// Parameters of one evaluation.
#[derive(Debug, Clone, Copy)]
pub(super) struct EvalContext<'a> {
    /// The slot in milliseconds since the epoch.
    pub(super) at_ms: i64,
    /// The slot minus the query offset; the timestamp of queries and samples.
    pub(super) query_ms: i64,
    /// The maximum duration of a query.
    pub(super) timeout: Duration,
    /// The group's interval.
    pub(super) interval: Duration,
    /// The group's limit.
    pub(super) limit: u64,
    /// The series that earlier rules with the same name wrote in this evaluation. `None` if the name is unique in the
    /// group.
    pub(super) written_series: Option<&'a RefCell<WrittenSeries>>,
}

impl Rule {
    /// Creates a rule with an initial `state`.
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

    /// Locks and returns the state. Release it quickly, because evaluation waits for the lock.
    pub fn state(&self) -> MutexGuard<'_, RuleState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Evaluates the rule and stores its result.
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
        // The evaluation succeeded, so its alerts are sent. Refused samples still appear as an error in the rule's
        // health.
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

    /// Writes the current row of `output` and returns the first reason for refused values. `unnamed` is the number of
    /// values whose series were refused.
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
}
