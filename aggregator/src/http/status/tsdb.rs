//! `/api/v1/status/tsdb`: how many series there are, and where they come from.

use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::HeaderMap;
use tidemark_storage::{Cardinality, StoreStats};

use crate::http::blocking::{JSON, respond};
use crate::http::error::ApiError;
use crate::http::json;
use crate::http::params::Params;
use crate::http::state::{Api, Core};
use crate::ingest::AgentStatus;

/// Answers with the largest counts, `limit` of each kind.
pub async fn tsdb(State(api): State<Api>, headers: HeaderMap, params: Params) -> Response {
    let parsed = || {
        let limit = match params.get("limit") {
            "" => 10,
            text => text
                .parse()
                .ok()
                .filter(|&limit| limit > 0)
                .ok_or_else(|| ApiError::bad_data("limit must be a positive number"))?,
        };
        Ok::<(usize, Core), ApiError>((limit, api.core()?))
    };
    let (limit, core) = match parsed() {
        Ok(parsed) => parsed,
        Err(error) => return error.into_response(),
    };
    respond(&api, &headers, JSON, None, move |sink, _| {
        let counts = core.store.cardinality(limit);
        let refused = refused_by_agent(&core.agents.list(), limit);
        write(&mut sink.text, &counts, &refused, &core.store.stats());
        sink.flush_chunk()
    })
    .await
}

/// The agents with the most refused series, most first: `data centre/node`.
fn refused_by_agent(agents: &[AgentStatus], limit: usize) -> Vec<(String, u64)> {
    let mut refused: Vec<(String, u64)> = agents
        .iter()
        .filter(|agent| agent.refused_series > 0)
        .map(|agent| {
            (
                format!("{}/{}", agent.idc, agent.node),
                agent.refused_series,
            )
        })
        .collect();
    refused.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    refused.truncate(limit);
    refused
}

fn write(text: &mut Vec<u8>, counts: &Cardinality, refused: &[(String, u64)], stats: &StoreStats) {
    // What Prometheus says of an empty head.
    let first_ms = stats.first_ms.unwrap_or(i64::MAX);
    let last_ms = stats.last_ms.unwrap_or(i64::MIN);
    let head = format!(
        "{{\"status\":\"success\",\"data\":{{\"headStats\":{{\"numSeries\":{},\"numLabelPairs\":{},\
         \"chunkCount\":{},\"minTime\":{first_ms},\"maxTime\":{last_ms}}}",
        counts.series, counts.label_pairs, stats.head_groups,
    );
    text.extend_from_slice(head.as_bytes());
    list(text, "seriesCountByMetricName", &counts.series_by_metric);
    list(text, "labelValueCountByLabelName", &counts.values_by_label);
    list(text, "memoryInBytesByLabelName", &counts.bytes_by_label);
    list(text, "seriesCountByLabelValuePair", &counts.series_by_pair);
    // Not in Prometheus: who sends the most, an agent or a target.
    list(text, "seriesCountBySource", &counts.series_by_source);
    list(text, "refusedSeriesCountByAgent", refused);
    text.extend_from_slice(b"}}");
}

fn list(text: &mut Vec<u8>, name: &str, counts: &[(String, u64)]) {
    text.push(b',');
    json::string(text, name);
    text.extend_from_slice(b":[");
    for (index, (name, count)) in counts.iter().enumerate() {
        text.extend_from_slice(if index > 0 {
            b",{\"name\":"
        } else {
            b"{\"name\":"
        });
        json::string(text, name);
        text.extend_from_slice(b",\"value\":");
        json::integer(text, *count);
        text.push(b'}');
    }
    text.push(b']');
}
