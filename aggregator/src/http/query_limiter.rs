//! How many queries run and wait.

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
        rejected: Counter = "aggregator_query_turned_away_total", "Queries rejected because too many were waiting.";
        wait: Histogram = "aggregator_query_queue_wait_seconds", "Time that queries waited to be evaluated.";
    }
}

/// Bounds how many queries run and how many wait; rejects the others.
#[derive(Debug)]
pub struct QueryLimiter {
    running: Arc<Semaphore>,
    waiting: Arc<AtomicU32>,
    waiting_max: u32,
    metrics: LimiterMetrics,
}

impl QueryLimiter {
    /// Creates a limiter for `running_max` running and `waiting_max` waiting queries.
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

    /// Waits for a place, `timeout` at most. Leaving the queue early (the client is gone) gives the place free.
    ///
    /// # Errors
    /// The queue is full, or the time is over.
    pub async fn enter(&self, timeout: Duration) -> Result<OwnedSemaphorePermit, ApiError> {
        if let Ok(permit) = Arc::clone(&self.running).try_acquire_owned() {
            self.metrics.wait.observe(0.0);
            return Ok(permit);
        }
        let started = Instant::now();
        let _place = self.queue()?;
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

    /// A place, if one is free now.
    pub fn try_enter(&self) -> Option<OwnedSemaphorePermit> {
        let permit = Arc::clone(&self.running).try_acquire_owned().ok()?;
        self.metrics.wait.observe(0.0);
        Some(permit)
    }

    fn queue(&self) -> Result<Place, ApiError> {
        let enter = |waiting| (waiting < self.waiting_max).then_some(waiting + 1);
        match self
            .waiting
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, enter)
        {
            Ok(_) => Ok(Place(Arc::clone(&self.waiting))),
            Err(waiting) => {
                self.metrics.rejected.inc();
                let message = format!("too many queries: {waiting} are waiting already");
                Err(ApiError::unavailable(message))
            }
        }
    }
}

/// A place in the queue.
struct Place(Arc<AtomicU32>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn queue_is_bounded_and_waiting_ends() {
        let gate = Arc::new(QueryLimiter::new(1, 1, &Registry::default()));
        let first = gate.enter(Duration::from_secs(1)).await.unwrap();
        let waiter = {
            let gate = Arc::clone(&gate);
            tokio::spawn(async move { gate.enter(Duration::from_secs(60)).await.map(drop) })
        };
        tokio::task::yield_now().await;
        let refused = gate.enter(Duration::from_secs(1)).await.unwrap_err();
        assert_eq!(refused.error_type, ErrorType::Unavailable);
        drop(first);
        waiter.await.unwrap().unwrap();

        let _held = gate.enter(Duration::from_secs(1)).await.unwrap();
        let late = gate.enter(Duration::from_millis(5)).await.unwrap_err();
        assert_eq!(late.error_type, ErrorType::Timeout);
        assert_eq!(gate.waiting.load(Ordering::Relaxed), 0);
    }
}
