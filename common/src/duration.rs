//! Durations as Prometheus writes them: `15s`, `1h30m`, `2w`.

use std::fmt;
use std::time::Duration;

/// Units in milliseconds, largest first (Prometheus `model/time.go`: a year has 365 days).
const UNITS: [(&str, u64); 7] = [
    ("y", 365 * 24 * 3_600_000),
    ("w", 7 * 24 * 3_600_000),
    ("d", 24 * 3_600_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

/// A text that is not a duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// The text is empty.
    #[error("empty duration string")]
    Empty,
    /// The text is not a sequence of numbers with units in descending order.
    #[error("not a valid duration string: {0:?}")]
    Invalid(String),
    /// The duration exceeds 292 years.
    #[error("duration out of range")]
    OutOfRange,
}

/// Parses numbers with the units y, w, d, h, m, s and ms, each at most once and in this order; or `0`.
///
/// # Errors
/// See [`DurationError`].
pub fn parse(text: &str) -> Result<Duration, DurationError> {
    if text.is_empty() {
        return Err(DurationError::Empty);
    }
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let invalid = || DurationError::Invalid(text.to_owned());
    let mut rest = text;
    let mut total_ms: u64 = 0;
    let mut units = UNITS.iter();
    while !rest.is_empty() {
        let (number, unit);
        (number, rest) = split_while(rest, |c| c.is_ascii_digit());
        (unit, rest) = split_while(rest, |c| c.is_ascii_alphabetic());
        let unit_ms = units
            .find(|(name, _)| *name == unit)
            .map(|(_, ms)| *ms)
            .ok_or_else(invalid)?;
        if number.is_empty() {
            return Err(invalid());
        }
        let count: u64 = number.parse().map_err(|_| DurationError::OutOfRange)?;
        total_ms = count
            .checked_mul(unit_ms)
            .and_then(|ms| total_ms.checked_add(ms))
            .filter(|&ms| ms <= i64::MAX as u64 / 1_000_000)
            .ok_or(DurationError::OutOfRange)?;
    }
    Ok(Duration::from_millis(total_ms))
}

fn split_while(text: &str, accept: impl Fn(char) -> bool) -> (&str, &str) {
    let end = text.find(|c| !accept(c)).unwrap_or(text.len());
    text.split_at(end)
}

/// Formats a duration as Prometheus does: `1h30m`, `1d`, `90ms`, `0s`. Fractions of a millisecond are dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Display(pub Duration);

impl fmt::Display for Display {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest_ms = u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX);
        if rest_ms == 0 {
            return f.write_str("0s");
        }
        for (unit, unit_ms) in UNITS {
            // Prometheus prints years and weeks only for exact multiples, and days otherwise.
            let exact_only = matches!(unit, "y" | "w");
            let count = rest_ms / unit_ms;
            if count > 0 && !(exact_only && rest_ms % unit_ms != 0) {
                write!(f, "{count}{unit}")?;
                rest_ms %= unit_ms;
            }
        }
        Ok(())
    }
}

/// Parses a duration as Go's `time.ParseDuration`: `1.5s`, `-2m`, `1h30m`; a number alone counts nanoseconds.
///
/// Returns `None` for any other text. A negative duration returns zero.
#[must_use]
pub fn parse_go(text: &str) -> Option<Duration> {
    let (is_negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest.is_empty() {
        return None;
    }
    let mut seconds = 0.0_f64;
    while !rest.is_empty() {
        let (number, unit);
        (number, rest) = split_while(rest, |c| c.is_ascii_digit() || c == '.');
        (unit, rest) = split_while(rest, |c| !c.is_ascii_digit() && c != '.');
        let scale = match unit {
            "ns" | "" => 1e-9,
            "us" | "\u{b5}s" | "\u{3bc}s" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        seconds += number.parse::<f64>().ok()? * scale;
    }
    let seconds = if is_negative { 0.0 } else { seconds };
    Duration::try_from_secs_f64(seconds).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, want: Result<u64, DurationError>) {
        assert_eq!(parse(text).map(|d| d.as_millis() as u64), want, "{text:?}");
    }

    #[test]
    fn units_descend_and_occur_once() {
        check("1h30m", Ok(5_400_000));
        check("1d", Ok(86_400_000));
        check("0", Ok(0));
        check("0s", Ok(0));
        check("5ms", Ok(5));
        for bad in ["30m1h", "1m1m", "1", "m", "1.5h", "-1s", "1 h", "1x", "1H"] {
            check(bad, Err(DurationError::Invalid(bad.to_owned())));
        }
        check("", Err(DurationError::Empty));
        check("300y", Err(DurationError::OutOfRange));
        check("99999999999999999999y", Err(DurationError::OutOfRange));
    }

    #[test]
    fn formatted_duration_parses_back() {
        for (text, want) in [
            ("1h30m", "1h30m"),
            ("60m", "1h"),
            ("15d", "15d"),
            ("14d", "2w"),
            ("25h", "1d1h"),
            ("1500ms", "1s500ms"),
            ("0", "0s"),
        ] {
            let duration = parse(text).unwrap();
            assert_eq!(Display(duration).to_string(), want);
            assert_eq!(parse(want), Ok(duration));
        }
    }
}
