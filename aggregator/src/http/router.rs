//! Which path goes to which handler.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{MethodRouter, delete, get, post};
use axum::{Extension, Router};
use http::{Method, StatusCode};

use super::metrics::RequestMetrics;
use super::params::FormBytesMax;
use super::state::Api;
use super::{
    admin, agents, alertmanager, exemplars, expression, federate, index, lifecycle, metadata,
    metrics, query, remote_read, remote_write, rules, series, status, targets, transfer,
};

/// All paths, under the prefix of the external URL.
pub fn router(api: Api, requests: Arc<RequestMetrics>) -> Router {
    let form_bytes_max = FormBytesMax(api.config.load().limits.form_bytes_max);
    let prefix = api.settings.route_prefix.clone();
    let api_v1 = api_v1()
        .method_not_allowed_fallback(wrong_method)
        .layer(middleware::from_fn(answer_options))
        .layer(middleware::from_fn_with_state(
            api.clone(),
            wait_until_ready,
        ));
    let routes = Router::new()
        .nest("/api/v1", api_v1)
        .nest("/api/v2", alertmanager::routes())
        .route("/federate", get(federate::federate))
        .merge(process())
        .method_not_allowed_fallback(wrong_method)
        .fallback(no_such_path)
        .with_state(api)
        .layer(Extension(form_bytes_max))
        .layer(middleware::from_fn_with_state(requests, metrics::count));
    if prefix.is_empty() {
        routes
    } else {
        Router::new().nest(&prefix, routes)
    }
}

fn process() -> Router<Api> {
    let switch = |method: MethodRouter<Api>| method.fallback(lifecycle::post_only);
    Router::new()
        .route("/", get(index::index))
        .route("/metrics", get(metrics::metrics))
        .route("/version", get(status::version))
        .route("/-/healthy", get(lifecycle::healthy))
        .route("/-/ready", get(lifecycle::ready))
        .route(
            "/-/reload",
            switch(post(lifecycle::reload).put(lifecycle::reload)),
        )
        .route(
            "/-/quit",
            switch(post(lifecycle::quit).put(lifecycle::quit)),
        )
}

fn api_v1() -> Router<Api> {
    Router::new()
        .route("/query", get(query::instant).post(query::instant))
        .route("/query_range", get(query::range).post(query::range))
        .route(
            "/query_exemplars",
            get(exemplars::exemplars).post(exemplars::exemplars),
        )
        .route(
            "/format_query",
            get(expression::format).post(expression::format),
        )
        .route(
            "/parse_query",
            get(expression::parsed).post(expression::parsed),
        )
        .route("/labels", get(series::labels).post(series::labels))
        .route("/label/{name}/values", get(series::values))
        .route(
            "/series",
            get(series::series)
                .post(series::series)
                .merge(delete(series::drop_series)),
        )
        .route("/metadata", get(metadata::metadata))
        .route("/targets", get(targets::targets))
        .route("/targets/metadata", get(targets::targets_metadata))
        .route("/scrape_pools", get(targets::scrape_pools))
        .route("/alertmanagers", get(rules::alertmanagers))
        .route("/rules", get(rules::rules))
        .route("/alerts", get(rules::alerts))
        .route("/agents", get(agents::agents))
        .route("/notifications", get(targets::notifications))
        .route("/write", post(remote_write::write))
        .route("/export", get(transfer::export).post(transfer::export))
        .route("/import", post(transfer::import))
        .route("/read", post(remote_read::read))
        .merge(status_routes())
}

fn status_routes() -> Router<Api> {
    let flush = post(admin::flush).put(admin::flush);
    let delete_series = post(admin::delete_series).put(admin::delete_series);
    let clean = post(admin::clean_tombstones).put(admin::clean_tombstones);
    let snapshot = post(admin::snapshot).put(admin::snapshot);
    Router::new()
        .route("/status/buildinfo", get(status::buildinfo))
        .route("/status/config", get(status::config))
        .route("/status/flags", get(status::flags))
        .route("/status/runtimeinfo", get(status::runtimeinfo))
        .route("/status/walreplay", get(status::walreplay))
        .route("/status/tsdb", get(status::tsdb::tsdb))
        .route("/admin/tsdb/flush", flush)
        .route("/admin/tsdb/delete_series", delete_series)
        .route("/admin/tsdb/clean_tombstones", clean)
        .route("/admin/tsdb/snapshot", snapshot)
}

/// `OPTIONS` on any path of the API says that it is there; no other origin is let in. `HEAD` is not answered.
async fn answer_options(request: Request, next: Next) -> Response {
    match *request.method() {
        Method::OPTIONS => StatusCode::NO_CONTENT.into_response(),
        Method::HEAD => wrong_method().await,
        _ => next.run(request).await,
    }
}

/// What Go's server says, in its words.
async fn wrong_method() -> Response {
    (StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed\n").into_response()
}

async fn no_such_path() -> Response {
    (StatusCode::NOT_FOUND, "404 page not found\n").into_response()
}

async fn wait_until_ready(State(api): State<Api>, request: Request, next: Next) -> Response {
    // Tells how far the start has come, so it answers before the end of it.
    let early = request.uri().path().ends_with("/status/walreplay");
    if !early && !api.is_ready() {
        return (StatusCode::SERVICE_UNAVAILABLE, "Service Unavailable").into_response();
    }
    next.run(request).await
}
