//! Alertmanager's API, version 2, under `/api/v2`.

mod alerts;
mod silences;

use axum::Router;
use axum::extract::State;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use common::model::Matcher;
use http::{Method, StatusCode, header};
use serde_json::{Value as Json, json};
use tidemark_alerting::notify::message::format_time;
use tidemark_alerting::notify::notifier::Notifier;

use super::params::Params;
use super::state::Api;

/// Bytes of a body of alerts.
const BODY_BYTES_MAX: usize = 5 << 20;

/// The paths.
pub fn routes() -> Router<Api> {
    Router::new()
        .route("/status", get(status))
        .route("/receivers", get(receivers))
        .route("/alerts", get(alerts::list).post(alerts::post))
        .route("/alerts/groups", get(alerts::groups))
        .route("/silences", get(silences::list).post(silences::post))
        .route(
            "/silence/{id}",
            get(silences::show).delete(silences::expire),
        )
        .layer(axum::extract::DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(middleware::from_fn(require_json))
}

/// A body that is not JSON is refused, which also keeps forms of other sites out.
async fn require_json(request: axum::extract::Request, next: Next) -> Response {
    let content_type = request
        .headers()
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    let is_json = content_type.is_some_and(|text| {
        text.split(';').next().unwrap_or_default().trim() == "application/json"
    });
    if request.method() == Method::POST && !is_json {
        return Failure(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "unsupported media type, only [application/json] are allowed".to_owned(),
        )
        .into_response();
    }
    next.run(request).await
}

/// A failed request, in Alertmanager's form: the message as a JSON text.
#[derive(Debug)]
struct Failure(StatusCode, String);

impl Failure {
    fn bad(message: impl std::fmt::Display) -> Self {
        Self(StatusCode::BAD_REQUEST, message.to_string())
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        (self.0, axum::Json(Json::String(self.1))).into_response()
    }
}

/// Works on the notifier, off the threads that serve requests: it may wait for the disk.
async fn with<T: Send + 'static>(
    api: &Api,
    work: impl FnOnce(&mut Notifier, i64) -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    let unavailable = |message: &str| Failure(StatusCode::SERVICE_UNAVAILABLE, message.to_owned());
    let alerting = api
        .alerting()
        .map_err(|_| unavailable("the server is starting"))?;
    let task = tokio::task::spawn_blocking(move || {
        let now_ms = alerting.now_ms();
        let result = work(&mut alerting.notifier(), now_ms);
        alerting.wake_notifier();
        result
    });
    task.await.unwrap_or_else(|error| {
        Err(Failure(
            StatusCode::INTERNAL_SERVER_ERROR,
            error.to_string(),
        ))
    })
}

async fn status(State(api): State<Api>) -> Result<axum::Json<Json>, Failure> {
    let started = format_time(api.started_ms);
    let answer = with(&api, move |notifier, _| {
        Ok(json!({
            "cluster": { "peers": [], "status": "disabled" },
            "config": { "original": notifier.config().original },
            "uptime": started,
            "versionInfo": {
                "branch": "", "buildDate": "", "buildUser": "", "goVersion": "",
                "revision": "", "version": concat!("0.27.0+tidemark-", env!("CARGO_PKG_VERSION")),
            },
        }))
    });
    answer.await.map(axum::Json)
}

async fn receivers(State(api): State<Api>) -> Result<axum::Json<Json>, Failure> {
    let answer = with(&api, |notifier, _| {
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
    });
    answer.await.map(axum::Json)
}

/// `filter`: matchers that must all hold.
fn filter(params: &Params) -> Result<Vec<Matcher>, Failure> {
    let mut matchers = Vec::new();
    for text in params.all("filter") {
        matchers.extend(tidemark_alerting::notify::matcher::parse(text).map_err(Failure::bad)?);
    }
    Ok(matchers)
}

/// A truth value that may be left out. What is not one of these words is false, as in Alertmanager.
fn flag(params: &Params, name: &str, default: bool) -> bool {
    match params.get(name).to_lowercase().as_str() {
        "" => default,
        text => matches!(
            text,
            "true" | "1" | "yes" | "ok" | "y" | "on" | "selected" | "checked" | "t" | "enabled"
        ),
    }
}

/// Reads a body; one that lacks something is told apart from one that is no JSON or has the wrong kinds.
fn read<'b, T: serde::Deserialize<'b>>(body: &'b [u8], what: &str) -> Result<T, Failure> {
    if body.is_empty() {
        let message = format!("{what} in body is required");
        return Err(Failure(StatusCode::UNPROCESSABLE_ENTITY, message));
    }
    serde_json::from_slice(body).map_err(|error| {
        let message = format!("parsing {what} body: {error}");
        if error.to_string().starts_with("missing field") {
            Failure(StatusCode::UNPROCESSABLE_ENTITY, message)
        } else {
            Failure::bad(message)
        }
    })
}

/// RFC 3339, as milliseconds.
fn parse_time(text: &str) -> Result<i64, Failure> {
    let time: jiff::Timestamp = text
        .parse()
        .map_err(|error| Failure::bad(format!("bad time {text:?}: {error}")))?;
    Ok(time.as_millisecond())
}

fn params(uri: &http::Uri) -> Result<Params, Failure> {
    let params = Params::parse(uri.query().unwrap_or_default().as_bytes());
    params.well_formed().map_err(Failure::bad)?;
    Ok(params)
}
