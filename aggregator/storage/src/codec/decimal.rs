//! Stores floats that are short decimal numbers as integers with a common exponent.

/// The largest number of decimal places that is tried.
pub(crate) const EXPONENT_MAX: u8 = 12;

/// Powers of ten that an f64 represents exactly.
pub(crate) const POWERS: [f64; EXPONENT_MAX as usize + 1] = [
    1.0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12,
];

/// An f64 does not represent all larger integers exactly.
const WHOLE_MAX: i64 = 9_007_199_254_740_992;

/// Returns the integer that, divided by ten to the power of `exponent`, gives exactly `bits`.
#[inline]
pub(crate) fn to_whole(bits: u64, exponent: u8) -> Option<i64> {
    let value = f64::from_bits(bits);
    if exponent == 0 {
        // The common case. A division would be the most expensive step.
        let whole = value as i64;
        let in_range = whole.unsigned_abs() < WHOLE_MAX.unsigned_abs();
        return (in_range && (whole as f64).to_bits() == bits).then_some(whole);
    }
    let power = POWERS[usize::from(exponent)];
    let scaled = value * power;
    // The nearest integer, without a function call. A miss only costs compression. NaN becomes 0.
    let whole = (scaled + 0.5_f64.copysign(scaled)) as i64;
    let in_range = whole.unsigned_abs() < WHOLE_MAX.unsigned_abs();
    (in_range && from_whole(whole, power).to_bits() == bits).then_some(whole)
}

/// The inverse of [`to_whole`].
#[inline]
pub(crate) fn from_whole(whole: i64, power: f64) -> f64 {
    whole as f64 / power
}

/// Returns the exponent that suits most of the values, and the number of values that it does not suit. Returns `None` if
/// more than `misfits_max` values are not short decimal numbers.
pub(crate) fn common_exponent(values: &[u64], misfits_max: usize) -> Option<u8> {
    let mut exponent = 0;
    let mut misfits = 0;
    let mut last = None;
    for &bits in values {
        if last == Some(bits) || to_whole(bits, exponent).is_some() {
            last = Some(bits);
            continue;
        }
        let larger = (exponent + 1..=EXPONENT_MAX).find(|&e| to_whole(bits, e).is_some());
        match larger {
            Some(larger) => exponent = larger,
            None => misfits += 1,
        }
        if misfits > misfits_max {
            return None;
        }
    }
    Some(exponent)
}
