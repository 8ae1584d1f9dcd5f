//! `/api/v1/metadata` and `/api/v1/targets/metadata`.

use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::HeaderMap;

use super::blocking::{JSON, respond};
use super::error::ApiError;
use super::json;
use super::params::Params;
use super::state::Api;

/// Type, help and unit of metric families.
pub async fn metadata(State(api): State<Api>, headers: HeaderMap, params: Params) -> Response {
    let parsed = || {
        let limit = count(&params, "limit")?;
        let per_metric = count(&params, "limit_per_metric")?;
        Ok::<_, ApiError>((limit, per_metric, api.core()?))
    };
    let (limit, per_metric, core) = match parsed() {
        Ok(parsed) => parsed,
        Err(error) => return error.into_response(),
    };
    let wanted = params.get("metric").to_owned();
    respond(&api, &headers, JSON, None, move |sink, _| {
        sink.text
            .extend_from_slice(br#"{"status":"success","data":{"#);
        let families = core.store.metadata();
        let chosen = families
            .iter()
            .filter(|(family, _)| wanted.is_empty() || *family == wanted)
            .take(limit.unwrap_or(usize::MAX));
        for (index, (family, metadata)) in chosen.enumerate() {
            let text = &mut sink.text;
            if index > 0 {
                text.push(b',');
            }
            json::string(text, family);
            text.extend_from_slice(b":[");
            // One source of truth a family: there is never a second entry to cut.
            if per_metric != Some(0) {
                text.extend_from_slice(br#"{"type":"#);
                json::string(text, metadata.metric_type.as_str());
                text.extend_from_slice(br#","help":"#);
                json::string(text, &metadata.help);
                text.extend_from_slice(br#","unit":"#);
                json::string(text, &metadata.unit);
                text.push(b'}');
            }
            text.push(b']');
            sink.flush_chunk()?;
        }
        sink.text.extend_from_slice(b"}}");
        sink.flush_chunk()
    })
    .await
}

/// A count; negative and absent mean no bound.
fn count(params: &Params, name: &str) -> Result<Option<usize>, ApiError> {
    let text = params.get(name);
    if text.is_empty() {
        return Ok(None);
    }
    let number: i64 = text
        .parse()
        .map_err(|_| ApiError::bad_data(format!("{name} must be a number")))?;
    Ok(usize::try_from(number)
        .ok()
        .filter(|&n| n > 0 || name == "limit"))
}
