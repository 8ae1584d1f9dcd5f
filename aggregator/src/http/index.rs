//! The page at `/`.

use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::header;

use super::state::Api;

/// Paths worth opening.
const PATHS: [(&str, &str); 8] = [
    ("/api/v1/query?query=up", "what is up"),
    ("/api/v1/agents", "agents"),
    ("/api/v1/status/tsdb", "where series come from"),
    ("/api/v1/status/config", "configuration"),
    ("/api/v1/status/flags", "flags"),
    ("/api/v1/rules", "rules"),
    ("/api/v1/alerts", "alerts"),
    ("/metrics", "metrics of this server"),
];

/// Links to what can be asked.
pub async fn index(State(api): State<Api>) -> Response {
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
    (headers, page).into_response()
}
