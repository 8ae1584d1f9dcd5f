//! Parsers of Kubernetes quantities (`100m`, `64Mi`, `1e3`) and times (RFC 3339).

/// Suffixes and their factors.
const SUFFIXES: [(&str, f64); 16] = [
    ("Ki", 1024.0),
    ("Mi", 1_048_576.0),
    ("Gi", 1_073_741_824.0),
    ("Ti", 1_099_511_627_776.0),
    ("Pi", 1_125_899_906_842_624.0),
    ("Ei", 1_152_921_504_606_846_976.0),
    ("n", 1e-9),
    ("u", 1e-6),
    ("m", 1e-3),
    ("k", 1e3),
    ("M", 1e6),
    ("G", 1e9),
    ("T", 1e12),
    ("P", 1e15),
    ("E", 1e18),
    ("", 1.0),
];

/// Parses a quantity; `None` when it is malformed.
#[must_use]
pub fn parse_quantity(text: &str) -> Option<f64> {
    let is_number = |c: char| c.is_ascii_digit() || "+-.".contains(c);
    // `12E` is exa, `12E3` and `12e3` have an exponent.
    let exponent = text.find(['e', 'E']).filter(|at| {
        text.get(at + 1..)
            .is_some_and(|rest| !rest.is_empty() && rest != "i")
    });
    if exponent.is_some() {
        return finite(text.parse().ok()?);
    }
    let end = text.find(|c| !is_number(c)).unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let (_, factor) = SUFFIXES.iter().find(|(name, _)| *name == suffix)?;
    let number: f64 = number.parse().ok()?;
    // Division keeps 100m at 0.1 exactly.
    finite(if *factor < 1.0 {
        number / (1.0 / factor).round()
    } else {
        number * factor
    })
}

fn finite(number: f64) -> Option<f64> {
    number.is_finite().then_some(number)
}

/// Seconds since the Unix epoch of `2026-11-22T07:49:30Z`, with a fraction or without; only UTC, as the API writes.
#[must_use]
pub fn parse_time(text: &str) -> Option<f64> {
    let (text, offset_seconds) = split_offset(text)?;
    let (date, time) = text.split_once('T')?;
    let mut date = date.split('-');
    let mut part = || date.next()?.parse::<i64>().ok();
    let (year, month, day) = (part()?, part()?, part()?);
    let mut time = time.split(':');
    let mut part = || time.next()?.parse::<f64>().ok();
    let (hours, minutes, seconds) = (part()?, part()?, part()?);
    let is_date =
        (1..=12).contains(&month) && (1..=31).contains(&day) && (1970..=9999).contains(&year);
    let is_time = (0.0..24.0).contains(&hours)
        && (0.0..60.0).contains(&minutes)
        && (0.0..61.0).contains(&seconds);
    (is_date && is_time).then(|| {
        days_since_epoch(year, month, day) as f64 * 86_400.0
            + hours * 3600.0
            + minutes * 60.0
            + seconds
            - offset_seconds
    })
}

/// Splits a time from its UTC offset. The API server writes `Z`; the kubelet's own annotations have the offset of the node's time
/// zone.
fn split_offset(text: &str) -> Option<(&str, f64)> {
    if let Some(text) = text.strip_suffix('Z') {
        return Some((text, 0.0));
    }
    let (text, zone) = text.split_at_checked(text.len().checked_sub(6)?)?;
    let sign = match zone.as_bytes().first()? {
        b'+' => 1.0,
        b'-' => -1.0,
        _ => return None,
    };
    let (hours, minutes) = zone.get(1..)?.split_once(':')?;
    let (hours, minutes) = (hours.parse::<u8>().ok()?, minutes.parse::<u8>().ok()?);
    let seconds = (f64::from(hours) * 60.0 + f64::from(minutes)) * 60.0;
    (hours < 24 && minutes < 60).then_some((text, sign * seconds))
}

/// Returns the day number in the Gregorian calendar. Years start in March, so that the leap day is their last day.
const fn days_since_epoch(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let month = if month <= 2 { month + 9 } else { month - 3 };
    let leap_days = year / 4 - year / 100 + year / 400;
    year * 365 + leap_days + (month * 153 + 2) / 5 + day - 1 - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_of_the_api() {
        for (text, want) in [
            ("100m", 0.1),
            ("0.5", 0.5),
            ("2", 2.0),
            ("64Mi", 67_108_864.0),
            ("1Ei", 1_152_921_504_606_846_976.0),
            ("1500n", 1.5e-6),
            ("12E", 12e18),
            ("1e3", 1000.0),
            ("1E3", 1000.0),
            ("24684092Ki", 24_684_092.0 * 1024.0),
        ] {
            assert_eq!(parse_quantity(text), Some(want), "{text}");
        }
        for bad in ["", "m", "1 Mi", "1MiB", "abc", "1e", "inf", "--1"] {
            assert_eq!(parse_quantity(bad), None, "{bad}");
        }
    }

    #[test]
    fn times_of_the_api() {
        assert_eq!(parse_time("1970-01-01T00:00:00Z"), Some(0.0));
        assert_eq!(parse_time("2026-11-22T07:49:30Z"), Some(1_795_333_770.0));
        assert_eq!(parse_time("2024-02-29T23:59:59.5Z"), Some(1_709_251_199.5));
        assert_eq!(parse_time("2000-03-01T00:00:00Z"), Some(951_868_800.0));
        assert_eq!(parse_time("2000-03-01T01:30:00+01:30"), Some(951_868_800.0));
        assert_eq!(parse_time("2000-02-29T19:00:00-05:00"), Some(951_868_800.0));
        for bad in [
            "",
            "2026-11-22",
            "2026-13-22T00:00:00Z",
            "2026-11-22T25:00:00Z",
            "2026-11-22T07:49:30+1:00",
            "2026-11-22T07:49:30",
        ] {
            assert_eq!(parse_time(bad), None, "{bad}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics(text: String) {
            let _number = parse_quantity(&text);
            let _seconds = parse_time(&text);
        }
    }
}
