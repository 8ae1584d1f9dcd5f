//! Rule groups, whose rules are evaluated in order at the same timestamp.

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use common::model::{Labels, STALE_NAN};
use common::report::chain;
use tracing::warn;

use super::persist;
use super::rule::{EvalContext, Rule};
use super::source::{EvaluationError, RuleSample, Source};
use super::written_series::WrittenSeries;
use crate::annotations::Annotations;
use crate::hash::fnv1a;
use crate::store::{Durability, StateStore};

/// Maximum duration of one rule query.
const TIMEOUT_MAX: Duration = Duration::from_secs(120);

/// The dependencies and settings shared by all groups.
#[derive(Clone)]
pub struct Context {
    /// Evaluates expressions and stores results.
    pub source: Arc<dyn Source>,
    /// Stores alert state.
    pub store: Arc<dyn StateStore>,
    /// The labels added to every alert that does not already have them.
    pub external_labels: Labels,
    /// The URL under which users reach this server.
    pub external_url: String,
    /// The minimum time before an unchanged alert is sent again.
    pub resend_delay: Duration,
    /// The longest downtime that still counts towards `for`.
    pub outage_tolerance: Duration,
}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context")
            .field("external_url", &self.external_url)
            .finish_non_exhaustive()
    }
}

/// An alert for the notifier. Times are milliseconds since the epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlertToSend {
    /// The labels, including external labels.
    pub labels: Labels,
    /// The annotations.
    pub annotations: Annotations,
    /// The time at which the alert began to fire.
    pub starts_at_ms: i64,
    /// The time at which the alert was resolved or, while firing, the time at which it ends unless it is sent again.
    pub ends_at_ms: i64,
    /// Whether the alert is resolved.
    pub is_resolved: bool,
    /// The URL that shows the expression.
    pub generator_url: String,
}

/// The time and duration of a group's last evaluation.
#[derive(Debug, Clone, Copy, Default)]
pub struct GroupStatus {
    /// The last evaluated slot in milliseconds since the epoch.
    pub last_evaluation_ms: Option<i64>,
    /// The duration of the evaluation.
    pub evaluation_time: Duration,
}

/// A group and its state.
#[derive(Debug)]
pub struct Group {
    /// The rule file that defines the group.
    pub file: PathBuf,
    /// The name of the group.
    pub name: String,
    /// The time between evaluations.
    pub interval: Duration,
    /// How far query times are shifted into the past.
    pub query_offset: Duration,
    /// The limit on the alerts or series of one rule. 0 means no limit.
    pub limit: u64,
    /// The rules of the group.
    pub rules: Vec<Rule>,
    /// For each rule, whether another rule in the group has the same name.
    have_namesakes: Vec<bool>,
    /// Identifies the group across restarts and reloads.
    pub(super) key: String,
    status: Mutex<GroupStatus>,
    /// Held during an evaluation.
    evaluating: Mutex<()>,
    /// Series of removed rules, to be marked stale at the next evaluation.
    orphans: Mutex<Vec<Labels>>,
    evaluations: AtomicU64,
    missed: AtomicU64,
    failures: AtomicU64,
    timeouts: AtomicU64,
}

/// The parts from which a group is created.
#[derive(Debug)]
pub(super) struct GroupParts {
    pub(super) file: PathBuf,
    pub(super) name: String,
    pub(super) interval: Duration,
    pub(super) query_offset: Duration,
    pub(super) limit: u64,
    pub(super) rules: Vec<Rule>,
    pub(super) key: String,
    pub(super) orphans: Vec<Labels>,
    pub(super) status: GroupStatus,
}

impl Group {
    pub(super) fn new(parts: GroupParts) -> Self {
        Self {
            file: parts.file,
            name: parts.name,
            interval: parts.interval,
            query_offset: parts.query_offset,
            limit: parts.limit,
            have_namesakes: have_namesakes(&parts.rules),
            rules: parts.rules,
            key: parts.key,
            status: Mutex::new(parts.status),
            evaluating: Mutex::new(()),
            orphans: Mutex::new(parts.orphans),
            evaluations: AtomicU64::new(0),
            missed: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            timeouts: AtomicU64::new(0),
        }
    }

    /// Returns the time and duration of the last evaluation.
    pub fn status(&self) -> GroupStatus {
        *self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the number of evaluations and the number of missed slots.
    pub fn iterations(&self) -> (u64, u64) {
        (
            self.evaluations.load(Ordering::Relaxed),
            self.missed.load(Ordering::Relaxed),
        )
    }

    /// Returns the number of failed rule evaluations, and how many of them timed out.
    pub fn failures(&self) -> (u64, u64) {
        (
            self.failures.load(Ordering::Relaxed),
            self.timeouts.load(Ordering::Relaxed),
        )
    }

    fn count(&self, failed: Option<&EvaluationError>) {
        let is_timeout = matches!(failed, Some(EvaluationError::Timeout(_)));
        self.failures
            .fetch_add(u64::from(failed.is_some()), Ordering::Relaxed);
        self.timeouts
            .fetch_add(u64::from(is_timeout), Ordering::Relaxed);
    }

    /// Returns the first slot at or after `now_ms`. The slots of a group are multiples of the interval, offset by a
    /// hash of the group's key to spread the groups over time.
    #[must_use]
    pub fn slot_at_or_after(&self, now_ms: i64) -> i64 {
        let interval = self.interval_ms();
        let shift = (fnv1a([self.key.as_str()]) % interval as u64) as i64;
        let since = (now_ms - shift).rem_euclid(interval);
        if since == 0 {
            now_ms
        } else {
            now_ms - since + interval
        }
    }

    /// Returns the group's interval in milliseconds, at least 1.
    #[must_use]
    pub fn interval_ms(&self) -> i64 {
        (self.interval.as_millis() as i64).max(1)
    }

    /// Counts slots that were not evaluated.
    pub fn note_missed(&self, slots: u64) {
        self.missed.fetch_add(slots, Ordering::Relaxed);
    }

    /// Evaluates all rules at the slot `at_ms`. Returns the alerts to send.
    pub fn evaluate(&self, context: &Context, at_ms: i64) -> Vec<AlertToSend> {
        let evaluating = self
            .evaluating
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let start = Instant::now();
        let eval = EvalContext {
            at_ms,
            query_ms: at_ms - self.query_offset.as_millis() as i64,
            timeout: self.interval.min(TIMEOUT_MAX),
            interval: self.interval,
            limit: self.limit,
            written_series: None,
        };
        let written_series = RefCell::new(WrittenSeries::default());
        let mut outgoing = Vec::new();
        let mut durability = Durability::Written;
        for (rule, has_namesake) in self.rules.iter().zip(&self.have_namesakes) {
            let written_series = has_namesake.then_some(&written_series);
            let evaluated = rule.evaluate(
                context,
                EvalContext {
                    written_series,
                    ..eval
                },
            );
            outgoing.extend(evaluated.outgoing);
            if evaluated.has_changed {
                durability = Durability::Synced;
            }
            self.count(evaluated.failed.as_ref());
        }
        self.end_orphans(context, eval.query_ms);
        let seen = persist::last_evaluation(&self.key, at_ms)
            .into_iter()
            .collect();
        // Sync the changes of all rules once, before any alert is sent.
        if let Err(error) = context.store.commit(seen, durability) {
            warn!(
                group = self.key,
                error = chain(&error),
                "store time of evaluation"
            );
        }
        *self.status.lock().unwrap_or_else(PoisonError::into_inner) = GroupStatus {
            last_evaluation_ms: Some(at_ms),
            evaluation_time: start.elapsed(),
        };
        self.evaluations.fetch_add(1, Ordering::Relaxed);
        drop(evaluating);
        outgoing
    }

    /// Writes staleness markers for the series of removed rules, except those that another rule writes now.
    fn end_orphans(&self, context: &Context, timestamp_ms: i64) {
        let orphans =
            std::mem::take(&mut *self.orphans.lock().unwrap_or_else(PoisonError::into_inner));
        if orphans.is_empty() {
            return;
        }
        let mut taken = std::collections::HashSet::new();
        for rule in &self.rules {
            taken.extend(rule.state().output.written());
        }
        let left: Vec<Labels> = orphans
            .into_iter()
            .filter(|labels| !taken.contains(labels))
            .collect();
        end_series(context, &left, timestamp_ms);
    }

    /// Waits until no evaluation runs, and returns the series that the group's rules wrote last.
    pub(super) fn written(&self) -> Vec<Labels> {
        let _idle = self
            .evaluating
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        self.rules
            .iter()
            .flat_map(|rule| rule.state().output.written())
            .collect()
    }

    /// Waits until no evaluation runs. The group must not be evaluated afterwards.
    pub(super) fn wait_idle(&self) {
        drop(
            self.evaluating
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        );
    }
}

/// Reports for each rule whether it may write the same series as another rule. Only rules with the same name can.
fn have_namesakes(rules: &[Rule]) -> Vec<bool> {
    let mut counts: HashMap<&str, u32> = HashMap::new();
    for rule in rules {
        *counts.entry(rule.spec.name()).or_default() += 1;
    }
    let counts = rules.iter().map(|rule| counts.get(rule.spec.name()));
    counts.map(|count| count > Some(&1)).collect()
}

/// Writes staleness markers for `series`.
pub(super) fn end_series(context: &Context, series: &[Labels], timestamp_ms: i64) {
    if series.is_empty() {
        return;
    }
    let marker = |labels: &Labels| RuleSample {
        labels: labels.clone(),
        timestamp_ms,
        value: STALE_NAN,
    };
    let samples: Vec<RuleSample> = series.iter().map(marker).collect();
    if let Err(error) = context.source.append(&samples) {
        warn!(error, series = series.len(), "end series of removed rules");
    }
}
