//! What Prometheus' scrape manager and notifier would tell. This server scrapes nothing, so
//! the lists are empty; their shapes are Prometheus'.

use axum::extract::State;
use axum::response::Response;
use http::HeaderMap;

use tidemark_promql::parse_selector;

use super::blocking::JSON;
use super::error::ApiError;
use super::params::Params;
use super::reply::{Encoding, ReplyOptions, reply};
use super::state::Api;

/// Answers `{"status":"success","data":…}` with a body that is small and known.
pub async fn small(api: &Api, headers: &HeaderMap, data: Vec<u8>) -> Response {
    let options = ReplyOptions {
        encoding: Encoding::of(headers),
        content_type: JSON,
        stall_max: api.flags.web_read_timeout,
    };
    reply(options, move |sink| {
        sink.text
            .extend_from_slice(br#"{"status":"success","data":"#);
        sink.text.extend_from_slice(&data);
        sink.text.push(b'}');
        Ok(())
    })
    .await
}

macro_rules! empty_list {
    ($(#[$doc:meta])* $name:ident, $shape:literal) => {
        $(#[$doc])*
        pub async fn $name(State(api): State<Api>, headers: HeaderMap) -> Response {
            small(&api, &headers, $shape.to_vec()).await
        }
    };
}

/// `/api/v1/targets`
pub async fn targets(State(api): State<Api>, headers: HeaderMap, params: Params) -> Response {
    // Counts of dropped targets come with those only.
    let counts = match params.get("state").to_ascii_lowercase().as_str() {
        "" | "any" | "dropped" => "{}",
        _ => "null",
    };
    let data =
        format!("{{\"activeTargets\":[],\"droppedTargets\":[],\"droppedTargetCounts\":{counts}}}");
    small(&api, &headers, data.into_bytes()).await
}

/// `/api/v1/targets/metadata`
///
/// # Errors
/// A parameter is wrong.
pub async fn targets_metadata(
    State(api): State<Api>,
    headers: HeaderMap,
    params: Params,
) -> Result<Response, ApiError> {
    let limit = params.get("limit");
    if !limit.is_empty() && limit.parse::<i64>().is_err() {
        return Err(ApiError::bad_data("limit must be a number"));
    }
    let selector = params.get("match_target");
    if !selector.is_empty() {
        parse_selector(selector)
            .map_err(|error| ApiError::invalid_parameter("match_target", error))?;
    }
    Ok(small(&api, &headers, b"[]".to_vec()).await)
}

empty_list!(
    /// `/api/v1/scrape_pools`
    scrape_pools,
    br#"{"scrapePools":[]}"#
);
empty_list!(
    /// `/api/v1/notifications`
    notifications,
    br"[]"
);
