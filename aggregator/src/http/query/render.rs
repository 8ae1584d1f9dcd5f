//! Writes a query result as Prometheus' JSON while it is sent.

use std::time::Duration;

use tidemark_promql::{QueryResult, Stats, Value};

use crate::http::error::ApiError;
use crate::http::json;
use crate::http::respond::Sink;

/// Annotations shown of each kind (`web/api/v1/api.go`: `AsStrings(query, 10, 10)`).
const ANNOTATIONS_MAX: usize = 10;
/// Samples of a series between two checks for a full chunk.
const SAMPLES_PER_CHUNK_CHECK: usize = 1024;

/// The warning that a limit truncated the result.
pub const TRUNCATED: &str = "results truncated due to limit";

/// Time that a query took.
#[derive(Debug, Clone, Copy)]
pub struct Timings {
    /// In the queue.
    pub queued: Duration,
    /// Parsing and evaluation.
    pub evaluated: Duration,
}

/// A result and its presentation.
#[derive(Debug)]
pub struct Render {
    /// The result.
    pub result: QueryResult,
    /// Maximum number of series.
    pub limit: Option<usize>,
    /// Times to report, if the client asked for statistics.
    pub stats: Option<Timings>,
    /// Whether statistics contain samples per step.
    pub per_step: bool,
}

impl Render {
    /// Writes the response.
    ///
    /// # Errors
    /// The client is gone, or the response is too large to be written inline.
    pub fn write(mut self, sink: &mut Sink) -> Result<(), ApiError> {
        let truncated = self.truncate();
        let text = &mut sink.text;
        text.extend_from_slice(br#"{"status":"success","data":{"resultType":"#);
        json::string(text, self.result.value.type_name());
        text.extend_from_slice(br#","result":"#);
        value(sink, &self.result.value)?;
        if let Some(timings) = self.stats {
            stats(&mut sink.text, &self.result.stats, timings, self.per_step);
        }
        sink.text.push(b'}');
        let mut warnings = shown(&self.result.warnings, "warning");
        if truncated {
            warnings.push(TRUNCATED.to_owned());
        }
        annotations(&mut sink.text, "warnings", &warnings);
        annotations(&mut sink.text, "infos", &shown(&self.result.infos, "info"));
        sink.text.push(b'}');
        sink.flush_chunk()
    }

    fn truncate(&mut self) -> bool {
        let Some(limit) = self.limit else {
            return false;
        };
        match &mut self.result.value {
            Value::Vector(list) if list.len() > limit => list.truncate(limit),
            Value::Matrix(list) if list.len() > limit => list.truncate(limit),
            _ => return false,
        }
        true
    }
}

fn shown(texts: &[String], kind: &str) -> Vec<String> {
    let mut list: Vec<_> = texts.iter().take(ANNOTATIONS_MAX).cloned().collect();
    if texts.len() > ANNOTATIONS_MAX {
        let more = texts.len() - ANNOTATIONS_MAX;
        list.push(format!("{more} more {kind} annotations omitted"));
    }
    list
}

/// Appends `,"name":[…]` if the list is not empty.
pub fn annotations(text: &mut Vec<u8>, name: &str, list: &[String]) {
    if list.is_empty() {
        return;
    }
    text.push(b',');
    json::string(text, name);
    text.push(b':');
    json::strings(text, list.iter().map(String::as_str));
}

fn value(sink: &mut Sink, value: &Value) -> Result<(), ApiError> {
    let text = &mut sink.text;
    match value {
        Value::Scalar(sample) => json::point(text, sample.timestamp_ms, sample.value),
        Value::String {
            timestamp_ms,
            text: string,
        } => {
            text.push(b'[');
            json::timestamp(text, *timestamp_ms);
            text.push(b',');
            json::string(text, &String::from_utf8_lossy(string));
            text.push(b']');
        }
        Value::Vector(list) => {
            text.push(b'[');
            for (index, one) in list.iter().enumerate() {
                let text = &mut sink.text;
                text.extend_from_slice(if index > 0 {
                    b",{\"metric\":"
                } else {
                    b"{\"metric\":"
                });
                json::labels(text, &one.labels);
                text.extend_from_slice(b",\"value\":");
                json::point(text, one.sample.timestamp_ms, one.sample.value);
                text.push(b'}');
                sink.flush_chunk()?;
            }
            sink.text.push(b']');
        }
        Value::Matrix(list) => {
            text.push(b'[');
            for (index, series) in list.iter().enumerate() {
                let text = &mut sink.text;
                text.extend_from_slice(if index > 0 {
                    b",{\"metric\":"
                } else {
                    b"{\"metric\":"
                });
                json::labels(text, &series.labels);
                text.extend_from_slice(b",\"values\":[");
                points(sink, &series.samples)?;
                sink.text.extend_from_slice(b"]}");
                sink.flush_chunk()?;
            }
            sink.text.push(b']');
        }
    }
    Ok(())
}

fn points(sink: &mut Sink, samples: &[common::model::Sample]) -> Result<(), ApiError> {
    for (index, sample) in samples.iter().enumerate() {
        if index > 0 {
            sink.text.push(b',');
            if index % SAMPLES_PER_CHUNK_CHECK == 0 {
                sink.flush_chunk()?;
            }
        }
        json::point(&mut sink.text, sample.timestamp_ms, sample.value);
    }
    Ok(())
}

/// Writes statistics as `util/stats/query_stats.go` does. Phases that this engine does not measure are 0.
fn stats(text: &mut Vec<u8>, stats: &Stats, timings: Timings, per_step: bool) {
    let seconds = |text: &mut Vec<u8>, name: &str, time: Duration| {
        text.extend_from_slice(name.as_bytes());
        json::float(text, time.as_secs_f64());
    };
    text.extend_from_slice(br#","stats":{"timings":{"#);
    seconds(text, r#""evalTotalTime":"#, timings.evaluated);
    seconds(text, r#","resultSortTime":"#, Duration::ZERO);
    seconds(text, r#","queryPreparationTime":"#, Duration::ZERO);
    seconds(text, r#","innerEvalTime":"#, timings.evaluated);
    seconds(text, r#","execQueueTime":"#, timings.queued);
    seconds(
        text,
        r#","execTotalTime":"#,
        timings.queued + timings.evaluated,
    );
    text.extend_from_slice(br#"},"samples":{"#);
    if per_step {
        text.extend_from_slice(br#""totalQueryableSamplesPerStep":["#);
        for (index, &(timestamp_ms, samples)) in stats.samples_per_step.iter().enumerate() {
            text.extend_from_slice(if index > 0 { b",[" } else { b"[" });
            json::timestamp(text, timestamp_ms);
            text.push(b',');
            json::integer(text, samples);
            text.push(b']');
        }
        text.extend_from_slice(b"],");
    }
    text.extend_from_slice(br#""totalQueryableSamples":"#);
    json::integer(text, stats.samples_queryable);
    text.extend_from_slice(br#","peakSamples":"#);
    json::integer(text, stats.samples_peak);
    text.extend_from_slice(b"}}");
}
