//! `/api/v1/status/tsdb`: how many series there are, and where they come from.

use std::collections::HashMap;

use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::HeaderMap;
use tidemark_storage::{ReadControl, Selection};

use crate::http::blocking::{JSON, respond};
use crate::http::error::ApiError;
use crate::http::json;
use crate::http::params::Params;
use crate::http::selectors::select;
use crate::http::state::{Api, Core};

/// How far back series count as present: what Prometheus' head holds at most.
const HEAD_MS: i64 = 3 * 3_600_000;

/// Counts over all recent series.
#[derive(Debug, Default)]
struct Cardinality {
    series: u64,
    by_metric: HashMap<String, u64>,
    by_pair: HashMap<(String, String), u64>,
}

impl Cardinality {
    fn read(core: &Core, now_ms: i64, control: &ReadControl) -> Result<Self, ApiError> {
        let selection = Selection {
            matchers: Vec::new(),
            start_ms: now_ms - HEAD_MS,
            end_ms: now_ms,
        };
        let set = select(&core.store, &selection, control)?;
        let mut counts = Self::default();
        for index in 0..set.len() {
            control
                .check()
                .map_err(|error| crate::http::blocking::read_error(&error))?;
            counts.series += 1;
            let labels = set.labels(index);
            if let Some(metric) = labels.metric_name() {
                count(&mut counts.by_metric, metric);
            }
            for (name, value) in &labels {
                let key = (name.to_owned(), value.to_owned());
                *counts.by_pair.entry(key).or_default() += 1;
            }
        }
        Ok(counts)
    }

    /// For each label, its values: how many, and their bytes.
    fn by_label(&self) -> (HashMap<String, u64>, HashMap<String, u64>) {
        let (mut values, mut bytes) = (HashMap::new(), HashMap::new());
        for (name, value) in self.by_pair.keys() {
            count(&mut values, name);
            *bytes.entry(name.clone()).or_default() += value.len() as u64;
        }
        (values, bytes)
    }
}

fn count(counts: &mut HashMap<String, u64>, key: &str) {
    match counts.get_mut(key) {
        Some(count) => *count += 1,
        None => drop(counts.insert(key.to_owned(), 1)),
    }
}

/// Answers with the largest counts, `limit` of each kind.
pub async fn tsdb(State(api): State<Api>, headers: HeaderMap, params: Params) -> Response {
    let parsed = || {
        let limit = match params.get("limit") {
            "" => 10,
            text => text
                .parse()
                .ok()
                .filter(|&limit| limit > 0)
                .ok_or_else(|| ApiError::bad_data("limit must be a positive number"))?,
        };
        Ok::<(usize, Core), ApiError>((limit, api.core()?))
    };
    let (limit, core) = match parsed() {
        Ok(parsed) => parsed,
        Err(error) => return error.into_response(),
    };
    let now_ms = api.clock.now_ms();
    respond(&api, &headers, JSON, None, move |sink, permitted| {
        let counts = Cardinality::read(&core, now_ms, &permitted.control)?;
        write(&mut sink.text, &counts, limit, now_ms);
        sink.spill()
    })
    .await
}

fn write(text: &mut Vec<u8>, counts: &Cardinality, limit: usize, now_ms: i64) {
    let (values, bytes) = counts.by_label();
    let head = format!(
        "{{\"status\":\"success\",\"data\":{{\"headStats\":{{\"numSeries\":{},\"numLabelPairs\":{},\
         \"chunkCount\":{},\"minTime\":{},\"maxTime\":{now_ms}}}",
        counts.series,
        counts.by_pair.len(),
        counts.series,
        now_ms - HEAD_MS,
    );
    text.extend_from_slice(head.as_bytes());
    let pairs = counts
        .by_pair
        .iter()
        .map(|((name, value), &count)| (format!("{name}={value}"), count));
    let by_metric = counts.by_metric.iter().map(own);
    list(text, "seriesCountByMetricName", by_metric, limit);
    list(
        text,
        "labelValueCountByLabelName",
        values.iter().map(own),
        limit,
    );
    list(
        text,
        "memoryInBytesByLabelName",
        bytes.iter().map(own),
        limit,
    );
    list(text, "seriesCountByLabelValuePair", pairs, limit);
    text.extend_from_slice(b"}}");
}

fn own((name, &count): (&String, &u64)) -> (String, u64) {
    (name.clone(), count)
}

fn list(text: &mut Vec<u8>, name: &str, counts: impl Iterator<Item = (String, u64)>, limit: usize) {
    let mut counts: Vec<_> = counts.collect();
    counts.sort_unstable_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    text.push(b',');
    json::string(text, name);
    text.extend_from_slice(b":[");
    for (index, (name, count)) in counts.iter().take(limit).enumerate() {
        text.extend_from_slice(if index > 0 {
            b",{\"name\":"
        } else {
            b"{\"name\":"
        });
        json::string(text, name);
        text.extend_from_slice(b",\"value\":");
        json::integer(text, *count);
        text.push(b'}');
    }
    text.push(b']');
}
