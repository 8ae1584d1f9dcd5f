//! Warnings and infos that go with a result. Texts are those of Prometheus (`util/annotations`).

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use crate::error::Span;
use crate::format::format_general;
use crate::parser::position;
use crate::parser::quote::go_quote;

/// The annotations of one query, each text once.
#[derive(Debug)]
pub(crate) struct Annotations<'q> {
    query: &'q str,
    texts: Mutex<Texts>,
}

#[derive(Debug, Default)]
struct Texts {
    warnings: BTreeSet<String>,
    infos: BTreeSet<String>,
}

impl<'q> Annotations<'q> {
    pub(crate) fn new(query: &'q str) -> Self {
        Self {
            query,
            texts: Mutex::default(),
        }
    }

    pub(crate) const fn query(&self) -> &'q str {
        self.query
    }

    pub(crate) fn into_texts(self) -> (Vec<String>, Vec<String>) {
        let texts = self
            .texts
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        (
            texts.warnings.into_iter().collect(),
            texts.infos.into_iter().collect(),
        )
    }

    /// A warning that is no affair of PromQL: damaged data left out.
    pub(crate) fn plain_warning(&self, text: String) {
        self.lock().warnings.insert(text);
    }

    fn warn(&self, text: &str, span: Span) {
        let text = self.with_position("warning", text, span);
        self.lock().warnings.insert(text);
    }

    fn info(&self, text: &str, span: Span) {
        let text = self.with_position("info", text, span);
        self.lock().infos.insert(text);
    }

    fn with_position(&self, kind: &str, text: &str, span: Span) -> String {
        let (line, column) = position(self.query, span.start);
        format!("PromQL {kind}: {text} ({line}:{column})")
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Texts> {
        self.texts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn invalid_quantile(&self, quantile: f64, span: Span) {
        let got = format_general(quantile);
        let text = format!("quantile value should be between 0 and 1, got {got}");
        self.warn(&text, span);
    }

    pub(crate) fn invalid_ratio(&self, ratio: f64, capped: f64, span: Span) {
        let (got, to) = (format_general(ratio), format_general(capped));
        let text = format!("ratio value should be between -1 and 1, got {got}, capping to {to}");
        self.warn(&text, span);
    }

    pub(crate) fn bad_bucket_label(&self, metric: &str, label: &str, span: Span) {
        let label = go_quote(label);
        let text = format!(
            "bucket label \"le\" is missing or has a malformed value of {label}{}",
            for_metric(metric)
        );
        self.warn(&text, span);
    }

    pub(crate) fn forced_monotonicity(&self, metric: &str, span: Span) {
        let text = format!(
            "input to histogram_quantile needed to be fixed for monotonicity (see https://prometheus.io/docs/prometheus/latest/querying/functions/#histogram_quantile) for metric name {}",
            go_quote(metric)
        );
        self.info(&text, span);
    }

    pub(crate) fn possible_non_counter(&self, metric: &str, span: Span) {
        let metric = go_quote(metric);
        let text = format!(
            "metric might not be a counter, name does not end in _total/_sum/_count/_bucket: {metric}"
        );
        self.info(&text, span);
    }

    pub(crate) fn possible_non_counter_type(&self, metric: &str, kind: &str, span: Span) {
        let (metric, kind) = (go_quote(metric), go_quote(kind));
        let text = format!(
            "metric might not be a counter, __type__ label is not set to \"counter\" or \"histogram\", got {kind}: {metric}"
        );
        self.info(&text, span);
    }
}

fn for_metric(metric: &str) -> String {
    if metric.is_empty() {
        String::new()
    } else {
        format!(" for metric name {}", go_quote(metric))
    }
}
