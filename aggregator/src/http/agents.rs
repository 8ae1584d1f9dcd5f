//! `/api/v1/agents`: the agents there are (our own; Prometheus has no such thing).

use std::io::Write as _;

use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::HeaderMap;

use super::json;
use super::state::Api;
use super::targets::small;
use super::time::rfc3339;
use crate::ingest::AgentStatus;

/// Lists the agents.
pub async fn agents(State(api): State<Api>, headers: HeaderMap) -> Response {
    let core = match api.core() {
        Ok(core) => core,
        Err(error) => return error.into_response(),
    };
    let mut data = br#"{"agents":["#.to_vec();
    for (index, agent) in core.agents.list().iter().enumerate() {
        if index > 0 {
            data.push(b',');
        }
        write(&mut data, agent);
    }
    data.extend_from_slice(b"]}");
    small(&api, &headers, data).await
}

fn write(out: &mut Vec<u8>, agent: &AgentStatus) {
    let text = |out: &mut Vec<u8>, name: &str, value: Option<&str>| {
        out.extend_from_slice(name.as_bytes());
        match value {
            Some(value) => json::string(out, value),
            None => out.extend_from_slice(b"null"),
        }
    };
    text(out, r#"{"idc":"#, Some(&agent.idc));
    text(out, r#","node":"#, Some(&agent.node));
    let address = agent.address.map(|address| address.to_string());
    text(out, r#","address":"#, address.as_deref());
    text(out, r#","version":"#, Some(&agent.version));
    let last_tick = agent.last_tick_ms.map(rfc3339::show_ms);
    text(out, r#","lastTick":"#, last_tick.as_deref());
    // Writing to a vector can't fail.
    write!(
        out,
        r#","connected":{},"series":{},"refusedSeries":{},"refusedSamples":{},"tooOldSamples":{}}}"#,
        agent.connected,
        agent.series,
        agent.refused_series,
        agent.refused_samples,
        agent.too_old_samples
    )
    .unwrap_or_default();
}
