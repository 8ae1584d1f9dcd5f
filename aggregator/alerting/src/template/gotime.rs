//! Formats times and durations like Go's `Time.Format` and `Duration.String`.

use jiff::Zoned;

/// The layout of `Time.String`, used when a template prints `{{ .StartsAt }}`.
pub(super) const STRING_LAYOUT: &str = "2006-01-02 15:04:05.999999999 -0700 MST";

/// One element of a layout: the part of Go's reference time that it names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Element {
    LongMonth,
    Month,
    MonthNumber {
        padded: bool,
    },
    LongWeekday,
    Weekday,
    Day {
        pad: &'static str,
    },
    YearDay {
        pad: &'static str,
    },
    Hour24,
    Hour12 {
        padded: bool,
    },
    Minute {
        padded: bool,
    },
    Second {
        padded: bool,
    },
    LongYear,
    ShortYear,
    UpperHalf,
    LowerHalf,
    ZoneName,
    Offset {
        z: bool,
        colon: bool,
        seconds: bool,
        minutes: bool,
    },
}

/// Layout elements as in Go's `nextStdChunk`. An element precedes its own prefixes.
const ELEMENTS: &[(&str, Element)] = &[
    ("January", Element::LongMonth),
    ("Jan", Element::Month),
    ("Monday", Element::LongWeekday),
    ("Mon", Element::Weekday),
    ("MST", Element::ZoneName),
    ("002", Element::YearDay { pad: "0" }),
    ("01", Element::MonthNumber { padded: true }),
    ("02", Element::Day { pad: "0" }),
    ("03", Element::Hour12 { padded: true }),
    ("04", Element::Minute { padded: true }),
    ("05", Element::Second { padded: true }),
    ("06", Element::ShortYear),
    ("15", Element::Hour24),
    ("1", Element::MonthNumber { padded: false }),
    ("2006", Element::LongYear),
    ("2", Element::Day { pad: "" }),
    ("__2", Element::YearDay { pad: " " }),
    ("_2", Element::Day { pad: " " }),
    ("3", Element::Hour12 { padded: false }),
    ("4", Element::Minute { padded: false }),
    ("5", Element::Second { padded: false }),
    ("PM", Element::UpperHalf),
    ("pm", Element::LowerHalf),
    ("-070000", offset(false, false, true, true)),
    ("-07:00:00", offset(false, true, true, true)),
    ("-0700", offset(false, false, false, true)),
    ("-07:00", offset(false, true, false, true)),
    ("-07", offset(false, false, false, false)),
    ("Z070000", offset(true, false, true, true)),
    ("Z07:00:00", offset(true, true, true, true)),
    ("Z0700", offset(true, false, false, true)),
    ("Z07:00", offset(true, true, false, true)),
    ("Z07", offset(true, false, false, false)),
];

const fn offset(z: bool, colon: bool, seconds: bool, minutes: bool) -> Element {
    Element::Offset {
        z,
        colon,
        seconds,
        minutes,
    }
}

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const WEEKDAYS: [&str; 7] = [
    "Sunday",
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
];

/// Formats `time` with a Go layout.
#[must_use]
pub(super) fn format_time(time: &Zoned, layout: &str) -> String {
    let mut out = String::with_capacity(layout.len() + 8);
    let mut rest = layout;
    while let Some(first) = rest.chars().next() {
        if let Some((len, digits, trim)) = fraction(rest) {
            push_fraction(&mut out, time, first, digits, trim);
            rest = rest.get(len..).unwrap_or_default();
        } else if let Some((text, element)) = element(rest) {
            push_element(&mut out, time, element);
            rest = rest.get(text.len()..).unwrap_or_default();
        } else {
            out.push(first);
            rest = rest.get(first.len_utf8()..).unwrap_or_default();
        }
    }
    out
}

fn element(rest: &str) -> Option<(&'static str, Element)> {
    // `_2006` is an underscore and a year. `Month` is literal text, not `Mon` followed by `th`.
    if rest.starts_with("_2006") {
        return None;
    }
    let mut best: Option<(&'static str, Element)> = None;
    for &(text, element) in ELEMENTS {
        if rest.starts_with(text) && best.is_none_or(|(old, _)| old.len() < text.len()) {
            best = Some((text, element));
        }
    }
    let (text, _) = best?;
    let next = rest.as_bytes().get(text.len());
    let goes_on = matches!(text, "Jan" | "Mon") && next.is_some_and(u8::is_ascii_lowercase);
    if goes_on { None } else { best }
}

/// Matches a fraction of a second such as `.000` or `,999` at the start of `rest`. Returns its length, the number of
/// digits, and whether trailing zeros are dropped.
fn fraction(rest: &str) -> Option<(usize, usize, bool)> {
    let bytes = rest.as_bytes();
    if !matches!(bytes.first(), Some(b'.' | b',')) {
        return None;
    }
    let digit = *bytes.get(1).filter(|&&b| b == b'0' || b == b'9')?;
    let digits = bytes.iter().skip(1).take_while(|&&b| b == digit).count();
    if bytes.get(1 + digits).is_some_and(u8::is_ascii_digit) {
        return None;
    }
    Some((1 + digits, digits.min(9), digit == b'9'))
}

fn push_fraction(out: &mut String, time: &Zoned, point: char, digits: usize, trim: bool) {
    let nanos = format!("{:09}", time.subsec_nanosecond());
    let mut text = nanos.get(..digits).unwrap_or(&nanos);
    if trim {
        text = text.trim_end_matches('0');
        if text.is_empty() {
            return;
        }
    }
    out.push(point);
    out.push_str(text);
}

fn push_element(out: &mut String, time: &Zoned, element: Element) {
    let month = MONTHS
        .get(time.month() as usize - 1)
        .copied()
        .unwrap_or_default();
    let weekday = weekday_name(time);
    let hour12 = match time.hour() % 12 {
        0 => 12,
        hour => hour,
    };
    let text = match element {
        Element::LongMonth => month.to_owned(),
        Element::Month => month.chars().take(3).collect(),
        Element::MonthNumber { padded } => number(i64::from(time.month()), padded),
        Element::LongWeekday => weekday.to_owned(),
        Element::Weekday => weekday.chars().take(3).collect(),
        Element::Day { pad } => padded(i64::from(time.day()), 2, pad),
        Element::YearDay { pad } => padded(i64::from(time.day_of_year()), 3, pad),
        Element::Hour24 => number(i64::from(time.hour()), true),
        Element::Hour12 { padded } => number(i64::from(hour12), padded),
        Element::Minute { padded } => number(i64::from(time.minute()), padded),
        Element::Second { padded } => number(i64::from(time.second()), padded),
        Element::LongYear => format!("{:04}", time.year()),
        Element::ShortYear => format!("{:02}", time.year().rem_euclid(100)),
        Element::UpperHalf => if time.hour() < 12 { "AM" } else { "PM" }.to_owned(),
        Element::LowerHalf => if time.hour() < 12 { "am" } else { "pm" }.to_owned(),
        Element::ZoneName => zone_name(time),
        Element::Offset {
            z,
            colon,
            seconds,
            minutes,
        } => offset_text(time, z, colon, (minutes, seconds)),
    };
    out.push_str(&text);
}

fn number(value: i64, two_digits: bool) -> String {
    padded(value, if two_digits { 2 } else { 0 }, "0")
}

fn padded(value: i64, width: usize, pad: &str) -> String {
    let text = value.to_string();
    let missing = width.saturating_sub(text.len());
    format!("{}{text}", pad.repeat(missing))
}

/// Returns the English name of the weekday.
#[must_use]
pub(super) fn weekday_name(time: &Zoned) -> &'static str {
    let index = time.weekday().to_sunday_zero_offset() as usize;
    WEEKDAYS.get(index).copied().unwrap_or_default()
}

/// Returns the English name of the month.
#[must_use]
pub(super) fn month_name(time: &Zoned) -> &'static str {
    MONTHS
        .get(time.month() as usize - 1)
        .copied()
        .unwrap_or_default()
}

fn zone_name(time: &Zoned) -> String {
    let name = time
        .time_zone()
        .to_offset_info(time.timestamp())
        .abbreviation()
        .to_owned();
    // A zone without an abbreviation is printed as its offset, such as `+03`, as in Go.
    if name.is_empty() {
        offset_text(time, false, false, (true, false))
    } else {
        name
    }
}

fn offset_text(time: &Zoned, z: bool, colon: bool, (minutes, seconds): (bool, bool)) -> String {
    let total = time.offset().seconds();
    if z && total == 0 {
        return "Z".to_owned();
    }
    let sign = if total < 0 { '-' } else { '+' };
    let total = total.abs();
    let separator = if colon { ":" } else { "" };
    let mut text = format!("{sign}{:02}", total / 3600);
    if minutes {
        text.push_str(&format!("{separator}{:02}", total / 60 % 60));
    }
    if seconds {
        text.push_str(&format!("{separator}{:02}", total % 60));
    }
    text
}

/// Formats nanoseconds like `Duration.String`: `1h2m3.5s`, `1.5ms`, `0s`.
#[must_use]
pub fn format_duration(nanos: i64) -> String {
    let sign = if nanos < 0 { "-" } else { "" };
    let total = nanos.unsigned_abs();
    if total == 0 {
        return "0s".to_owned();
    }
    if total < 1_000_000_000 {
        let (unit, per) = match total {
            0..1_000 => ("ns", 1),
            1_000..1_000_000 => ("µs", 1_000),
            _ => ("ms", 1_000_000),
        };
        return format!("{sign}{}{unit}", decimal(total, per));
    }
    let seconds = total / 1_000_000_000;
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
    let rest = decimal(total % 60_000_000_000, 1_000_000_000);
    match (hours, minutes) {
        (0, 0) => format!("{sign}{rest}s"),
        (0, _) => format!("{sign}{minutes}m{rest}s"),
        _ => format!("{sign}{hours}h{minutes}m{rest}s"),
    }
}

/// Formats `total / per` with its exact decimal fraction. `per` must be a power of ten.
fn decimal(total: u64, per: u64) -> String {
    let whole = total / per;
    let fraction = total % per;
    if fraction == 0 {
        return whole.to_string();
    }
    let width = per.ilog10() as usize;
    let text = format!("{fraction:0width$}");
    format!("{whole}.{}", text.trim_end_matches('0'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp;
    use jiff::tz::TimeZone;

    #[track_caller]
    fn check(layout: &str, want: &str) {
        let zone = TimeZone::get("America/New_York").unwrap();
        let time: Timestamp = "2026-11-22T21:04:05.120000Z".parse().unwrap();
        assert_eq!(format_time(&time.to_zoned(zone), layout), want, "{layout}");
    }

    #[test]
    fn layouts_of_the_time_package() {
        check("Mon Jan _2 15:04:05 2006", "Sun Nov 22 16:04:05 2026");
        check(
            "2006-01-02T15:04:05.999999999Z07:00",
            "2026-11-22T16:04:05.12-05:00",
        );
        check("02 Jan 06 15:04 MST", "22 Nov 26 16:04 EST");
        check("Monday, 02-Jan-06 3:04PM", "Sunday, 22-Nov-26 4:04PM");
        check("15:04:05.000", "16:04:05.120");
        check("Month Monkey", "Month Monkey");
        check("002 __2 -07", "326 326 -05");
        check("Z0700 -07:00:00", "-0500 -05:00:00");
    }

    #[test]
    fn durations_print_as_gos() {
        for (nanos, want) in [
            (0, "0s"),
            (1, "1ns"),
            (1_500, "1.5µs"),
            (2_000_000, "2ms"),
            (1_000_000_000, "1s"),
            (90_500_000_000, "1m30.5s"),
            (3_600_000_000_000, "1h0m0s"),
            (-61_000_000_000, "-1m1s"),
        ] {
            assert_eq!(format_duration(nanos), want);
        }
    }
}
