//! Drives the notifier: flushes due groups, delivers, retries, and records the outcomes.

use std::collections::VecDeque;
use std::num::NonZero;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rand::Rng as _;
use tidemark_alerting::notify::message::{Message, Verdict};
use tidemark_alerting::notify::notifier::Delivery;
use tidemark_alerting::notify::receiver::Integration;
use tidemark_alerting::notify::render::{self, RenderError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{Alerting, mail};
use crate::report::chain;

/// Most concurrent deliveries; others wait.
const DELIVERIES_MAX: usize = 256;
const BACKOFF_FIRST: Duration = Duration::from_millis(500);
const BACKOFF_MAX: Duration = Duration::from_secs(60);
/// Longest sleep, so that a clock step is noticed.
const SLEEP_MAX: Duration = Duration::from_secs(5);

/// Deliveries that wait for a worker. A worker takes one after the other and ends when there are none left.
#[derive(Debug)]
struct Queue {
    waiting: Mutex<VecDeque<Delivery>>,
    /// One permit per worker.
    permits: Arc<Semaphore>,
    /// One permit per message being rendered, which takes a core.
    rendering: Semaphore,
}

/// What each worker needs.
#[derive(Debug, Clone)]
struct Worker {
    alerting: Arc<Alerting>,
    queue: Arc<Queue>,
    outcomes: mpsc::Sender<(Arc<Delivery>, bool)>,
    stop: CancellationToken,
}

/// Runs until `stop`.
pub(super) async fn run(alerting: Arc<Alerting>, stop: CancellationToken) {
    let tasks = TaskTracker::new();
    let (outcomes, ended) = mpsc::channel(DELIVERIES_MAX);
    let recorder = tokio::spawn(record(Arc::clone(&alerting), ended));
    let worker = Worker {
        alerting: Arc::clone(&alerting),
        queue: Arc::new(Queue::new()),
        outcomes,
        stop: stop.clone(),
    };
    while !stop.is_cancelled() {
        let work = Arc::clone(&alerting);
        let ticked = tokio::task::spawn_blocking(move || tick(&work)).await;
        let (deliveries, wait) = ticked.unwrap_or_else(|error| {
            tracing::error!(error = chain(&error), "flush of the notifier panicked");
            (Vec::new(), SLEEP_MAX)
        });
        worker.start(deliveries, &tasks);
        alerting.transport.client.close_idle();
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = alerting.notifier_changed.notified() => {}
            () = stop.cancelled() => {}
        }
    }
    tasks.close();
    tasks.wait().await;
    drop(worker);
    if let Err(error) = recorder.await {
        tracing::error!(error = chain(&error), "recorder of notifications panicked");
    }
}

/// Flushes due groups. Returns the deliveries, and how long until the next group is due.
fn tick(alerting: &Alerting) -> (Vec<Delivery>, Duration) {
    let now_ms = alerting.clock.now_ms();
    let mut notifier = alerting.notifier();
    let deliveries = notifier.tick(now_ms);
    let wait_ms = notifier.next_due_ms().saturating_sub(now_ms);
    let wait = Duration::from_millis(u64::try_from(wait_ms).unwrap_or(0));
    (deliveries, wait.min(SLEEP_MAX))
}

impl Queue {
    fn new() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
        Self {
            waiting: Mutex::default(),
            permits: Arc::new(Semaphore::new(DELIVERIES_MAX)),
            rendering: Semaphore::new(cores),
        }
    }

    fn waiting(&self) -> MutexGuard<'_, VecDeque<Delivery>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the next delivery. If there is none, returns the worker's permit before another delivery can be queued.
    fn next(&self, permit: &mut Option<OwnedSemaphorePermit>) -> Option<Delivery> {
        let mut waiting = self.waiting();
        let next = waiting.pop_front();
        if next.is_none() {
            drop(permit.take());
        }
        next
    }
}

impl Worker {
    /// Queues deliveries, and starts workers up to the limit.
    fn start(&self, deliveries: Vec<Delivery>, tasks: &TaskTracker) {
        let mut waiting = self.queue.waiting();
        waiting.extend(deliveries);
        for _ in 0..waiting.len() {
            let Ok(permit) = Arc::clone(&self.queue.permits).try_acquire_owned() else {
                break;
            };
            tasks.spawn(self.clone().work(permit));
        }
    }

    async fn work(self, permit: OwnedSemaphorePermit) {
        let mut permit = Some(permit);
        while !self.stop.is_cancelled()
            && let Some(delivery) = self.queue.next(&mut permit)
        {
            let delivery = Arc::new(delivery);
            let is_sent = self.deliver(&delivery).await;
            // The recorder outlives the senders, unless it panicked.
            if self.outcomes.send((delivery, is_sent)).await.is_err() {
                tracing::error!("cannot record the outcome of a notification");
            }
        }
    }
}

/// Records outcomes; those that arrived while the disk was busy in one batch.
async fn record(alerting: Arc<Alerting>, mut ended: mpsc::Receiver<(Arc<Delivery>, bool)>) {
    loop {
        let mut outcomes = Vec::new();
        if ended.recv_many(&mut outcomes, DELIVERIES_MAX).await == 0 {
            return;
        }
        let work = Arc::clone(&alerting);
        let finished = tokio::task::spawn_blocking(move || {
            let outcomes: Vec<(&Delivery, bool)> = outcomes
                .iter()
                .map(|(delivery, is_sent)| (&**delivery, *is_sent))
                .collect();
            let now_ms = work.clock.now_ms();
            work.notifier().finish_all(&outcomes, now_ms);
        });
        if let Err(error) = finished.await {
            tracing::error!(error = chain(&error), "record of notifications panicked");
        }
        alerting.notifier_changed.notify_one();
    }
}

impl Worker {
    /// Delivers. Returns whether it was sent.
    async fn deliver(&self, delivery: &Arc<Delivery>) -> bool {
        let start = Instant::now();
        let receiver = &delivery.notification.receiver;
        let kind = integration(delivery).map_or("unknown", Integration::kind);
        let outcome = tokio::select! {
            outcome = self.attempts(delivery) => outcome,
            () = self.stop.cancelled() => Err("server is stopping".to_owned()),
        };
        let metrics = &self.alerting.metrics;
        metrics.delivered(receiver, kind, outcome.is_ok(), start.elapsed());
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

    /// Attempts to send until it succeeds, is refused, or the deadline has passed.
    async fn attempts(&self, delivery: &Arc<Delivery>) -> Result<(), String> {
        let left_ms = delivery.deadline_ms - self.alerting.clock.now_ms();
        let deadline = tokio::time::Instant::now()
            + Duration::from_millis(u64::try_from(left_ms).unwrap_or(0));
        let mut backoff = BACKOFF_FIRST;
        let mut last = "no attempt in time".to_owned();
        loop {
            match tokio::time::timeout_at(deadline, self.attempt(delivery)).await {
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

    /// Renders the message and sends it once. Each attempt renders, so that a retry reads the files of secrets again.
    async fn attempt(&self, delivery: &Arc<Delivery>) -> Verdict {
        let message = match self.render(delivery).await {
            Ok(message) => message,
            Err(verdict) => return verdict,
        };
        match message {
            Message::Http(message) => {
                let now_ms = self.alerting.clock.now_ms();
                self.alerting.transport.send(&message, now_ms).await
            }
            Message::Mail(mail) => mail::send(&mail).await,
        }
    }

    /// Renders the message, on this thread if that is faster than handing it to another one.
    async fn render(&self, delivery: &Arc<Delivery>) -> Result<Message, Verdict> {
        let Some(integration) = integration(delivery) else {
            return Err(Verdict::Failed("the integration is gone".to_owned()));
        };
        let failed = |error: RenderError| {
            let reason = chain(&error);
            if error.is_retryable() {
                Verdict::Retry(reason)
            } else {
                Verdict::Failed(reason)
            }
        };
        if render::is_quick(integration, &delivery.notification) {
            return render::render(&delivery.config, integration, &delivery.notification)
                .map_err(failed);
        }
        let _permit = self.queue.rendering.acquire().await;
        let (delivery, integration) = (Arc::clone(delivery), integration.clone());
        let rendering = tokio::task::spawn_blocking(move || {
            render::render(&delivery.config, &integration, &delivery.notification)
        });
        match rendering.await {
            Ok(rendered) => rendered.map_err(failed),
            Err(error) => Err(Verdict::Failed(format!("render message: {error}"))),
        }
    }
}

fn integration(delivery: &Delivery) -> Option<&Integration> {
    let receiver = delivery
        .config
        .receivers
        .get(&delivery.notification.receiver)?;
    receiver.integrations.get(delivery.integration)
}

#[cfg(test)]
mod tests;
