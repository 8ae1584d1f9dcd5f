//! A webhook receiver that records requests with their time, and parses them later.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

/// Text that occurs once per alert of a notification.
const ALERT_MARK: &[u8] = b"\"fingerprint\":";

/// A webhook server with one path per receiver.
#[derive(Debug)]
pub(super) struct Webhook {
    /// Address of the server.
    pub(super) address: SocketAddr,
    inner: Arc<Inner>,
    _runtime: Runtime,
}

#[derive(Debug, Default)]
struct Inner {
    notifications: Mutex<Vec<Notification>>,
    alerts: AtomicUsize,
}

#[derive(Debug)]
struct Notification {
    path: String,
    at: f64,
    body: Bytes,
}

/// Deliveries of a number of alerts.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// Seconds from the start of each alert to its arrival at each receiver, ascending.
    pub(super) latencies: Vec<f64>,
    /// Received notifications.
    pub(super) notifications: usize,
    /// Alerts that a receiver got more than once.
    pub(super) repeated: usize,
}

impl Outcome {
    /// Returns a quantile of the latencies, in seconds.
    #[must_use]
    pub(super) fn latency(&self, quantile: f64) -> Option<f64> {
        let last = self.latencies.len().checked_sub(1)?;
        let index = (last as f64 * quantile).ceil() as usize;
        self.latencies.get(index).copied()
    }
}

/// Returns the seconds since the epoch.
#[must_use]
#[expect(
    clippy::disallowed_methods,
    reason = "compared with the clock of the measured servers"
)]
pub(super) fn now() -> f64 {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH);
    elapsed.map_or(0.0, |elapsed| elapsed.as_secs_f64())
}

impl Webhook {
    /// Starts the server on its own thread.
    ///
    /// # Errors
    /// No port or thread is available.
    pub(super) fn start() -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?;
        let listener = runtime.block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))?;
        let address = listener.local_addr()?;
        let inner = Arc::new(Inner::default());
        runtime.spawn(accept(listener, Arc::clone(&inner)));
        Ok(Self {
            address,
            inner,
            _runtime: runtime,
        })
    }

    /// Waits until `count` alerts have arrived since the last [`Self::take`], at most for `patience`.
    pub(super) fn wait_for(&self, count: usize, patience: Duration) {
        let started = Instant::now();
        while self.inner.alerts.load(Ordering::Acquire) < count && started.elapsed() < patience {
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Returns the deliveries since the last call. The label `alert` identifies an alert; its annotation `started` is the
    /// time of its start, in seconds since the epoch.
    ///
    /// # Errors
    /// A body is not a webhook message.
    pub(super) fn take(&self) -> Result<Outcome> {
        let notifications = {
            let mut kept = self.inner.notifications.lock();
            std::mem::take(&mut **kept.as_mut().unwrap_or_else(PoisonError::get_mut))
        };
        self.inner.alerts.store(0, Ordering::Release);
        let mut outcome = Outcome {
            notifications: notifications.len(),
            ..Outcome::default()
        };
        let mut seen: HashMap<(String, String), f64> = HashMap::new();
        for notification in notifications {
            let body: Value = serde_json::from_slice(&notification.body)?;
            for alert in body["alerts"].as_array().context("no alerts")? {
                let name = alert["labels"]["alert"].as_str().context("no label")?;
                let started = alert["annotations"]["started"].as_str();
                let started: f64 = started.context("no annotation")?.parse()?;
                let key = (notification.path.clone(), name.to_owned());
                if seen.insert(key, notification.at - started).is_some() {
                    outcome.repeated += 1;
                }
            }
        }
        outcome.latencies = seen.into_values().collect();
        outcome.latencies.sort_by(f64::total_cmp);
        Ok(outcome)
    }
}

async fn accept(listener: TcpListener, inner: Arc<Inner>) {
    while let Ok((stream, _)) = listener.accept().await {
        let inner = Arc::clone(&inner);
        tokio::spawn(async move {
            let service = service_fn(|request| receive(request, &inner));
            // A sender that aborts a request sends it again; the aborted one is not counted.
            hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await
                .ok();
        });
    }
}

async fn receive(
    request: Request<Incoming>,
    inner: &Inner,
) -> Result<Response<Empty<Bytes>>, hyper::Error> {
    let path = request.uri().path().to_owned();
    let body = request.into_body().collect().await?.to_bytes();
    let at = now();
    let alerts = body
        .windows(ALERT_MARK.len())
        .filter(|window| *window == ALERT_MARK)
        .count();
    let notification = Notification { path, at, body };
    inner
        .notifications
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push(notification);
    inner.alerts.fetch_add(alerts, Ordering::AcqRel);
    Ok(Response::new(Empty::new()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::Client;

    #[test]
    fn alerts_are_counted_once_a_receiver() {
        let webhook = Webhook::start().unwrap();
        let mut client = Client::connect(webhook.address).unwrap();
        let body = |names: &[&str]| {
            let alert = |name: &&str| {
                serde_json::json!({ "labels": { "alert": name }, "annotations": { "started": "1.5" },
                    "fingerprint": "0" })
            };
            let alerts: Vec<Value> = names.iter().map(alert).collect();
            Bytes::from(serde_json::json!({ "alerts": alerts }).to_string())
        };
        for (path, names) in [("/a", &["x", "y"][..]), ("/b", &["x"]), ("/a", &["x"])] {
            let answer = client.post(path, &[], body(names)).unwrap();
            assert_eq!(answer.status, 200);
        }
        webhook.wait_for(4, Duration::from_secs(60));
        let outcome = webhook.take().unwrap();
        assert_eq!(
            (
                outcome.latencies.len(),
                outcome.notifications,
                outcome.repeated
            ),
            (3, 3, 1)
        );
        assert!(outcome.latency(0.99).unwrap() > 1e9);
        assert_eq!(webhook.take().unwrap().latency(0.5), None);
    }
}
