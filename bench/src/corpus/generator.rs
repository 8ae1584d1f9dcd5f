//! Generators of a series' values from scrape to scrape.

use super::random::Random;

/// Page size in bytes: memory is counted in whole pages.
const PAGE: f64 = 4096.0;

/// State of a series, or of all series of a histogram.
#[derive(Debug, Clone)]
pub(super) enum Generator {
    /// A constant.
    Constant(f64),
    /// Counts events, each of `unit`.
    Counter {
        total: f64,
        mean: f64,
        limit: f64,
        unit: f64,
    },
    /// Counts microseconds, and shows seconds.
    Seconds {
        micros: u64,
        low: u64,
        jitter: u64,
        /// Resolution of the underlying clock, in microseconds.
        grain: u64,
        /// Number of scrapes of 256 with any activity.
        busy: u64,
    },
    /// Memory: constant for a while, then changes by some pages.
    Pages { pages: u64, low: u64, high: u64 },
    /// A small number that occasionally changes by one.
    Level { level: u64, low: u64, high: u64 },
    /// A drifting number with two decimals, such as a load average.
    Drift { hundredths: u64, high: u64 },
    /// The time of the scrape, in whole seconds.
    Clock,
    /// Cumulative buckets, then the sum, then the count.
    Histogram {
        buckets: Vec<u64>,
        bounds: &'static [f64],
        sum: f64,
        mean: f64,
        limit: f64,
        typical: f64,
    },
}

impl Generator {
    pub(super) fn counter(random: &mut Random, mean: f64, unit: f64) -> Self {
        let age = random.log_uniform(100.0, 100_000.0);
        Self::Counter {
            total: (mean * age).floor() * unit,
            mean,
            limit: (-mean).exp(),
            unit,
        }
    }

    pub(super) fn seconds(random: &mut Random, low: u64, jitter: u64, grain: u64) -> Self {
        let age = random.log_uniform(100.0, 100_000.0) as u64;
        Self::Seconds {
            micros: (low + jitter / 2) * age,
            low,
            jitter,
            grain,
            busy: 256,
        }
    }

    /// The same, but only `busy` of 256 scrapes see events.
    pub(super) fn seldom(mut self, of_256: u64) -> Self {
        if let Self::Seconds { busy, .. } = &mut self {
            *busy = of_256;
        }
        self
    }

    pub(super) fn pages(random: &mut Random, low_bytes: f64, high_bytes: f64) -> Self {
        let pages = (random.log_uniform(low_bytes, high_bytes) / PAGE) as u64;
        Self::Pages {
            pages,
            low: pages / 2,
            high: pages * 2 + 64,
        }
    }

    pub(super) fn level(random: &mut Random, low: u64, high: u64) -> Self {
        let level = low + random.below(high - low + 1);
        Self::Level { level, low, high }
    }

    pub(super) fn histogram(bounds: &'static [f64], mean: f64, typical: f64) -> Self {
        Self::Histogram {
            buckets: vec![0; bounds.len()],
            bounds,
            sum: 0.0,
            mean,
            limit: (-mean).exp(),
            typical,
        }
    }

    /// Appends the values of the next scrape.
    pub(super) fn next(&mut self, random: &mut Random, timestamp_ms: i64, values: &mut Vec<f64>) {
        match self {
            Self::Constant(value) => values.push(*value),
            Self::Counter {
                total,
                mean,
                limit,
                unit,
            } => {
                if *mean > 0.0 {
                    *total += random.poisson(*mean, *limit) as f64 * *unit;
                }
                values.push(*total);
            }
            Self::Seconds {
                micros,
                low,
                jitter,
                grain,
                busy,
            } => {
                if *busy == 256 || random.below(256) < *busy {
                    *micros += *low + random.below(*jitter + 1);
                }
                values.push((*micros / *grain * *grain) as f64 / 1e6);
            }
            Self::Pages { pages, low, high } => {
                if random.below(10) < 3 {
                    *pages = walk(random, *pages, 12).clamp(*low, *high);
                }
                values.push(*pages as f64 * PAGE);
            }
            Self::Level { level, low, high } => {
                if random.below(10) == 0 {
                    *level = walk(random, *level, 1).clamp(*low, *high);
                }
                values.push(*level as f64);
            }
            Self::Drift { hundredths, high } => {
                *hundredths = walk(random, *hundredths, 4).min(*high);
                values.push(*hundredths as f64 / 100.0);
            }
            Self::Clock => values.push((timestamp_ms / 1000) as f64),
            Self::Histogram { .. } => self.next_histogram(random, values),
        }
    }

    fn next_histogram(&mut self, random: &mut Random, values: &mut Vec<f64>) {
        let Self::Histogram {
            buckets,
            bounds,
            sum,
            mean,
            limit,
            typical,
        } = self
        else {
            return;
        };
        for _ in 0..random.poisson(*mean, *limit) {
            let seconds = *typical * random.log_uniform(0.05, 20.0);
            *sum += seconds;
            let first = bounds.partition_point(|&bound| bound < seconds);
            for count in buckets.iter_mut().skip(first) {
                *count += 1;
            }
        }
        values.extend(buckets.iter().map(|&count| count as f64));
        values.push(*sum);
        // The last bound is infinite, so its bucket counts all values.
        values.push(buckets.last().map_or(0.0, |&count| count as f64));
    }
}

/// Returns a random nonzero step of at most `reach` in either direction that keeps the value above 0.
const fn walk(random: &mut Random, from: u64, reach: u64) -> u64 {
    let step = 1 + random.below(reach);
    if random.next() & 1 == 0 {
        from + step
    } else {
        from.saturating_sub(step)
    }
}
