//! Waits between attempts to connect.

use std::time::Duration;

use rand::Rng;

/// Shortest wait.
pub const WAIT_MIN: Duration = Duration::from_secs(1);
/// Longest wait.
pub const WAIT_MAX: Duration = Duration::from_secs(60);

/// Decorrelated jitter: each wait is random between [`WAIT_MIN`] and three times the previous wait, so that a thousand agents that
/// lost their aggregator together do not return together.
#[derive(Debug)]
pub struct Backoff {
    last: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { last: WAIT_MIN }
    }
}

impl Backoff {
    /// Returns the next wait.
    pub fn next_wait(&mut self, random: &mut impl Rng) -> Duration {
        let highest = (self.last * 3).min(WAIT_MAX);
        self.last = random.random_range(WAIT_MIN..=highest);
        self.last
    }

    /// Makes the next wait short again, after success.
    pub const fn reset(&mut self) {
        self.last = WAIT_MIN;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng as _;
    use rand::rngs::SmallRng;

    #[test]
    fn waits_grow_within_their_bounds_and_differ() {
        let mut random = SmallRng::seed_from_u64(1);
        let mut backoff = Backoff::default();
        assert!(backoff.next_wait(&mut random) <= 3 * WAIT_MIN);
        let waits: Vec<_> = (0..200).map(|_| backoff.next_wait(&mut random)).collect();
        assert!(
            waits
                .iter()
                .all(|wait| (WAIT_MIN..=WAIT_MAX).contains(wait))
        );
        assert!(waits.iter().any(|&wait| wait > 20 * WAIT_MIN));
        let mut other = Backoff::default();
        let waits_of_other: Vec<_> = (0..200).map(|_| other.next_wait(&mut random)).collect();
        assert_ne!(waits, waits_of_other);
        backoff.reset();
        assert!(backoff.next_wait(&mut random) <= 3 * WAIT_MIN);
    }
}
