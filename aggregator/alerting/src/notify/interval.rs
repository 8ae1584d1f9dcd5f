//! Time intervals in which routes are active or muted.

use std::ops::RangeInclusive;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use common::yaml::{Fields, Issue, Issues, Node};

/// A named set of intervals.
#[derive(Debug, Clone)]
pub struct TimeIntervals {
    /// The name that routes refer to.
    pub name: String,
    /// The intervals. The set contains a time if any of them does.
    pub intervals: Vec<TimeInterval>,
}

/// A recurring interval. A time matches if every configured field has a matching entry.
#[derive(Debug, Clone)]
pub struct TimeInterval {
    /// Ranges of minutes of the day. The end is exclusive.
    times: Option<Vec<(i16, i16)>>,
    /// Ranges of weekdays; Sunday is 0.
    weekdays: Option<Vec<RangeInclusive<i16>>>,
    /// Ranges of days. Negative days count from the end of the month.
    days_of_month: Option<Vec<(i16, i16)>>,
    months: Option<Vec<RangeInclusive<i16>>>,
    years: Option<Vec<RangeInclusive<i16>>>,
    zone: TimeZone,
}

impl TimeIntervals {
    /// Reports whether any of the intervals contains the time.
    #[must_use]
    pub fn contains(&self, now_ms: i64) -> bool {
        let time = Timestamp::from_millisecond(now_ms);
        time.is_ok_and(|time| {
            self.intervals
                .iter()
                .any(|interval| interval.contains(time))
        })
    }
}

impl TimeInterval {
    fn contains(&self, time: Timestamp) -> bool {
        let time = time.to_zoned(self.zone.clone());
        let minute = i16::from(time.hour()) * 60 + i16::from(time.minute());
        let weekday = i16::from(time.weekday().to_sunday_zero_offset());
        let month_days = i16::from(time.days_in_month());
        let day = i16::from(time.day());
        let any = |ranges: &Option<Vec<RangeInclusive<i16>>>, value: i16| {
            ranges
                .as_ref()
                .is_none_or(|ranges| ranges.iter().any(|range| range.contains(&value)))
        };
        let in_times = self.times.as_ref().is_none_or(|times| {
            times
                .iter()
                .any(|&(start, end)| (start..end).contains(&minute))
        });
        let in_days = self.days_of_month.as_ref().is_none_or(|days| {
            days.iter()
                .any(|&range| day_range(range, month_days).contains(&day))
        });
        in_times
            && in_days
            && any(&self.weekdays, weekday)
            && any(&self.months, i16::from(time.month()))
            && any(&self.years, time.year())
    }
}

/// Clamps a range to a month of `month_days` days.
fn day_range((start, end): (i16, i16), month_days: i16) -> RangeInclusive<i16> {
    let absolute = |day: i16| if day < 0 { month_days + 1 + day } else { day };
    let (start, end) = (absolute(start), absolute(end));
    // A range that begins after the end of the month is empty, such as 30-31 in February.
    if start > month_days {
        return RangeInclusive::new(1, 0);
    }
    start.max(1)..=end.min(month_days)
}

const WEEKDAYS: [&str; 7] = [
    "sunday",
    "monday",
    "tuesday",
    "wednesday",
    "thursday",
    "friday",
    "saturday",
];
const MONTHS: [&str; 12] = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
];

/// Reads one entry of `time_intervals` or `mute_time_intervals`.
pub(super) fn read(node: &Node, issues: &mut Issues) -> TimeIntervals {
    let mut fields = Fields::new(node, "config.TimeInterval", issues);
    let name = fields.text("name", issues).unwrap_or_default();
    if name.is_empty() {
        issues.push(Issue::new(node.position, "missing name in time interval"));
    }
    let items = fields.take("time_intervals").map_or(&[][..], |node| {
        node.read_list("[]timeinterval.TimeInterval", issues)
    });
    let intervals = items
        .iter()
        .map(|item| read_interval(item, issues))
        .collect();
    fields.finish(issues);
    TimeIntervals { name, intervals }
}

fn read_interval(node: &Node, issues: &mut Issues) -> TimeInterval {
    let mut fields = Fields::new(node, "timeinterval.TimeInterval", issues);
    let named = |names: &'static [&'static str], first: i16| {
        move |text: &str| match names
            .iter()
            .position(|name| name.eq_ignore_ascii_case(text))
        {
            Some(index) => Some(index as i16 + first),
            None if first == 1 => text.parse().ok().filter(|number| (1..=12).contains(number)),
            None => None,
        }
    };
    let zone = match fields.text("location", issues).as_deref() {
        None | Some("" | "UTC") => TimeZone::UTC,
        Some("Local") => TimeZone::system(),
        Some(name) => TimeZone::get(name).unwrap_or_else(|_| {
            issues.push(Issue::new(
                node.position,
                format!("unknown time zone {name}"),
            ));
            TimeZone::UTC
        }),
    };
    let interval = TimeInterval {
        times: fields.take("times").map(|node| read_times(node, issues)),
        weekdays: fields
            .take("weekdays")
            .map(|node| read_ranges(node, "weekday", &named(&WEEKDAYS, 0), issues)),
        days_of_month: fields
            .take("days_of_month")
            .map(|node| read_days(node, issues)),
        months: fields
            .take("months")
            .map(|node| read_ranges(node, "month", &named(&MONTHS, 1), issues)),
        years: fields
            .take("years")
            .map(|node| read_ranges(node, "year", &|text| text.parse().ok(), issues)),
        zone,
    };
    fields.finish(issues);
    interval
}

fn read_times(node: &Node, issues: &mut Issues) -> Vec<(i16, i16)> {
    let items = node.read_list("[]timeinterval.TimeRange", issues);
    let mut times = Vec::with_capacity(items.len());
    for item in items {
        let mut fields = Fields::new(item, "timeinterval.TimeRange", issues);
        let start = fields.text("start_time", issues);
        let end = fields.text("end_time", issues);
        fields.finish(issues);
        match (
            start.as_deref().and_then(minutes),
            end.as_deref().and_then(minutes),
        ) {
            (Some(start), Some(end)) if start < end => times.push((start, end)),
            (Some(_), Some(_)) => issues.push(Issue::new(
                item.position,
                "start time cannot be equal or greater than end time",
            )),
            _ => issues.push(Issue::new(
                item.position,
                "both start and end times must be provided as HH:MM",
            )),
        }
    }
    times
}

/// Parses `HH:MM` as minutes since midnight. 24:00 is the end of the day.
fn minutes(text: &str) -> Option<i16> {
    let (hours, minutes) = text.split_once(':')?;
    if hours.len() != 2 || minutes.len() != 2 {
        return None;
    }
    let (hours, minutes): (i16, i16) = (hours.parse().ok()?, minutes.parse().ok()?);
    let total = hours * 60 + minutes;
    (minutes < 60 && (0..=24 * 60).contains(&total)).then_some(total)
}

fn read_ranges(
    node: &Node,
    what: &str,
    parse: &dyn Fn(&str) -> Option<i16>,
    issues: &mut Issues,
) -> Vec<RangeInclusive<i16>> {
    let items = node.read_list("[]string", issues);
    let mut ranges = Vec::with_capacity(items.len());
    for item in items {
        let text = item.read_text(issues).to_lowercase();
        let (start, end) = text.split_once(':').unwrap_or((&text, &text));
        match (parse(start.trim()), parse(end.trim())) {
            (Some(start), Some(end)) if start <= end => ranges.push(start..=end),
            (Some(_), Some(_)) => {
                issues.push(Issue::new(
                    item.position,
                    format!("start {what} cannot be after end {what}: {text}"),
                ));
            }
            _ => issues.push(Issue::new(
                item.position,
                format!("{text:?} is not a valid {what} or range of them"),
            )),
        }
    }
    ranges
}

fn read_days(node: &Node, issues: &mut Issues) -> Vec<(i16, i16)> {
    let items = node.read_list("[]string", issues);
    let mut days = Vec::with_capacity(items.len());
    for item in items {
        let text = item.read_text(issues);
        let (start, end) = text.split_once(':').unwrap_or((&text, &text));
        let day = |text: &str| {
            text.trim()
                .parse::<i16>()
                .ok()
                .filter(|day| (1..=31).contains(&day.abs()))
        };
        match (day(start), day(end)) {
            (Some(start), Some(end)) if is_ascending(start, end) => days.push((start, end)),
            (Some(_), Some(_)) => {
                issues.push(Issue::new(
                    item.position,
                    format!("end day must be after start day: {text}"),
                ));
            }
            _ => issues.push(Issue::new(
                item.position,
                format!("{text:?} is not a valid day of the month: out of range"),
            )),
        }
    }
    days
}

/// Reports whether a range can contain any day. A range from a negative start to a positive end is rejected.
const fn is_ascending(start: i16, end: i16) -> bool {
    if start < 0 && end > 0 {
        false
    } else if (start < 0) == (end < 0) {
        start <= end
    } else {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(yaml: &str, time: &str, want: bool) {
        let text = format!("name: x\ntime_intervals:\n- {yaml}\n");
        let node = common::yaml::read_tree(&text).unwrap().unwrap();
        let mut issues = Issues::new();
        let intervals = read(&node, &mut issues);
        assert_eq!(issues, []);
        let time: Timestamp = time.parse().unwrap();
        assert_eq!(
            intervals.contains(time.as_millisecond()),
            want,
            "{yaml} at {time}"
        );
    }

    #[test]
    fn fields_and_their_bounds() {
        let times = "times: [{start_time: '09:00', end_time: '17:00'}]";
        check(times, "2026-11-23T08:59:59Z", false);
        check(times, "2026-11-23T09:00:00Z", true);
        check(times, "2026-11-23T17:00:00Z", false);
        check(
            "times: [{start_time: '23:00', end_time: '24:00'}]",
            "2026-11-23T23:59:59Z",
            true,
        );
        check("weekdays: ['monday:friday']", "2026-11-23T00:00:00Z", true);
        check(
            "weekdays: ['saturday', 'Sunday']",
            "2026-11-23T00:00:00Z",
            false,
        );
        check("days_of_month: ['-1']", "2026-02-28T12:00:00Z", true);
        check("days_of_month: ['30:31']", "2026-02-28T12:00:00Z", false);
        check(
            "days_of_month: ['1:5', '-3:-1']",
            "2026-11-28T12:00:00Z",
            true,
        );
        check("months: ['november:12']", "2026-11-28T12:00:00Z", true);
        check("years: ['2020:2025']", "2026-11-28T12:00:00Z", false);
        check(
            "{weekdays: [monday], months: [1]}",
            "2026-11-23T00:00:00Z",
            false,
        );
    }

    #[test]
    fn daylight_saving_moves_the_interval_with_the_clock_on_the_wall() {
        let yaml = "{times: [{start_time: '02:00', end_time: '03:00'}], location: 'Europe/Berlin'}";
        check(yaml, "2026-03-28T01:30:00Z", true); // 02:30 CET
        check(yaml, "2026-03-29T01:30:00Z", false); // 03:30 CEST: 02:30 did not exist
        check(yaml, "2026-10-25T00:30:00Z", true); // 02:30 CEST
        check(yaml, "2026-10-25T01:30:00Z", true); // 02:30 CET, a second time
        check(yaml, "2026-10-25T02:30:00Z", false);
        let last = "{days_of_month: ['-1'], location: 'Australia/Sydney'}";
        check(last, "2026-10-30T12:59:00Z", false);
        check(last, "2026-10-30T13:00:00Z", true);
    }

    /// Time zone, transition, interval, and whether the interval contains the second before the transition and the
    /// transition itself. The transitions come from the tz database. tests/integration compares such transitions with a
    /// real Alertmanager.
    const EDGES: &[(&str, &str, &str, &str, [bool; 2])] = &[
        // 02:00 EST is 03:00 EDT; 02:00 EDT is 01:00 EST.
        (
            "America/New_York",
            "2026-03-08T07:00:00Z",
            "01:59",
            "02:00",
            [true, false],
        ),
        (
            "America/New_York",
            "2026-03-08T07:00:00Z",
            "02:00",
            "03:00",
            [false, false],
        ),
        (
            "America/New_York",
            "2026-03-08T07:00:00Z",
            "03:00",
            "03:01",
            [false, true],
        ),
        (
            "America/New_York",
            "2026-11-01T06:00:00Z",
            "01:59",
            "02:00",
            [true, false],
        ),
        (
            "America/New_York",
            "2026-11-01T06:00:00Z",
            "01:00",
            "02:00",
            [true, true],
        ),
        (
            "America/New_York",
            "2026-11-01T06:00:00Z",
            "02:00",
            "03:00",
            [false, false],
        ),
        // The southern hemisphere, where daylight saving time covers the other half of the year.
        (
            "Australia/Sydney",
            "2026-10-03T16:00:00Z",
            "02:00",
            "03:00",
            [false, false],
        ),
        (
            "Australia/Sydney",
            "2026-10-03T16:00:00Z",
            "03:00",
            "03:01",
            [false, true],
        ),
        (
            "Australia/Sydney",
            "2026-04-04T16:00:00Z",
            "02:00",
            "03:00",
            [true, true],
        ),
        // A shift of half an hour.
        (
            "Australia/Lord_Howe",
            "2026-10-03T15:30:00Z",
            "02:00",
            "02:30",
            [false, false],
        ),
        (
            "Australia/Lord_Howe",
            "2026-10-03T15:30:00Z",
            "02:30",
            "02:31",
            [false, true],
        ),
        (
            "Australia/Lord_Howe",
            "2026-04-04T15:00:00Z",
            "01:30",
            "01:31",
            [false, true],
        ),
        // A transition at midnight: one day begins at 01:00, and another repeats an hour.
        (
            "America/Havana",
            "2026-03-08T05:00:00Z",
            "00:00",
            "01:00",
            [false, false],
        ),
        (
            "America/Havana",
            "2026-03-08T05:00:00Z",
            "23:00",
            "24:00",
            [true, false],
        ),
        (
            "America/Havana",
            "2026-11-01T05:00:00Z",
            "00:00",
            "01:00",
            [true, true],
        ),
        // No daylight saving time since 1991.
        (
            "Asia/Shanghai",
            "2026-03-08T07:00:00Z",
            "15:00",
            "15:01",
            [false, true],
        ),
    ];

    #[test]
    fn edges_of_daylight_saving_in_many_zones() {
        for &(zone, edge, start, end, [before, at]) in EDGES {
            let yaml = format!(
                "{{times: [{{start_time: '{start}', end_time: '{end}'}}], location: {zone}}}"
            );
            let edge: Timestamp = edge.parse().unwrap();
            let second_before = Timestamp::from_second(edge.as_second() - 1).unwrap();
            check(&yaml, &second_before.to_string(), before);
            check(&yaml, &edge.to_string(), at);
        }
        // A day of 23 or 25 hours counts as one day, also when counting from the end of the month.
        let last = "{days_of_month: ['-1'], location: 'Atlantic/Azores'}";
        check(last, "2024-03-30T23:59:59Z", false);
        check(last, "2024-03-31T01:00:00Z", true); // 00:00 -01 became 01:00 +00
        check(last, "2024-03-31T23:59:59Z", true);
        check(last, "2024-04-01T00:00:00Z", false);
    }

    #[test]
    fn bad_intervals_are_refused() {
        for bad in [
            "times: [{start_time: '9:00', end_time: '17:00'}]",
            "times: [{start_time: '17:00', end_time: '09:00'}]",
            "times: [{start_time: '09:00'}]",
            "weekdays: [funday]",
            "weekdays: ['friday:monday']",
            "days_of_month: ['0']",
            "days_of_month: ['32']",
            "days_of_month: ['-1:5']",
            "months: ['13']",
            "location: Mars/Olympus",
            "nope: 1",
        ] {
            let node = common::yaml::read_tree(&format!("name: x\ntime_intervals:\n- {bad}\n"))
                .unwrap()
                .unwrap();
            let mut issues = Issues::new();
            read(&node, &mut issues);
            assert!(!issues.is_empty(), "{bad}");
        }
    }
}
