//! Compensated summation (Kahan, with Neumaier's correction) as Prometheus computes it, and the means and variances of
//! aggregations.

/// A running sum and its compensation.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Kahan {
    pub(crate) sum: f64,
    pub(crate) compensation: f64,
}

impl Kahan {
    pub(crate) const fn new(sum: f64) -> Self {
        Self {
            sum,
            compensation: 0.0,
        }
    }

    #[inline]
    pub(crate) const fn add(&mut self, value: f64) {
        let total = self.sum + value;
        if total.is_infinite() {
            self.compensation = 0.0;
        } else if self.sum.abs() >= value.abs() {
            self.compensation += (self.sum - total) + value;
        } else {
            self.compensation += (value - total) + self.sum;
        }
        self.sum = total;
    }

    #[inline]
    pub(crate) const fn total(&self) -> f64 {
        if self.sum.is_infinite() {
            self.sum
        } else {
            self.sum + self.compensation
        }
    }
}

/// A running mean: a sum divided at the end, or, once the sum would overflow, an incremental mean.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mean {
    sum: Kahan,
    count: f64,
    incremental: bool,
}

impl Mean {
    pub(crate) const fn new(first: f64) -> Self {
        Self {
            sum: Kahan::new(first),
            count: 1.0,
            incremental: false,
        }
    }

    #[inline]
    pub(crate) fn add(&mut self, value: f64) {
        self.count += 1.0;
        if !self.incremental {
            let mut sum = self.sum;
            sum.add(value);
            if !sum.sum.is_infinite() {
                self.sum = sum;
                return;
            }
            self.incremental = true;
            self.sum.sum /= self.count - 1.0;
            self.sum.compensation /= self.count - 1.0;
        }
        let mean = self.sum.sum;
        if mean.is_infinite() {
            let same_infinity = value.is_infinite() && (mean > 0.0) == (value > 0.0);
            // A finite value does not move an infinite mean, and the difference below would be NaN.
            if same_infinity || value.is_finite() {
                return;
            }
        }
        let current = mean + self.sum.compensation;
        self.sum.add(value / self.count - current / self.count);
    }

    pub(crate) const fn value(&self) -> f64 {
        if self.incremental {
            self.sum.sum + self.sum.compensation
        } else {
            self.sum.sum / self.count + self.sum.compensation / self.count
        }
    }

    /// Adds the values of another part. Exact unless a part overflowed.
    pub(crate) fn merge(&mut self, other: &Self) {
        if !self.incremental && !other.incremental {
            let mut sum = self.sum;
            sum.add(other.sum.sum);
            sum.add(other.sum.compensation);
            if !sum.sum.is_infinite() || self.sum.sum.is_infinite() || other.sum.sum.is_infinite() {
                self.sum = sum;
                self.count += other.count;
                return;
            }
        }
        let count = self.count + other.count;
        let (left, right) = (self.value(), other.value());
        self.sum = Kahan::new(left * (self.count / count) + right * (other.count / count));
        self.count = count;
        self.incremental = true;
    }
}

/// A running variance (Welford).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Variance {
    count: f64,
    mean: f64,
    squares: f64,
}

impl Variance {
    pub(crate) const fn new(first: f64) -> Self {
        Self {
            count: 1.0,
            mean: first,
            squares: if first.is_finite() { 0.0 } else { f64::NAN },
        }
    }

    #[inline]
    pub(crate) const fn add(&mut self, value: f64) {
        self.count += 1.0;
        let delta = value - self.mean;
        self.mean += delta / self.count;
        self.squares += delta * (value - self.mean);
    }

    pub(crate) const fn value(&self) -> f64 {
        self.squares / self.count
    }

    pub(crate) const fn merge(&mut self, other: &Self) {
        let count = self.count + other.count;
        let delta = other.mean - self.mean;
        self.squares += other.squares + delta * delta * (self.count * other.count / count);
        self.mean += delta * (other.count / count);
        self.count = count;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_terms_survive_large_ones() {
        let mut sum = Kahan::default();
        for value in [1e100, 1.0, -1e100] {
            sum.add(value);
        }
        assert_eq!(sum.total(), 1.0);
    }

    #[test]
    fn mean_does_not_overflow() {
        let mut mean = Mean::new(f64::MAX);
        mean.add(f64::MAX);
        mean.add(f64::MAX);
        assert_eq!(mean.value(), f64::MAX);
        let mut infinite = Mean::new(f64::INFINITY);
        infinite.add(1.0);
        assert_eq!(infinite.value(), f64::INFINITY);
    }

    #[test]
    fn variance_of_equal_values_is_zero() {
        let mut variance = Variance::new(1.33);
        variance.add(1.33);
        let other = variance;
        variance.merge(&other);
        assert_eq!(variance.value(), 0.0);
    }
}
