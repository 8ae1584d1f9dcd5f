//! `/api/v1/query_exemplars`.

use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::HeaderMap;
use tidemark_promql::parse;

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
        Ok(_) => small(&api, &headers, b"[]".to_vec()).await,
        Err(error) => error.into_response(),
    }
}
