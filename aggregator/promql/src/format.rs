//! Formats numbers, times and durations like Go and Prometheus.

/// Appends formatted text to a `String`, which cannot fail.
macro_rules! put {
    ($out:expr, $($text:tt)*) => {{
        use std::fmt::Write as _;
        $out.write_fmt(format_args!($($text)*)).unwrap_or_default();
    }};
}
pub(crate) use put;

/// Formats a sample value like Prometheus' JSON: the fewest digits that parse to the same float, with an exponent only if the
/// magnitude is below 1e-6 or at least 1e21; `+Inf`, `-Inf`, `NaN`.
#[must_use]
pub fn format_float(value: f64) -> String {
    let mut out = String::new();
    write_float(&mut out, value);
    out
}

/// Appends a value to `out` in the format of [`format_float`].
pub fn write_float(out: &mut String, value: f64) {
    let magnitude = value.abs();
    if value.is_finite() && magnitude != 0.0 && !(1e-6..1e21).contains(&magnitude) {
        write_exponent(out, value);
    } else {
        write_plain(out, value);
    }
}

/// Formats like Go's `strconv.FormatFloat(value, 'f', -1, 64)`: without an exponent.
#[must_use]
pub fn format_float_plain(value: f64) -> String {
    let mut out = String::new();
    write_plain(&mut out, value);
    out
}

/// Formats like Go's `%g` and `%v`: the fewest digits, with an exponent below 1e-4 and from 1e6.
#[must_use]
pub(crate) fn format_general(value: f64) -> String {
    let mut out = String::new();
    let magnitude = value.abs();
    if !value.is_finite() || magnitude == 0.0 {
        write_plain(&mut out, value);
        return out;
    }
    let scientific = format!("{magnitude:e}");
    let (_, exponent) = scientific.split_once('e').unwrap_or(("", "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..6).contains(&exponent) {
        write_plain(&mut out, value);
    } else {
        write_exponent(&mut out, value);
    }
    out
}

/// Formats like Go's `%f`: six decimals.
#[must_use]
pub(crate) fn format_fixed(value: f64) -> String {
    if value.is_finite() {
        format!("{value:.6}")
    } else {
        format_float_plain(value)
    }
}

fn write_plain(out: &mut String, value: f64) {
    if value.is_nan() {
        out.push_str("NaN");
    } else if value.is_infinite() {
        out.push_str(if value > 0.0 { "+Inf" } else { "-Inf" });
    } else {
        put!(out, "{value}");
    }
}

/// Appends a value with an exponent. Like Go, it writes a sign and at least two digits of the exponent.
fn write_exponent(out: &mut String, value: f64) {
    let text = format!("{value:e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let (sign, exponent) = match exponent.strip_prefix('-') {
        Some(exponent) => ('-', exponent),
        None => ('+', exponent),
    };
    put!(out, "{digits}e{sign}{exponent:0>2}");
}

/// Formats a duration that is not negative like Prometheus (`model.Duration`): `1h30m`, `0s`.
#[must_use]
pub fn format_duration_ms(ms: i64) -> String {
    // Years and weeks are used only if there is no remainder: `90d` reads better than `12w6d`.
    const UNITS: [(&str, i64, bool); 7] = [
        ("y", 365 * 86_400_000, true),
        ("w", 7 * 86_400_000, true),
        ("d", 86_400_000, false),
        ("h", 3_600_000, false),
        ("m", 60_000, false),
        ("s", 1000, false),
        ("ms", 1, false),
    ];
    if ms == 0 {
        return "0s".to_owned();
    }
    let mut out = String::new();
    let mut rest = ms;
    for (unit, length, exact) in UNITS {
        if exact && rest % length != 0 {
            continue;
        }
        let count = rest / length;
        if count > 0 {
            put!(out, "{count}{unit}");
            rest -= count * length;
        }
    }
    out
}

/// Appends a timestamp like Prometheus' JSON: seconds, with three decimals unless they are whole.
pub fn write_timestamp(out: &mut String, timestamp_ms: i64) {
    let (sign, ms) = (timestamp_ms < 0, timestamp_ms.unsigned_abs());
    if sign {
        out.push('-');
    }
    put!(out, "{}", ms / 1000);
    if ms % 1000 != 0 {
        put!(out, ".{:03}", ms % 1000);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_print_as_in_prometheus() {
        let cases = [
            (0.0, "0"),
            (-0.0, "-0"),
            (0.1, "0.1"),
            (1e20, "100000000000000000000"),
            (1e21, "1e+21"),
            (1e-6, "0.000001"),
            (9.5e-7, "9.5e-07"),
            (1e-100, "1e-100"),
            (f64::NEG_INFINITY, "-Inf"),
            (f64::NAN, "NaN"),
            (f64::MAX, "1.7976931348623157e+308"),
        ];
        for (value, want) in cases {
            assert_eq!(format_float(value), want);
        }
        assert_eq!(format_float_plain(1e21), "1000000000000000000000");
        assert_eq!(format_general(1.5), "1.5");
        assert_eq!(format_general(-0.00001), "-1e-05");
        assert_eq!(format_general(999_999.5), "999999.5");
        assert_eq!(format_general(1_795_452_052.5), "1.7954520525e+09");
    }

    #[test]
    fn durations_print_as_in_prometheus() {
        let cases = [
            (0, "0s"),
            (1, "1ms"),
            (90_000, "1m30s"),
            (86_400_000 * 90, "90d"),
            (86_400_000 * 14, "2w"),
            (86_400_000 * 365 + 60_000, "365d1m"),
            (3_600_000 * 5, "5h"),
        ];
        for (ms, want) in cases {
            assert_eq!(format_duration_ms(ms), want);
        }
    }

    #[test]
    fn timestamps_have_three_decimals_or_none() {
        let text = |ms| {
            let mut out = String::new();
            write_timestamp(&mut out, ms);
            out
        };
        assert_eq!(text(1_500), "1.500");
        assert_eq!(text(2_000), "2");
        assert_eq!(text(-1), "-0.001");
    }
}
