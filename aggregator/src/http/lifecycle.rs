//! Probes and control of the process: `/-/healthy`, `/-/ready`, `/-/reload`, `/-/quit`.

use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::StatusCode;
use tokio::sync::oneshot;

use super::error::ApiError;
use super::state::Api;

/// `/-/healthy`: the process runs.
///
/// # Errors
/// Never.
pub async fn healthy() -> Result<Response, ApiError> {
    Ok("Tidemark Aggregator is Healthy.\n".into_response())
}

/// `/-/ready`: requests are answered.
///
/// # Errors
/// The server is starting or stopping.
pub async fn ready(State(api): State<Api>) -> Result<Response, ApiError> {
    if !api.is_ready() {
        return Err(ApiError::not_ready());
    }
    Ok("Tidemark Aggregator is Ready.\n".into_response())
}

/// `/-/reload`: reloads the configuration.
///
/// # Errors
/// The new configuration is bad, or the server is stopping.
pub async fn reload(State(api): State<Api>) -> Result<Response, ApiError> {
    let (sender, outcome) = oneshot::channel();
    api.reload
        .send(sender)
        .await
        .map_err(|_| ApiError::not_ready())?;
    match outcome.await.map_err(|_| ApiError::not_ready())? {
        Ok(()) => Ok(StatusCode::OK.into_response()),
        Err(reason) => Err(ApiError::text(
            StatusCode::INTERNAL_SERVER_ERROR,
            format!("failed to reload config: {reason}\n"),
        )),
    }
}

/// `/-/quit`: stops the process as SIGTERM does.
///
/// # Errors
/// Never.
pub async fn quit(State(api): State<Api>) -> Result<Response, ApiError> {
    api.shutdown.cancel();
    Ok("Requesting termination... Goodbye!".into_response())
}

/// Rejects the wrong method in Prometheus' words.
///
/// # Errors
/// Always.
pub async fn post_only() -> Result<Response, ApiError> {
    Err(ApiError::text(
        StatusCode::METHOD_NOT_ALLOWED,
        "Only POST or PUT requests allowed",
    ))
}
