//! `/api/v1/status/*` and `/version`.

pub mod tsdb;

use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::{HeaderMap, header};
use std::sync::atomic::Ordering;

use super::json;
use super::state::Api;
use super::targets::small;
use super::time::rfc3339;

/// The release of Prometheus whose API this is, with our own version behind it. Clients (Grafana) choose what to ask
/// for by it.
const API_VERSION: &str = concat!("3.5.3+tidemark.", env!("CARGO_PKG_VERSION"));

fn object(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut out = vec![b'{'];
    for (index, (name, value)) in fields.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        json::string(&mut out, name);
        out.push(b':');
        json::string(&mut out, value);
    }
    out.push(b'}');
    out
}

fn build() -> Vec<u8> {
    object(&[
        ("version", API_VERSION),
        ("revision", option_env!("TIDEMARK_REVISION").unwrap_or("")),
        ("branch", ""),
        ("buildUser", ""),
        ("buildDate", ""),
        ("goVersion", ""),
    ])
}

/// `/api/v1/status/buildinfo`
pub async fn buildinfo(State(api): State<Api>, headers: HeaderMap) -> Response {
    small(&api, &headers, build()).await
}

/// `/version`
pub async fn version() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], build()).into_response()
}

/// `/api/v1/status/config`
pub async fn config(State(api): State<Api>, headers: HeaderMap) -> Response {
    let yaml = api.config.load().to_yaml();
    small(&api, &headers, object(&[("yaml", &yaml)])).await
}

/// `/api/v1/status/flags`
pub async fn flags(State(api): State<Api>, headers: HeaderMap) -> Response {
    let fields: Vec<_> = api
        .flags
        .values
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    small(&api, &headers, object(&fields)).await
}

/// `/api/v1/status/runtimeinfo`
pub async fn runtimeinfo(State(api): State<Api>, headers: HeaderMap) -> Response {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let working_directory = std::env::current_dir().unwrap_or_default();
    let hostname = nix::unistd::gethostname().unwrap_or_default();
    let retention = retention(&api);
    let mut data = object(&[
        ("startTime", &rfc3339::show_ms(api.started_ms)),
        ("CWD", &working_directory.to_string_lossy()),
        ("hostname", &hostname.to_string_lossy()),
        ("serverTime", &rfc3339::show_ms(api.clock.now_ms())),
        (
            "lastConfigTime",
            &rfc3339::show_ms(api.config_loaded_ms.load(Ordering::Relaxed)),
        ),
        ("GOGC", ""),
        ("GODEBUG", ""),
        ("storageRetention", &retention),
    ]);
    data.pop();
    let good = api.config_good.load(Ordering::Relaxed);
    let numbers = format!(
        ",\"reloadConfigSuccess\":{good},\"corruptionCount\":0,\"goroutineCount\":0,\
         \"GOMAXPROCS\":{threads},\"GOMEMLIMIT\":{}}}",
        api.settings.memory_budget_bytes
    );
    data.extend_from_slice(numbers.as_bytes());
    small(&api, &headers, data).await
}

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
pub async fn walreplay(State(api): State<Api>, headers: HeaderMap) -> Response {
    small(&api, &headers, br#"{"min":0,"max":0,"current":0}"#.to_vec()).await
}
