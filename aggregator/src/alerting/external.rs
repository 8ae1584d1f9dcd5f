//! Sends alerts to external Alertmanagers, each with its own queue.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use common::metrics;
use common::telemetry::{Counter, Registry};
use http::Method;
use tidemark_alerting::external::{
    Alerting as Section, Alertmanagers, DnsName, Queue, body, relabelled,
};
use tidemark_alerting::notify::receiver::{HttpConfig, HttpOptions};
use tidemark_alerting::rules::group::AlertToSend;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Alerting;
use super::transport::request_options;
use crate::outbound::HttpClient;
use crate::outbound::dns::{self, DnsError};
use crate::report::chain;

metrics! {
    #[derive(Debug)]
    struct ExternalMetrics {
        sent: Counter = "aggregator_alertmanager_sent_total", "Alerts sent to external Alertmanagers.";
        failed: Counter = "aggregator_alertmanager_errors_total", "Alerts that an external Alertmanager did not accept.";
        dropped: Counter = "aggregator_alertmanager_dropped_total", "Alerts dropped because the queue to an external Alertmanager was full.";
    }
}

/// The Alertmanagers and their queues.
#[derive(Debug)]
pub(super) struct External {
    metrics: ExternalMetrics,
    state: Mutex<State>,
    /// Wakes the senders.
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    section: Arc<Section>,
    /// By index of the section and URL.
    instances: HashMap<(usize, String), Instance>,
    resolved_at: Option<Instant>,
}

#[derive(Debug, Default)]
struct Instance {
    queue: Queue,
    is_sending: bool,
}

impl External {
    pub(super) fn new(registry: &Registry) -> Self {
        Self {
            state: Mutex::new(State::default()),
            changed: Notify::new(),
            metrics: ExternalMetrics::register(registry, &[]),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Replaces the section. Instances that stay keep their queues.
    pub(super) fn load(&self, section: Section) {
        let mut state = self.state();
        state.section = Arc::new(section);
        state.resolved_at = None;
        let fixed = targets(&state.section);
        let wanted: Vec<(usize, String)> = fixed.collect();
        state.instances.retain(|key, _| wanted.contains(key));
        for key in wanted {
            state.instances.entry(key).or_default();
        }
        drop(state);
        self.changed.notify_one();
    }

    /// Returns the URLs of all instances.
    pub(super) fn urls(&self) -> Vec<String> {
        let mut urls: Vec<String> = self
            .state()
            .instances
            .keys()
            .map(|(_, url)| url.clone())
            .collect();
        urls.sort();
        urls
    }

    /// Queues alerts for every instance.
    pub(super) fn push(&self, outgoing: &[AlertToSend]) {
        let mut state = self.state();
        let section = Arc::clone(&state.section);
        for ((index, _), instance) in &mut state.instances {
            let own = section
                .alertmanagers
                .get(*index)
                .map_or(&[][..], |group| &group.relabel);
            let alerts = outgoing
                .iter()
                .filter_map(|alert| relabelled(alert, &section.relabel, own));
            let dropped = instance.queue.push(alerts);
            self.metrics.dropped.add(dropped);
        }
        drop(state);
        self.changed.notify_one();
    }

    /// Returns a batch for each instance that has alerts queued and no batch being sent.
    fn take_batches(&self) -> Vec<Batch> {
        let mut state = self.state();
        let section = Arc::clone(&state.section);
        let mut batches = Vec::new();
        for (key, instance) in &mut state.instances {
            let Some(group) = section.alertmanagers.get(key.0) else {
                continue;
            };
            if instance.is_sending || instance.queue.is_empty() {
                continue;
            }
            instance.is_sending = true;
            batches.push(Batch {
                key: key.clone(),
                group: group.clone(),
                alerts: instance.queue.take_batch(),
            });
        }
        batches
    }

    fn finish(&self, key: &(usize, String)) {
        if let Some(instance) = self.state().instances.get_mut(key) {
            instance.is_sending = false;
        }
        self.changed.notify_one();
    }

    /// Resolves names whose addresses are due.
    async fn resolve(&self) {
        let (section, is_due) = {
            let state = self.state();
            let refresh = state
                .section
                .alertmanagers
                .iter()
                .map(|group| group.refresh)
                .min();
            let is_due = state
                .resolved_at
                .is_none_or(|at| Some(at.elapsed()) >= refresh);
            (Arc::clone(&state.section), is_due)
        };
        if !is_due
            || section
                .alertmanagers
                .iter()
                .all(|group| group.names.is_empty())
        {
            return;
        }
        let mut wanted: Vec<(usize, String)> = targets(&section).collect();
        let mut is_complete = true;
        for (index, group) in section.alertmanagers.iter().enumerate() {
            for name in &group.names {
                match look_up(name).await {
                    Ok(addresses) => {
                        let urls = addresses.iter().map(|address| (index, group.url(address)));
                        wanted.extend(urls);
                    }
                    Err(error) => {
                        is_complete = false;
                        tracing::warn!(?name, error = chain(&error), "resolve Alertmanagers");
                    }
                }
            }
        }
        let mut state = self.state();
        if !Arc::ptr_eq(&state.section, &section) {
            return;
        }
        state.resolved_at = Some(Instant::now());
        // A name that can't be resolved keeps its last addresses.
        if is_complete {
            state.instances.retain(|key, _| wanted.contains(key));
        }
        for key in wanted {
            state.instances.entry(key).or_default();
        }
    }
}

/// Returns the `host:port`s of a name.
async fn look_up(name: &DnsName) -> Result<Vec<String>, DnsError> {
    match name {
        DnsName::Host(name, port) => {
            let addresses = dns::resolve_host(name, *port).await?;
            Ok(addresses.iter().map(ToString::to_string).collect())
        }
        DnsName::Service(name) => {
            let targets = dns::resolve_service(name, Path::new(dns::RESOLV_CONF)).await?;
            let targets = targets.into_iter();
            Ok(targets
                .map(|(host, port)| format!("{host}:{port}"))
                .collect())
        }
    }
}

fn targets(section: &Section) -> impl Iterator<Item = (usize, String)> + '_ {
    section
        .alertmanagers
        .iter()
        .enumerate()
        .flat_map(|(index, group)| {
            group
                .targets
                .iter()
                .map(move |target| (index, group.url(target)))
        })
}

struct Batch {
    key: (usize, String),
    group: Alertmanagers,
    alerts: Vec<AlertToSend>,
}

/// Sends until `stop`. A failed batch is not retried: its alerts are sent again after the resend delay.
pub(super) async fn run(alerting: Arc<Alerting>, stop: CancellationToken) {
    let tasks = TaskTracker::new();
    loop {
        alerting.external.resolve().await;
        for batch in alerting.external.take_batches() {
            let alerting = Arc::clone(&alerting);
            tasks.spawn(async move {
                let external = &alerting.external;
                send(external, &alerting.transport.client, &batch).await;
                external.finish(&batch.key);
            });
        }
        tokio::select! {
            () = alerting.external.changed.notified() => {}
            () = tokio::time::sleep(Duration::from_secs(5)) => {}
            () = stop.cancelled() => break,
        }
    }
    tasks.close();
    tasks.wait().await;
}

/// Reads the files of secrets, which may have been rotated since the last request.
async fn load(http: &HttpConfig) -> Result<HttpOptions, String> {
    if !http.has_files() {
        return http.load().map_err(|error| chain(&error));
    }
    let http = http.clone();
    match tokio::task::spawn_blocking(move || http.load()).await {
        Ok(loaded) => loaded.map_err(|error| chain(&error)),
        Err(error) => Err(format!("read files of secrets: {error}")),
    }
}

async fn send(external: &External, client: &HttpClient, batch: &Batch) {
    let url = &batch.key.1;
    let count = batch.alerts.len() as u64;
    let body = Bytes::from(body(&batch.alerts));
    let request = async {
        let options = request_options(&load(&batch.group.http).await?);
        let response = client.request(Method::POST, url, &options, body).await;
        response.map_err(|error| chain(&error))
    };
    let failure = match tokio::time::timeout(batch.group.timeout, request).await {
        Ok(Ok(response)) if (200..300).contains(&response.status) => {
            external.metrics.sent.add(count);
            return;
        }
        Ok(Ok(response)) => format!("status {}", response.status),
        Ok(Err(reason)) => reason,
        Err(_) => "no answer in time".to_owned(),
    };
    external.metrics.failed.add(count);
    tracing::warn!(
        alertmanager = url,
        alerts = count,
        error = failure,
        "send alerts"
    );
}
