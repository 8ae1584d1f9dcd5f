//! `/api/v1/format_query` and `/api/v1/parse_query`.

use axum::extract::State;
use axum::response::Response;
use tidemark_promql::parser::Expr;
use tidemark_promql::{ast_json, parse, pretty};

use super::error::ApiError;
use super::json;
use super::params::Params;
use super::respond::{self, Encoding};
use super::state::Api;

fn parse_query(api: &Api, params: &Params) -> Result<Expr, ApiError> {
    let features = api.settings.promql_features();
    parse(params.get("query"), features)
        .map_err(|error| ApiError::invalid_parameter("query", error))
}

/// Formats the query as Prometheus does.
///
/// # Errors
/// The query does not parse.
pub async fn format(
    State(api): State<Api>,
    encoding: Encoding,
    params: Params,
) -> Result<Response, ApiError> {
    let expr = parse_query(&api, &params)?;
    let mut data = Vec::new();
    json::string(&mut data, &pretty(&expr));
    respond::data(&api, encoding, data).await
}

/// Returns the query's syntax tree.
///
/// # Errors
/// The query does not parse.
pub async fn parsed(
    State(api): State<Api>,
    encoding: Encoding,
    params: Params,
) -> Result<Response, ApiError> {
    let expr = parse_query(&api, &params)?;
    respond::data(&api, encoding, ast_json(&expr).into_bytes()).await
}
