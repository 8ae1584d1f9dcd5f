//! Runs rules and notifications: evaluates groups on time, and delivers over the network.
//!
//! ```text
//! scheduler ── a task per group ──► rules over the store ──► alerts ─┬─► notifier ──► deliveries ──► receivers
//!                                                                    └─► a queue per external Alertmanager
//! ```

#[cfg(test)]
mod compliance;
mod deliver;
mod external;
mod mail;
mod metrics;
pub mod plan;
mod schedule;
mod source;
mod transport;
pub mod unit_test;

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use common::clock::Clock;
use common::model::Labels;
use common::telemetry::Registry;
use tidemark_alerting::notify::alert::Alert;
use tidemark_alerting::notify::config::Config;
use tidemark_alerting::notify::notifier::Notifier;
use tidemark_alerting::rules::group::{AlertToSend, Context};
use tidemark_alerting::rules::manager::{Defaults, Manager};
use tidemark_alerting::store::{DurableStore, StateStore, StoreError};
use tidemark_promql::Engine;
use tidemark_storage::Store;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::external::External;
use self::metrics::Metrics;
pub use self::plan::{Plan, PlanError};
use self::source::StoreSource;
use self::transport::Transport;

/// Downtime beyond this does not count towards `for` (Prometheus: `--rules.alert.for-outage-tolerance`).
const OUTAGE_TOLERANCE: Duration = Duration::from_secs(3600);

/// The running rules and notifications.
#[derive(Debug)]
pub struct Alerting {
    manager: Manager,
    context: ArcSwap<Context>,
    notifier: Mutex<Notifier>,
    external: External,
    transport: Transport,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
    /// Wakes the scheduler after a reload.
    groups_changed: Notify,
    /// Wakes the driver of the notifier.
    notifier_changed: Notify,
}

/// What alerting needs from the rest of the server.
#[derive(Debug)]
pub struct Parts {
    /// The store that expressions read and results go to.
    pub store: Store,
    /// Evaluates expressions.
    pub engine: Arc<Engine>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// The URL under which users reach the server.
    pub external_url: String,
    /// Most series one expression may touch.
    pub series_max: u64,
    /// Least time before an unchanged alert is sent again.
    pub resend_delay: Duration,
}

impl Alerting {
    /// Opens the state under `path` and loads `plan`. Nothing runs yet.
    ///
    /// # Errors
    /// The state can't be read or written.
    pub fn open(
        path: &Path,
        plan: Plan,
        parts: Parts,
        registry: &Registry,
    ) -> Result<Arc<Self>, StoreError> {
        let table = parts.store.state().table("alerting");
        let store: Arc<dyn StateStore> =
            Arc::new(DurableStore::open(&path.join("alerting"), table)?);
        let source = StoreSource::new(parts.store, parts.engine, parts.series_max);
        let context = Context {
            source: Arc::new(source),
            store: Arc::clone(&store),
            external_labels: Labels::empty(),
            external_url: parts.external_url.clone(),
            resend_delay: parts.resend_delay,
            outage_tolerance: OUTAGE_TOLERANCE,
        };
        let notifier = Notifier::new(
            Arc::new(Config::without_receivers()),
            Arc::clone(&store),
            parts.external_url,
            parts.clock.now_ms(),
        );
        let alerting = Arc::new(Self {
            manager: Manager::new(&context),
            context: ArcSwap::from_pointee(context),
            notifier: Mutex::new(notifier),
            external: External::new(registry),
            transport: Transport::default(),
            clock: parts.clock,
            metrics: Metrics::new(registry),
            groups_changed: Notify::new(),
            notifier_changed: Notify::new(),
        });
        alerting.load(plan);
        alerting.metrics.register_state(registry, &alerting);
        Ok(alerting)
    }

    /// Starts evaluation and delivery, until `stop`.
    pub fn start(self: &Arc<Self>, tasks: &TaskTracker, stop: &CancellationToken) {
        tasks.spawn(schedule::run(Arc::clone(self), stop.clone()));
        tasks.spawn(deliver::run(Arc::clone(self), stop.clone()));
        tasks.spawn(external::run(Arc::clone(self), stop.clone()));
    }

    /// Replaces the plan.
    pub fn load(&self, plan: Plan) {
        let now_ms = self.clock.now_ms();
        let mut context = (**self.context.load()).clone();
        context.external_labels = plan.external_labels;
        let defaults = Defaults {
            interval: plan.interval,
            query_offset: plan.query_offset,
        };
        self.manager.load(&context, plan.rules, defaults, now_ms);
        self.context.store(Arc::new(context));
        self.external.load(plan.external);
        let config = plan.notifier.unwrap_or_else(|| {
            tracing::info!(
                "no section alertmanager: alerts and silences are kept, but no notification is sent"
            );
            Arc::new(Config::without_receivers())
        });
        self.notifier().reload(config, now_ms);
        self.groups_changed.notify_one();
        self.notifier_changed.notify_one();
    }

    /// Returns the rule groups.
    #[must_use]
    pub const fn manager(&self) -> &Manager {
        &self.manager
    }

    /// Locks the notifier. Changes to it may wait for the disk, so async code must not make them.
    pub fn notifier(&self) -> MutexGuard<'_, Notifier> {
        self.notifier.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes the driver: the notifier has changed.
    pub fn wake_notifier(&self) {
        self.notifier_changed.notify_one();
    }

    /// Returns the URLs of the external Alertmanagers.
    #[must_use]
    pub fn external_urls(&self) -> Vec<String> {
        self.external.urls()
    }

    /// Returns the time.
    #[must_use]
    pub fn now_ms(&self) -> i64 {
        self.clock.now_ms()
    }

    /// Passes alerts of a rule group to the notifier and the external Alertmanagers.
    fn send(&self, outgoing: &[AlertToSend]) {
        if outgoing.is_empty() {
            return;
        }
        self.external.push(outgoing);
        let now_ms = self.clock.now_ms();
        let alerts = outgoing.iter().map(received).collect();
        let refused = self.notifier().receive(alerts, now_ms);
        if refused > 0 {
            tracing::warn!(refused, "too many alerts for the notifier");
        }
        self.notifier_changed.notify_one();
    }
}

fn received(alert: &AlertToSend) -> Alert {
    Alert {
        labels: alert.labels.clone(),
        annotations: alert.annotations.clone(),
        starts_at_ms: alert.starts_at_ms,
        ends_at_ms: alert.ends_at_ms,
        updated_at_ms: 0,
        generator_url: alert.generator_url.clone(),
        timeout: false,
    }
}
