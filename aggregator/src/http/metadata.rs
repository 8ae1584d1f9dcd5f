//! `/api/v1/metadata`.

use axum::extract::State;
use axum::response::Response;
use common::model::Metadata;

use super::error::ApiError;
use super::json;
use super::params::Params;
use super::respond::{self, Encoding, ReadOptions};
use super::state::{Api, Core};

/// Lists type, help and unit of metric families.
///
/// # Errors
/// A parameter is wrong.
pub async fn metadata(
    State(api): State<Api>,
    core: Core,
    encoding: Encoding,
    params: Params,
) -> Result<Response, ApiError> {
    let limit = count(&params, "limit")?.unwrap_or(usize::MAX);
    let per_metric = count(&params, "limit_per_metric")?;
    let wanted = params.get("metric").to_owned();
    respond::read(&api, ReadOptions::json(encoding), move |sink, _| {
        sink.text
            .extend_from_slice(br#"{"status":"success","data":{"#);
        let families = core.store.metadata();
        let chosen = families
            .iter()
            .filter(|(family, _)| wanted.is_empty() || *family == wanted)
            .take(limit);
        for (index, (family, metadata)) in chosen.enumerate() {
            if index > 0 {
                sink.text.push(b',');
            }
            json::string(&mut sink.text, family);
            sink.text.extend_from_slice(b":[");
            // A family has one entry, so any other limit leaves it.
            if per_metric != Some(0) {
                write_entry(&mut sink.text, metadata);
            }
            sink.text.push(b']');
            sink.flush_chunk()?;
        }
        sink.text.extend_from_slice(b"}}");
        sink.flush_chunk()
    })
    .await
}

fn write_entry(text: &mut Vec<u8>, metadata: &Metadata) {
    text.extend_from_slice(br#"{"type":"#);
    json::string(text, metadata.metric_type.as_str());
    text.extend_from_slice(br#","help":"#);
    json::string(text, &metadata.help);
    text.extend_from_slice(br#","unit":"#);
    json::string(text, &metadata.unit);
    text.push(b'}');
}

/// Parses a limit. `None` = unlimited: absent, negative, or 0 of `limit_per_metric`.
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
