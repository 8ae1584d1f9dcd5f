//! `POST /api/v1/write`: remote write.

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse as _, Response};
use common::limits::REMOTE_WRITE_BYTES_MAX;

use super::params::read_limited;
use super::state::Api;
use crate::remote_write;

/// Takes samples. Only so many bodies are read at one time; further senders wait with theirs unread, and the bound on
/// connections bounds how many.
pub async fn write(State(api): State<Api>, request: Request) -> Response {
    let core = match api.core() {
        Ok(core) => core,
        Err(error) => return error.into_response(),
    };
    let Ok(_permit) = api.writes.acquire().await else {
        return super::error::ApiError::unavailable("server is shutting down").into_response();
    };
    let headers = request.headers().clone();
    let body = match read_limited(request, REMOTE_WRITE_BYTES_MAX).await {
        Ok(body) => body,
        // Senders log this text; they expect no JSON.
        Err(error) => {
            let status = error.status.unwrap_or(http::StatusCode::BAD_REQUEST);
            return (status, error.message + "\n").into_response();
        }
    };
    remote_write::receive(&core.store, &headers, body)
        .await
        .map(Body::from)
}
