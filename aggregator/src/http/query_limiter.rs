//! Limits how many queries run and how many wait.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use common::telemetry::{Counter, Gauge, Histogram, MetricDef, Registry};
use common::{metric, metrics};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::error::{ApiError, ErrorType};

const RUNNING: MetricDef<Gauge> = metric!(
    Gauge,
    "aggregator_query_running",
    "Queries being evaluated."
);
const RUNNING_MAX: MetricDef<Gauge> = metric!(
    Gauge,
    "aggregator_query_running_max",
    "Queries that may be evaluated at the same time."
);
const QUEUE_LENGTH: MetricDef<Gauge> = metric!(
    Gauge,
    "aggregator_query_queue_length",
    "Queries waiting to be evaluated."
);
const QUEUE_MAX: MetricDef<Gauge> = metric!(
    Gauge,
    "aggregator_query_queue_max",
    "Queries that may wait to be evaluated."
);

metrics! {
    #[derive(Debug)]
    struct LimiterMetrics {
        rejected: Counter = "aggregator_query_rejected_total", "Queries rejected because the queue was full.";
        wait: Histogram = "aggregator_query_queue_wait_seconds", "Time that queries waited to be evaluated.";
    }
}

/// Lets `running_max` queries run and `waiting_max` wait, and rejects the rest.
#[derive(Debug)]
pub struct QueryLimiter {
    running: Arc<Semaphore>,
    waiting: Arc<AtomicU32>,
    waiting_max: u32,
    metrics: LimiterMetrics,
}

impl QueryLimiter {
    /// Creates a limiter and registers its metrics.
    #[must_use]
    pub fn new(running_max: u32, waiting_max: u32, registry: &Registry) -> Self {
        let running = Arc::new(Semaphore::new(running_max as usize));
        let waiting = Arc::new(AtomicU32::new(0));
        let free = Arc::clone(&running);
        RUNNING.register_fn(registry, &[], move || {
            f64::from(running_max) - free.available_permits() as f64
        });
        let maximum = RUNNING_MAX.register(registry, &[]);
        maximum.set(f64::from(running_max));
        let queue = Arc::clone(&waiting);
        QUEUE_LENGTH.register_fn(registry, &[], move || {
            f64::from(queue.load(Ordering::Relaxed))
        });
        let maximum = QUEUE_MAX.register(registry, &[]);
        maximum.set(f64::from(waiting_max));
        Self {
            running,
            waiting,
            waiting_max,
            metrics: LimiterMetrics::register(registry, &[]),
        }
    }

    /// Waits for a slot, at most `timeout`.
    ///
    /// # Errors
    /// The queue is full, or the time is over.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the queue.
    pub async fn enter(&self, timeout: Duration) -> Result<OwnedSemaphorePermit, ApiError> {
        if let Ok(permit) = Arc::clone(&self.running).try_acquire_owned() {
            self.metrics.wait.observe(0.0);
            return Ok(permit);
        }
        let started = Instant::now();
        let _queued = self.join_queue()?;
        let acquire = Arc::clone(&self.running).acquire_owned();
        let permit = match tokio::time::timeout(timeout, acquire).await {
            Ok(Ok(permit)) => permit,
            Ok(Err(_)) => return Err(ApiError::unavailable("server is shutting down")),
            Err(_) => {
                let message = "query timed out in query queue";
                return Err(ApiError::new(ErrorType::Timeout, message));
            }
        };
        self.metrics.wait.observe_duration(started.elapsed());
        Ok(permit)
    }

    /// Takes a slot if one is free.
    pub fn try_enter(&self) -> Option<OwnedSemaphorePermit> {
        let permit = Arc::clone(&self.running).try_acquire_owned().ok()?;
        self.metrics.wait.observe(0.0);
        Some(permit)
    }

    fn join_queue(&self) -> Result<QueuePlace, ApiError> {
        let enter = |waiting| (waiting < self.waiting_max).then_some(waiting + 1);
        match self
            .waiting
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, enter)
        {
            Ok(_) => Ok(QueuePlace(Arc::clone(&self.waiting))),
            Err(waiting) => {
                self.metrics.rejected.inc();
                let message = format!("too many queries: {waiting} are already waiting");
                Err(ApiError::unavailable(message))
            }
        }
    }
}

/// A place in the queue, left on drop.
struct QueuePlace(Arc<AtomicU32>);

impl Drop for QueuePlace {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn queue_is_bounded_and_waiting_ends() {
        let limiter = Arc::new(QueryLimiter::new(1, 1, &Registry::default()));
        let first = limiter.enter(Duration::from_secs(1)).await.unwrap();
        let waiter = {
            let limiter = Arc::clone(&limiter);
            tokio::spawn(async move { limiter.enter(Duration::from_secs(60)).await.map(drop) })
        };
        tokio::task::yield_now().await;
        let refused = limiter.enter(Duration::from_secs(1)).await.unwrap_err();
        assert_eq!(refused.error_type, ErrorType::Unavailable);
        drop(first);
        waiter.await.unwrap().unwrap();

        let _held = limiter.enter(Duration::from_secs(1)).await.unwrap();
        let late = limiter.enter(Duration::from_millis(5)).await.unwrap_err();
        assert_eq!(late.error_type, ErrorType::Timeout);
        assert_eq!(limiter.waiting.load(Ordering::Relaxed), 0);
    }
}
