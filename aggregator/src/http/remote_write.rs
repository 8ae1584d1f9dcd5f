//! `POST /api/v1/write`: remote write.

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use bytes::Bytes;
use common::limits::REMOTE_WRITE_BYTES_MAX;
use common::telemetry::Registry;
use http::StatusCode;

use super::auth::User;
use super::error::ApiError;
use super::params::read_limited;
use super::state::{Api, Core};
use crate::remote_write::metrics::{self, RequestRefusal};
use crate::remote_write::receive;

/// Stores samples. At most `write_concurrency_max` bodies are read at a time; other senders wait with theirs unread.
/// The limit of connections bounds how many wait.
///
/// # Errors
/// The body can't be read, or the server is shutting down. Senders log these as a line of text.
pub async fn write(
    State(api): State<Api>,
    core: Core,
    request: Request,
) -> Result<Response, ApiError> {
    let Ok(_permit) = api.writes.acquire().await else {
        metrics::count_request(&api.registry, RequestRefusal::NotReady);
        return Err(ApiError::unavailable("server is shutting down").into_line());
    };
    let headers = request.headers().clone();
    let user = request.extensions().get::<User>().cloned();
    let body = read_body(&api.registry, request).await?;
    let received = receive(&core.store, &headers, body).await;
    let user = user.as_ref().map_or("", |user| &user.0);
    metrics::count_samples(&api.registry, user, received.refused_samples);
    if let Some(reason) = received.refusal {
        metrics::count_request(&api.registry, reason);
    }
    Ok(received.response.map(Body::from))
}

async fn read_body(registry: &Registry, request: Request) -> Result<Bytes, ApiError> {
    read_limited(request, REMOTE_WRITE_BYTES_MAX)
        .await
        .map_err(|error| {
            let reason = match error.status {
                Some(StatusCode::PAYLOAD_TOO_LARGE) => RequestRefusal::TooLarge,
                _ => RequestRefusal::Body,
            };
            metrics::count_request(registry, reason);
            error.into_line()
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn body_beyond_the_limit_is_counted() {
        let registry = Registry::default();
        let body = Body::from(vec![0; REMOTE_WRITE_BYTES_MAX + 1]);
        let error = read_body(&registry, Request::new(body)).await.unwrap_err();
        assert_eq!(error.status, Some(StatusCode::PAYLOAD_TOO_LARGE));
        let mut text = String::new();
        registry.render(&mut text);
        let line = r#"aggregator_remote_write_refused_requests_total{reason="too_large"} 1"#;
        assert!(text.contains(line), "{text}");
    }
}
