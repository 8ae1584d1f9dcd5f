//! Runs one read on a blocking thread, inside the gate, with a deadline, cancelled when the client goes away.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::response::{IntoResponse as _, Response};
use http::HeaderMap;
use tidemark_storage::{ReadControl, ReadError};

use super::error::{ApiError, ErrorType};
use super::inline::{INLINE_MAX, RequestKey};
use super::reply::{Encoding, ReplyOptions, Sink, reply, reply_inline};
use super::state::{Api, CancelOnDrop};

/// The type of every answer of the API.
pub const JSON: &str = "application/json";

/// What a read is given.
#[derive(Debug, Clone)]
pub struct Permitted {
    /// Bounds, and cancellation when the client goes away or the time is over.
    pub control: Arc<ReadControl>,
    /// When the read must be over.
    pub deadline: Instant,
    /// How long it waited for its turn.
    pub queued: Duration,
}

/// As [`respond`], but what was cheap last time is done here and now, for a change of threads would cost more than the
/// work. What turns out to take longer is broken off and done again on a blocking thread.
pub async fn respond_cheaply(
    api: &Api,
    headers: &HeaderMap,
    key: RequestKey,
    timeout: Option<Duration>,
    work: impl Fn(&mut Sink, &Permitted) -> Result<(), ApiError> + Send + 'static,
) -> Response {
    if api.inline_requests.contains(key)
        && let Some(permit) = api.query_limiter.try_enter()
    {
        let started = Instant::now();
        let permitted = Permitted {
            control: api.read_control(),
            deadline: started + INLINE_MAX.min(api.query_timeout(timeout)),
            queued: Duration::ZERO,
        };
        let options = ReplyOptions {
            encoding: Encoding::of(headers),
            content_type: JSON,
            stall_max: api.flags.web_read_timeout,
        };
        let response = reply_inline(options, |sink| work(sink, &permitted));
        drop(permit);
        match response {
            Some(response) => {
                api.inline_requests.note(key, started.elapsed());
                return response;
            }
            None => api.inline_requests.forget(key),
        }
    }
    let shared = Arc::clone(api);
    respond(api, headers, JSON, timeout, move |sink, permitted| {
        let started = Instant::now();
        let result = work(sink, permitted);
        if result.is_ok() {
            shared.inline_requests.note(key, started.elapsed());
        }
        result
    })
    .await
}

/// Answers with what `work` writes. The permit is held until `work` is done writing.
pub async fn respond(
    api: &Api,
    headers: &HeaderMap,
    content_type: &'static str,
    timeout: Option<Duration>,
    work: impl FnOnce(&mut Sink, &Permitted) -> Result<(), ApiError> + Send + 'static,
) -> Response {
    let timeout = api.query_timeout(timeout);
    let started = Instant::now();
    let permit = match api.query_limiter.enter(timeout).await {
        Ok(permit) => permit,
        Err(error) => return error.into_response(),
    };
    let permitted = Permitted {
        control: api.read_control(),
        deadline: started + timeout,
        queued: started.elapsed(),
    };
    let options = ReplyOptions {
        encoding: Encoding::of(headers),
        content_type,
        stall_max: api.flags.web_read_timeout,
    };
    let guard = CancelOnDrop::new(Arc::clone(&permitted.control));
    let reads = Arc::clone(&permitted.control);
    let deadline = permitted.deadline;
    let response = reply(options, move |sink| {
        let result = work(sink, &permitted);
        drop(permit);
        result
    });
    // Evaluations watch the deadline themselves; this one is for reads that only know the control.
    tokio::pin!(response);
    let response = tokio::select! {
        response = &mut response => response,
        () = tokio::time::sleep_until((deadline + Duration::from_millis(200)).into()) => {
            reads.cancel();
            let late = response.await;
            if late.status().as_u16() == 499 {
                ApiError::new(ErrorType::Timeout, "query timed out").into_response()
            } else {
                late
            }
        }
    };
    guard.disarm();
    response
}

/// What a client is told about a failed read.
#[must_use]
pub fn read_error(error: &ReadError) -> ApiError {
    match error {
        ReadError::Cancelled => ApiError::new(ErrorType::Canceled, error.to_string()),
        ReadError::TooManySamples { .. } | ReadError::TooManySeries { .. } => {
            ApiError::new(ErrorType::Execution, error.to_string())
        }
        ReadError::OverBudget => ApiError::unavailable(error.to_string()),
        ReadError::Io(_) => ApiError::internal("read the store", error),
    }
}
