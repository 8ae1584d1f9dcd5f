//! `/api/v1/query_exemplars`.

use axum::extract::State;
use axum::response::Response;
use common::model::{Labels, Matcher};
use tidemark_promql::parse;
use tidemark_promql::parser::Expr;
use tidemark_storage::Exemplar;

use super::error::ApiError;
use super::json;
use super::params::Params;
use super::respond::{self, Encoding, ReadOptions, Sink};
use super::state::{Api, Core};

/// Returns the exemplars of all series that a query selects.
///
/// # Errors
/// A parameter is wrong.
pub async fn exemplars(
    State(api): State<Api>,
    core: Core,
    encoding: Encoding,
    params: Params,
) -> Result<Response, ApiError> {
    let (start_ms, end_ms) = params.range()?;
    if end_ms < start_ms {
        let message = "end timestamp must not be before start timestamp";
        return Err(ApiError::bad_data(message));
    }
    let expr = parse(params.get("query"), api.settings.promql_features())
        .map_err(|error| ApiError::bad_data(error.to_string()))?;
    let mut selectors = Vec::new();
    collect_selectors(&expr, &mut selectors);
    if selectors.is_empty() {
        // Prometheus answers a query without selectors with an empty body.
        return Ok(respond::no_content());
    }
    respond::read(&api, ReadOptions::json(encoding), move |sink, _| {
        let found = core.store.exemplars(&selectors, start_ms, end_ms);
        write(sink, &found)
    })
    .await
}

fn collect_selectors(expr: &Expr, found: &mut Vec<Vec<Matcher>>) {
    match expr {
        Expr::Vector(vector) => found.push(vector.matchers.clone()),
        Expr::Matrix(matrix) => found.push(matrix.selector.matchers.clone()),
        Expr::Number(_) | Expr::String(_) => {}
        Expr::Aggregation(aggregation) => {
            collect_selectors(&aggregation.expr, found);
            if let Some(param) = &aggregation.param {
                collect_selectors(param, found);
            }
        }
        Expr::Binary(binary) => {
            collect_selectors(&binary.lhs, found);
            collect_selectors(&binary.rhs, found);
        }
        Expr::Call(call) => {
            for argument in &call.args {
                collect_selectors(argument, found);
            }
        }
        Expr::Paren(paren) => collect_selectors(&paren.expr, found),
        Expr::Subquery(subquery) => collect_selectors(&subquery.expr, found),
        Expr::Unary(unary) => collect_selectors(&unary.expr, found),
    }
}

fn write(sink: &mut Sink, found: &[(Labels, Vec<Exemplar>)]) -> Result<(), ApiError> {
    sink.text
        .extend_from_slice(br#"{"status":"success","data":["#);
    for (index, (series, exemplars)) in found.iter().enumerate() {
        let text = &mut sink.text;
        if index > 0 {
            text.push(b',');
        }
        text.extend_from_slice(br#"{"seriesLabels":"#);
        json::labels(text, series);
        text.extend_from_slice(br#","exemplars":["#);
        for (index, exemplar) in exemplars.iter().enumerate() {
            if index > 0 {
                text.push(b',');
            }
            text.extend_from_slice(br#"{"labels":"#);
            json::labels(text, &exemplar.labels);
            text.extend_from_slice(br#","value":"#);
            json::quoted_float(text, exemplar.value);
            text.extend_from_slice(br#","timestamp":"#);
            json::timestamp(text, exemplar.timestamp_ms);
            text.push(b'}');
        }
        text.extend_from_slice(b"]}");
        sink.flush_chunk()?;
    }
    sink.text.extend_from_slice(b"]}");
    sink.flush_chunk()
}
