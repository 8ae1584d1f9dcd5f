//! Polls the kubelet and publishes its answers for the sampling thread.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use common::telemetry::{Counter, Gauge, MetricDef, Registry};
use common::{metric, report};
use serde::de::DeserializeOwned;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::api::{ContainerStatus, Pod, PodList};
use super::client::{KubeletClient, KubeletError};
use super::metrics::{Families, KubeletMetrics};
use super::quantity::parse_time;
use super::summary::Summary;
use crate::collectors::cgroup::names::{ContainerNames, Names, NamesHandle, PodNames};

const UP: MetricDef<Gauge> = metric!(
    Gauge,
    "agent_kubelet_up",
    "Whether the last request to the kubelet succeeded."
);
const ANSWERS: MetricDef<Counter> = metric!(
    Counter,
    "agent_kubelet_answers_total",
    "Successful requests to the kubelet."
);
const ERRORS: MetricDef<Counter> = metric!(
    Counter,
    "agent_kubelet_errors_total",
    "Failed requests to the kubelet, by kind of failure."
);

/// Interval between rounds. Each round requests the kubelet's own metrics, so that a rate over a minute has two samples.
const PERIOD: Duration = Duration::from_secs(30);
/// Every second round requests the summary.
const ROUNDS_PER_SUMMARY: u64 = 2;
/// Pause between requests for `/pods`, unless they are expensive.
const PODS_PERIOD_MIN: Duration = Duration::from_secs(10);
/// Interval between checks for missing names. Statuses are about a second later than cgroups anyway.
const DEBOUNCE: Duration = Duration::from_secs(1);
/// Longest pause between requests for missing names.
const BACKOFF_MAX: Duration = Duration::from_secs(30);

/// Which pods there are.
pub(crate) const PODS: &str = "/pods";
/// What their file systems hold.
pub(crate) const SUMMARY: &str = "/stats/summary";
const METRICS: &str = "/metrics";

/// Latest answers of the kubelet, shared with the sampling thread.
#[derive(Debug, Clone, Default)]
pub struct KubeletData {
    /// Names of pods and containers.
    pub names: NamesHandle,
    latest: Arc<Mutex<Latest>>,
    metrics: Arc<Mutex<(u64, Option<Arc<KubeletMetrics>>)>>,
}

/// The newest answers, with a number that grows with each.
#[derive(Debug, Clone, Default)]
pub struct Latest {
    /// Grows with each answer.
    pub generation: u64,
    /// Of `/pods`.
    pub pods: Option<Arc<PodList>>,
    /// Whether `/stats/summary` was asked for.
    pub was_asked: bool,
    /// Of `/stats/summary`.
    pub summary: Option<Arc<Summary>>,
}

impl KubeletData {
    /// The newest answers.
    #[must_use]
    pub fn latest(&self) -> Latest {
        self.latest
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Whether the kubelet answered when it was last asked for numbers; nothing before the first time.
    #[must_use]
    pub fn is_up(&self) -> Option<bool> {
        let latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        latest.was_asked.then_some(latest.summary.is_some())
    }

    /// The newest answer of `/metrics`, with a number that grows with each; 0 before the first.
    #[must_use]
    pub fn metrics(&self) -> (u64, Option<Arc<KubeletMetrics>>) {
        self.metrics
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Publishes an answer of `/metrics`, or `None` when the last one has expired.
    pub fn set_metrics(&self, metrics: Option<KubeletMetrics>) {
        let mut latest = self.metrics.lock().unwrap_or_else(PoisonError::into_inner);
        *latest = (latest.0 + 1, metrics.map(Arc::new));
    }

    /// Publishes an answer of `/pods`, unless it equals the one before: `/pods` is asked often and seldom changes, and
    /// each new generation costs the sampling thread a pass over all pods.
    pub fn set_pods(&self, mut pods: PodList) {
        // The kubelet lists its pods in random order.
        pods.items
            .sort_by(|a, b| a.metadata.uid.cmp(&b.metadata.uid));
        let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        if latest.pods.as_deref() == Some(&pods) {
            return;
        }
        self.names.publish(names_of(&pods));
        latest.pods = Some(Arc::new(pods));
        latest.generation += 1;
    }

    /// Publishes an answer of `/stats/summary`, or `None` when the last one has expired.
    pub fn set_summary(&self, summary: Option<Summary>) {
        let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        latest.summary = summary.map(Arc::new);
        latest.was_asked = true;
        latest.generation += 1;
    }
}

/// Returns the names of all pods and of all containers that were ever reported with an ID.
fn names_of(pods: &PodList) -> Names {
    let mut names = Names::default();
    for pod in &pods.items {
        let uid = pod.metadata.uid.clone();
        names.pods.insert(
            uid,
            PodNames {
                namespace: pod.metadata.namespace.clone(),
                pod: pod.metadata.name.clone(),
                host_network: pod.spec.host_network,
            },
        );
        for status in all_statuses(pod) {
            // The cgroup of the container before a restart may still be there.
            for id in [status.last_id(), status.id()].into_iter().flatten() {
                names
                    .containers
                    .insert(id.to_owned(), container_names(pod, status));
            }
        }
    }
    names
}

fn all_statuses(pod: &Pod) -> impl Iterator<Item = &ContainerStatus> {
    let status = &pod.status;
    let init = status.init_container_statuses.iter();
    init.chain(&status.container_statuses)
        .chain(&status.ephemeral_container_statuses)
}

fn container_names(pod: &Pod, status: &ContainerStatus) -> ContainerNames {
    ContainerNames {
        pod_uid: pod.metadata.uid.clone(),
        container: status.name.clone(),
        image: status.image.clone(),
        start_seconds: status.state.started_at().and_then(parse_time),
    }
}

/// State of one endpoint.
#[derive(Debug)]
struct Endpoint {
    path: &'static str,
    up: Arc<Gauge>,
    answers: Arc<Counter>,
    registry: Registry,
    /// Last error; `None` after success. Logged when it changes.
    trouble: Option<&'static str>,
}

impl Endpoint {
    fn new(path: &'static str, registry: &Registry) -> Self {
        let labels = [("path", path)];
        Self {
            path,
            up: UP.register(registry, &labels),
            answers: ANSWERS.register(registry, &labels),
            registry: registry.clone(),
            trouble: None,
        }
    }

    /// Requests and parses an answer, and records the outcome.
    async fn ask<T, E>(
        &mut self,
        client: &KubeletClient,
        parse: impl FnOnce(&[u8]) -> Result<T, E>,
    ) -> Option<T>
    where
        E: std::error::Error + Send + Sync + 'static,
    {
        let answer = client.get(self.path).await.and_then(|body| {
            parse(&body).map_err(|source| KubeletError::Malformed {
                path: self.path,
                source: source.into(),
            })
        });
        match answer {
            Ok(answer) => {
                self.up.set(1.0);
                self.answers.inc();
                if self.trouble.take().is_some() {
                    tracing::info!(path = self.path, "kubelet answers again");
                }
                Some(answer)
            }
            Err(error) => {
                self.fail(&error);
                None
            }
        }
    }

    fn fail(&mut self, error: &KubeletError) {
        let kind = error.kind();
        self.up.set(0.0);
        let labels = [("path", self.path), ("kind", kind)];
        ERRORS.register(&self.registry, &labels).inc();
        if self.trouble.replace(kind) != Some(kind) {
            tracing::warn!(
                path = self.path,
                error = report::chain(error),
                "kubelet unavailable; continuing without its data"
            );
        }
    }
}

fn json<T: DeserializeOwned>(body: &[u8]) -> Result<T, serde_json::Error> {
    serde_json::from_slice(body)
}

/// Polls until `stop` fires, including the metrics of `families` if any. Requests never overlap.
///
/// # Cancel safety
/// May be dropped at any await; published answers stay.
pub async fn poll(
    client: KubeletClient,
    data: KubeletData,
    families: &Families,
    registry: &Registry,
    stop: CancellationToken,
) {
    let run = async {
        let mut pods = PodsPoll::new(registry);
        let mut summary = Endpoint::new(SUMMARY, registry);
        let mut metrics = (!families.is_empty()).then(|| Endpoint::new(METRICS, registry));
        for round in 0_u64.. {
            let next_round = Instant::now() + PERIOD;
            pods.ask_if_due(&client, &data).await;
            // After a failure, old values must not appear as new ones.
            if round.is_multiple_of(ROUNDS_PER_SUMMARY) {
                data.set_summary(summary.ask(&client, json).await);
            }
            if let Some(metrics) = &mut metrics {
                let parse = |body: &[u8]| KubeletMetrics::parse(body, families);
                data.set_metrics(metrics.ask(&client, parse).await);
            }
            while Instant::now() < next_round {
                sleep_until((Instant::now() + DEBOUNCE).min(next_round)).await;
                pods.ask_if_due(&client, &data).await;
            }
            // Prevents a busy loop when the clock saturates.
            sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::select! {
        () = run => {}
        () = stop.cancelled() => {}
    }
}

/// Schedule of requests for `/pods`: every 10 s, sooner for missing names and after a failure, later if answers are expensive.
#[derive(Debug)]
struct PodsPoll {
    endpoint: Endpoint,
    due: Instant,
    /// Pause after the next failure.
    retry: Duration,
    /// When missing names may be requested again, and the pause after that.
    names_due: Instant,
    names_pause: Duration,
}

impl PodsPoll {
    fn new(registry: &Registry) -> Self {
        let now = Instant::now();
        Self {
            endpoint: Endpoint::new(PODS, registry),
            due: now,
            retry: DEBOUNCE,
            names_due: now,
            names_pause: DEBOUNCE,
        }
    }

    async fn ask_if_due(&mut self, client: &KubeletClient, data: &KubeletData) {
        let now = Instant::now();
        let are_names_missing = data.names.take_wanted();
        if !are_names_missing {
            self.names_pause = DEBOUNCE;
        }
        let asks_for_names = are_names_missing && now >= self.names_due;
        if now < self.due && !asks_for_names {
            return;
        }
        // Names outlive a failure: a running container keeps its name.
        let list = self.endpoint.ask(client, json).await;
        let answered = Instant::now();
        if asks_for_names {
            self.names_pause = (self.names_pause * 2).min(BACKOFF_MAX);
            self.names_due = answered + self.names_pause;
        }
        match list {
            Some(list) => {
                data.set_pods(list);
                self.retry = DEBOUNCE;
                self.due = answered + pods_period(answered - now);
            }
            None => {
                self.due = answered + self.retry;
                self.names_due = self.names_due.max(self.due);
                self.retry = (self.retry * 2).min(BACKOFF_MAX);
            }
        }
    }
}

/// Returns the pause after an answer of `/pods` that took `elapsed`: at least 10 s, and long enough that requests take at most 1 % of
/// the time.
fn pods_period(elapsed: Duration) -> Duration {
    (elapsed * 100).clamp(PODS_PERIOD_MIN, PERIOD * 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pods(phases: &[(&str, &str)]) -> PodList {
        let items = phases.iter().map(|(uid, phase)| {
            serde_json::json!({"metadata": {"uid": uid}, "status": {"phase": phase}})
        });
        let items: Vec<_> = items.collect();
        serde_json::from_value(serde_json::json!({ "items": items })).unwrap()
    }

    #[test]
    fn costly_pods_are_asked_less_often() {
        let seconds = |millis| pods_period(Duration::from_millis(millis)).as_secs();
        assert_eq!([seconds(5), seconds(200), seconds(5000)], [10, 20, 60]);
    }

    #[test]
    fn unchanged_pods_in_another_order_are_not_a_new_generation() {
        let data = KubeletData::default();
        let generation = |list| {
            data.set_pods(list);
            data.latest().generation
        };
        assert_eq!(generation(pods(&[("a", "Pending"), ("b", "Running")])), 1);
        assert_eq!(generation(pods(&[("b", "Running"), ("a", "Pending")])), 1);
        assert_eq!(generation(pods(&[("b", "Running"), ("a", "Running")])), 2);
    }
}
