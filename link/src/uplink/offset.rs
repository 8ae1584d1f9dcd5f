//! How far the aggregator's clock is from ours.

use std::time::Duration;

use tokio::time::Instant;

use super::Uplink;

/// By how much the clocks may differ before that is worth a warning.
const OFFSET_MS_MAX: i64 = 120_000;
const INTERVAL: Duration = Duration::from_secs(60);

/// The aggregator's clock as it was in Welcome, carried on by our monotonic one: so it shows when ours is set.
#[derive(Debug)]
pub(super) struct ClockOffset {
    theirs_ms: i64,
    at: Instant,
    reported_at: Instant,
    is_large: bool,
}

impl ClockOffset {
    /// The aggregator has just said that it is `theirs_ms`.
    pub(super) fn new(theirs_ms: i64) -> Self {
        let at = Instant::now();
        Self {
            theirs_ms,
            at,
            reported_at: at,
            is_large: false,
        }
    }

    /// When to report again.
    pub(super) fn due(&self) -> Instant {
        self.reported_at + INTERVAL
    }

    /// Sets the gauge; warns when the clocks begin to differ much.
    pub(super) fn report(&mut self, uplink: &Uplink) {
        self.reported_at = Instant::now();
        let offset_ms = self.offset_ms(uplink.clock.now_ms(), self.reported_at);
        uplink.metrics.clock_offset.set(offset_ms as f64 / 1000.0);
        let is_large = offset_ms.abs() > OFFSET_MS_MAX;
        if is_large && !self.is_large {
            tracing::warn!(offset_ms, "the aggregator's clock differs from ours");
        }
        self.is_large = is_large;
    }

    fn offset_ms(&self, ours_ms: i64, now: Instant) -> i64 {
        let passed = now.saturating_duration_since(self.at).as_millis();
        let passed_ms = i64::try_from(passed).unwrap_or(i64::MAX);
        let theirs_ms = self.theirs_ms.saturating_add(passed_ms);
        theirs_ms.saturating_sub(ours_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_set_shows_within_a_minute() {
        let offset = ClockOffset::new(5_000_000);
        let later = offset.at + INTERVAL;
        assert!(offset.due() <= later);
        assert_eq!(offset.offset_ms(5_060_000, later), 0);
        assert_eq!(offset.offset_ms(5_060_000 + 3_600_000, later), -3_600_000);
        assert_eq!(offset.offset_ms(5_060_000 - 3_600_000, later), 3_600_000);
    }
}
