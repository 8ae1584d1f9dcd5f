//! Prometheus' durations: `1d`, `1h30m`, `500ms`.

use std::time::Duration;

/// Text that is no duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// Nothing there.
    #[error("empty duration string")]
    Empty,
    /// Not numbers with units, largest unit first.
    #[error("not a valid duration string: {0:?}")]
    Invalid(String),
    /// More than 292 years.
    #[error("duration out of range")]
    OutOfRange,
}

const UNITS: [(&str, u64); 7] = [
    ("y", 365 * 86_400_000),
    ("w", 7 * 86_400_000),
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

/// Parses a duration; each unit at most once, in descending order. `0` needs none.
///
/// # Errors
/// See [`DurationError`].
pub fn parse(text: &str) -> Result<Duration, DurationError> {
    match text {
        "" => return Err(DurationError::Empty),
        "0" => return Ok(Duration::ZERO),
        _ => {}
    }
    let invalid = || DurationError::Invalid(text.to_owned());
    let mut rest = text;
    let mut total: u64 = 0;
    let mut units = UNITS.iter();
    while !rest.is_empty() {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, after) = rest.split_at_checked(digits).ok_or_else(invalid)?;
        let letters = after.len()
            - after
                .trim_start_matches(|c: char| c.is_ascii_lowercase())
                .len();
        let (unit, after) = after.split_at_checked(letters).ok_or_else(invalid)?;
        if number.is_empty() {
            return Err(invalid());
        }
        let &(_, millis) = units
            .by_ref()
            .find(|(name, _)| *name == unit)
            .ok_or_else(invalid)?;
        let number: u64 = number.parse().map_err(|_| DurationError::OutOfRange)?;
        total = number
            .checked_mul(millis)
            .and_then(|ms| total.checked_add(ms))
            .ok_or(DurationError::OutOfRange)?;
        rest = after;
    }
    // Go's durations are i64 nanoseconds.
    if total > (i64::MAX / 1_000_000) as u64 {
        return Err(DurationError::OutOfRange);
    }
    Ok(Duration::from_millis(total))
}

/// Formats as Prometheus does: the units that are there, weeks and years only when nothing else is.
#[must_use]
pub fn format(duration: Duration) -> String {
    let mut millis = duration.as_millis() as u64;
    if millis == 0 {
        return "0s".to_owned();
    }
    let mut text = String::new();
    for (unit, per) in UNITS {
        let is_exact_only = matches!(unit, "y" | "w");
        if is_exact_only && !millis.is_multiple_of(per) {
            continue;
        }
        if millis / per > 0 {
            text.push_str(&format!("{}{unit}", millis / per));
            millis %= per;
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, want: Result<u64, DurationError>) {
        assert_eq!(parse(text).map(|d| d.as_millis() as u64), want, "{text}");
    }

    #[test]
    fn units_descend_and_appear_once() {
        check("1h30m", Ok(5_400_000));
        check("0", Ok(0));
        check("500ms", Ok(500));
        check("1w2d", Ok(9 * 86_400_000));
        check("", Err(DurationError::Empty));
        for bad in ["1", "m", "1m1h", "1s1s", "-1s", "1.5h", "1 s", "1x", "1min"] {
            check(bad, Err(DurationError::Invalid(bad.to_owned())));
        }
        check("300y", Err(DurationError::OutOfRange));
        check("99999999999999999999s", Err(DurationError::OutOfRange));
    }

    #[test]
    fn format_is_prometheus() {
        for (millis, want) in [
            (0, "0s"),
            (90_000, "1m30s"),
            (7 * 86_400_000, "1w"),
            (86_400_000, "1d"),
            (1, "1ms"),
            (8 * 86_400_000, "8d"),
        ] {
            assert_eq!(format(Duration::from_millis(millis)), want);
        }
    }
}
