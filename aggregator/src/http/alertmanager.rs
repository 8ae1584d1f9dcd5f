//! Alertmanager's API, version 2, under `/api/v2`.

mod alerts;
mod silences;

use std::fmt::Display;

use axum::extract::State;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{MethodRouter, delete, get, post};
use common::model::Matcher;
use common::report::chain;
use http::{Method, StatusCode, header};
use serde_json::{Value as Json, json};
use tidemark_alerting::notify::message::format_time;
use tidemark_alerting::notify::notifier::Notifier;

use super::access::Access::{Read, Write};
use super::error::{ApiError, ErrorForm, ErrorType};
use super::params::Params;
use super::router::{Route, route};
use super::state::{Api, OpenAlerting};

/// Maximum bytes of a request body.
const BODY_BYTES_MAX: usize = 5 << 20;

/// The rows of the route table.
pub(super) fn routes() -> Vec<Route> {
    vec![
        route("/api/v2/status", Read, get(status)),
        route("/api/v2/receivers", Read, get(receivers)),
        route("/api/v2/alerts", Read, get(alerts::list)),
        route("/api/v2/alerts", Write, json_body(post(alerts::post))),
        route("/api/v2/alerts/groups", Read, get(alerts::groups)),
        route("/api/v2/silences", Read, get(silences::list)),
        route("/api/v2/silences", Write, json_body(post(silences::post))),
        route("/api/v2/silence/{id}", Read, get(silences::show)),
        route("/api/v2/silence/{id}", Write, delete(silences::expire)),
    ]
}

/// Bounds a body, and refuses one that is not JSON. That also refuses forms of other sites.
fn json_body(methods: MethodRouter<Api>) -> MethodRouter<Api> {
    methods
        .layer(axum::extract::DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(middleware::from_fn(require_json))
}

async fn require_json(request: axum::extract::Request, next: Next) -> Response {
    let content_type = request
        .headers()
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    let is_json = content_type.is_some_and(|text| {
        text.split(';').next().unwrap_or_default().trim() == "application/json"
    });
    if request.method() == Method::POST && !is_json {
        return failed(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "unsupported media type, only [application/json] are allowed",
        )
        .into_response();
    }
    next.run(request).await
}

/// A failed request, in Alertmanager's form.
fn failed(status: StatusCode, message: impl Into<String>) -> ApiError {
    ApiError {
        status: Some(status),
        form: ErrorForm::Alertmanager,
        ..ApiError::new(ErrorType::Execution, message)
    }
}

fn bad_request(message: impl Display) -> ApiError {
    failed(StatusCode::BAD_REQUEST, message.to_string())
}

/// Runs `work` on the notifier on a blocking thread, because it may wait for the disk.
async fn with_notifier<T: Send + 'static>(
    OpenAlerting(alerting): OpenAlerting,
    work: impl FnOnce(&mut Notifier, i64) -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    let task = tokio::task::spawn_blocking(move || {
        let now_ms = alerting.now_ms();
        let result = work(&mut alerting.notifier(), now_ms);
        alerting.wake_notifier();
        result
    });
    task.await
        .unwrap_or_else(|error| Err(failed(StatusCode::INTERNAL_SERVER_ERROR, chain(&error))))
}

async fn status(State(api): State<Api>, alerting: OpenAlerting) -> Result<Response, ApiError> {
    let started = format_time(api.started_ms);
    let status = with_notifier(alerting, move |notifier, _| {
        Ok(json!({
            "cluster": { "peers": [], "status": "disabled" },
            "config": { "original": notifier.config().original },
            "uptime": started,
            "versionInfo": {
                "branch": "", "buildDate": "", "buildUser": "", "goVersion": "",
                "revision": "", "version": concat!("0.27.0+tidemark-", env!("CARGO_PKG_VERSION")),
            },
        }))
    })
    .await?;
    Ok(axum::Json(status).into_response())
}

async fn receivers(alerting: OpenAlerting) -> Result<Response, ApiError> {
    let receivers = with_notifier(alerting, |notifier, _| {
        let config = notifier.config();
        let receivers = config
            .receiver_names
            .iter()
            .filter_map(|name| config.receivers.get(name));
        let shown = receivers.map(|receiver| {
            let mut labels = receiver.labels.clone();
            labels.insert("name".to_owned(), receiver.name.clone());
            json!({ "labels": labels, "name": receiver.name })
        });
        Ok(shown.collect::<Json>())
    })
    .await?;
    Ok(axum::Json(receivers).into_response())
}

/// Parses `filter`: matchers that must all match.
fn filter(params: &Params) -> Result<Vec<Matcher>, ApiError> {
    let mut matchers = Vec::new();
    for text in params.all("filter") {
        matchers.push(tidemark_alerting::notify::matcher::parse_one(text).map_err(bad_request)?);
    }
    Ok(matchers)
}

/// Parses an optional boolean. As in Alertmanager, an unknown word is false.
fn flag(params: &Params, name: &str, default: bool) -> bool {
    match params.get(name).to_lowercase().as_str() {
        "" => default,
        text => matches!(
            text,
            "true" | "1" | "yes" | "ok" | "y" | "on" | "selected" | "checked" | "t" | "enabled"
        ),
    }
}

/// Deserialises a body. A missing field is 422; text that is not JSON or has the wrong types is 400.
fn read<'b, T: serde::Deserialize<'b>>(body: &'b [u8], what: &str) -> Result<T, ApiError> {
    if body.is_empty() {
        let message = format!("{what} in body is required");
        return Err(failed(StatusCode::UNPROCESSABLE_ENTITY, message));
    }
    serde_json::from_slice(body).map_err(|error| {
        let message = format!("parsing {what} body: {error}");
        if error.to_string().starts_with("missing field") {
            failed(StatusCode::UNPROCESSABLE_ENTITY, message)
        } else {
            bad_request(message)
        }
    })
}

/// Parses RFC 3339 into milliseconds.
fn parse_time(text: &str) -> Result<i64, ApiError> {
    let time: jiff::Timestamp = text
        .parse()
        .map_err(|error| bad_request(format!("bad time {text:?}: {error}")))?;
    Ok(time.as_millisecond())
}

fn params(uri: &http::Uri) -> Result<Params, ApiError> {
    let params = Params::parse(uri.query().unwrap_or_default().as_bytes());
    params.well_formed().map_err(bad_request)?;
    Ok(params)
}
