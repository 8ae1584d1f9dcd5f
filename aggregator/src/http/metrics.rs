//! `/metrics`, and what is counted about requests.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use common::metric;
use common::telemetry::{Counter, Histogram, MetricDef, Registry};
use http::header;

use super::state::Api;

const REQUESTS: MetricDef<Counter> = metric!(
    Counter,
    "aggregator_http_requests_total",
    "HTTP requests, by path and status."
);
const DURATION: MetricDef<Histogram> = metric!(
    Histogram,
    "aggregator_http_request_duration_seconds",
    "Time until the head of the response was ready, by path."
);

/// Our own metrics as text.
pub async fn metrics(State(api): State<Api>) -> Response {
    let mut text = String::with_capacity(32 << 10);
    api.registry.render(&mut text);
    let kind = "text/plain; version=0.0.4; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], text).into_response()
}

/// Counters of requests, made when a path or a status is first seen. Paths are the router's patterns, never what
/// clients write, so there are few.
#[derive(Debug)]
pub struct RequestMetrics {
    registry: Registry,
    seen: Mutex<HashMap<(String, u16), Seen>>,
}

#[derive(Debug, Clone)]
struct Seen {
    requests: Arc<Counter>,
    duration: Arc<Histogram>,
}

impl RequestMetrics {
    /// Registers in `registry` as requests come.
    #[must_use]
    pub fn new(registry: &Registry) -> Self {
        Self {
            registry: registry.clone(),
            seen: Mutex::default(),
        }
    }

    fn observe(&self, handler: &str, status: u16, started: Instant) {
        let seen = {
            let mut all = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            all.entry((handler.to_owned(), status))
                .or_insert_with(|| self.register(handler, status))
                .clone()
        };
        seen.requests.inc();
        seen.duration.observe_duration(started.elapsed());
    }

    fn register(&self, handler: &str, status: u16) -> Seen {
        let code = status.to_string();
        Seen {
            requests: REQUESTS.register(&self.registry, &[("code", &code), ("handler", handler)]),
            duration: DURATION.register(&self.registry, &[("handler", handler)]),
        }
    }
}

/// Counts each request.
pub async fn count(
    State(metrics): State<Arc<RequestMetrics>>,
    path: Option<MatchedPath>,
    request: Request,
    next: Next,
) -> Response {
    let started = Instant::now();
    let response = next.run(request).await;
    let handler = path.as_ref().map_or("unknown", MatchedPath::as_str);
    metrics.observe(handler, response.status().as_u16(), started);
    response
}
