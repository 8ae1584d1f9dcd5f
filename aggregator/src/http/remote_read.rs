//! `POST /api/v1/read`: remote read, as whole series or as a stream of chunks.

mod message;
mod xor;

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::Response;
use common::model::{Labels, MatchOp, Matcher};
use common::report::chain;
use http::{HeaderValue, header};
use prost::Message as _;
use tidemark_storage::{ReadControl, ReadError, Selection, SeriesSet, Values};

use self::message::{
    Chunk, ChunkedReadResponse, ChunkedSeries, Label, Query, QueryResult, ReadRequest,
    ReadResponse, Sample, TimeSeries,
};
use super::error::ApiError;
use super::params::read_limited;
use super::respond::{self, Encoding, ReadOptions, ReadPermit, Sink, read_error};
use super::selectors::select;
use super::state::{Api, Core};

/// Maximum bytes of a request. Prometheus' `remote.DecodeReadRequest` has no limit.
const REQUEST_BYTES_MAX: usize = 1 << 20;
/// Samples of a chunk, as in Prometheus' head.
const CHUNK_SAMPLES: usize = 120;
/// Chunks of a frame, which then has at most about 100 KiB.
const FRAME_CHUNKS: usize = 64;

const SAMPLES: &str = "application/x-protobuf";
const STREAM: &str = "application/x-streamed-protobuf; proto=prometheus.ChunkedReadResponse";

/// Form of a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ResponseForm {
    /// One message with plain samples.
    Samples,
    /// A stream of messages with XOR chunks.
    Chunks,
}

/// Answers a remote read.
///
/// # Errors
/// The request is wrong, or the read failed.
pub async fn read(
    State(api): State<Api>,
    core: Core,
    request: Request,
) -> Result<Response, ApiError> {
    // Clients show errors to people; they expect no JSON.
    let message = parse(request).await.map_err(ApiError::into_line)?;
    let form = response_form(&message).map_err(ApiError::into_line)?;
    let external = api.config.load().global.external_labels.clone();
    let selections = message
        .queries
        .iter()
        .map(|query| selection(query, &external))
        .collect::<Result<Vec<_>, _>>()
        .map_err(ApiError::into_line)?;
    let samples_max = api.config.load().limits.remote_read_samples_max;
    let options = ReadOptions {
        content_type: match form {
            ResponseForm::Samples => SAMPLES,
            ResponseForm::Chunks => STREAM,
        },
        // The protocol compresses its messages itself.
        ..ReadOptions::json(Encoding::Identity)
    };
    let mut response = respond::read(&api, options, move |sink, permit| {
        let reader = SampleReader {
            core,
            external,
            permit,
            samples_max,
        };
        match form {
            ResponseForm::Samples => reader.write_samples(sink, &selections),
            ResponseForm::Chunks => reader.write_chunks(sink, &selections),
        }
    })
    .await?;
    if form == ResponseForm::Samples {
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("snappy"));
    }
    Ok(response)
}

/// Why a request can't be decoded.
#[derive(Debug, thiserror::Error)]
enum DecodeError {
    #[error("snappy")]
    Snappy(#[from] snap::Error),
    #[error("protobuf")]
    Protobuf(#[from] prost::DecodeError),
    #[error("request decodes to {0} bytes, at most {REQUEST_BYTES_MAX} allowed")]
    TooLarge(usize),
}

async fn parse(request: Request) -> Result<ReadRequest, ApiError> {
    let body = read_limited(request, REQUEST_BYTES_MAX).await?;
    decode(&body).map_err(|error| ApiError::bad_data(chain(&error)))
}

fn decode(body: &[u8]) -> Result<ReadRequest, DecodeError> {
    let bytes = snap::raw::decompress_len(body)?;
    if bytes > REQUEST_BYTES_MAX {
        return Err(DecodeError::TooLarge(bytes));
    }
    let message = snap::raw::Decoder::new().decompress_vec(body)?;
    Ok(ReadRequest::decode(message.as_slice())?)
}

/// The first form in the request that this server supports; samples if the request names none.
fn response_form(message: &ReadRequest) -> Result<ResponseForm, ApiError> {
    if message.accepted_response_types.is_empty() {
        return Ok(ResponseForm::Samples);
    }
    let supported = |&number: &i32| match number {
        0 => Some(ResponseForm::Samples),
        1 => Some(ResponseForm::Chunks),
        _ => None,
    };
    message
        .accepted_response_types
        .iter()
        .find_map(supported)
        .ok_or_else(|| {
            ApiError::bad_data("server does not support any of the requested response types")
        })
}

/// Drops matchers on external labels with this server's values: they match every series.
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
            .map_err(|error| ApiError::bad_data(chain(&error)))?;
        matchers.push(matcher);
    }
    Ok(Selection {
        matchers,
        start_ms: query.start_timestamp_ms,
        end_ms: query.end_timestamp_ms,
    })
}

/// Receives the labels, timestamps and values of one series.
type VisitSeries<'v> = dyn FnMut(Vec<Label>, &[i64], &[f64]) -> Result<(), ApiError> + 'v;

/// Reads samples for a response in either form.
struct SampleReader<'a> {
    core: Core,
    external: BTreeMap<String, String>,
    permit: &'a ReadPermit,
    samples_max: u64,
}

impl SampleReader<'_> {
    /// Writes one message, whose size the limit of samples bounds.
    fn write_samples(&self, sink: &mut Sink, selections: &[Selection]) -> Result<(), ApiError> {
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
            .map_err(|error| ApiError::internal("compress the response", &error))?;
        Ok(())
    }

    fn write_chunks(&self, sink: &mut Sink, selections: &[Selection]) -> Result<(), ApiError> {
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

    /// Visits the series of a selection, ordered by labels.
    fn each_series(
        &self,
        selection: &Selection,
        visit: &mut VisitSeries<'_>,
    ) -> Result<(), ApiError> {
        let control = &self.permit.control;
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

/// Appends a frame: `uvarint length, CRC-32C big-endian, message` (`storage/remote/chunked.go`).
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
