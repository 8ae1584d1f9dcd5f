//! Receives Prometheus remote write, versions 1.0 and 2.0.
//!
//! A request is answered with 2xx only once its samples are durable. Status codes, what is dropped silently and what
//! rolls a request back are those of Prometheus 3.5, with one exception: a label name that occurs twice in a series is
//! answered with 400 and the rest of the request is kept, where Prometheus drops the series with 204
//! (prometheus/prometheus#19665).

pub mod metrics;
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

use self::metrics::RequestRefusal;
use crate::report::chain;

/// Largest buffer for decompressed bodies that a thread keeps.
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
    #[error("bad snappy")]
    Snappy(#[from] snap::Error),
    #[error("bad protobuf")]
    Protobuf(#[from] protobuf::ProtobufError),
    #[error("labels after samples")]
    LabelsAfterSamples,
    #[error("{0}")]
    Invalid(String),
    #[error("{}", refusal_text(.0))]
    RolledBack(Appended),
    #[error(transparent)]
    Append(AppendError),
    #[error("decode and store")]
    Panicked(#[source] tokio::task::JoinError),
    #[error("store closed before the log was synced")]
    NotSynced(#[source] oneshot::error::RecvError),
}

impl WriteError {
    const fn status(&self) -> StatusCode {
        match self.refusal() {
            RequestRefusal::MediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            RequestRefusal::TooLarge
            | RequestRefusal::Body
            | RequestRefusal::Malformed
            | RequestRefusal::Samples => StatusCode::BAD_REQUEST,
            RequestRefusal::NotReady | RequestRefusal::Full => StatusCode::SERVICE_UNAVAILABLE,
            RequestRefusal::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    const fn refusal(&self) -> RequestRefusal {
        match self {
            Self::UnsupportedMediaType(_) => RequestRefusal::MediaType,
            Self::TooLarge { .. } => RequestRefusal::TooLarge,
            Self::Snappy(_) | Self::Protobuf(_) | Self::LabelsAfterSamples | Self::Invalid(_) => {
                RequestRefusal::Malformed
            }
            Self::RolledBack(_) => RequestRefusal::Samples,
            Self::Append(AppendError::DiskFull { .. } | AppendError::OverBudget { .. }) => {
                RequestRefusal::Full
            }
            Self::Append(AppendError::Closed) => RequestRefusal::NotReady,
            Self::Append(_) | Self::Panicked(_) | Self::NotSynced(_) => RequestRefusal::Internal,
        }
    }
}

impl From<AppendError> for WriteError {
    fn from(error: AppendError) -> Self {
        match error {
            AppendError::Refused(appended) => Self::RolledBack(appended),
            other => Self::Append(other),
        }
    }
}

/// What was stored, for the headers of version 2.0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Written {
    samples: u64,
    histograms: u64,
    exemplars: u64,
}

/// The refused samples of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RefusedWriteSamples {
    /// All of them, without those that were rolled back because others of their request were refused.
    pub samples: u64,
    /// Of these, those older than the retention.
    pub too_old: u64,
}

impl From<&Appended> for RefusedWriteSamples {
    fn from(appended: &Appended) -> Self {
        Self {
            samples: appended.refused,
            too_old: appended.too_old,
        }
    }
}

/// The result of a decoded request, before the log is synced.
struct Outcome {
    appended: Appended,
    written: Written,
    /// Which part of the request was not stored; answered with 400.
    complaint: Option<String>,
}

/// The answer to a request, and what to count.
#[derive(Debug)]
pub struct Received {
    /// The answer.
    pub response: Response<String>,
    /// Samples that were refused.
    pub refused_samples: RefusedWriteSamples,
    /// Why the answer is an error, if it is one.
    pub refusal: Option<RequestRefusal>,
}

/// Stores the samples of one `POST /api/v1/write`.
///
/// The caller bounds the size of `body`; its decompressed size is bounded here. Metadata and exemplars are kept. Native
/// histograms are refused by name, and the rest of their request is kept.
///
/// # Cancel safety
/// Dropping the future does not undo what was appended. The sender repeats the request, which is harmless.
pub async fn receive(store: &Store, headers: &HeaderMap, body: Bytes) -> Received {
    let version = match version(headers) {
        Ok(version) => version,
        Err(error) => return refused(None, &error),
    };
    match process(store, version, body).await {
        Ok(outcome) => Received {
            refused_samples: (&outcome.appended).into(),
            refusal: outcome.complaint.as_ref().map(|_| RequestRefusal::Samples),
            response: stored_answer(version, outcome),
        },
        Err(error) => refused(Some(version), &error),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    V1,
    V2,
}

/// Returns which message the body contains, by its headers.
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

/// Decodes and stores on a blocking thread, then waits until the samples are durable.
async fn process(store: &Store, version: Version, body: Bytes) -> Result<Outcome, WriteError> {
    let (send, receive) = oneshot::channel();
    let for_thread = store.clone();
    let work = tokio::task::spawn_blocking(move || {
        let outcome = with_decompressed(&body, |message| match version {
            Version::V1 => v1::store(&for_thread, message),
            Version::V2 => v2::store(&for_thread, message),
        })?;
        for_thread.when_durable(outcome.appended.position, move |result| {
            // Nobody receives if the client has disconnected.
            drop(send.send(result));
        });
        Ok::<Outcome, WriteError>(outcome)
    });
    let outcome = work.await.map_err(WriteError::Panicked)??;
    receive.await.map_err(WriteError::NotSynced)??;
    Ok(outcome)
}

thread_local! {
    /// Buffer for decompressed bodies, kept because a new one would have to be zeroed each time.
    static DECOMPRESSED: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Decompresses a body and passes it to `take`.
fn with_decompressed<T>(
    body: &[u8],
    take: impl FnOnce(&[u8]) -> Result<T, WriteError>,
) -> Result<T, WriteError> {
    let bytes = snap::raw::decompress_len(body)?;
    if bytes > REMOTE_WRITE_BYTES_MAX {
        return Err(WriteError::TooLarge { bytes });
    }
    DECOMPRESSED.with_borrow_mut(|buffer| {
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

fn stored_answer(version: Version, outcome: Outcome) -> Response<String> {
    match outcome.complaint {
        None => answer(
            Some(version),
            StatusCode::NO_CONTENT,
            outcome.written,
            String::new(),
        ),
        Some(complaint) => answer(
            Some(version),
            StatusCode::BAD_REQUEST,
            outcome.written,
            complaint,
        ),
    }
}

fn refused(version: Option<Version>, error: &WriteError) -> Received {
    let text = chain(error);
    if error.status().is_server_error() {
        tracing::warn!(error = text, "remote write failed");
    }
    let refused_samples = match error {
        WriteError::RolledBack(appended) => appended.into(),
        _ => RefusedWriteSamples::default(),
    };
    Received {
        response: answer(version, error.status(), Written::default(), text),
        refused_samples,
        refusal: Some(error.refusal()),
    }
}

fn answer(
    version: Option<Version>,
    status: StatusCode,
    written: Written,
    text: String,
) -> Response<String> {
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

/// Describes the first refusals, and how many there are in total.
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

/// Why labels do not name a series.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum BadLabels {
    NoName,
    DuplicateName,
    Invalid,
    NotText,
}

impl BadLabels {
    const fn text(self) -> &'static str {
        match self {
            Self::NoName => "series without a metric name",
            Self::DuplicateName => "label name occurs twice",
            Self::Invalid => "invalid or too many labels",
            Self::NotText => "label is not valid UTF-8",
        }
    }
}

/// Builds labels from pairs in any order.
fn build_labels(pairs: &mut Vec<(&str, &str)>) -> Result<Labels, BadLabels> {
    pairs.sort_unstable();
    if pairs.windows(2).any(|pair| pair[0].0 == pair[1].0) {
        return Err(BadLabels::DuplicateName);
    }
    if pairs.iter().any(|(name, _)| name.is_empty()) {
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
