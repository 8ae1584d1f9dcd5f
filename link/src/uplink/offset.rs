//! Offset between the aggregator's clock and the local one.

use std::time::Duration;

use tokio::time::Instant;

use super::Uplink;

/// Offset above which a warning is logged.
const OFFSET_MS_MAX: i64 = 120_000;
const INTERVAL: Duration = Duration::from_secs(60);

/// The aggregator's clock as of Welcome, advanced by the local monotonic clock. So a step of the local wall clock shows.
#[derive(Debug)]
pub(super) struct ClockOffset {
    aggregator_ms: i64,
    at: Instant,
    reported_at: Instant,
    is_large: bool,
}

impl ClockOffset {
    /// Creates the offset when the aggregator has just sent its time.
    pub(super) fn new(aggregator_ms: i64) -> Self {
        let at = Instant::now();
        Self {
            aggregator_ms,
            at,
            reported_at: at,
            is_large: false,
        }
    }

    /// Returns when the next report is due.
    pub(super) fn due(&self) -> Instant {
        self.reported_at + INTERVAL
    }

    /// Updates the gauge and warns when the clocks start to differ by more than two minutes.
    pub(super) fn report(&mut self, uplink: &Uplink) {
        self.reported_at = Instant::now();
        let offset_ms = self.offset_ms(uplink.clock.now_ms(), self.reported_at);
        uplink.metrics.clock_offset.set(offset_ms as f64 / 1000.0);
        let is_large = offset_ms.abs() > OFFSET_MS_MAX;
        if is_large && !self.is_large {
            tracing::warn!(offset_ms, "the clocks of aggregator and agent differ");
        }
        self.is_large = is_large;
    }

    fn offset_ms(&self, local_ms: i64, now: Instant) -> i64 {
        let passed = now.saturating_duration_since(self.at).as_millis();
        let passed_ms = i64::try_from(passed).unwrap_or(i64::MAX);
        let aggregator_ms = self.aggregator_ms.saturating_add(passed_ms);
        aggregator_ms.saturating_sub(local_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn step_of_the_local_clock_shows_within_a_minute() {
        let offset = ClockOffset::new(5_000_000);
        let later = offset.at + INTERVAL;
        assert!(offset.due() <= later);
        assert_eq!(offset.offset_ms(5_060_000, later), 0);
        assert_eq!(offset.offset_ms(5_060_000 + 3_600_000, later), -3_600_000);
        assert_eq!(offset.offset_ms(5_060_000 - 3_600_000, later), 3_600_000);
    }
}
