//! `/api/v1/targets`, `/api/v1/scrape_pools` and `/api/v1/notifications`: what Prometheus' scrape manager and notifier
//! would report. This server scrapes nothing, so the lists are empty; their shapes are Prometheus'.

use axum::extract::State;
use axum::response::Response;
use serde_json::json;
use tidemark_promql::parse_selector;

use super::error::ApiError;
use super::params::Params;
use super::respond::{self, Encoding};
use super::state::Api;

/// `/api/v1/targets`
///
/// # Errors
/// The response can't be compressed.
pub async fn targets(
    State(api): State<Api>,
    encoding: Encoding,
    params: Params,
) -> Result<Response, ApiError> {
    // Counts come only with dropped targets.
    let counts = match params.get("state").to_ascii_lowercase().as_str() {
        "" | "any" | "dropped" => json!({}),
        _ => json!(null),
    };
    let data = json!({
        "activeTargets": [],
        "droppedTargets": [],
        "droppedTargetCounts": counts,
    });
    respond::json(&api, encoding, &data).await
}

/// `/api/v1/targets/metadata`
///
/// # Errors
/// A parameter is wrong.
pub async fn targets_metadata(
    State(api): State<Api>,
    encoding: Encoding,
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
    respond::json(&api, encoding, &json!([])).await
}

/// `/api/v1/scrape_pools`
///
/// # Errors
/// The response can't be compressed.
pub async fn scrape_pools(
    State(api): State<Api>,
    encoding: Encoding,
) -> Result<Response, ApiError> {
    respond::json(&api, encoding, &json!({ "scrapePools": [] })).await
}

/// `/api/v1/notifications`
///
/// # Errors
/// The response can't be compressed.
pub async fn notifications(
    State(api): State<Api>,
    encoding: Encoding,
) -> Result<Response, ApiError> {
    respond::json(&api, encoding, &json!([])).await
}
