//! `/api/v1/status/tsdb`: cardinality statistics.

use axum::extract::State;
use axum::response::Response;
use serde_json::{Value, json};
use tidemark_storage::{Cardinality, StoreStats};

use crate::http::error::ApiError;
use crate::http::params::Params;
use crate::http::respond::{self, Encoding, ReadOptions};
use crate::http::state::{Api, Core};
use crate::ingest::AgentStatus;

/// Reports the `limit` largest counts of each kind.
///
/// # Errors
/// `limit` is wrong.
pub async fn tsdb(
    State(api): State<Api>,
    core: Core,
    encoding: Encoding,
    params: Params,
) -> Result<Response, ApiError> {
    let limit = match params.get("limit") {
        "" => 10,
        text => text
            .parse()
            .ok()
            .filter(|&limit: &usize| limit > 0)
            .ok_or_else(|| ApiError::bad_data("limit must be a positive number"))?,
    };
    respond::read(&api, ReadOptions::json(encoding), move |sink, _| {
        let counts = core.store.cardinality(limit);
        let refused = refused_by_agent(&core.agents.list(), limit);
        let data = statistics(&counts, &refused, &core.store.stats());
        let response = json!({ "status": "success", "data": data });
        sink.text.extend_from_slice(response.to_string().as_bytes());
        sink.flush_chunk()
    })
    .await
}

/// The agents with the most refused series as `idc/node`, in descending order.
fn refused_by_agent(agents: &[AgentStatus], limit: usize) -> Vec<(String, u64)> {
    let mut refused: Vec<(String, u64)> = agents
        .iter()
        .filter(|agent| agent.refused_series > 0)
        .map(|agent| {
            let name = format!("{}/{}", agent.idc, agent.node);
            (name, agent.refused_series)
        })
        .collect();
    refused.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    refused.truncate(limit);
    refused
}

fn statistics(counts: &Cardinality, refused: &[(String, u64)], stats: &StoreStats) -> Value {
    json!({
        "headStats": {
            "numSeries": counts.series,
            "numLabelPairs": counts.label_pairs,
            "chunkCount": stats.head_groups,
            // Prometheus reports these bounds for an empty head.
            "minTime": stats.first_ms.unwrap_or(i64::MAX),
            "maxTime": stats.last_ms.unwrap_or(i64::MIN),
        },
        "seriesCountByMetricName": list(&counts.series_by_metric),
        "labelValueCountByLabelName": list(&counts.values_by_label),
        "memoryInBytesByLabelName": list(&counts.bytes_by_label),
        "seriesCountByLabelValuePair": list(&counts.series_by_pair),
        // Not in Prometheus: which agent or target sends the most.
        "seriesCountBySource": list(&counts.series_by_source),
        "refusedSeriesCountByAgent": list(refused),
    })
}

fn list(counts: &[(String, u64)]) -> Vec<Value> {
    counts
        .iter()
        .map(|(name, count)| json!({ "name": name, "value": count }))
        .collect()
}
