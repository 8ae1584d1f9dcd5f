//! A rule with its state: evaluation, and the results that carry over to the next one.

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
}
