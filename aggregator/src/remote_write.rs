//! Receives Prometheus remote write, versions 1.0 and 2.0.
//!
//! A request is answered with 2xx only once its samples are on disk. What Prometheus 3.5 does with the same request
//! is done here too: status codes, what is dropped silently, what rolls a request back.

mod protobuf;
mod v1;
mod v2;

use std::cell::RefCell;

use bytes::Bytes;
use common::limits::REMOTE_WRITE_BYTES_MAX;
use common::model::Labels;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use tidemark_storage::{AppendError, Appended, Refusal, RefusalReason, Store};
use tokio::sync::oneshot;

/// A buffer for unpacked bodies up to this size is kept, one a thread.
const KEEP_BYTES: usize = 4 << 20;

const MEDIA_TYPE: &str = "application/x-protobuf";
const MESSAGE_V1: &str = "prometheus.WriteRequest";
const MESSAGE_V2: &str = "io.prometheus.write.v2.Request";
const WRITTEN: [&str; 3] = [
    "x-prometheus-remote-write-samples-written",
    "x-prometheus-remote-write-histograms-written",
    "x-prometheus-remote-write-exemplars-written",
];

/// Why a request is answered with an error.
#[derive(Debug, thiserror::Error)]
enum WriteError {
    #[error("unsupported media type: {0}")]
    UnsupportedMediaType(String),
    #[error("body decodes to {bytes} bytes, at most {REMOTE_WRITE_BYTES_MAX} allowed")]
    TooLarge { bytes: usize },
    #[error("bad snappy: {0}")]
    Snappy(#[from] snap::Error),
    #[error("bad protobuf: {0}")]
    Protobuf(#[from] protobuf::ProtobufError),
    #[error("{0}")]
    Refused(String),
    #[error("{}", refusal_text(.0))]
    NotStored(Appended),
    #[error(transparent)]
    Append(AppendError),
    #[error("request was abandoned")]
    Abandoned,
}

impl WriteError {
    const fn status(&self) -> StatusCode {
        match self {
            Self::UnsupportedMediaType(_) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::TooLarge { .. }
            | Self::Snappy(_)
            | Self::Protobuf(_)
            | Self::Refused(_)
            | Self::NotStored(_) => StatusCode::BAD_REQUEST,
            Self::Append(
                AppendError::DiskFull { .. } | AppendError::OverBudget { .. } | AppendError::Closed,
            ) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Append(_) | Self::Abandoned => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

impl From<AppendError> for WriteError {
    fn from(error: AppendError) -> Self {
        match error {
            AppendError::Refused(appended) => Self::NotStored(appended),
            other => Self::Append(other),
        }
    }
}

/// What was written, for version 2.0's headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Written {
    samples: u64,
    histograms: u64,
    exemplars: u64,
}

/// Samples of one request that were refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RefusedSamples {
    /// In all, without those that version 1.0 leaves out because others of their request are refused.
    pub samples: u64,
    /// Of these, older than the retention.
    pub too_old: u64,
}

impl From<&Appended> for RefusedSamples {
    fn from(appended: &Appended) -> Self {
        Self {
            samples: appended.refused,
            too_old: appended.too_old,
        }
    }
}

/// What a decoded request came to, before the log is synced.
struct Outcome {
    appended: Appended,
    written: Written,
    /// What part of the request was not kept; answered with 400.
    complaint: Option<String>,
}

/// Takes one `POST /api/v1/write`.
///
/// The caller bounds the size of `body`; what it unpacks to is bounded here. Metadata is kept. Native histograms
/// are refused by name, the rest of their request is kept.
///
/// # Cancel safety
/// Dropping the future does not undo what was appended; the sender then repeats the request, which is harmless.
pub async fn receive(
    store: &Store,
    headers: &HeaderMap,
    body: Bytes,
) -> (Response<String>, RefusedSamples) {
    let version = match version(headers) {
        Ok(version) => version,
        Err(error) => return (answer(None, Err(error)), RefusedSamples::default()),
    };
    let result = process(store, version, body).await;
    let refused = match &result {
        Ok((_, _, refused)) => *refused,
        Err(WriteError::NotStored(appended)) => appended.into(),
        Err(_) => RefusedSamples::default(),
    };
    let result = result.map(|(written, complaint, _)| (written, complaint));
    (answer(Some(version), result), refused)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    V1,
    V2,
}

/// Which message the body holds, by its headers.
fn version(headers: &HeaderMap) -> Result<Version, WriteError> {
    let unsupported = |what: &str| Err(WriteError::UnsupportedMediaType(what.to_owned()));
    if let Some(encoding) = headers.get(CONTENT_ENCODING)
        && encoding != "snappy"
    {
        return unsupported("content encoding must be snappy");
    }
    let Some(content_type) = headers.get(CONTENT_TYPE) else {
        return Ok(Version::V1);
    };
    let Ok(content_type) = content_type.to_str() else {
        return unsupported("content type is not text");
    };
    let mut parts = content_type.split(';').map(str::trim);
    let media_type = parts.next().unwrap_or_default();
    if !media_type.is_empty() && !media_type.eq_ignore_ascii_case(MEDIA_TYPE) {
        return unsupported(content_type);
    }
    let proto = parts.find_map(|part| {
        let (name, value) = part.split_once('=')?;
        name.trim()
            .eq_ignore_ascii_case("proto")
            .then(|| value.trim().trim_matches('"'))
    });
    match proto {
        None | Some(MESSAGE_V1) => Ok(Version::V1),
        Some(MESSAGE_V2) => Ok(Version::V2),
        Some(_) => unsupported(content_type),
    }
}

/// Decodes and stores on a thread that may block, then waits for the disk.
async fn process(
    store: &Store,
    version: Version,
    body: Bytes,
) -> Result<(Written, Option<String>, RefusedSamples), WriteError> {
    let (send, receive) = oneshot::channel();
    let for_thread = store.clone();
    let work = tokio::task::spawn_blocking(move || {
        let outcome = with_unpacked(&body, |message| match version {
            Version::V1 => v1::store(&for_thread, message),
            Version::V2 => v2::store(&for_thread, message),
        })?;
        for_thread.when_durable(outcome.appended.position, move |result| {
            // The sender is gone when nobody receives.
            drop(send.send(result));
        });
        Ok::<Outcome, WriteError>(outcome)
    });
    let outcome = work.await.map_err(|_| WriteError::Abandoned)??;
    receive.await.map_err(|_| WriteError::Abandoned)??;
    let refused = (&outcome.appended).into();
    Ok((outcome.written, outcome.complaint, refused))
}

thread_local! {
    /// Where bodies are unpacked: the bytes of a new buffer would have to be cleared each time.
    static UNPACKED: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Unpacks a body and gives it to `take`.
fn with_unpacked<T>(
    body: &[u8],
    take: impl FnOnce(&[u8]) -> Result<T, WriteError>,
) -> Result<T, WriteError> {
    let bytes = snap::raw::decompress_len(body)?;
    if bytes > REMOTE_WRITE_BYTES_MAX {
        return Err(WriteError::TooLarge { bytes });
    }
    UNPACKED.with_borrow_mut(|buffer| {
        if buffer.len() < bytes {
            buffer.resize(bytes, 0);
        }
        let length = snap::raw::Decoder::new().decompress(body, buffer)?;
        let result = take(buffer.get(..length).unwrap_or(&[]));
        if buffer.len() > KEEP_BYTES {
            *buffer = Vec::new();
        }
        result
    })
}

fn answer(
    version: Option<Version>,
    result: Result<(Written, Option<String>), WriteError>,
) -> Response<String> {
    let (status, written, text) = match result {
        Ok((written, None)) => (StatusCode::NO_CONTENT, written, String::new()),
        Ok((written, Some(complaint))) => (StatusCode::BAD_REQUEST, written, complaint),
        Err(error) => {
            if error.status().is_server_error() {
                tracing::warn!(%error, "remote write failed");
            }
            (error.status(), Written::default(), error.to_string())
        }
    };
    let mut response = Response::new(text);
    *response.status_mut() = status;
    if version == Some(Version::V2) {
        let counts = [written.samples, written.histograms, written.exemplars];
        for (name, count) in WRITTEN.into_iter().zip(counts) {
            response
                .headers_mut()
                .insert(name, HeaderValue::from(count));
        }
    }
    if !response.body().is_empty() {
        let text = HeaderValue::from_static("text/plain; charset=utf-8");
        response.headers_mut().insert(CONTENT_TYPE, text);
    }
    response
}

/// The first refusals in words, and how many there are in all.
#[must_use]
pub fn refusal_text(appended: &Appended) -> String {
    let mut text = format!("{} samples refused", appended.refused);
    for refusal in appended.refusals.iter().take(3) {
        text.push_str("; ");
        text.push_str(&describe(refusal));
    }
    text
}

fn describe(refusal: &Refusal) -> String {
    let reason = match refusal.reason {
        RefusalReason::DuplicateTimestamp => "duplicate sample for timestamp",
        RefusalReason::TooOld => "out of bounds",
        RefusalReason::TooFarInFuture => "too far in the future",
        RefusalReason::SeriesLimit => "limit of series is reached",
        RefusalReason::MemoryBudget => "memory budget has no room for new series",
    };
    let Refusal {
        labels,
        timestamp_ms,
        ..
    } = refusal;
    format!("{reason}: {labels} at {timestamp_ms}")
}

/// Why a label set is no series.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum BadLabels {
    NoName,
    Invalid,
    NotText,
}

impl BadLabels {
    const fn text(self) -> &'static str {
        match self {
            Self::NoName => "series without a metric name",
            Self::Invalid => "invalid, duplicate or too many labels",
            Self::NotText => "label is not valid UTF-8",
        }
    }
}

/// Makes labels of pairs in any order.
fn build_labels(pairs: &mut Vec<(&str, &str)>) -> Result<Labels, BadLabels> {
    pairs.sort_unstable();
    let has_twin = pairs.windows(2).any(|pair| pair[0].0 == pair[1].0);
    if has_twin || pairs.iter().any(|(name, _)| name.is_empty()) {
        return Err(BadLabels::Invalid);
    }
    if pairs
        .iter()
        .any(|(name, _)| name.len() > usize::from(u16::MAX))
    {
        return Err(BadLabels::Invalid);
    }
    let labels = Labels::from_sorted(pairs.iter().copied());
    if labels.metric_name().is_none() {
        return Err(BadLabels::NoName);
    }
    labels.check_limits().map_err(|_| BadLabels::Invalid)?;
    Ok(labels)
}

#[cfg(test)]
mod tests;
