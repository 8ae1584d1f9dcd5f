//! The route table: which path goes to which handler, and what it requires.
//!
//! A row can't be written without its [`Access`]: the router wraps every handler in a [`Guard`] built from the row.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::handler::Handler;
use axum::middleware;
use axum::response::Response;
use axum::routing::{MethodRouter, any, delete, get, post};
use axum::{Extension, Router};
use http::{Method, StatusCode};

use self::Access::{Admin, Read, Write};
use super::access::{Access, AdminSwitch, Availability, Guard, PathKind, wrong_method_error};
use super::auth::Auth;
use super::error::ApiError;
use super::metrics::RequestMetrics;
use super::params::FormBytesMax;
use super::state::Api;
use super::{
    admin, agents, alertmanager, exemplars, expression, federate, index, lifecycle, metadata,
    metrics, path, query, remote_read, remote_write, respond, rules, series, status, targets,
    transfer,
};

const ADMIN_API: Access = Admin(AdminSwitch::AdminApi);
const LIFECYCLE: Access = Admin(AdminSwitch::Lifecycle);

/// One row of the route table.
pub(super) struct Route {
    path: &'static str,
    access: Access,
    availability: Availability,
    methods: MethodRouter<Api>,
}

/// A route that answers while the server is ready.
pub(super) fn route(path: &'static str, access: Access, methods: MethodRouter<Api>) -> Route {
    Route {
        path,
        access,
        availability: Availability::WhenReady,
        methods,
    }
}

impl Route {
    /// Lets the route answer during start and shutdown too.
    fn always(self) -> Self {
        Self {
            availability: Availability::Always,
            ..self
        }
    }
}

/// Builds the router from the table. All paths are under the prefix of the external URL.
pub fn router(api: Api, requests: Arc<RequestMetrics>, auth: Arc<Auth>) -> Router {
    let form_bytes_max = FormBytesMax(api.config.load().limits.form_bytes_max);
    let prefix = api.settings.route_prefix.clone();
    let guard = |access, availability, kind| Guard {
        api: Arc::clone(&api),
        auth: Arc::clone(&auth),
        access,
        availability,
        kind,
    };
    let mut router = Router::new();
    let mut paths = Vec::new();
    for row in routes() {
        let path = format!("{prefix}{}", row.path);
        let guard = guard(row.access, row.availability, path_kind(row.path));
        let guard = middleware::from_fn_with_state(guard, Guard::check);
        let methods = row.methods.layer(guard);
        if row.path == "/" && !prefix.is_empty() {
            router = router.route(&prefix, methods.clone());
        }
        router = router.route(&path, methods);
        paths.push(path);
    }
    let unmatched = guard(Read, Availability::Always, PathKind::Other);
    let unmatched = middleware::from_fn_with_state(unmatched, Guard::check);
    let known = Arc::new(KnownPaths { prefix, paths });
    let of_known = Arc::clone(&known);
    let wrong_method = move |request: Request| wrong_method(Arc::clone(&of_known), request);
    router
        .method_not_allowed_fallback(wrong_method.layer(unmatched.clone()))
        .fallback_service(any(no_such_path).with_state(known).layer(unmatched))
        .with_state(Arc::clone(&api))
        .layer(Extension(form_bytes_max))
        .layer(middleware::from_fn_with_state(requests, metrics::count))
}

fn path_kind(path: &str) -> PathKind {
    if path.starts_with("/api/v1/") {
        PathKind::ApiV1
    } else {
        PathKind::Other
    }
}

fn routes() -> impl Iterator<Item = Route> {
    process()
        .into_iter()
        .chain(queries())
        .chain(rules_and_targets())
        .chain(samples())
        .chain(status_and_admin())
        .chain(alertmanager::routes())
}

fn process() -> Vec<Route> {
    vec![
        route("/", Read, get(index::index)).always(),
        route("/metrics", Read, get(metrics::metrics)).always(),
        route("/version", Read, get(status::version)).always(),
        route("/-/healthy", Read, get(lifecycle::healthy)).always(),
        route("/-/ready", Read, get(lifecycle::ready)).always(),
        route("/-/reload", LIFECYCLE, switch(lifecycle::reload)).always(),
        route("/-/quit", LIFECYCLE, switch(lifecycle::quit)).always(),
    ]
}

fn queries() -> Vec<Route> {
    vec![
        route("/api/v1/query", Read, get_or_post(query::instant)),
        route("/api/v1/query_range", Read, get_or_post(query::range)),
        route(
            "/api/v1/query_exemplars",
            Read,
            get_or_post(exemplars::exemplars),
        ),
        route(
            "/api/v1/format_query",
            Read,
            get_or_post(expression::format),
        ),
        route("/api/v1/parse_query", Read, get_or_post(expression::parsed)),
        route("/api/v1/labels", Read, get_or_post(series::labels)),
        route("/api/v1/label/{name}/values", Read, get(series::values)),
        route("/api/v1/series", Read, get_or_post(series::series)),
        route("/api/v1/series", Write, delete(series::drop_series)),
        route("/api/v1/metadata", Read, get(metadata::metadata)),
    ]
}

fn rules_and_targets() -> Vec<Route> {
    vec![
        route("/api/v1/targets", Read, get(targets::targets)),
        route(
            "/api/v1/targets/metadata",
            Read,
            get(targets::targets_metadata),
        ),
        route("/api/v1/scrape_pools", Read, get(targets::scrape_pools)),
        route("/api/v1/notifications", Read, get(targets::notifications)),
        route("/api/v1/alertmanagers", Read, get(rules::alertmanagers)),
        route("/api/v1/rules", Read, get(rules::rules)),
        route("/api/v1/alerts", Read, get(rules::alerts)),
        route("/api/v1/agents", Read, get(agents::agents)),
    ]
}

fn samples() -> Vec<Route> {
    vec![
        route("/federate", Read, get(federate::federate)),
        route("/api/v1/read", Read, post(remote_read::read)),
        route("/api/v1/write", Write, post(remote_write::write)),
        route("/api/v1/export", Read, get_or_post(transfer::export)),
        route("/api/v1/import", Write, post(transfer::import)),
    ]
}

fn status_and_admin() -> Vec<Route> {
    vec![
        route("/api/v1/status/buildinfo", Read, get(status::buildinfo)),
        route("/api/v1/status/config", Read, get(status::config)),
        route("/api/v1/status/flags", Read, get(status::flags)),
        route("/api/v1/status/runtimeinfo", Read, get(status::runtimeinfo)),
        // Reports the progress of the start, so it answers before the end of it.
        route("/api/v1/status/walreplay", Read, get(status::walreplay)).always(),
        route("/api/v1/status/tsdb", Read, get(status::tsdb::tsdb)),
        route(
            "/api/v1/admin/tsdb/flush",
            ADMIN_API,
            post_or_put(admin::flush),
        ),
        route(
            "/api/v1/admin/tsdb/delete_series",
            ADMIN_API,
            post_or_put(admin::delete_series),
        ),
        route(
            "/api/v1/admin/tsdb/clean_tombstones",
            ADMIN_API,
            post_or_put(admin::clean_tombstones),
        ),
        route(
            "/api/v1/admin/tsdb/snapshot",
            ADMIN_API,
            post_or_put(admin::snapshot),
        ),
    ]
}

fn get_or_post<H: Handler<T, Api>, T: 'static>(handler: H) -> MethodRouter<Api> {
    get(handler.clone()).post(handler)
}

fn post_or_put<H: Handler<T, Api>, T: 'static>(handler: H) -> MethodRouter<Api> {
    post(handler.clone()).put(handler)
}

/// Control of the process. GET is rejected in Prometheus' words.
fn switch<H: Handler<T, Api>, T: 'static>(handler: H) -> MethodRouter<Api> {
    post_or_put(handler).fallback(lifecycle::post_only)
}

/// The paths of the table, for requests that match none of them.
struct KnownPaths {
    prefix: String,
    paths: Vec<String>,
}

impl KnownPaths {
    /// Whether a request is `OPTIONS` on any path of Prometheus' API, which is answered with 204.
    fn is_api_options(&self, request: &Request) -> bool {
        let path = request.uri().path();
        let below_prefix = path.strip_prefix(self.prefix.as_str()).unwrap_or(path);
        request.method() == Method::OPTIONS && path_kind(below_prefix) == PathKind::ApiV1
    }

    fn contains(&self, path: &str) -> bool {
        self.paths.iter().any(|known| path::matches(known, path))
    }
}

/// Answers a method that the path does not support.
async fn wrong_method(known: Arc<KnownPaths>, request: Request) -> Result<Response, ApiError> {
    if known.is_api_options(&request) {
        return Ok(respond::no_content());
    }
    Err(wrong_method_error())
}

/// Answers a path that matches no route: redirects to the cleaned path, as Go's `ServeMux` does, and from a trailing
/// slash to the route without it, as httprouter does. Anything else is 404.
async fn no_such_path(
    State(known): State<Arc<KnownPaths>>,
    request: Request,
) -> Result<Response, ApiError> {
    let uri = request.uri();
    let path = uri.path();
    if let Some(redirect) = path::redirect_to_clean(uri) {
        return Ok(redirect);
    }
    if known.is_api_options(&request) {
        return Ok(respond::no_content());
    }
    if let Some(trimmed) = path.strip_suffix('/')
        && known.contains(trimmed)
    {
        // 307 keeps method and body.
        let status = match *request.method() {
            Method::GET | Method::HEAD => StatusCode::MOVED_PERMANENTLY,
            _ => StatusCode::TEMPORARY_REDIRECT,
        };
        return Ok(path::redirect(status, trimmed, uri.query()));
    }
    Err(ApiError::text(
        StatusCode::NOT_FOUND,
        "404 page not found\n",
    ))
}
