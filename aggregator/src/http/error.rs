//! Error responses, in the form that the clients of an endpoint expect.

use std::convert::Infallible;
use std::error::Error;

use axum::response::{IntoResponse, Response};
use common::report::chain;
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
    /// The server failed.
    Internal,
    /// The server can't answer at present, or is not set up for the request.
    Unavailable,
    /// The object does not exist.
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
            // nginx and Prometheus answer 499 to a client that closed the request; IANA has not registered it.
            Self::Canceled => StatusCode::from_u16(499).unwrap_or(StatusCode::BAD_REQUEST),
            Self::Timeout | Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            Self::NotFound => StatusCode::NOT_FOUND,
        }
    }
}

/// The body of an error response.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ErrorForm {
    /// `{"status":"error","errorType":…,"error":…}`, as Prometheus' API answers.
    #[default]
    Prometheus,
    /// The message as a JSON string, as Alertmanager's API answers.
    Alertmanager,
    /// The message as plain text, for clients that only log it.
    Text,
}

/// A failed request.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    /// The type, which decides the status unless `status` is set.
    pub error_type: ErrorType,
    /// For people. Contains the causes.
    pub message: String,
    /// Overrides the status of the type.
    pub status: Option<StatusCode>,
    /// The body's form.
    pub form: ErrorForm,
}

impl ApiError {
    /// An error of a type.
    pub fn new(error_type: ErrorType, message: impl Into<String>) -> Self {
        Self {
            error_type,
            message: message.into(),
            status: None,
            form: ErrorForm::Prometheus,
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

    /// The server failed while `doing`. Logs the cause with its sources; the client receives them too.
    pub fn internal(doing: &'static str, cause: &(dyn Error + 'static)) -> Self {
        let cause = chain(cause);
        tracing::error!(error = cause, doing, "request failed");
        Self::new(ErrorType::Internal, format!("{doing}: {cause}"))
    }

    /// The server can't answer at present.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(ErrorType::Unavailable, message)
    }

    /// The store is not open yet.
    #[must_use]
    pub fn not_ready() -> Self {
        Self::text(StatusCode::SERVICE_UNAVAILABLE, "Service Unavailable")
    }

    /// A plain-text error.
    pub fn text(status: StatusCode, message: impl Into<String>) -> Self {
        let error_type = match status {
            status if status.is_client_error() => ErrorType::BadData,
            StatusCode::SERVICE_UNAVAILABLE => ErrorType::Unavailable,
            _ => ErrorType::Internal,
        };
        Self {
            status: Some(status),
            form: ErrorForm::Text,
            ..Self::new(error_type, message)
        }
    }

    /// Turns the error into a line of text, with status 400 unless it has a status of its own. Scrapers and senders
    /// of remote write show the line to people; they expect no JSON.
    #[must_use]
    pub fn into_line(mut self) -> Self {
        self.status = self.status.or(Some(StatusCode::BAD_REQUEST));
        if self.form != ErrorForm::Text {
            self.form = ErrorForm::Text;
            self.message.push('\n');
        }
        self
    }

    /// Names `match[]` in an error of a selector, as `/api/v1/series` does and the label endpoints do not.
    #[must_use]
    pub fn about_selectors(self) -> Self {
        if self.error_type != ErrorType::BadData || self.message.starts_with("invalid parameter") {
            return self;
        }
        Self::invalid_parameter("match[]", self.message)
    }

    /// Overrides the status of the type.
    #[must_use]
    pub const fn with_status(mut self, status: StatusCode) -> Self {
        self.status = Some(status);
        self
    }

    fn json_body(&self) -> Vec<u8> {
        let mut body = Vec::with_capacity(96 + self.message.len());
        body.extend_from_slice(br#"{"status":"error","errorType":"#);
        json::string(&mut body, self.error_type.as_str());
        body.extend_from_slice(br#","error":"#);
        json::string(&mut body, &self.message);
        body.push(b'}');
        body
    }
}

impl From<Infallible> for ApiError {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status = self.status.unwrap_or_else(|| self.error_type.status());
        let body = match self.form {
            ErrorForm::Text => return (status, self.message).into_response(),
            ErrorForm::Prometheus => self.json_body(),
            ErrorForm::Alertmanager => {
                let mut body = Vec::with_capacity(self.message.len() + 2);
                json::string(&mut body, &self.message);
                body
            }
        };
        let mut response = (status, body).into_response();
        response.headers_mut().insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        );
        response
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("write the log")]
    struct LogError(#[source] std::io::Error);

    #[track_caller]
    fn check(error: ApiError, status: u16, want: &str) {
        let response = error.into_response();
        assert_eq!(response.status(), status);
        let body = futures_body(response);
        assert_eq!(body, want);
    }

    fn futures_body(response: Response) -> String {
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        let body = runtime.unwrap().block_on(response.into_body().collect());
        String::from_utf8(body.unwrap().to_bytes().to_vec()).unwrap()
    }

    #[test]
    fn answer_names_every_cause() {
        let cause = LogError(std::io::Error::other("disk is gone"));
        check(
            ApiError::internal("flush the store", &cause),
            500,
            r#"{"status":"error","errorType":"internal","error":"flush the store: write the log: disk is gone"}"#,
        );
    }

    #[test]
    fn each_form_has_its_body() {
        check(
            ApiError::bad_data("no"),
            400,
            r#"{"status":"error","errorType":"bad_data","error":"no"}"#,
        );
        let alertmanager = ApiError {
            form: ErrorForm::Alertmanager,
            ..ApiError::bad_data("\"no\"")
        };
        check(alertmanager, 400, r#""\"no\"""#);
        check(ApiError::bad_data("no").into_line(), 400, "no\n");
        check(
            ApiError::not_ready().into_line(),
            503,
            "Service Unavailable",
        );
    }
}
