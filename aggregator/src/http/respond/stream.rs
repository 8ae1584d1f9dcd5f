//! Responses that are sent while they are written.
//!
//! The writer runs on a blocking thread, a few chunks ahead of the socket, and compresses on the way. A response that
//! fits into one chunk is sent whole, with its length.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use common::report::chain;
use http::{HeaderValue, header};
use hyper::body::Frame;
use tokio::sync::oneshot;

use super::encoding::Encoding;
use super::sink::{Chunks, ResponseStart, Sink};
use crate::http::error::{ApiError, ErrorType};

/// Properties of a response that its writer does not decide.
#[derive(Debug, Clone, Copy)]
pub(super) struct StreamOptions {
    /// Compression.
    pub(super) encoding: Encoding,
    /// `Content-Type` of the body.
    pub(super) content_type: &'static str,
    /// How long a client may read nothing.
    pub(super) stall_max: Duration,
}

/// Runs `write` on a blocking thread and sends what it writes.
///
/// # Errors
/// The error of `write`, if it failed before the first chunk. A later one aborts the connection, so that no client
/// mistakes part of a result for the whole.
pub(super) async fn stream(
    options: StreamOptions,
    write: impl FnOnce(&mut Sink) -> Result<(), ApiError> + Send + 'static,
) -> Result<Response, ApiError> {
    let (start_sender, start) = oneshot::channel();
    let mut sink = Sink::new(options.encoding, start_sender, options.stall_max);
    let task = tokio::task::spawn_blocking(move || {
        let written = match write(&mut sink) {
            Ok(()) => sink.finish(),
            Err(error) => sink.fail(error),
        };
        if let Err(error) = written {
            tracing::debug!(error = chain(&error), "abort response");
        }
    });
    let Ok(start) = start.await else {
        // Only a panic drops the sender before it was used.
        let cause = task.await.err();
        let cause = cause.map_or_else(String::new, |error| chain(&error));
        tracing::error!(error = cause, "request handler panicked");
        return Err(ApiError::new(
            ErrorType::Internal,
            "request handler panicked",
        ));
    };
    let (body, encoding) = match start {
        ResponseStart::Failed(error) => return Err(error),
        ResponseStart::Whole { body, encoding } => (Body::from(body), encoding),
        ResponseStart::Streamed(chunks) => {
            let body = ChunkBody {
                chunks,
                ended: false,
            };
            (Body::new(body), options.encoding)
        }
    };
    Ok(response(body, options.content_type, encoding))
}

/// Runs `write` on the calling thread, which it must not occupy for long.
///
/// Returns `None` if it failed, panicked or wrote too much. The caller then repeats the work with [`stream`], which
/// reports the reason.
pub(super) fn write_inline(
    options: StreamOptions,
    write: impl FnOnce(&mut Sink) -> Result<(), ApiError>,
) -> Option<Response> {
    let mut sink = Sink::inline(options.encoding, options.stall_max);
    let written = catch_unwind(AssertUnwindSafe(|| write(&mut sink)));
    written.ok()?.ok()?;
    let (body, encoding) = sink.into_whole().ok()?;
    Some(response(Body::from(body), options.content_type, encoding))
}

fn response(body: Body, content_type: &'static str, encoding: Encoding) -> Response {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::VARY, HeaderValue::from_static("Accept-Encoding"));
    if let Some(name) = encoding.name() {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(name));
    }
    response
}

/// The body of a streamed response. Fails unless the writer marked it as complete.
struct ChunkBody {
    chunks: Chunks,
    ended: bool,
}

impl hyper::body::Body for ChunkBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        self.chunks.poll_recv(context).map(|chunk| match chunk {
            Some(chunk) if chunk.is_empty() => {
                self.ended = true;
                None
            }
            Some(chunk) => Some(Ok(Frame::data(chunk))),
            None => {
                self.ended = true;
                Some(Err(io::Error::other("response was aborted")))
            }
        })
    }
}

#[cfg(test)]
mod tests;
