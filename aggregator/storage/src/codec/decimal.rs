//! Floats that are decimal numbers, as whole numbers with one exponent.

/// Digits behind the point that are tried.
pub(crate) const EXPONENT_MAX: u8 = 12;

/// Powers of ten that an f64 holds exactly.
pub(crate) const POWERS: [f64; EXPONENT_MAX as usize + 1] = [
    1.0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12,
];

/// Whole numbers beyond this are not all exact in an f64.
const WHOLE_MAX: i64 = 9_007_199_254_740_992;

/// The whole number that, divided by ten to `exponent`, gives back `bits` exactly.
#[inline]
pub(crate) fn to_whole(bits: u64, exponent: u8) -> Option<i64> {
    let value = f64::from_bits(bits);
    if exponent == 0 {
        // Most values; a division would be the dearest part.
        let whole = value as i64;
        let in_range = whole.unsigned_abs() < WHOLE_MAX.unsigned_abs();
        return (in_range && (whole as f64).to_bits() == bits).then_some(whole);
    }
    let power = POWERS[usize::from(exponent)];
    let scaled = value * power;
    // The nearest whole number, without a call; one that is missed here is only stored less tightly. NaN becomes 0.
    let whole = (scaled + 0.5_f64.copysign(scaled)) as i64;
    let in_range = whole.unsigned_abs() < WHOLE_MAX.unsigned_abs();
    (in_range && from_whole(whole, power).to_bits() == bits).then_some(whole)
}

/// The inverse of [`to_whole`].
#[inline]
pub(crate) fn from_whole(whole: i64, power: f64) -> f64 {
    whole as f64 / power
}

/// The exponent that suits most of the values, and how many it does not suit. `None` when more than `misfits_max`
/// values are no short decimal numbers.
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
