//! The store and the query engine as rules use them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use common::model::Sample;
use tidemark_alerting::rules::source::{RuleSample, Source, VectorElement};
use tidemark_promql::{Engine, QueryOptions, Value};
use tidemark_storage::{AppendMode, ReadControl, SeriesSamples, Store};

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
    ) -> Result<Vec<VectorElement>, String> {
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
            .map_err(|error| error.to_string())?;
        elements(result.value)
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
}

/// What a rule may work with.
pub(crate) fn elements(value: Value) -> Result<Vec<VectorElement>, String> {
    match value {
        Value::Vector(vector) => Ok(vector
            .into_iter()
            .map(|element| (element.labels, element.sample.value))
            .collect()),
        Value::Scalar(sample) => Ok(vec![(common::model::Labels::empty(), sample.value)]),
        _ => Err("rule result is not a vector or scalar".to_owned()),
    }
}
