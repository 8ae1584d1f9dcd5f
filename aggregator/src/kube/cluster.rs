//! The state of the cluster, and the task that writes it to the store at each tick.
//!
//! One task owns all tables. The watches send it changes through one bounded queue, so a slow store slows the watches,
//! and flow control reaches the API server.
//!
//! Nothing is written while the first lists are still arriving: neither `up` nor half a list. The first row follows as
//! soon as they are complete.

use std::sync::Arc;
use std::time::Duration;

use common::clock::Clock;
use common::model::{Labels, Metadata, MetricType};
use common::telemetry::Registry;
use tidemark_storage::{AppendError, Appended, Store};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::families::FAMILIES;
use super::kind::Kind;
use super::metrics::Metrics;
use super::series::BaseLabels;
use super::table::Table;
use crate::report::chain;
use crate::series_writer::SeriesWriter;

/// Most changes that wait for the writer.
pub const CHANGES_MAX: usize = 1024;

/// Where watches send changes.
pub type Changes = mpsc::Sender<(Kind, Change)>;

/// What a watch reports.
#[derive(Debug)]
pub enum Change {
    /// A full list begins.
    ListBegins,
    /// An object was listed, added or changed.
    Applied {
        /// Its key among the objects of its kind.
        key: Box<str>,
        /// Its series and their values.
        series: Vec<(Labels, f64)>,
        /// How many of its values could not be parsed.
        malformed: u64,
    },
    /// An object was deleted.
    Removed {
        /// Its key among the objects of its kind.
        key: Box<str>,
    },
    /// The list is complete.
    ListEnds,
    /// The server accepted the watch: changes arrive as they happen.
    Following,
    /// A request to the API server failed. The watch retries by itself.
    Failed {
        /// For the metric.
        reason: Failure,
        /// For the log.
        error: String,
    },
}

/// Why a watch failed: the values of a metric's label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Failure {
    /// No connection, or the connection broke.
    Connection,
    /// 401: the token is not valid.
    Unauthorized,
    /// 403: RBAC does not allow it.
    Forbidden,
    /// 404: the server does not have this resource.
    NotFound,
    /// 410: the watch's resource version expired; a new list follows.
    Expired,
    /// Any other error status.
    Refused,
    /// The answer could not be parsed.
    Malformed,
}

impl Failure {
    /// Returns the value of the metric's label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Connection => "connection",
            Self::Unauthorized => "unauthorized",
            Self::Forbidden => "forbidden",
            Self::NotFound => "not_found",
            Self::Expired => "expired",
            Self::Refused => "refused",
            Self::Malformed => "malformed",
        }
    }
}

/// How the state of the cluster is written.
#[derive(Debug, Clone)]
pub struct ClusterOptions {
    /// Time between two rows.
    pub interval: Duration,
    /// Labels that all series carry.
    pub base: BaseLabels,
    /// Most series of one kind; further ones are refused and counted.
    pub series_per_kind_max: usize,
}

/// The tables of all kinds.
#[derive(Debug)]
pub(crate) struct Cluster {
    kinds: Vec<Watched>,
    /// `up`, as a scrape of kube-state-metrics would have it.
    up: SeriesWriter,
    up_labels: Option<Labels>,
    metrics: Arc<Metrics>,
    write_failed: bool,
}

#[derive(Debug)]
struct Watched {
    kind: Kind,
    table: Table,
    state: WatchState,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum WatchState {
    /// The first list is not complete yet.
    Starting,
    /// Changes arrive.
    Following,
    /// The watch failed. The objects known so far stay.
    Failed,
}

impl Cluster {
    /// Creates empty tables in `store`, and describes the metric families to it.
    pub(crate) fn new(store: &Store, options: &ClusterOptions, metrics: Arc<Metrics>) -> Self {
        for &(name, help) in FAMILIES {
            let metadata = Metadata {
                metric_type: MetricType::Gauge,
                help: help.to_owned(),
                unit: String::new(),
            };
            store.set_metadata(name, metadata);
        }
        let stream = |name: &str| store.stream(&format!("kubernetes/{name}"));
        let watched = |kind: Kind| Watched {
            kind,
            table: Table::new(stream(kind.as_str()), options.series_per_kind_max),
            state: WatchState::Starting,
        };
        Self {
            kinds: Kind::ALL.into_iter().map(watched).collect(),
            up: SeriesWriter::new(stream("up"), 1),
            up_labels: options.base.labels("up", &[]),
            metrics,
            write_failed: false,
        }
    }

    /// Applies a change.
    pub(crate) fn change(&mut self, kind: Kind, change: Change) {
        let Some(watched) = self.kinds.iter_mut().find(|watched| watched.kind == kind) else {
            return;
        };
        let metrics = self.metrics.of(kind);
        match change {
            Change::ListBegins => watched.table.begin_list(),
            Change::Applied {
                key,
                series,
                malformed,
            } => {
                metrics.refused_series.add(watched.table.apply(key, series));
                metrics.malformed_values.add(malformed);
            }
            Change::Removed { key } => watched.table.remove(&key),
            Change::ListEnds => watched.table.end_list(),
            Change::Following => {
                if watched.state != WatchState::Following {
                    let objects = watched.table.objects();
                    info!(resource = kind.as_str(), objects, "watching the API server");
                }
                watched.state = WatchState::Following;
            }
            Change::Failed { reason, error } => {
                metrics.failed(reason);
                // Servers compact old changes as a matter of course; the list that follows repairs it.
                if reason != Failure::Expired && watched.state != WatchState::Failed {
                    warn!(
                        resource = kind.as_str(),
                        reason = reason.as_str(),
                        error,
                        "watch of the API server failed"
                    );
                    watched.state = WatchState::Failed;
                }
            }
        }
        metrics
            .up
            .set(f64::from(u8::from(watched.state == WatchState::Following)));
        metrics.objects.set(watched.table.objects() as f64);
        metrics.series.set(watched.table.series() as f64);
    }

    /// Returns whether the first list of each kind is complete, or has failed.
    pub(crate) fn is_started(&self) -> bool {
        let mut kinds = self.kinds.iter();
        kinds.all(|watched| watched.state != WatchState::Starting)
    }

    /// Returns the value of `up`: 0 while a watch is failing, none before the first lists are complete.
    fn up_value(&self) -> Option<f64> {
        let has = |state| self.kinds.iter().any(|watched| watched.state == state);
        if has(WatchState::Failed) {
            Some(0.0)
        } else {
            (!has(WatchState::Starting)).then_some(1.0)
        }
    }

    fn write_up(&mut self, now_ms: i64) -> Result<Appended, AppendError> {
        if let Some((labels, value)) = self.up_labels.as_ref().zip(self.up_value()) {
            match self.up.column(labels) {
                Ok(column) => self.up.set(column, value),
                Err(error) => warn!(error = chain(&error), %labels, "refuse series"),
            }
        }
        self.up.write(now_ms)
    }

    /// Writes a row of each kind.
    pub(crate) fn write(&mut self, now_ms: i64) {
        let up = self.write_up(now_ms);
        let tables = self.kinds.iter_mut();
        let rows = tables.map(|watched| watched.table.write(now_ms));
        let mut error = None;
        for row in rows.chain([up]) {
            match row {
                Ok(appended) => {
                    self.metrics.samples.add(appended.stored);
                    self.metrics.refused_samples.add(appended.refused);
                }
                Err(failed) => {
                    self.metrics.failed_rows.inc();
                    error = Some(failed);
                }
            }
        }
        self.log_outcome(error.as_ref());
    }

    /// Logs when writing begins to fail, and when it works again.
    fn log_outcome(&mut self, error: Option<&AppendError>) {
        match error {
            Some(error) if !self.write_failed => {
                let error = chain(error);
                warn!(
                    error,
                    "cannot write the state of the cluster; retrying at each tick"
                );
            }
            None if self.write_failed => info!("writing the state of the cluster again"),
            _ => {}
        }
        self.write_failed = error.is_some();
    }
}

/// Owns the tables until `cancel`: applies changes and writes rows.
async fn run(
    mut cluster: Cluster,
    mut changes: mpsc::Receiver<(Kind, Change)>,
    every: Duration,
    clock: Arc<dyn Clock>,
    cancel: CancellationToken,
) {
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut is_started = false;
    loop {
        tokio::select! {
            () = cancel.cancelled() => return,
            _ = ticks.tick() => {}
            Some((kind, change)) = changes.recv() => {
                cluster.change(kind, change);
                if is_started || !cluster.is_started() {
                    continue;
                }
                // The lists are in: the first row need not wait for the next tick.
                is_started = true;
                ticks.reset();
            }
        }
        let now_ms = clock.now_ms();
        // A row of a large cluster is megabytes of log.
        let written = tokio::task::spawn_blocking(move || {
            cluster.write(now_ms);
            cluster
        });
        cluster = match written.await {
            Ok(cluster) => cluster,
            Err(error) => {
                let error = chain(&error);
                return tracing::error!(error, "writer of the cluster's state panicked");
            }
        };
    }
}

/// Starts the writer, which stops with `cancel`. Returns where watches send changes.
pub fn start(
    store: &Store,
    options: &ClusterOptions,
    clock: Arc<dyn Clock>,
    cancel: CancellationToken,
    registry: &Registry,
) -> (Changes, tokio::task::JoinHandle<()>) {
    let (sender, receiver) = mpsc::channel(CHANGES_MAX);
    let cluster = Cluster::new(store, options, Arc::new(Metrics::new(registry)));
    let writer = run(cluster, receiver, options.interval, clock, cancel);
    (sender, tokio::spawn(writer))
}

#[cfg(test)]
mod tests;
