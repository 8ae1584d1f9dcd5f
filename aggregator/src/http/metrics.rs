//! `/metrics`, and the metrics of HTTP requests.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use common::metric;
use common::telemetry::{Counter, Histogram, MetricDef, Registry};
use http::header;

use super::error::ApiError;
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

/// Metrics of this process in the text format.
///
/// # Errors
/// Never.
pub async fn metrics(State(api): State<Api>) -> Result<Response, ApiError> {
    let mut text = String::with_capacity(32 << 10);
    api.registry.render(&mut text);
    let kind = "text/plain; version=0.0.4; charset=utf-8";
    Ok(([(header::CONTENT_TYPE, kind)], text).into_response())
}

/// Counters of requests by path and status, registered on first use. Paths are the patterns of the route table, so
/// clients can't add series.
#[derive(Debug)]
pub struct RequestMetrics {
    registry: Registry,
    by_handler: Mutex<HashMap<(String, u16), HandlerMetrics>>,
}

#[derive(Debug, Clone)]
struct HandlerMetrics {
    requests: Arc<Counter>,
    duration: Arc<Histogram>,
}

impl RequestMetrics {
    /// Registers metrics in `registry` as requests arrive.
    #[must_use]
    pub fn new(registry: &Registry) -> Self {
        Self {
            registry: registry.clone(),
            by_handler: Mutex::default(),
        }
    }

    fn observe(&self, handler: &str, status: u16, started: Instant) {
        let handler_metrics = {
            let mut all = self
                .by_handler
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            all.entry((handler.to_owned(), status))
                .or_insert_with(|| self.register(handler, status))
                .clone()
        };
        handler_metrics.requests.inc();
        handler_metrics.duration.observe_duration(started.elapsed());
    }

    fn register(&self, handler: &str, status: u16) -> HandlerMetrics {
        let code = status.to_string();
        HandlerMetrics {
            requests: REQUESTS.register(&self.registry, &[("code", &code), ("handler", handler)]),
            duration: DURATION.register(&self.registry, &[("handler", handler)]),
        }
    }
}

/// Counts a request and measures its duration.
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
