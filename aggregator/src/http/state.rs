//! What handlers share.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use common::clock::Clock;
use common::telemetry::Registry;
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

/// What can be asked once the store is open.
#[derive(Debug, Clone)]
pub struct Core {
    /// The samples.
    pub store: Store,
    /// The evaluator.
    pub engine: Arc<Engine>,
    /// The agents there are.
    pub agents: Agents,
}

/// The answer to a reload request: nothing, or why the old configuration stays.
pub type ReloadAnswer = Result<(), String>;

/// State of the HTTP server, made once in `run`.
#[derive(Debug)]
pub struct Shared {
    /// Flags, for `status/flags` and the switches.
    pub flags: Flags,
    /// Flags and file put together.
    pub settings: Settings,
    /// The file, replaced by a reload.
    pub config: ArcSwap<ConfigFile>,
    /// The time of day.
    pub clock: Arc<dyn Clock>,
    /// Our own metrics.
    pub registry: Registry,
    /// Bounds queries.
    pub query_limiter: QueryLimiter,
    /// Which requests are answered without a change of threads.
    pub inline_requests: InlineRequests,
    /// Bounds remote-write requests that are worked on.
    pub writes: Semaphore,
    /// Set when the store is open.
    pub core: OnceLock<Core>,
    /// Rules and notifications; set when the store is open.
    pub alerting: OnceLock<Arc<Alerting>>,
    /// Whether requests are answered: after start, before shutdown.
    pub ready: AtomicBool,
    /// Asks `run` to load the configuration again.
    pub reload: mpsc::Sender<oneshot::Sender<ReloadAnswer>>,
    /// Cancelled to end the process.
    pub shutdown: CancellationToken,
    /// When the process started, milliseconds.
    pub started_ms: i64,
    /// When the configuration was last loaded, milliseconds.
    pub config_loaded_ms: AtomicI64,
    /// Whether the last reload succeeded.
    pub config_good: AtomicBool,
}

/// A handle on the shared state, as axum passes it to handlers.
pub type Api = Arc<Shared>;

impl Shared {
    /// The store and the engine.
    ///
    /// # Errors
    /// The store is not open yet.
    pub fn core(&self) -> Result<Core, ApiError> {
        self.core
            .get()
            .cloned()
            .ok_or_else(|| ApiError::unavailable("Service Unavailable"))
    }

    /// Rules and notifications.
    ///
    /// # Errors
    /// The store is not open yet.
    pub fn alerting(&self) -> Result<Arc<Alerting>, ApiError> {
        self.alerting
            .get()
            .cloned()
            .ok_or_else(|| ApiError::unavailable("Service Unavailable"))
    }

    /// Whether requests are answered.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Acquire) && self.core.get().is_some()
    }

    /// How long a query may take: what it asks for, but never more than the server's bound.
    #[must_use]
    pub fn query_timeout(&self, asked: Option<Duration>) -> Duration {
        let max = self.flags.query_timeout;
        asked.map_or(max, |asked| asked.min(max))
    }

    /// Bounds and cancellation of one query.
    #[must_use]
    pub fn read_control(&self) -> Arc<ReadControl> {
        let limits = &self.config.load().limits;
        Arc::new(ReadControl::new(
            self.flags.query_max_samples,
            limits.query_series_max,
        ))
    }
}

/// Cancels a query when the request's future is dropped, which hyper does when the client goes away.
#[derive(Debug)]
pub struct CancelOnDrop(Option<Arc<ReadControl>>);

impl CancelOnDrop {
    /// Watches over a query.
    #[must_use]
    pub const fn new(control: Arc<ReadControl>) -> Self {
        Self(Some(control))
    }

    /// The response is under way: its body tells when the client goes away from here on.
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
