//! The page at `/`.

use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::header;

use super::error::ApiError;
use super::state::Api;

/// Paths that people open, and what they show.
const PATHS: [(&str, &str); 8] = [
    ("/api/v1/query?query=up", "state of all targets"),
    ("/api/v1/agents", "agents"),
    ("/api/v1/status/tsdb", "cardinality"),
    ("/api/v1/status/config", "configuration"),
    ("/api/v1/status/flags", "flags"),
    ("/api/v1/rules", "rules"),
    ("/api/v1/alerts", "alerts"),
    ("/metrics", "metrics of this process"),
];

/// Links to the most useful paths.
///
/// # Errors
/// Never.
pub async fn index(State(api): State<Api>) -> Result<Response, ApiError> {
    let prefix = &api.settings.route_prefix;
    let mut page = String::from(
        "<!DOCTYPE html>\n<html lang=\"en\"><meta charset=\"utf-8\"><title>Tidemark</title>\n\
         <h1>Tidemark aggregator</h1>\n<ul>\n",
    );
    for (path, what) in PATHS {
        page.push_str(&format!("<li><a href=\"{prefix}{path}\">{what}</a></li>\n"));
    }
    page.push_str("</ul>\n</html>\n");
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    Ok((headers, page).into_response())
}
