//! A small, fast, seeded random number generator. The corpus must be the same on every machine and in every version.

/// `xorshift64*` with a `splitmix64` seed.
#[derive(Debug, Clone)]
pub(super) struct Random(u64);

impl Random {
    pub(super) const fn new(seed: u64) -> Self {
        let mut z = seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        Self((z ^ (z >> 31)) | 1)
    }

    pub(super) const fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Returns a number below `bound`; uniform enough for bounds far below 2^32.
    pub(super) const fn below(&mut self, bound: u64) -> u64 {
        ((self.next() >> 32) * bound) >> 32
    }

    /// Returns a number in `0.0..1.0`.
    pub(super) const fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Returns a number uniformly distributed on a logarithmic scale.
    pub(super) fn log_uniform(&mut self, low: f64, high: f64) -> f64 {
        low * (high / low).powf(self.unit())
    }

    /// Returns a Poisson-distributed count with this mean; `limit` is `exp(-mean)`.
    pub(super) fn poisson(&mut self, mean: f64, limit: f64) -> u64 {
        if mean < 12.0 {
            let mut count = 0;
            let mut product = self.unit();
            while product > limit {
                count += 1;
                product *= self.unit();
            }
            return count;
        }
        // Irwin-Hall with four terms is close enough to the normal distribution.
        let sum = self.unit() + self.unit() + self.unit() + self.unit() - 2.0;
        (mean + sum * (3.0 * mean).sqrt()).round().max(0.0) as u64
    }
}
