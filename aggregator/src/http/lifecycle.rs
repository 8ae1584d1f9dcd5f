//! Probes and the switches of the process: `/-/healthy`, `/-/ready`, `/-/reload`, `/-/quit`.

use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::StatusCode;
use tokio::sync::oneshot;

use super::state::Api;

/// The process runs.
pub async fn healthy() -> &'static str {
    "Tidemark Aggregator is Healthy.\n"
}

/// Requests are answered.
pub async fn ready(State(api): State<Api>) -> Response {
    if api.is_ready() {
        "Tidemark Aggregator is Ready.\n".into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "Service Unavailable").into_response()
    }
}

fn lifecycle_disabled() -> Response {
    (StatusCode::FORBIDDEN, "Lifecycle API is not enabled.").into_response()
}

/// Loads the configuration again.
pub async fn reload(State(api): State<Api>) -> Response {
    if !api.flags.enable_lifecycle {
        return lifecycle_disabled();
    }
    let (answer, result) = oneshot::channel();
    if api.reload.send(answer).await.is_err() {
        return (StatusCode::SERVICE_UNAVAILABLE, "Service Unavailable").into_response();
    }
    match result.await {
        Ok(Ok(())) => StatusCode::OK.into_response(),
        Ok(Err(reason)) => {
            let message = format!("failed to reload config: {reason}\n");
            (StatusCode::INTERNAL_SERVER_ERROR, message).into_response()
        }
        Err(_) => (StatusCode::SERVICE_UNAVAILABLE, "Service Unavailable").into_response(),
    }
}

/// Ends the process as SIGTERM does.
pub async fn quit(State(api): State<Api>) -> Response {
    if !api.flags.enable_lifecycle {
        return lifecycle_disabled();
    }
    api.shutdown.cancel();
    "Requesting termination... Goodbye!".into_response()
}

/// Answers the wrong method as Prometheus does.
pub async fn post_only() -> Response {
    (
        StatusCode::METHOD_NOT_ALLOWED,
        "Only POST or PUT requests allowed",
    )
        .into_response()
}
