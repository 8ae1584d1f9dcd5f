//! Gives rules access to the store and the query engine.

use std::sync::Arc;
use std::time::{Duration, Instant};

use common::model::{Labels, Sample};
use tidemark_alerting::rules::source::{
    EvaluationError, Refused, RuleSample, Sink, Source, VectorElement,
};
use tidemark_promql::{Engine, ErrorKind, QueryError, QueryOptions, Value};
use tidemark_storage::{AppendMode, ReadControl, SeriesSamples, Store, Stream};

use super::plan::query_text;

/// Evaluates with the engine, keeps results in the store.
#[derive(Debug)]
pub(super) struct StoreSource {
    store: Store,
    engine: Arc<Engine>,
    series_max: u64,
}

impl StoreSource {
    pub(super) const fn new(store: Store, engine: Arc<Engine>, series_max: u64) -> Self {
        Self {
            store,
            engine,
            series_max,
        }
    }
}

impl Source for StoreSource {
    fn query(
        &self,
        expr: &str,
        time_ms: i64,
        timeout: Duration,
    ) -> Result<Vec<VectorElement>, EvaluationError> {
        let control = ReadControl::new(self.engine.options().samples_max, self.series_max);
        let options = QueryOptions {
            lookback_delta: None,
            control: &control,
            deadline: Instant::now().checked_add(timeout),
            per_step_stats: false,
        };
        let result = self
            .engine
            .instant(&self.store, expr, time_ms, &options)
            .map_err(failed)?;
        Ok(elements(result.value)?)
    }

    fn query_text(&self, expr: &str) -> String {
        query_text(expr, self.engine.options().features)
    }

    fn append(&self, samples: &[RuleSample]) -> Result<u64, String> {
        let series: Vec<SeriesSamples> = samples
            .iter()
            .map(|sample| SeriesSamples {
                labels: sample.labels.clone(),
                samples: vec![Sample {
                    timestamp_ms: sample.timestamp_ms,
                    value: sample.value,
                }],
            })
            .collect();
        let appended = self
            .store
            .append(&series, AppendMode::Partial)
            .map_err(|error| crate::report::chain(&error))?;
        Ok(appended.refused)
    }

    fn open(&self, name: &str) -> Box<dyn Sink> {
        Box::new(StoreSink(self.store.stream(&format!("rule/{name}"))))
    }
}

fn failed(error: QueryError) -> EvaluationError {
    match error.kind {
        ErrorKind::Timeout => EvaluationError::Timeout(error.to_string()),
        _ => EvaluationError::Failed(error.to_string()),
    }
}

/// The series of one rule share their timestamps, so they are a stream of the store.
///
/// Not a [`SeriesWriter`](crate::series_writer::SeriesWriter): a rule builds, checks and discards its row as a whole, and
/// its rows have no sequence.
#[derive(Debug)]
struct StoreSink(Stream);

impl Sink for StoreSink {
    fn define(&mut self, column: u32, labels: &Labels) -> Result<(), String> {
        let defined = self.0.define(column, labels);
        defined.map_err(|error| crate::report::chain(&error))
    }

    fn undefine(&mut self, column: u32) {
        self.0.undefine(column);
    }

    fn append(&mut self, timestamp_ms: i64, values: &[(u32, f64)]) -> Result<Refused, String> {
        // Rows of rules have no sequence: a slot that is evaluated again must not count as a repetition.
        let appended = self.0.append_unnumbered(timestamp_ms, values);
        let appended = appended.map_err(|error| crate::report::chain(&error))?;
        let reason = if appended.refused > 0 {
            crate::remote_write::refusal_text(&appended)
        } else {
            String::new()
        };
        Ok(Refused {
            count: appended.refused,
            reason,
        })
    }
}

/// Returns a result as a vector.
pub(crate) fn elements(value: Value) -> Result<Vec<VectorElement>, String> {
    match value {
        Value::Vector(vector) => Ok(vector
            .into_iter()
            .map(|element| (element.labels, element.sample.value))
            .collect()),
        Value::Scalar(sample) => Ok(vec![(Labels::empty(), sample.value)]),
        Value::String { .. } | Value::Matrix(_) => {
            Err("rule result is not a vector or scalar".to_owned())
        }
    }
}
