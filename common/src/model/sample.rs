//! One measured value, and the marker that ends a series.

/// The NaN whose bits say that a series has ended (Prometheus `model/value/value.go`: `StaleNaN`).
///
/// Compare bits, never values: every other NaN is an ordinary sample.
pub const STALE_NAN: f64 = f64::from_bits(0x7ff0_0000_0000_0002);

/// Whether `value` is the staleness marker, judged by its bits.
#[must_use]
pub const fn is_stale(value: f64) -> bool {
    value.to_bits() == STALE_NAN.to_bits()
}

/// A value at a moment.
#[derive(Debug, Clone, Copy)]
pub struct Sample {
    /// Milliseconds since the Unix epoch.
    pub timestamp_ms: i64,
    /// The value, exact to the bit: NaN payloads carry meaning (see [`STALE_NAN`]).
    pub value: f64,
}

impl PartialEq for Sample {
    /// Equal to the bit, so that a marker equals itself and differs from another NaN.
    fn eq(&self, other: &Self) -> bool {
        self.timestamp_ms == other.timestamp_ms && self.value.to_bits() == other.value.to_bits()
    }
}

impl Eq for Sample {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_nan_is_no_staleness_marker() {
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
