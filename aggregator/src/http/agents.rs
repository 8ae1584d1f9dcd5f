//! `/api/v1/agents`: the agents that have connected. Prometheus has no such endpoint.

use axum::extract::State;
use axum::response::Response;
use serde_json::{Value, json};

use super::error::ApiError;
use super::respond::{self, Encoding};
use super::state::{Api, Core};
use super::time::rfc3339;
use crate::ingest::AgentStatus;

/// Lists the agents.
///
/// # Errors
/// The response can't be compressed.
pub async fn agents(
    State(api): State<Api>,
    core: Core,
    encoding: Encoding,
) -> Result<Response, ApiError> {
    let agents: Vec<Value> = core.agents.list().iter().map(agent_json).collect();
    respond::json(&api, encoding, &json!({ "agents": agents })).await
}

fn agent_json(agent: &AgentStatus) -> Value {
    json!({
        "idc": agent.idc,
        "node": agent.node,
        "address": agent.address.map(|address| address.to_string()),
        "version": agent.version,
        "lastTick": agent.last_tick_ms.map(rfc3339::show_ms),
        "connected": agent.connected,
        "series": agent.series,
        "refusedSeries": agent.refused_series,
        "refusedSamples": agent.refused_samples,
        "tooOldSamples": agent.too_old_samples,
    })
}
