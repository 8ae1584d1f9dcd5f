//! What a client is told when a request fails, in Prometheus' JSON.

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};

use super::json;

/// Prometheus' error types (`web/api/v1/api.go`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorType {
    /// The request is wrong.
    BadData,
    /// The evaluation failed.
    Execution,
    /// The client went away.
    Canceled,
    /// The evaluation took too long.
    Timeout,
    /// This server failed.
    Internal,
    /// This server can't do it now, or is not set up for it.
    Unavailable,
    /// There is no such thing.
    NotFound,
}

impl ErrorType {
    const fn as_str(self) -> &'static str {
        match self {
            Self::BadData => "bad_data",
            Self::Execution => "execution",
            Self::Canceled => "canceled",
            Self::Timeout => "timeout",
            Self::Internal => "internal",
            Self::Unavailable => "unavailable",
            Self::NotFound => "not_found",
        }
    }

    fn status(self) -> StatusCode {
        match self {
            Self::BadData => StatusCode::BAD_REQUEST,
            Self::Execution => StatusCode::UNPROCESSABLE_ENTITY,
            // 499 has no name in the registry; nginx and Prometheus use it for a client that closed the request.
            Self::Canceled => StatusCode::from_u16(499).unwrap_or(StatusCode::BAD_REQUEST),
            Self::Timeout | Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            Self::NotFound => StatusCode::NOT_FOUND,
        }
    }
}

/// A failed request.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    /// What kind.
    pub error_type: ErrorType,
    /// For people.
    pub message: String,
    /// Overrides the status of the type.
    pub status: Option<StatusCode>,
}

impl ApiError {
    /// An error of a type.
    pub fn new(error_type: ErrorType, message: impl Into<String>) -> Self {
        Self {
            error_type,
            message: message.into(),
            status: None,
        }
    }

    /// The request is wrong.
    pub fn bad_data(message: impl Into<String>) -> Self {
        Self::new(ErrorType::BadData, message)
    }

    /// A parameter is wrong, in Prometheus' words.
    pub fn invalid_parameter(name: &str, reason: impl std::fmt::Display) -> Self {
        Self::bad_data(format!("invalid parameter {name:?}: {reason}"))
    }

    /// This server failed. The cause goes to the log, the client sees what was being done.
    pub fn internal(doing: &'static str, cause: &(dyn std::error::Error + 'static)) -> Self {
        tracing::error!(error = crate::report::chain(cause), doing, "request failed");
        Self::new(ErrorType::Internal, format!("{doing}: {cause}"))
    }

    /// This server can't do it now.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(ErrorType::Unavailable, message)
    }

    /// Names `match[]` in an error of a selector, as `/api/v1/series` does and the label endpoints do not.
    #[must_use]
    pub fn about_selectors(self) -> Self {
        if self.error_type != ErrorType::BadData || self.message.starts_with("invalid parameter") {
            return self;
        }
        Self::invalid_parameter("match[]", self.message)
    }

    /// With another status than the type's.
    #[must_use]
    pub const fn with_status(mut self, status: StatusCode) -> Self {
        self.status = Some(status);
        self
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut body = Vec::with_capacity(96 + self.message.len());
        body.extend_from_slice(br#"{"status":"error","errorType":"#);
        json::string(&mut body, self.error_type.as_str());
        body.extend_from_slice(br#","error":"#);
        json::string(&mut body, &self.message);
        body.push(b'}');
        let status = self.status.unwrap_or_else(|| self.error_type.status());
        let mut response = (status, body).into_response();
        response.headers_mut().insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        );
        response
    }
}
