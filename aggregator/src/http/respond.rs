//! Success responses of handlers.
//!
//! [`json`] sends a small JSON value, [`data`] one that is already serialised. [`read`] runs a read of the store on a blocking thread, within the limit of
//! concurrent queries, with a deadline, cancelled when the client goes away. [`read_inline`] does the same on the
//! thread where the request arrived if the request was cheap last time.

mod encoding;
mod sink;
mod stream;

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::response::{IntoResponse as _, Response};
use http::StatusCode;
use serde_json::Value;
use tidemark_storage::{ReadControl, ReadError};
use tokio::sync::OwnedSemaphorePermit;

pub use self::encoding::Encoding;
pub use self::sink::Sink;
use self::stream::{StreamOptions, stream, write_inline};
use super::error::{ApiError, ErrorType};
use super::inline::{INLINE_MAX, RequestKey};
use super::state::{Api, CancelOnDrop};

/// Content type of the Prometheus API.
pub const JSON: &str = "application/json";

/// How long after its deadline a read that does not watch the deadline is cancelled.
const DEADLINE_GRACE: Duration = Duration::from_millis(200);

/// Permission to read the store once.
#[derive(Debug, Clone)]
pub struct ReadPermit {
    /// Limits of the read; cancelled when the client goes away or after the deadline.
    pub control: Arc<ReadControl>,
    /// When the read must have ended.
    pub deadline: Instant,
    /// How long the request waited in the queue.
    pub queued: Duration,
}

/// Properties of a read's response.
#[derive(Debug, Clone, Copy)]
pub struct ReadOptions {
    /// Compression.
    pub encoding: Encoding,
    /// `Content-Type` of the body.
    pub content_type: &'static str,
    /// Time limit that the client asked for.
    pub timeout: Option<Duration>,
}

impl ReadOptions {
    /// Options of a JSON response without a time limit of its own.
    #[must_use]
    pub const fn json(encoding: Encoding) -> Self {
        Self {
            encoding,
            content_type: JSON,
            timeout: None,
        }
    }

    fn stream(&self, api: &Api) -> StreamOptions {
        StreamOptions {
            encoding: self.encoding,
            content_type: self.content_type,
            stall_max: api.flags.web_read_timeout,
        }
    }
}

/// Answers `{"status":"success","data":…}`. `data` is JSON.
///
/// # Errors
/// The response can't be compressed.
pub async fn data(api: &Api, encoding: Encoding, data: Vec<u8>) -> Result<Response, ApiError> {
    stream(ReadOptions::json(encoding).stream(api), move |sink| {
        sink.text
            .extend_from_slice(br#"{"status":"success","data":"#);
        sink.text.extend_from_slice(&data);
        sink.text.push(b'}');
        Ok(())
    })
    .await
}

/// Answers `{"status":"success","data":…}` with a JSON value.
///
/// # Errors
/// The response can't be compressed.
pub async fn json(api: &Api, encoding: Encoding, value: &Value) -> Result<Response, ApiError> {
    data(api, encoding, value.to_string().into_bytes()).await
}

/// Answers 204.
#[must_use]
pub fn no_content() -> Response {
    StatusCode::NO_CONTENT.into_response()
}

/// Answers with what `write` writes, from a blocking thread. The permit is held until `write` returns.
///
/// # Errors
/// Too many queries are waiting, the time is over, or `write` failed before its first chunk.
pub async fn read(
    api: &Api,
    options: ReadOptions,
    write: impl FnOnce(&mut Sink, &ReadPermit) -> Result<(), ApiError> + Send + 'static,
) -> Result<Response, ApiError> {
    let timeout = api.query_timeout(options.timeout);
    let started = Instant::now();
    let slot = api.query_limiter.enter(timeout).await?;
    let permit = ReadPermit {
        control: api.read_control(),
        deadline: started + timeout,
        queued: started.elapsed(),
    };
    let control = Arc::clone(&permit.control);
    let cancel_on_drop = CancelOnDrop::new(Arc::clone(&control));
    let deadline = permit.deadline + DEADLINE_GRACE;
    let response = stream(options.stream(api), move |sink| {
        let result = write(sink, &permit);
        drop(slot);
        result
    });
    let response = cancel_after(deadline, &control, response).await;
    cancel_on_drop.disarm();
    response
}

/// Cancels a read at `deadline`. PromQL evaluations watch their deadline themselves; other reads only know `control`.
async fn cancel_after(
    deadline: Instant,
    control: &ReadControl,
    response: impl Future<Output = Result<Response, ApiError>>,
) -> Result<Response, ApiError> {
    tokio::pin!(response);
    tokio::select! {
        response = &mut response => response,
        () = tokio::time::sleep_until(deadline.into()) => {
            control.cancel();
            response.await.map_err(|error| match error.error_type {
                ErrorType::Canceled => ApiError::new(ErrorType::Timeout, "query timed out"),
                _ => error,
            })
        }
    }
}

/// Answers as [`read`] does, but on the calling thread if the request was cheap last time: switching threads would
/// cost more than the work. A request that turns out to be expensive is interrupted and repeated on a blocking thread.
///
/// # Errors
/// As [`read`].
pub async fn read_inline(
    api: &Api,
    options: ReadOptions,
    key: RequestKey,
    write: impl Fn(&mut Sink, &ReadPermit) -> Result<(), ApiError> + Send + 'static,
) -> Result<Response, ApiError> {
    if api.inline_requests.contains(key)
        && let Some(slot) = api.query_limiter.try_enter()
    {
        match write_on_this_thread(api, options, key, &write, slot) {
            Some(response) => return Ok(response),
            None => api.inline_requests.forget(key),
        }
    }
    let shared = Arc::clone(api);
    read(api, options, move |sink, permit| {
        let started = Instant::now();
        write(sink, permit)?;
        shared.inline_requests.record(key, started.elapsed());
        Ok(())
    })
    .await
}

/// Returns `None` if the request failed or turned out to be expensive.
fn write_on_this_thread(
    api: &Api,
    options: ReadOptions,
    key: RequestKey,
    write: impl Fn(&mut Sink, &ReadPermit) -> Result<(), ApiError>,
    slot: OwnedSemaphorePermit,
) -> Option<Response> {
    let started = Instant::now();
    let permit = ReadPermit {
        control: api.read_control(),
        deadline: started + INLINE_MAX.min(api.query_timeout(options.timeout)),
        queued: Duration::ZERO,
    };
    let response = write_inline(options.stream(api), |sink| write(sink, &permit));
    drop(slot);
    let response = response?;
    api.inline_requests.record(key, started.elapsed());
    Some(response)
}

/// The client's view of a failed read.
#[must_use]
pub fn read_error(error: &ReadError) -> ApiError {
    let message = common::report::chain(error);
    match error {
        ReadError::Cancelled => ApiError::new(ErrorType::Canceled, message),
        ReadError::TooManySamples { .. } | ReadError::TooManySeries { .. } => {
            ApiError::new(ErrorType::Execution, message)
        }
        ReadError::OverBudget => ApiError::unavailable(message),
        ReadError::Io(_) => ApiError::internal("read the store", error),
    }
}
