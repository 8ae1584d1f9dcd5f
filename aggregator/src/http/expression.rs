//! `/api/v1/format_query` and `/api/v1/parse_query`.

use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::HeaderMap;
use tidemark_promql::parser::Expr;
use tidemark_promql::{ast_json, parse, pretty};

use super::error::ApiError;
use super::json;
use super::params::Params;
use super::state::Api;
use super::targets::small;

fn expression(api: &Api, params: &Params) -> Result<Expr, ApiError> {
    let features = api.settings.promql_features();
    parse(params.get("query"), features)
        .map_err(|error| ApiError::invalid_parameter("query", error))
}

/// The query, written as Prometheus would.
pub async fn format(State(api): State<Api>, headers: HeaderMap, params: Params) -> Response {
    match expression(&api, &params) {
        Ok(expr) => {
            let mut data = Vec::new();
            json::string(&mut data, &pretty(&expr));
            small(&api, &headers, data).await
        }
        Err(error) => error.into_response(),
    }
}

/// The query as a syntax tree.
pub async fn parsed(State(api): State<Api>, headers: HeaderMap, params: Params) -> Response {
    match expression(&api, &params) {
        Ok(expr) => small(&api, &headers, ast_json(&expr).into_bytes()).await,
        Err(error) => error.into_response(),
    }
}
