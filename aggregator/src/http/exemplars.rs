//! `/api/v1/query_exemplars`.

use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::{HeaderMap, StatusCode};
use tidemark_promql::parse;
use tidemark_promql::parser::Expr;

use super::error::ApiError;
use super::params::Params;
use super::state::Api;
use super::targets::small;

/// Exemplars of the series in a query. None are kept: this is what Prometheus answers without its
/// `exemplar-storage` feature.
pub async fn exemplars(State(api): State<Api>, headers: HeaderMap, params: Params) -> Response {
    let checked = || {
        let (start_ms, end_ms) = params.range()?;
        if end_ms < start_ms {
            let message = "end timestamp must not be before start timestamp";
            return Err(ApiError::bad_data(message));
        }
        let expr = parse(params.get("query"), api.settings.promql_features())
            .map_err(|error| ApiError::bad_data(error.to_string()))?;
        Ok(expr)
    };
    match checked() {
        // Nothing to look for: Prometheus answers without a body.
        Ok(expr) if !has_selector(&expr) => StatusCode::NO_CONTENT.into_response(),
        Ok(_) => small(&api, &headers, b"[]".to_vec()).await,
        Err(error) => error.into_response(),
    }
}

fn has_selector(expr: &Expr) -> bool {
    match expr {
        Expr::Vector(_) | Expr::Matrix(_) => true,
        Expr::Number(_) | Expr::String(_) => false,
        Expr::Aggregation(aggregation) => {
            has_selector(&aggregation.expr) || aggregation.param.as_ref().is_some_and(has_selector)
        }
        Expr::Binary(binary) => has_selector(&binary.lhs) || has_selector(&binary.rhs),
        Expr::Call(call) => call.args.iter().any(has_selector),
        Expr::Paren(paren) => has_selector(&paren.expr),
        Expr::Subquery(subquery) => has_selector(&subquery.expr),
        Expr::Unary(unary) => has_selector(&unary.expr),
    }
}
