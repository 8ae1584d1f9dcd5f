//! Warnings and infos about a result, in the words of Prometheus (`util/annotations`).

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use crate::error::Span;
use crate::format::format_general;
use crate::parser::position;
use crate::parser::quote::go_quote;

/// The annotations of one query. Each text is kept once, with its last position, as in Prometheus.
#[derive(Debug)]
pub(crate) struct Annotations<'q> {
    query: &'q str,
    texts: Mutex<AnnotationTexts>,
}

#[derive(Debug, Default)]
struct AnnotationTexts {
    warnings: BTreeMap<String, Option<Span>>,
    infos: BTreeMap<String, Option<Span>>,
}

impl<'q> Annotations<'q> {
    pub(crate) fn new(query: &'q str) -> Self {
        Self {
            query,
            texts: Mutex::default(),
        }
    }

    pub(crate) fn into_texts(self) -> (Vec<String>, Vec<String>) {
        let texts = self
            .texts
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        let with_positions = |texts: BTreeMap<String, Option<Span>>| {
            let texts = texts.into_iter().map(|(text, span)| match span {
                Some(span) => {
                    let (line, column) = position(self.query, span.start);
                    format!("{text} ({line}:{column})")
                }
                None => text,
            });
            texts.collect()
        };
        (with_positions(texts.warnings), with_positions(texts.infos))
    }

    /// Adds a warning of the store, such as damaged data that it skipped.
    pub(crate) fn storage_warning(&self, text: String) {
        self.lock().warnings.insert(text, None);
    }

    fn warn(&self, text: &str, span: Span) {
        let text = format!("PromQL warning: {text}");
        self.lock().warnings.insert(text, Some(span));
    }

    fn info(&self, text: &str, span: Span) {
        let text = format!("PromQL info: {text}");
        self.lock().infos.insert(text, Some(span));
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, AnnotationTexts> {
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
        let (metric, label) = (go_quote(metric), go_quote(label));
        let text = format!(
            "bucket label \"le\" is missing or has a malformed value of {label} for metric name {metric}"
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
            "metric might not be a counter, __type__ label is not set to \"counter\", got {kind}: {metric}"
        );
        self.info(&text, span);
    }
}
