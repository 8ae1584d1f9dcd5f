//! What is known of the cluster, and the task that writes it down at each tick.
//!
//! One task owns all tables. The watches send it changes through one bounded queue, so a store that is slow slows
//! the watches, and the API server's own flow control does the rest.

use std::sync::Arc;
use std::time::Duration;

use common::clock::Clock;
use common::model::{Labels, Metadata, MetricType};
use common::telemetry::Registry;
use tidemark_storage::{AppendError, Store};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::families::FAMILIES;
use super::kind::Kind;
use super::metrics::Metrics;
use super::series::BaseLabels;
use super::table::Table;

/// Changes that may wait for the writer.
pub const CHANGES_MAX: usize = 1024;

/// Where watches tell what they see.
pub type Changes = mpsc::Sender<(Kind, Change)>;

/// What a watch tells.
#[derive(Debug)]
pub enum Change {
    /// A full list begins.
    ListBegins,
    /// An object is there, with these series.
    Applied {
        /// Its key among objects of its kind.
        key: Box<str>,
        /// Labels and values.
        series: Vec<(Labels, f64)>,
        /// Values in it that could not be read.
        malformed: u64,
    },
    /// An object is gone.
    Removed {
        /// Its key among objects of its kind.
        key: Box<str>,
    },
    /// The list is complete.
    ListEnds,
    /// The server has accepted a watch: changes follow as they happen.
    Following,
    /// The API server did not answer as it should. The watch tries again by itself.
    Failed {
        /// For the metric.
        reason: Failure,
        /// For the log.
        error: String,
    },
}

/// Why a watch failed. A metric's label: the set is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Failure {
    /// No connection, or it broke.
    Connection,
    /// 401: the token is not good.
    Unauthorized,
    /// 403: RBAC does not allow it.
    Forbidden,
    /// 404: this server has no such resource.
    NotFound,
    /// 410: too far behind; a new list follows.
    Expired,
    /// Another refusal by the server.
    Refused,
    /// An answer that could not be read.
    Malformed,
}

impl Failure {
    /// The value of the metric's label.
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

/// How the cluster is written down.
#[derive(Debug, Clone)]
pub struct ClusterOptions {
    /// How often rows are written.
    pub interval: Duration,
    /// Labels of all series.
    pub base: BaseLabels,
    /// Series of one kind; more are refused and counted.
    pub series_per_kind_max: usize,
}

/// All tables.
#[derive(Debug)]
pub(crate) struct Cluster {
    kinds: Vec<Watched>,
    /// `up` of the scrape that this stands in for.
    up: Table,
    up_labels: Option<Labels>,
    metrics: Arc<Metrics>,
    write_failed: bool,
}

#[derive(Debug)]
struct Watched {
    kind: Kind,
    table: Table,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Never followed.
    Starting,
    /// Changes arrive.
    Following,
    /// Failed since; what was known stays.
    Failed,
}

impl Cluster {
    /// Empty tables in `store`. Tells it what the families mean.
    pub(crate) fn new(store: &Store, options: &ClusterOptions, metrics: Arc<Metrics>) -> Self {
        for &(name, help) in FAMILIES {
            let metadata = Metadata {
                metric_type: MetricType::Gauge,
                help: help.to_owned(),
                unit: String::new(),
            };
            store.set_metadata(name, metadata);
        }
        let table = |name: &str| {
            Table::new(
                store.stream(&format!("kubernetes/{name}")),
                options.series_per_kind_max,
            )
        };
        let watched = |kind: Kind| Watched {
            kind,
            table: table(kind.as_str()),
            state: State::Starting,
        };
        Self {
            kinds: Kind::ALL.into_iter().map(watched).collect(),
            up: table("up"),
            up_labels: options.base.labels("up", &[]),
            metrics,
            write_failed: false,
        }
    }

    /// Takes in what a watch tells.
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
                if watched.state != State::Following {
                    let objects = watched.table.objects();
                    info!(resource = kind.as_str(), objects, "follow the API server");
                }
                watched.state = State::Following;
            }
            Change::Failed { reason, error } => {
                metrics.failed(reason);
                // A server forgets old changes now and then; the list that follows mends it.
                if reason != Failure::Expired && watched.state != State::Failed {
                    warn!(
                        resource = kind.as_str(),
                        reason = reason.as_str(),
                        error,
                        "lost the API server"
                    );
                    watched.state = State::Failed;
                }
            }
        }
        metrics
            .up
            .set(f64::from(u8::from(watched.state == State::Following)));
        metrics.objects.set(watched.table.objects() as f64);
        metrics.series.set(watched.table.series() as f64);
    }

    /// Writes a row of each kind.
    pub(crate) fn write(&mut self, now_ms: i64) {
        let following = self
            .kinds
            .iter()
            .all(|watched| watched.state == State::Following);
        if let Some(labels) = self.up_labels.clone() {
            let value = f64::from(u8::from(following));
            self.up.begin_list();
            self.up.apply(Box::from("up"), vec![(labels, value)]);
            self.up.end_list();
        }
        let tables = self.kinds.iter_mut().map(|watched| &mut watched.table);
        let mut error = None;
        for table in tables.chain([&mut self.up]) {
            match table.write(now_ms) {
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
        self.note(error.as_ref());
    }

    /// Logs a failure to write once, and its end.
    fn note(&mut self, error: Option<&AppendError>) {
        match error {
            Some(error) if !self.write_failed => {
                warn!(%error, "can't store the cluster's state; trying again at each tick");
            }
            None if self.write_failed => info!("the cluster's state is stored again"),
            _ => {}
        }
        self.write_failed = error.is_some();
    }
}

/// Owns the tables until `cancel`: takes in changes, writes rows.
async fn run(
    mut cluster: Cluster,
    mut changes: mpsc::Receiver<(Kind, Change)>,
    every: Duration,
    clock: Arc<dyn Clock>,
    cancel: CancellationToken,
) {
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = cancel.cancelled() => return,
            _ = ticks.tick() => {
                let now_ms = clock.now_ms();
                // A row of a large cluster is megabytes of log.
                let written = tokio::task::spawn_blocking(move || {
                    cluster.write(now_ms);
                    cluster
                });
                cluster = match written.await {
                    Ok(cluster) => cluster,
                    Err(error) => return tracing::error!(%error, "writer of the cluster's state failed"),
                };
            }
            Some((kind, change)) = changes.recv() => cluster.change(kind, change),
        }
    }
}

/// Starts the writer, which stops with `cancel`. Returns the door for what watches tell.
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
