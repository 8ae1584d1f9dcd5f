//! State shared by all handlers.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use axum::extract::FromRequestParts;
use common::clock::Clock;
use common::telemetry::Registry;
use http::request::Parts;
use tidemark_promql::Engine;
use tidemark_storage::{ReadControl, Store};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::error::ApiError;
use super::inline::InlineRequests;
use super::query_limiter::QueryLimiter;
use crate::alerting::Alerting;
use crate::config::{ConfigFile, Flags, Settings};
use crate::ingest::Agents;

/// The parts that exist once the store is open. As an extractor: answers 503 before.
#[derive(Debug, Clone)]
pub struct Core {
    /// The samples.
    pub store: Store,
    /// The evaluator.
    pub engine: Arc<Engine>,
    /// The agents that have connected.
    pub agents: Agents,
}

/// Outcome of a reload; the error is why the old configuration stays in use.
pub type ReloadAnswer = Result<(), String>;

/// State of the HTTP server, created once in `run`.
#[derive(Debug)]
pub struct Shared {
    /// Flags, for `status/flags` and the switches.
    pub flags: Flags,
    /// Flags merged with the file.
    pub settings: Settings,
    /// The configuration file; a reload replaces it.
    pub config: ArcSwap<ConfigFile>,
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
    /// Metrics of this process.
    pub registry: Registry,
    /// Limits concurrent queries.
    pub query_limiter: QueryLimiter,
    /// Requests that run on the thread where they arrive.
    pub inline_requests: InlineRequests,
    /// Limits concurrent remote-write and import requests.
    pub writes: Semaphore,
    /// Set when the store is open.
    pub core: OnceLock<Core>,
    /// Rules and notifications; set when the store is open.
    pub alerting: OnceLock<Arc<Alerting>>,
    /// Whether requests are answered: true from the end of the start until shutdown.
    pub ready: AtomicBool,
    /// Requests to `run` to reload the configuration.
    pub reload: mpsc::Sender<oneshot::Sender<ReloadAnswer>>,
    /// Cancelled to stop the process.
    pub shutdown: CancellationToken,
    /// When the process started, in milliseconds.
    pub started_ms: i64,
    /// When the configuration was last loaded, in milliseconds.
    pub config_loaded_ms: AtomicI64,
    /// Whether the last reload succeeded.
    pub config_good: AtomicBool,
}

/// A handle on the shared state, as axum passes it to handlers.
pub type Api = Arc<Shared>;

impl Shared {
    /// Whether requests are answered.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Acquire) && self.core.get().is_some()
    }

    /// Time limit of a query: what the client asked for, at most the server's limit.
    #[must_use]
    pub fn query_timeout(&self, requested: Option<Duration>) -> Duration {
        let max = self.flags.query_timeout;
        requested.map_or(max, |requested| requested.min(max))
    }

    /// Limits and cancellation of one query.
    #[must_use]
    pub fn read_control(&self) -> Arc<ReadControl> {
        let limits = &self.config.load().limits;
        Arc::new(ReadControl::new(
            self.flags.query_max_samples,
            limits.query_series_max,
        ))
    }
}

impl FromRequestParts<Api> for Core {
    type Rejection = ApiError;

    async fn from_request_parts(_parts: &mut Parts, api: &Api) -> Result<Self, ApiError> {
        api.core.get().cloned().ok_or_else(ApiError::not_ready)
    }
}

/// Rules and notifications. As an extractor: answers 503 before they are open.
#[derive(Debug, Clone)]
pub struct OpenAlerting(pub Arc<Alerting>);

impl FromRequestParts<Api> for OpenAlerting {
    type Rejection = ApiError;

    async fn from_request_parts(_parts: &mut Parts, api: &Api) -> Result<Self, ApiError> {
        let alerting = api.alerting.get().cloned();
        alerting.map(Self).ok_or_else(ApiError::not_ready)
    }
}

/// Cancels a query when the request's future is dropped, which hyper does when the client goes away.
#[derive(Debug)]
pub struct CancelOnDrop(Option<Arc<ReadControl>>);

impl CancelOnDrop {
    /// Cancels `control` when dropped.
    #[must_use]
    pub const fn new(control: Arc<ReadControl>) -> Self {
        Self(Some(control))
    }

    /// Keeps the query running: from here on the response body reports that the client went away.
    pub fn disarm(mut self) {
        self.0 = None;
    }
}

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        if let Some(control) = &self.0 {
            control.cancel();
        }
    }
}
