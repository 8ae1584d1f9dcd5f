//! Drives the notifier: flushes groups when they are due, delivers, retries, and reports back.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::Rng as _;
use tidemark_alerting::notify::message::{self, Message, Verdict};
use tidemark_alerting::notify::notifier::Delivery;
use tidemark_alerting::notify::receiver::Integration;
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::transport::Transport;
use super::{Alerting, mail};

/// Deliveries under way at one time; others wait for their turn.
const DELIVERIES_MAX: usize = 256;
const BACKOFF_FIRST: Duration = Duration::from_millis(500);
const BACKOFF_MAX: Duration = Duration::from_secs(60);
/// The longest sleep, so that a step of the clock is noticed.
const SLEEP_MAX: Duration = Duration::from_secs(5);

/// Runs until `stop`.
pub(super) async fn run(alerting: Arc<Alerting>, stop: CancellationToken) {
    let permits = Arc::new(Semaphore::new(DELIVERIES_MAX));
    let transport = Arc::new(Transport::default());
    let tasks = TaskTracker::new();
    let (outcomes, ended) = mpsc::channel(DELIVERIES_MAX);
    let recorder = tokio::spawn(record(Arc::clone(&alerting), ended));
    loop {
        let wait = until_due(&alerting);
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = alerting.notifier_changed.notified() => {}
            () = stop.cancelled() => break,
        }
        let work = Arc::clone(&alerting);
        let ticked = tokio::task::spawn_blocking(move || {
            let now_ms = work.clock.now_ms();
            work.notifier()
                .as_mut()
                .map_or_else(Vec::new, |notifier| notifier.tick(now_ms))
        });
        let deliveries = ticked.await.unwrap_or_else(|error| {
            tracing::error!(%error, "flush of the notifier broke off");
            Vec::new()
        });
        for delivery in deliveries {
            let (alerting, transport) = (Arc::clone(&alerting), Arc::clone(&transport));
            let (permits, stop) = (Arc::clone(&permits), stop.clone());
            let outcomes = outcomes.clone();
            tasks.spawn(async move {
                let _permit = permits.acquire().await;
                let is_sent = deliver(&alerting, &transport, &delivery, stop).await;
                // The recorder ends after the last sender, unless it broke off.
                if outcomes.send((delivery, is_sent)).await.is_err() {
                    tracing::error!("outcome of a notification can't be recorded");
                }
            });
        }
    }
    tasks.close();
    tasks.wait().await;
    drop(outcomes);
    if let Err(error) = recorder.await {
        tracing::error!(%error, "records of notifications broke off");
    }
}

/// Reports outcomes back: all that have come while the disk was busy in one go.
async fn record(alerting: Arc<Alerting>, mut ended: mpsc::Receiver<(Delivery, bool)>) {
    loop {
        let mut outcomes = Vec::new();
        if ended.recv_many(&mut outcomes, DELIVERIES_MAX).await == 0 {
            return;
        }
        let work = Arc::clone(&alerting);
        let finished = tokio::task::spawn_blocking(move || {
            let outcomes: Vec<(&Delivery, bool)> = outcomes
                .iter()
                .map(|(delivery, is_sent)| (delivery, *is_sent))
                .collect();
            let now_ms = work.clock.now_ms();
            if let Some(notifier) = work.notifier().as_mut() {
                notifier.finish_all(&outcomes, now_ms);
            }
        });
        if let Err(error) = finished.await {
            tracing::error!(%error, "record of notifications broke off");
        }
        alerting.notifier_changed.notify_one();
    }
}

fn until_due(alerting: &Alerting) -> Duration {
    let due_ms = alerting
        .notifier()
        .as_ref()
        .map_or(i64::MAX, |notifier| notifier.next_due_ms());
    let wait_ms = due_ms.saturating_sub(alerting.clock.now_ms());
    Duration::from_millis(u64::try_from(wait_ms).unwrap_or(0)).min(SLEEP_MAX)
}

/// Delivers; says whether it was sent.
async fn deliver(
    alerting: &Alerting,
    transport: &Transport,
    delivery: &Delivery,
    stop: CancellationToken,
) -> bool {
    let start = Instant::now();
    let receiver = &delivery.notification.receiver;
    let kind = integration(delivery).map_or("unknown", Integration::kind);
    let outcome = tokio::select! {
        outcome = attempts(alerting, transport, delivery) => outcome,
        () = stop.cancelled() => Err("the server stops".to_owned()),
    };
    alerting
        .metrics
        .delivered(receiver, kind, outcome.is_ok(), start.elapsed());
    if let Err(reason) = &outcome {
        let group = &delivery.notification.group_key;
        tracing::warn!(
            receiver,
            integration = kind,
            group,
            error = reason,
            "notification failed"
        );
    }
    outcome.is_ok()
}

fn integration(delivery: &Delivery) -> Option<&Integration> {
    let receiver = delivery
        .config
        .receivers
        .get(&delivery.notification.receiver)?;
    receiver.integrations.get(delivery.integration)
}

/// Tries until it succeeds, can't, or the deadline is over.
async fn attempts(
    alerting: &Alerting,
    transport: &Transport,
    delivery: &Delivery,
) -> Result<(), String> {
    let made = delivery.clone();
    let making = tokio::task::spawn_blocking(move || {
        let integration = integration(&made).ok_or("the integration is gone")?;
        message::make(&made.config, integration, &made.notification)
            .map_err(|error| error.to_string())
    });
    let message = making.await.map_err(|error| error.to_string())??;
    let left_ms = delivery.deadline_ms - alerting.clock.now_ms();
    let deadline =
        tokio::time::Instant::now() + Duration::from_millis(u64::try_from(left_ms).unwrap_or(0));
    let mut backoff = BACKOFF_FIRST;
    let mut last = "no attempt in time".to_owned();
    loop {
        let attempt = attempt(alerting, transport, &message);
        match tokio::time::timeout_at(deadline, attempt).await {
            Ok(Verdict::Sent) => return Ok(()),
            Ok(Verdict::Failed(reason)) => return Err(reason),
            Ok(Verdict::Retry(reason)) => last = reason,
            Err(_) => return Err(format!("no success in time: {last}")),
        }
        let jitter = rand::rng().random_range(0.5..1.5);
        let pause = backoff.mul_f64(jitter);
        if tokio::time::Instant::now() + pause >= deadline {
            return Err(format!("no success in time: {last}"));
        }
        tokio::time::sleep(pause).await;
        backoff = backoff.mul_f64(1.5).min(BACKOFF_MAX);
    }
}

async fn attempt(alerting: &Alerting, transport: &Transport, message: &Message) -> Verdict {
    match message {
        Message::Http(message) => transport.send(message, alerting.clock.now_ms()).await,
        Message::WeChat(message) => transport.send_wechat(message).await,
        Message::Mail(mail) => mail::send(mail).await,
    }
}
