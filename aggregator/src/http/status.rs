//! `/api/v1/status/*` and `/version`.

pub mod tsdb;

use std::sync::atomic::Ordering;

use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use serde_json::{Map, Value, json};

use super::error::ApiError;
use super::respond::{self, Encoding};
use super::state::Api;
use super::time::rfc3339;

/// The release of Prometheus whose API this is, followed by our own version. Clients such as Grafana choose their
/// requests by it.
const API_VERSION: &str = concat!("3.5.3+tidemark.", env!("CARGO_PKG_VERSION"));

fn build() -> Value {
    json!({
        "version": API_VERSION,
        "revision": option_env!("TIDEMARK_REVISION").unwrap_or(""),
        "branch": "",
        "buildUser": "",
        "buildDate": "",
        "goVersion": "",
    })
}

/// `/api/v1/status/buildinfo`
///
/// # Errors
/// The response can't be compressed.
pub async fn buildinfo(State(api): State<Api>, encoding: Encoding) -> Result<Response, ApiError> {
    respond::json(&api, encoding, &build()).await
}

/// `/version`
///
/// # Errors
/// Never.
pub async fn version() -> Result<Response, ApiError> {
    Ok(axum::Json(build()).into_response())
}

/// `/api/v1/status/config`
///
/// # Errors
/// The response can't be compressed.
pub async fn config(State(api): State<Api>, encoding: Encoding) -> Result<Response, ApiError> {
    let yaml = api.config.load().to_yaml();
    respond::json(&api, encoding, &json!({ "yaml": yaml })).await
}

/// `/api/v1/status/flags`
///
/// # Errors
/// The response can't be compressed.
pub async fn flags(State(api): State<Api>, encoding: Encoding) -> Result<Response, ApiError> {
    let flags: Map<String, Value> = api
        .flags
        .values
        .iter()
        .map(|(name, value)| (name.clone(), json!(value)))
        .collect();
    respond::json(&api, encoding, &Value::Object(flags)).await
}

/// `/api/v1/status/runtimeinfo`
///
/// # Errors
/// The response can't be compressed.
pub async fn runtimeinfo(State(api): State<Api>, encoding: Encoding) -> Result<Response, ApiError> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let working_directory = std::env::current_dir().unwrap_or_default();
    let hostname = nix::unistd::gethostname().unwrap_or_default();
    let config_loaded_ms = api.config_loaded_ms.load(Ordering::Relaxed);
    let data = json!({
        "startTime": rfc3339::show_ms(api.started_ms),
        "CWD": working_directory.to_string_lossy(),
        "hostname": hostname.to_string_lossy(),
        "serverTime": rfc3339::show_ms(api.clock.now_ms()),
        "lastConfigTime": rfc3339::show_ms(config_loaded_ms),
        "GOGC": "",
        "GODEBUG": "",
        "storageRetention": retention(&api),
        "reloadConfigSuccess": api.config_good.load(Ordering::Relaxed),
        "corruptionCount": 0,
        "goroutineCount": 0,
        "GOMAXPROCS": threads,
        "GOMEMLIMIT": api.settings.memory_budget_bytes,
    });
    respond::json(&api, encoding, &data).await
}

/// `15d`, `10B` or `15d or 10B`.
fn retention(api: &Api) -> String {
    let time = api
        .settings
        .retention
        .map(|time| common::duration::Display(time).to_string());
    let bytes = Some(api.settings.retention_bytes)
        .filter(|&bytes| bytes > 0)
        .map(|bytes| format!("{bytes}B"));
    let parts: Vec<_> = time.into_iter().chain(bytes).collect();
    parts.join(" or ")
}

/// `/api/v1/status/walreplay`
///
/// # Errors
/// The response can't be compressed.
pub async fn walreplay(State(api): State<Api>, encoding: Encoding) -> Result<Response, ApiError> {
    let data = json!({ "min": 0, "max": 0, "current": 0 });
    respond::json(&api, encoding, &data).await
}
