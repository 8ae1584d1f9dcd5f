//! `POST /api/v1/read`: remote read, as whole series or as a stream of chunks.

mod message;
mod xor;

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::{IntoResponse as _, Response};
use common::model::{Labels, MatchOp, Matcher};
use http::{HeaderValue, StatusCode, header};
use prost::Message as _;
use tidemark_storage::{ReadControl, ReadError, Selection, SeriesSet, Values};

use self::message::{
    Chunk, ChunkedReadResponse, ChunkedSeries, Label, Query, QueryResult, ReadRequest,
    ReadResponse, Sample, TimeSeries,
};
use super::blocking::{Permitted, read_error, respond};
use super::error::ApiError;
use super::params::read_limited;
use super::reply::Sink;
use super::selectors::select;
use super::state::{Api, Core};

/// Bytes of a request (Prometheus: `remote.DecodeReadRequest` has no bound of its own).
const REQUEST_BYTES_MAX: usize = 1 << 20;
/// Samples of a chunk, as Prometheus' head cuts them.
const CHUNK_SAMPLES: usize = 120;
/// Chunks of one frame: about 100 KiB at most.
const FRAME_CHUNKS: usize = 64;

const SAMPLES: &str = "application/x-protobuf";
const STREAM: &str = "application/x-streamed-protobuf; proto=prometheus.ChunkedReadResponse";

/// How the answer is formed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Samples,
    Chunks,
}

/// Answers a remote read.
pub async fn read(State(api): State<Api>, mut request: Request) -> Response {
    // Compression is part of the protocol here, never the transport's.
    request.headers_mut().remove(header::ACCEPT_ENCODING);
    let headers = request.headers().clone();
    let parsed = match parse(request).await {
        Ok(message) => form(&message).and_then(|form| Ok((message, form, api.core()?))),
        Err(error) => Err(error),
    };
    let (message, form, core) = match parsed {
        Ok(parsed) => parsed,
        Err(error) => return plain(&error),
    };
    let external = api.config.load().global.external_labels.clone();
    let selections: Result<Vec<_>, _> = message
        .queries
        .iter()
        .map(|query| selection(query, &external))
        .collect();
    let selections = match selections {
        Ok(selections) => selections,
        Err(error) => return plain(&error),
    };
    let samples_max = api.config.load().limits.remote_read_samples_max;
    let content_type = match form {
        Form::Samples => SAMPLES,
        Form::Chunks => STREAM,
    };
    let mut response = respond(
        &api,
        &headers,
        content_type,
        None,
        move |sink, permitted| {
            let answer = Answer {
                core,
                external,
                permitted,
                samples_max,
            };
            match form {
                Form::Samples => answer.samples(sink, &selections),
                Form::Chunks => answer.chunks(sink, &selections),
            }
        },
    )
    .await;
    if form == Form::Samples && response.status() == StatusCode::OK {
        response
            .headers_mut()
            .insert(header::CONTENT_ENCODING, HeaderValue::from_static("snappy"));
    }
    response
}

/// Readers show this text to people; they expect no JSON.
fn plain(error: &ApiError) -> Response {
    let status = error.status.unwrap_or(StatusCode::BAD_REQUEST);
    (status, error.message.clone() + "\n").into_response()
}

async fn parse(request: Request) -> Result<ReadRequest, ApiError> {
    let body = read_limited(request, REQUEST_BYTES_MAX).await?;
    let bad = |error: &dyn std::fmt::Display| ApiError::bad_data(error.to_string());
    let bytes = snap::raw::decompress_len(&body).map_err(|e| bad(&e))?;
    if bytes > REQUEST_BYTES_MAX {
        return Err(ApiError::bad_data(format!(
            "request decodes to {bytes} bytes, at most {REQUEST_BYTES_MAX} allowed"
        )));
    }
    let plain = snap::raw::Decoder::new()
        .decompress_vec(&body)
        .map_err(|e| bad(&e))?;
    ReadRequest::decode(plain.as_slice()).map_err(|e| bad(&e))
}

/// The first form that the client takes and this server knows; none named means samples.
fn form(message: &ReadRequest) -> Result<Form, ApiError> {
    if message.accepted_response_types.is_empty() {
        return Ok(Form::Samples);
    }
    let known = |&number: &i32| match number {
        0 => Some(Form::Samples),
        1 => Some(Form::Chunks),
        _ => None,
    };
    message
        .accepted_response_types
        .iter()
        .find_map(known)
        .ok_or_else(|| {
            ApiError::bad_data("server does not support any of the requested response types")
        })
}

/// Matchers on external labels with this server's own values hold for every series, so they are left out.
fn selection(query: &Query, external: &BTreeMap<String, String>) -> Result<Selection, ApiError> {
    let mut matchers = Vec::with_capacity(query.matchers.len());
    for matcher in &query.matchers {
        let op = match matcher.matcher_type {
            0 => MatchOp::Equal,
            1 => MatchOp::NotEqual,
            2 => MatchOp::Regex,
            3 => MatchOp::NotRegex,
            _ => return Err(ApiError::bad_data("invalid matcher type")),
        };
        if op == MatchOp::Equal && external.get(&matcher.name) == Some(&matcher.value) {
            continue;
        }
        let matcher = Matcher::new(matcher.name.as_str(), op, matcher.value.as_str())
            .map_err(|error| ApiError::bad_data(error.to_string()))?;
        matchers.push(matcher);
    }
    Ok(Selection {
        matchers,
        start_ms: query.start_timestamp_ms,
        end_ms: query.end_timestamp_ms,
    })
}

/// Takes the labels, timestamps and values of one series.
type VisitSeries<'v> = dyn FnMut(Vec<Label>, &[i64], &[f64]) -> Result<(), ApiError> + 'v;

/// What both forms of answer need.
struct Answer<'a> {
    core: Core,
    external: BTreeMap<String, String>,
    permitted: &'a Permitted,
    samples_max: u64,
}

impl Answer<'_> {
    /// Everything in one message, so it is bounded by samples.
    fn samples(&self, sink: &mut Sink, selections: &[Selection]) -> Result<(), ApiError> {
        let mut response = ReadResponse::default();
        for selection in selections {
            let mut result = QueryResult::default();
            self.each_series(selection, &mut |labels, timestamps_ms, values| {
                let samples = timestamps_ms
                    .iter()
                    .zip(values)
                    .map(|(&timestamp, &value)| Sample { value, timestamp })
                    .collect();
                result.timeseries.push(TimeSeries { labels, samples });
                Ok(())
            })?;
            response.results.push(result);
        }
        sink.text = snap::raw::Encoder::new()
            .compress_vec(&response.encode_to_vec())
            .map_err(|error| ApiError::internal("compress", &error))?;
        Ok(())
    }

    fn chunks(&self, sink: &mut Sink, selections: &[Selection]) -> Result<(), ApiError> {
        for (index, selection) in selections.iter().enumerate() {
            self.each_series(selection, &mut |labels, timestamps_ms, values| {
                let times = timestamps_ms.chunks(CHUNK_SAMPLES);
                let chunks: Vec<_> = times
                    .zip(values.chunks(CHUNK_SAMPLES))
                    .filter_map(|(times, values)| chunk(times, values))
                    .collect();
                for part in chunks.chunks(FRAME_CHUNKS) {
                    let message = ChunkedReadResponse {
                        chunked_series: vec![ChunkedSeries {
                            labels: labels.clone(),
                            chunks: part.to_vec(),
                        }],
                        query_index: index as i64,
                    };
                    frame(&mut sink.text, &message.encode_to_vec());
                    sink.flush_chunk()?;
                }
                Ok(())
            })?;
        }
        Ok(())
    }

    /// Visits the series of a selection in the order of their labels.
    fn each_series(
        &self,
        selection: &Selection,
        visit: &mut VisitSeries<'_>,
    ) -> Result<(), ApiError> {
        let control = &self.permitted.control;
        let set: Arc<dyn SeriesSet> = select(&self.core.store, selection, control)?;
        let mut order: Vec<_> = (0..set.len())
            .map(|index| (set.labels(index), index))
            .collect();
        order.sort_unstable();
        for (labels, index) in order {
            self.one_series(&*set, index, control, &labels, visit)?;
        }
        Ok(())
    }

    fn one_series(
        &self,
        set: &dyn SeriesSet,
        index: usize,
        control: &ReadControl,
        labels: &Labels,
        visit: &mut VisitSeries<'_>,
    ) -> Result<(), ApiError> {
        let mut failure = None;
        let result = set.read(index..index + 1, control, &mut |_, column| {
            if control.samples() > self.samples_max {
                let limit = self.samples_max;
                return Err(ReadError::TooManySamples { limit });
            }
            let Values::Floats(values) = column.values;
            if let Err(error) = visit(self.with_external(labels), column.timestamps_ms, values) {
                failure = Some(error);
                return Err(ReadError::Cancelled);
            }
            Ok(())
        });
        match (failure, result) {
            (Some(error), _) => Err(error),
            (None, Err(ReadError::TooManySamples { limit })) => {
                let message = format!("exceeded sample limit ({limit})");
                Err(ApiError::bad_data(message))
            }
            (None, Err(error)) => Err(read_error(&error)),
            (None, Ok(())) => Ok(()),
        }
    }

    fn with_external(&self, labels: &Labels) -> Vec<Label> {
        let outer = self
            .external
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .filter(|(name, _)| labels.get(name).is_none());
        let mut all: Vec<_> = labels
            .iter()
            .chain(outer)
            .map(|(name, value)| Label {
                name: name.to_owned(),
                value: value.to_owned(),
            })
            .collect();
        all.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        all
    }
}

fn chunk(timestamps_ms: &[i64], values: &[f64]) -> Option<Chunk> {
    Some(Chunk {
        min_time_ms: *timestamps_ms.first()?,
        max_time_ms: *timestamps_ms.last()?,
        encoding: 1,
        data: xor::encode(timestamps_ms, values),
    })
}

/// `uvarint length, CRC-32C big-endian, message` (`storage/remote/chunked.go`).
fn frame(out: &mut Vec<u8>, message: &[u8]) {
    let mut length = message.len() as u64;
    while length >= 0x80 {
        out.push(length as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
    out.extend_from_slice(&crc32c::crc32c(message).to_be_bytes());
    out.extend_from_slice(message);
}
