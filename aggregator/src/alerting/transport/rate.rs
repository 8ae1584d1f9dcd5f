//! Holds messages back for services that punish a sender above their limit.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tidemark_alerting::notify::message::RateLimit;
use tokio::time::Instant;

/// When the latest messages went to each URL. URLs come from the configuration, so they are few.
#[derive(Debug, Default)]
pub(super) struct RateLimiter {
    sent: Mutex<HashMap<String, VecDeque<Instant>>>,
}

impl RateLimiter {
    /// Waits until another message may go to `url`, and counts it.
    pub(super) async fn wait(&self, url: &str, limit: RateLimit) {
        while let Some(wait) = self.admit(url, limit) {
            tokio::time::sleep(wait).await;
        }
    }

    /// Counts a message, or returns how long to wait.
    fn admit(&self, url: &str, limit: RateLimit) -> Option<Duration> {
        let mut sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
        let sent = sent.entry(url.to_owned()).or_default();
        sent.retain(|at| at.elapsed() < limit.window);
        match sent.front() {
            Some(first) if sent.len() >= limit.messages => {
                Some(limit.window.saturating_sub(first.elapsed()))
            }
            _ => {
                sent.push_back(Instant::now());
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_beyond_the_limit_wait_for_the_window_of_their_own_url() {
        let limiter = RateLimiter::default();
        let limit = RateLimit {
            messages: 2,
            window: Duration::from_secs(60),
        };
        assert!(limiter.admit("a", limit).is_none());
        assert!(limiter.admit("a", limit).is_none());
        let wait = limiter.admit("a", limit).unwrap();
        assert!(wait > Duration::from_secs(50) && wait <= limit.window);
        assert!(limiter.admit("b", limit).is_none());
        let over = RateLimit {
            window: Duration::ZERO,
            ..limit
        };
        assert!(limiter.admit("a", over).is_none(), "the window has passed");
    }
}
