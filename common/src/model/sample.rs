//! Samples, and the staleness marker that ends a series.

/// The staleness marker: a NaN with these bits ends a series (Prometheus `model/value/value.go`: `StaleNaN`).
///
/// Compare its bits: every other NaN is an ordinary sample.
pub const STALE_NAN: f64 = f64::from_bits(0x7ff0_0000_0000_0002);

/// Whether the bits of `value` are the staleness marker.
#[must_use]
pub const fn is_stale(value: f64) -> bool {
    value.to_bits() == STALE_NAN.to_bits()
}

/// A value with its timestamp.
#[derive(Debug, Clone, Copy)]
pub struct Sample {
    /// Milliseconds since the Unix epoch.
    pub timestamp_ms: i64,
    /// The value. NaN bits are significant (see [`STALE_NAN`]).
    pub value: f64,
}

impl PartialEq for Sample {
    /// Compares bits, so that a staleness marker equals itself and differs from other NaNs.
    fn eq(&self, other: &Self) -> bool {
        self.timestamp_ms == other.timestamp_ms && self.value.to_bits() == other.value.to_bits()
    }
}

impl Eq for Sample {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_nan_is_not_a_staleness_marker() {
        assert!(is_stale(STALE_NAN));
        assert!(!is_stale(f64::NAN));
        assert_ne!(
            Sample {
                timestamp_ms: 1,
                value: f64::NAN
            },
            Sample {
                timestamp_ms: 1,
                value: STALE_NAN
            }
        );
    }
}
