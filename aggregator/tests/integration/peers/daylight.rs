//! Time intervals across the edges of daylight saving, against the real Alertmanager. Neither's clock can be set, so
//! the edge is brought to the clock: both read a time-zone database of the test's own, in which it comes in seconds.

use std::path::Path;
use std::time::Duration;

use super::alertmanager::{Side, act, ours_with_env, taken, theirs_with_env};
use super::peer;
use crate::harness::{eventually, now_ms};

const DAY_S: i64 = 86_400;

/// Zones: name, and what the clock on the wall shows at the edge before and after it, in seconds of the day.
const ZONES: &[(&str, i64, i64)] = &[
    ("Spring", 2 * 3600, 3 * 3600),
    ("Autumn", 3 * 3600, 2 * 3600),
    ("HalfAutumn", 2 * 3600, 3600 + 1800),
    ("MidnightSpring", DAY_S, DAY_S + 3600),
    ("MidnightAutumn", DAY_S, DAY_S - 3600),
];

/// Name, zone, whether the interval mutes or activates, the interval, and whether alerts are sent before and after the
/// edge. `TOMORROW` is the day of the month that begins or would begin at the edge, `EVE` the one before.
type Scenario = (
    &'static str,
    &'static str,
    &'static str,
    &'static str,
    [bool; 2],
);

const SCENARIOS: &[Scenario] = &[
    (
        "s1",
        "Spring",
        "mute",
        "times: [{start_time: '01:00', end_time: '02:00'}]",
        [false, true],
    ),
    // The hour that does not exist mutes nobody.
    (
        "s2",
        "Spring",
        "mute",
        "times: [{start_time: '02:00', end_time: '03:00'}]",
        [true, true],
    ),
    (
        "s3",
        "Spring",
        "mute",
        "times: [{start_time: '03:00', end_time: '04:00'}]",
        [true, false],
    ),
    (
        "s4",
        "Spring",
        "active",
        "times: [{start_time: '03:00', end_time: '24:00'}]",
        [false, true],
    ),
    // The hour that comes twice mutes twice.
    (
        "a1",
        "Autumn",
        "mute",
        "times: [{start_time: '02:00', end_time: '03:00'}]",
        [false, false],
    ),
    (
        "a2",
        "Autumn",
        "active",
        "times: [{start_time: '02:00', end_time: '03:00'}]",
        [true, true],
    ),
    (
        "a3",
        "Autumn",
        "mute",
        "times: [{start_time: '03:00', end_time: '04:00'}]",
        [true, true],
    ),
    (
        "a4",
        "Autumn",
        "mute",
        "times: [{start_time: '02:30', end_time: '03:00'}]",
        [false, true],
    ),
    (
        "h1",
        "HalfAutumn",
        "mute",
        "times: [{start_time: '01:30', end_time: '01:45'}]",
        [true, false],
    ),
    (
        "h2",
        "HalfAutumn",
        "mute",
        "times: [{start_time: '01:45', end_time: '02:00'}]",
        [false, true],
    ),
    (
        "m1",
        "MidnightSpring",
        "mute",
        "days_of_month: ['TOMORROW']",
        [true, false],
    ),
    (
        "m2",
        "MidnightSpring",
        "mute",
        "times: [{start_time: '00:00', end_time: '01:00'}]",
        [true, true],
    ),
    // The day comes back.
    (
        "m3",
        "MidnightAutumn",
        "mute",
        "days_of_month: ['TOMORROW']",
        [true, true],
    ),
    (
        "m4",
        "MidnightAutumn",
        "mute",
        "days_of_month: ['EVE']",
        [false, false],
    ),
    (
        "m5",
        "MidnightAutumn",
        "active",
        "times: [{start_time: '23:00', end_time: '23:30'}]",
        [false, true],
    ),
];

/// A TZif file (RFC 9636) of a zone that changes once, at `edge_s`, from the first offset to the second.
fn tzif(edge_s: i64, offsets: [i32; 2]) -> Vec<u8> {
    let block = |transitions: &[u8], count: u32, indices: &[u8]| {
        let mut out = b"TZif2".to_vec();
        out.extend([0; 15]);
        // UT/local and standard/wall indicators, leap seconds, transitions, types, bytes of their names.
        for number in [0, 0, 0, count, 2, 8] {
            out.extend(number.to_be_bytes());
        }
        out.extend(transitions);
        out.extend(indices);
        for (index, offset) in offsets.iter().enumerate() {
            out.extend(offset.to_be_bytes());
            out.extend([index as u8, 4 * index as u8]);
        }
        out.extend(b"ONE\0TWO\0");
        out
    };
    let mut file = block(&[], 0, &[]);
    file.extend(block(&edge_s.to_be_bytes(), 1, &[1]));
    // What holds after the last change: nothing but its own offset.
    file.extend(b"\n\n");
    file
}

/// Writes the zones; at `edge_s` the wall shows what [`ZONES`] says.
fn write_zones(folder: &Path, edge_s: i64) {
    std::fs::create_dir(folder.join("Edge")).unwrap();
    for (name, before, after) in ZONES {
        let first = offset_of(edge_s, *before);
        let second = i32::try_from(i64::from(first) + after - before).unwrap();
        let path = folder.join("Edge").join(name);
        std::fs::write(path, tzif(edge_s, [first, second])).unwrap();
    }
}

/// The offset nearest to 0 at which the wall shows `wall_s`.
fn offset_of(edge_s: i64, wall_s: i64) -> i32 {
    let offset = (wall_s - edge_s).rem_euclid(DAY_S);
    let offset = if offset > DAY_S / 2 {
        offset - DAY_S
    } else {
        offset
    };
    i32::try_from(offset).unwrap()
}

/// Days of the month on the wall a second before the edge, and a day later.
fn days(edge_s: i64, zone: &str) -> (i8, i8) {
    let (_, before, _) = ZONES.iter().find(|(name, _, _)| *name == zone).unwrap();
    let wall_s = edge_s + i64::from(offset_of(edge_s, *before));
    let day = |second: i64| {
        let time = jiff::Timestamp::from_second(second).unwrap();
        time.to_zoned(jiff::tz::TimeZone::UTC).day()
    };
    (day(wall_s - 1), day(wall_s - 1 + DAY_S))
}

fn config(webhook: &str, edge_s: i64) -> String {
    let (mut routes, mut intervals, mut receivers) = (String::new(), String::new(), String::new());
    for (name, zone, kind, interval, _) in SCENARIOS {
        let (eve, tomorrow) = days(edge_s, zone);
        let interval = interval
            .replace("EVE", &eve.to_string())
            .replace("TOMORROW", &tomorrow.to_string());
        routes.push_str(&format!(
            "  - {{receiver: {name}, matchers: ['s=\"{name}\"'], {kind}_time_intervals: [{name}]}}\n"
        ));
        intervals.push_str(&format!(
            "- {{name: {name}, time_intervals: [{{{interval}, location: Edge/{zone}}}]}}\n"
        ));
        receivers.push_str(&format!(
            "- {{name: {name}, webhook_configs: [{{url: 'http://{webhook}/{name}'}}]}}\n"
        ));
    }
    format!(
        "route:\n  receiver: s1\n  group_by: [s, n]\n  group_wait: 0s\n  group_interval: 1s\n  repeat_interval: 1h\n  routes:\n{routes}\
         time_intervals:\n{intervals}receivers:\n{receivers}"
    )
}

/// Whether the alert `n` of a scenario was sent.
fn is_told(side: &Side, scenario: &str, n: &str) -> bool {
    let path = format!("/{scenario}");
    taken(side, &path)
        .iter()
        .any(|line| line.contains(&format!("\\\"{n}\\\"")))
}

/// One try; `None`: the edge came before everything was ready for it.
fn cross(program: &Path, lead_s: i64) -> Option<[Side; 2]> {
    let zones = tempfile::tempdir().unwrap();
    let edge_s = now_ms() / 1000 + lead_s;
    write_zones(zones.path(), edge_s);
    let config = |webhook: &str| config(webhook, edge_s);
    let env = [("TZDIR", zones.path()), ("ZONEINFO", zones.path())];
    let sides = [
        ours_with_env(&config, &env),
        theirs_with_env(program, &config, &env),
    ];
    let start_ms = now_ms();
    // Two seconds are left for wrong notifications to arrive.
    let is_late = || now_ms() > (edge_s - 2) * 1000;
    for (name, ..) in SCENARIOS {
        for side in &sides {
            act(side, name, "a+", start_ms);
        }
    }
    for (name, _, _, _, told) in SCENARIOS.iter().filter(|(.., told)| told[0]) {
        for side in &sides {
            eventually(&format!("{name} before the edge {told:?}"), || {
                (is_told(side, name, "a") || is_late()).then_some(())
            });
        }
    }
    if is_late() {
        return None;
    }
    let left_ms = (edge_s - 1) * 1000 - now_ms();
    std::thread::sleep(Duration::from_millis(left_ms.try_into().unwrap_or(0)));
    let before = SCENARIOS.iter().flat_map(|(name, _, _, _, told)| {
        let wrong = |side: &&Side| is_told(side, name, "a") != told[0];
        sides.iter().filter(wrong).map(move |_| *name)
    });
    let wrong: Vec<&str> = before.collect();
    // The clock may have gone on while that was looked at.
    if now_ms() >= edge_s * 1000 {
        return None;
    }
    assert!(wrong.is_empty(), "before the edge: {wrong:?}");
    let left_ms = edge_s * 1000 + 100 - now_ms();
    std::thread::sleep(Duration::from_millis(left_ms.try_into().unwrap_or(0)));
    for (name, ..) in SCENARIOS {
        for side in &sides {
            act(side, name, "b+", now_ms());
        }
    }
    Some(sides)
}

#[test]
fn intervals_cross_the_edges_of_daylight_saving_as_alertmanagers_do() {
    let Some(program) = peer("ALERTMANAGER") else {
        return;
    };
    let sides = [8, 20, 60]
        .into_iter()
        .find_map(|lead_s| cross(program, lead_s));
    let sides = sides.expect("both start within a minute");
    for (name, ..) in SCENARIOS.iter().filter(|(.., told)| told[1]) {
        for side in &sides {
            eventually(&format!("{name} after the edge"), || {
                (is_told(side, name, "a") && is_told(side, name, "b")).then_some(())
            });
        }
    }
    // Wrong notifications would arrive with the next flushes.
    std::thread::sleep(Duration::from_secs(3));
    for (name, _, _, _, told) in SCENARIOS {
        let path = format!("/{name}");
        let (got, want) = (taken(&sides[0], &path), taken(&sides[1], &path));
        assert_eq!(got, want, "{name}");
        assert_eq!(is_told(&sides[0], name, "b"), told[1], "{name}");
    }
}
