//! `/api/v1/admin/tsdb/*`, behind `--web.enable-admin-api`.

use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::StatusCode;

use super::error::{ApiError, ErrorType};
use super::state::{Api, Core};

fn enabled(api: &Api) -> Result<Core, ApiError> {
    if !api.flags.enable_admin_api {
        // Prometheus answers this one with 500, not 503.
        return Err(ApiError::unavailable("admin APIs disabled")
            .with_status(StatusCode::INTERNAL_SERVER_ERROR));
    }
    api.core()
}

/// Seals and merges everything that was acknowledged into blocks; answers when they are on disk.
pub async fn flush(State(api): State<Api>) -> Response {
    let core = match enabled(&api) {
        Ok(core) => core,
        Err(error) => return error.into_response(),
    };
    match tokio::task::spawn_blocking(move || core.store.flush()).await {
        Ok(Ok(())) => StatusCode::NO_CONTENT.into_response(),
        Ok(Err(error)) => ApiError::internal("flush the store", &error).into_response(),
        Err(_) => ApiError::new(ErrorType::Internal, "flush was broken off").into_response(),
    }
}

/// `delete_series`, `clean_tombstones` and `snapshot`: the store can do none of them.
pub async fn unsupported(State(api): State<Api>) -> Response {
    match enabled(&api) {
        Ok(_) => ApiError::new(ErrorType::Internal, "not implemented").into_response(),
        Err(error) => error.into_response(),
    }
}
