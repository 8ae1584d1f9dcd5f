//! The `humanize` functions, which format numbers for readers.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::float::{Notation, format_float};
use super::gotime::{STRING_LAYOUT, format_time};

const LARGE: [&str; 8] = ["k", "M", "G", "T", "P", "E", "Z", "Y"];
const SMALL: [&str; 8] = ["m", "u", "n", "p", "f", "a", "z", "y"];
const BINARY: [&str; 8] = ["ki", "Mi", "Gi", "Ti", "Pi", "Ei", "Zi", "Yi"];

fn four_digits(value: f64) -> String {
    format_float(value, Notation::General, Some(4))
}

/// Divides by `base` while `value` is at least `base`. Returns the result and the last unit reached.
fn scaled_down(mut value: f64, base: f64, units: [&'static str; 8]) -> (f64, &'static str) {
    let mut unit = "";
    for next in units {
        if value.abs() < base {
            break;
        }
        unit = next;
        value /= base;
    }
    (value, unit)
}

fn scaled_up(mut value: f64) -> (f64, &'static str) {
    let mut unit = "";
    for next in SMALL {
        if value.abs() >= 1.0 {
            break;
        }
        unit = next;
        value *= 1000.0;
    }
    (value, unit)
}

/// Formats a number with metric prefixes: `1.234k`.
pub(super) fn humanize(value: f64) -> String {
    if value == 0.0 || !value.is_finite() {
        return four_digits(value);
    }
    let (value, unit) = if value.abs() >= 1.0 {
        scaled_down(value, 1000.0, LARGE)
    } else {
        scaled_up(value)
    };
    format!("{}{unit}", four_digits(value))
}

/// Formats a number with binary prefixes: `1.5Mi`.
pub(super) fn humanize1024(value: f64) -> String {
    if value.abs() <= 1.0 || !value.is_finite() {
        return four_digits(value);
    }
    let (value, unit) = scaled_down(value, 1024.0, BINARY);
    format!("{}{unit}", four_digits(value))
}

/// Formats seconds as `1d 2h 3m 4s`.
pub(super) fn humanize_duration(value: f64) -> String {
    if !value.is_finite() {
        return four_digits(value);
    }
    if value == 0.0 {
        return format!("{}s", four_digits(value));
    }
    if value.abs() < 1.0 {
        let (value, unit) = scaled_up(value);
        return format!("{}{unit}s", four_digits(value));
    }
    let sign = if value < 0.0 { "-" } else { "" };
    let value = value.abs();
    // For values outside i64, Go's conversion on x86 yields the smallest integer. Match its output.
    let is_in_range = value < i64::MAX as f64;
    let total = if is_in_range { value as i64 } else { i64::MIN };
    let (seconds, minutes, hours, days) = (
        total % 60,
        total / 60 % 60,
        total / 3600 % 24,
        total / 86_400,
    );
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{sign}{}s", four_digits(value)),
        (0, 0, _) => format!("{sign}{minutes}m {seconds}s"),
        (0, _, _) => format!("{sign}{hours}h {minutes}m {seconds}s"),
        _ => format!("{sign}{days}d {hours}h {minutes}m {seconds}s"),
    }
}

/// Formats a ratio as a percentage.
pub(super) fn humanize_percentage(value: f64) -> String {
    format!("{}%", four_digits(value * 100.0))
}

/// Formats Unix seconds as a date.
pub(super) fn humanize_timestamp(value: f64) -> Result<String, String> {
    if !value.is_finite() {
        return Ok(four_digits(value));
    }
    let time = unix_time(value).ok_or_else(|| {
        let value = format_float(value, Notation::General, None);
        format!("{value} cannot be represented as a nanoseconds timestamp since it overflows int64")
    })?;
    Ok(format_time(&time, STRING_LAYOUT))
}

/// Converts Unix seconds to a UTC time, truncated to milliseconds like Prometheus' `model.Time`.
pub(super) fn unix_time(seconds: f64) -> Option<jiff::Zoned> {
    let nanos = seconds * 1e9;
    if nanos > i64::MAX as f64 || nanos < i64::MIN as f64 {
        return None;
    }
    let millis = nanos as i64 / 1_000_000;
    Some(
        Timestamp::from_millisecond(millis)
            .ok()?
            .to_zoned(TimeZone::UTC),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recorded_vectors_of_promtool() {
        for (value, want) in [
            (
                12_345_678.0,
                ["12.35M", "11.77Mi", "142d 21h 21m 18s", "1.235e+09%"],
            ),
            (
                0.000_012_34,
                ["12.34u", "1.234e-05", "12.34us", "0.001234%"],
            ),
            (1_000_000.0, ["1M", "976.6ki", "11d 13h 46m 40s", "1e+08%"]),
            (135.3563, ["135.4", "135.4", "2m 15s", "1.354e+04%"]),
            (-5.0, ["-5", "-5", "-5s", "-500%"]),
            (0.0, ["0", "0", "0s", "0%"]),
            (f64::NAN, ["NaN", "NaN", "NaN", "NaN%"]),
        ] {
            let got = [
                humanize(value),
                humanize1024(value),
                humanize_duration(value),
                humanize_percentage(value),
            ];
            assert_eq!(got, want);
        }
        assert_eq!(
            humanize_timestamp(12_345_678.0).unwrap(),
            "1970-05-23 21:21:18 +0000 UTC"
        );
        assert_eq!(
            humanize_timestamp(135.3563).unwrap(),
            "1970-01-01 00:02:15.356 +0000 UTC"
        );
        assert!(humanize_timestamp(1e12).is_err());
    }
}
