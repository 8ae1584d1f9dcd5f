//! Parses times, durations and counts in request parameters, with Prometheus' error texts.

use std::time::Duration;

/// Default of `start` in milliseconds (`web/api/v1/api.go`: `MinTime`).
pub const MIN_MS: i64 = (i64::MIN / 1000 + 62_135_596_801) * 1000;
/// Default of `end` in milliseconds (`MaxTime`).
pub const MAX_MS: i64 = (i64::MAX / 1000 - 62_135_596_801) * 1000 + 999;

/// The earliest timestamp that 64 bits of nanoseconds can hold.
const FAR_PAST_MS: i64 = i64::MIN / 1_000_000;

/// Parses Unix seconds (a float) or RFC 3339 into milliseconds.
///
/// # Errors
/// The text is neither; the message is Prometheus'.
pub fn parse_time(text: &str) -> Result<i64, String> {
    let error = || format!("cannot parse {text:?} to a valid timestamp");
    if let Some(seconds) = parse_float(text) {
        return Ok(seconds_to_ms(seconds));
    }
    match text {
        // Clients send back the bounds that the API reported.
        "-292273086-05-16T16:47:06Z" => return Ok(MIN_MS),
        "292277025-08-18T07:12:54.999999999Z" => return Ok(MAX_MS),
        _ => {}
    }
    rfc3339::parse_ms(text).ok_or_else(error)
}

/// Converts Unix seconds to milliseconds, rounded as Prometheus does. NaN, infinities and values beyond 64 bits become
/// the earliest timestamp, as in Prometheus.
fn seconds_to_ms(seconds: f64) -> i64 {
    if !seconds.is_finite() || seconds.abs() >= 9_223_372_036_854_775_808.0 {
        return FAR_PAST_MS;
    }
    let ms = seconds.trunc() * 1000.0 + (seconds.fract() * 1000.0).round();
    (ms as i64).clamp(MIN_MS, MAX_MS)
}

/// The timestamp of evaluation. Prometheus converts it to 64 bits of nanoseconds without an overflow check.
#[must_use]
pub const fn evaluation_ms(ms: i64) -> i64 {
    ms.wrapping_mul(1_000_000) / 1_000_000
}

/// Parses float seconds or `1h30m`.
///
/// # Errors
/// The text is neither, or too long; the message is Prometheus'.
pub fn parse_duration_ns(text: &str) -> Result<i64, String> {
    if let Some(seconds) = parse_float(text) {
        let nanos = seconds * 1e9;
        if nanos.abs() > i64::MAX as f64 {
            return Err(format!(
                "cannot parse {text:?} to a valid duration. It overflows int64"
            ));
        }
        // Go's conversion of NaN on amd64.
        return Ok(if nanos.is_nan() {
            i64::MIN
        } else {
            nanos as i64
        });
    }
    common::duration::parse(text)
        .map(|duration| i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX))
        .map_err(|_| format!("cannot parse {text:?} to a valid duration"))
}

/// Parses a time limit. A negative one is 0.
///
/// # Errors
/// As [`parse_duration_ns`].
pub fn parse_timeout(text: &str) -> Result<Duration, String> {
    let nanos = parse_duration_ns(text)?;
    Ok(Duration::from_nanos(u64::try_from(nanos).unwrap_or(0)))
}

/// Parses a float as Go's `strconv.ParseFloat` does.
fn parse_float(text: &str) -> Option<f64> {
    tidemark_promql::parse_go_float(text)
}

/// Parses `limit`. `None` = no limit: absent or 0.
///
/// # Errors
/// The text is not a number, or negative; the message is Prometheus'.
pub fn parse_limit(text: &str) -> Result<Option<usize>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    let limit: i64 = text.parse().map_err(|error| {
        let reason = integer_error(&error);
        format!("strconv.Atoi: parsing {text:?}: {reason}")
    })?;
    let limit = usize::try_from(limit).map_err(|_| "limit must be non-negative".to_owned())?;
    Ok(Some(limit).filter(|&limit| limit > 0))
}

/// Go's text for an integer that can't be parsed.
#[must_use]
pub const fn integer_error(error: &std::num::ParseIntError) -> &'static str {
    use std::num::IntErrorKind::{NegOverflow, PosOverflow};
    match error.kind() {
        PosOverflow | NegOverflow => "value out of range",
        _ => "invalid syntax",
    }
}

/// Parses and formats RFC 3339.
pub mod rfc3339 {
    /// Parses `2006-01-02T15:04:05.999Z07:00`.
    #[must_use]
    pub fn parse_ms(text: &str) -> Option<i64> {
        let bytes = text.as_bytes();
        let digits = |from: usize, to: usize| -> Option<i64> {
            let part = bytes.get(from..to)?;
            if !part.iter().all(u8::is_ascii_digit) {
                return None;
            }
            Some(
                part.iter()
                    .fold(0, |sum, &b| sum * 10 + i64::from(b - b'0')),
            )
        };
        let separators = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')];
        if !separators
            .iter()
            .all(|&(at, want)| bytes.get(at) == Some(&want))
        {
            return None;
        }
        let (year, month, day) = (digits(0, 4)?, digits(5, 7)?, digits(8, 10)?);
        let (hour, minute, second) = (digits(11, 13)?, digits(14, 16)?, digits(17, 19)?);
        let in_range = (1..=12).contains(&month)
            && (1..=days_in_month(year, month)).contains(&day)
            && hour < 24
            && minute < 60
            && second < 60;
        if !in_range {
            return None;
        }
        let (fraction_ms, rest) = fraction(bytes.get(19..)?)?;
        let offset_s = offset(rest)?;
        let days = days_from_civil(year, month, day);
        Some((days * 86_400 + hour * 3600 + minute * 60 + second - offset_s) * 1000 + fraction_ms)
    }

    fn fraction(rest: &[u8]) -> Option<(i64, &[u8])> {
        let Some((b'.', after)) = rest.split_first() else {
            return Some((0, rest));
        };
        let count = after.iter().take_while(|b| b.is_ascii_digit()).count();
        let (digits, rest) = after.split_at(count);
        if digits.is_empty() {
            return None;
        }
        let padded = digits
            .iter()
            .copied()
            .chain(std::iter::repeat(b'0'))
            .take(3);
        Some((
            padded.fold(0, |sum, b| sum * 10 + i64::from(b - b'0')),
            rest,
        ))
    }

    fn offset(rest: &[u8]) -> Option<i64> {
        match rest {
            [b'Z'] => Some(0),
            [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2] => {
                if ![h1, h2, m1, m2].iter().all(|b| b.is_ascii_digit()) {
                    return None;
                }
                let number =
                    |tens: &u8, ones: &u8| i64::from(tens - b'0') * 10 + i64::from(ones - b'0');
                let (hours, minutes) = (number(h1, h2), number(m1, m2));
                let seconds = hours * 3600 + minutes * 60;
                (hours < 24 && minutes < 60).then_some(if *sign == b'-' {
                    -seconds
                } else {
                    seconds
                })
            }
            _ => None,
        }
    }

    fn days_in_month(year: i64, month: i64) -> i64 {
        let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        match month {
            2 if leap => 29,
            2 => 28,
            4 | 6 | 9 | 11 => 30,
            _ => 31,
        }
    }

    /// Days since 1970-01-01 in the proleptic Gregorian calendar, counted in eras of 400 years that begin in March.
    const fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
        let year = if month <= 2 { year - 1 } else { year };
        let era = year.div_euclid(400);
        let year_of_era = year.rem_euclid(400);
        let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
        era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year
            - 719_468
    }

    /// Shows milliseconds as `2006-01-02T15:04:05.999Z`, decimals only when needed.
    #[must_use]
    pub fn show_ms(timestamp_ms: i64) -> String {
        let (days, of_day) = (
            timestamp_ms.div_euclid(86_400_000),
            timestamp_ms.rem_euclid(86_400_000),
        );
        let (year, month, day) = civil_from_days(days);
        let (seconds, ms) = (of_day / 1000, of_day % 1000);
        let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
        let mut text = format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}");
        if ms != 0 {
            text.push_str(format!(".{ms:03}").trim_end_matches('0'));
        }
        text.push('Z');
        text
    }

    const fn civil_from_days(days: i64) -> (i64, i64, i64) {
        let shifted = days + 719_468;
        let era = shifted.div_euclid(146_097);
        let day_of_era = shifted.rem_euclid(146_097);
        let year_of_era =
            (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month_from_march = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
        let month = if month_from_march < 10 {
            month_from_march + 3
        } else {
            month_from_march - 9
        };
        let year = year_of_era + era * 400 + if month <= 2 { 1 } else { 0 };
        (year, month, day)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_seconds_or_rfc3339() {
        for (text, want) in [
            ("0", 0),
            ("1435781451.781", 1_435_781_451_781),
            ("1.0006", 1001),
            ("-1.5", -1500),
            ("1e3", 1_000_000),
            ("2015-07-01T20:10:51.781Z", 1_435_781_451_781),
            ("2015-07-01T22:10:51.781+02:00", 1_435_781_451_781),
            ("1969-12-31T23:59:59.9999Z", -1),
            ("2024-02-29T00:00:00Z", 1_709_164_800_000),
        ] {
            assert_eq!(parse_time(text), Ok(want), "{text}");
        }
        for (text, want) in [
            ("NaN", FAR_PAST_MS),
            ("Inf", FAR_PAST_MS),
            ("-Inf", FAR_PAST_MS),
            ("1e300", FAR_PAST_MS),
            ("1e18", MAX_MS),
            ("-1e18", MIN_MS),
        ] {
            assert_eq!(parse_time(text), Ok(want), "{text}");
        }
        for bad in [
            "",
            "foo",
            "1e400",
            "2023-02-29T00:00:00Z",
            "2015-07-01",
            "2015-07-01T25:00:00Z",
        ] {
            let want = format!("cannot parse {bad:?} to a valid timestamp");
            assert_eq!(parse_time(bad), Err(want));
        }
    }

    #[test]
    fn shown_times_parse_back() {
        for ms in [
            0,
            1_435_781_451_781,
            -1,
            951_782_400_000,
            4_102_444_799_999,
            -62_135_596_800_000,
        ] {
            let text = rfc3339::show_ms(ms);
            assert_eq!(rfc3339::parse_ms(&text), Some(ms), "{text}");
        }
        assert_eq!(
            rfc3339::show_ms(1_435_781_451_780),
            "2015-07-01T20:10:51.78Z"
        );
    }

    #[test]
    fn durations_are_seconds_or_units() {
        assert_eq!(parse_duration_ns("15"), Ok(15_000_000_000));
        assert_eq!(parse_duration_ns("0.0005"), Ok(500_000));
        assert_eq!(parse_duration_ns("1h30m"), Ok(5_400_000_000_000));
        assert_eq!(parse_duration_ns("-1"), Ok(-1_000_000_000));
        assert_eq!(parse_duration_ns("NaN"), Ok(i64::MIN));
        let too_long = parse_duration_ns("1e300").unwrap_err();
        assert!(too_long.ends_with("It overflows int64"), "{too_long}");
        assert_eq!(
            parse_duration_ns("x"),
            Err("cannot parse \"x\" to a valid duration".to_owned())
        );
    }

    #[test]
    fn moments_are_what_64_bits_of_nanoseconds_hold() {
        assert_eq!(evaluation_ms(1_435_781_451_781), 1_435_781_451_781);
        assert_eq!(evaluation_ms(FAR_PAST_MS), FAR_PAST_MS);
        assert_eq!(evaluation_ms(10_000_000_000_000), -8_446_744_073_709);
    }

    #[test]
    fn limits_are_not_negative() {
        assert_eq!(parse_limit(""), Ok(None));
        assert_eq!(parse_limit("0"), Ok(None));
        assert_eq!(parse_limit("7"), Ok(Some(7)));
        assert_eq!(
            parse_limit("-1"),
            Err("limit must be non-negative".to_owned())
        );
        assert_eq!(
            parse_limit("x"),
            Err("strconv.Atoi: parsing \"x\": invalid syntax".to_owned())
        );
    }
}
