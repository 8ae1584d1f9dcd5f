//! amtool and Alertmanager: as judge of routes, as client of our API, and side by side with us.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use common::model::Labels;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use serde_json::Value;
use tidemark_alerting::notify::config::Config;

use super::peer;
use crate::alerting::Webhook;
use crate::harness::{Aggregator, eventually, now_ms};
use crate::http;
use crate::process::{Process, free_port};

/// Pairs that are tried; `TIDEMARK_ROUTE_CASES` sets another number.
const CASES: usize = 1000;

fn random_route(random: &mut StdRng, depth: u32, count: &mut u32) -> String {
    *count += 1;
    let mut text = format!("receiver: r{count}");
    if depth > 0 {
        let matchers: Vec<String> = (0..random.random_range(1..3))
            .map(|_| random_matcher(random))
            .collect();
        text.push_str(&format!(", matchers: [{}]", matchers.join(", ")));
        if random.random_bool(0.4) {
            text.push_str(", continue: true");
        }
    }
    if depth < 3 {
        let children: Vec<String> = (0..random.random_range(1..4))
            .map(|_| random_route(random, depth + 1, count))
            .collect();
        text.push_str(&format!(", routes: [{}]", children.join(", ")));
    }
    format!("{{{text}}}")
}

fn random_matcher(random: &mut StdRng) -> String {
    let name = ["a", "b", "c"][random.random_range(0..3)];
    let op = ["=", "!=", "=~", "!~"][random.random_range(0..4)];
    let value = if op.contains('~') {
        ["x|y", "x.*", "", ".+", "z?"][random.random_range(0..5)]
    } else {
        ["x", "y", "", "xz"][random.random_range(0..4)]
    };
    format!("'{name}{op}\"{value}\"'")
}

#[test]
fn routes_are_amtools() {
    let Some(amtool) = peer("AMTOOL") else {
        return;
    };
    let seed = std::env::var("TIDEMARK_SEED")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(20_261_123);
    let cases = std::env::var("TIDEMARK_ROUTE_CASES")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(CASES);
    let mut random = StdRng::seed_from_u64(seed);
    let dir = tempfile::tempdir().unwrap();
    let mut jobs = Vec::new();
    for index in 0..cases.div_ceil(25) {
        let mut count = 0;
        let route = random_route(&mut random, 0, &mut count);
        let receivers: Vec<String> = (1..=count).map(|n| format!("{{name: r{n}}}")).collect();
        let text = format!("route: {route}\nreceivers: [{}]\n", receivers.join(", "));
        let path = dir.path().join(format!("{index}.yml"));
        std::fs::write(&path, &text).unwrap();
        for _ in 0..25 {
            let mut labels = BTreeMap::new();
            for name in ["a", "b", "c"] {
                if random.random_bool(0.7) {
                    labels.insert(name, ["x", "y", "xz", "z"][random.random_range(0..4)]);
                }
            }
            jobs.push((path.clone(), text.clone(), labels));
        }
    }
    jobs.truncate(cases);
    // A process takes long to start; a few at a time keep both processors busy.
    std::thread::scope(|scope| {
        for part in jobs.chunks(jobs.len().div_ceil(4)) {
            scope.spawn(|| {
                part.iter()
                    .for_each(|(path, text, labels)| check_route(amtool, path, text, labels));
            });
        }
    });
}

fn check_route(amtool: &Path, path: &Path, text: &str, labels: &BTreeMap<&str, &str>) {
    let args = labels.iter().map(|(name, value)| format!("{name}={value}"));
    let output = Command::new(amtool)
        .args(["config", "routes", "test", "--config.file"])
        .arg(path)
        .args(args)
        .output()
        .unwrap();
    let want = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    let config = Config::parse(text, Path::new(".")).unwrap();
    let set = Labels::from_pairs(labels.iter().map(|(name, value)| (*name, *value))).unwrap();
    let routes = config.routes.matching(&set).into_iter();
    let got: Vec<&str> = routes
        .map(|index| config.routes.get(index).unwrap().receiver.as_str())
        .collect();
    assert_eq!(
        got.join(","),
        want,
        "{labels:?} in {text}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// The verdicts that the unit tests of the alerting crate expect are those of the real amtool.
#[test]
fn verdicts_are_amtools() {
    let Some(amtool) = peer("AMTOOL") else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("alertmanager.yml");
    let verdicts = include_str!("../../../alerting/src/notify/config/verdicts.txt");
    let mut wrong = Vec::new();
    for line in verdicts.lines() {
        let (verdict, text) = line.split_once('\t').unwrap();
        std::fs::write(&path, text.replace("\\n", "\n")).unwrap();
        let output = Command::new(amtool)
            .arg("check-config")
            .arg(&path)
            .output()
            .unwrap();
        // Alertmanager accepts what is listed as unsupported.
        if output.status.success() != (verdict != "bad") {
            wrong.push(line);
        }
    }
    assert_eq!(wrong, Vec::<&str>::new());
}

/// A server with Alertmanager's API and the configuration `text`.
pub(super) struct Side {
    pub(super) address: String,
    pub(super) webhook: Webhook,
    _keep: Box<dyn std::any::Any>,
}

pub(super) fn ours(config: &dyn Fn(&str) -> String) -> Side {
    ours_with_env(config, &[])
}

pub(super) fn ours_with_env(config: &dyn Fn(&str) -> String, env: &[(&str, &Path)]) -> Side {
    let webhook = Webhook::start();
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("am.yml"), config(&webhook.address)).unwrap();
    std::fs::write(dir.path().join("c.yml"), "alertmanager: am.yml\n").unwrap();
    let flag = format!("--config.file={}", dir.path().join("c.yml").display());
    let aggregator = Aggregator::start_in_with_env(dir, &[&flag], env);
    Side {
        address: aggregator.address.clone(),
        webhook,
        _keep: Box::new(aggregator),
    }
}

pub(super) fn theirs(program: &Path, config: &dyn Fn(&str) -> String) -> Side {
    theirs_with_env(program, config, &[])
}

pub(super) fn theirs_with_env(
    program: &Path,
    config: &dyn Fn(&str) -> String,
    env: &[(&str, &Path)],
) -> Side {
    let webhook = Webhook::start();
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("am.yml"), config(&webhook.address)).unwrap();
    let address = format!("127.0.0.1:{}", free_port());
    let process = Process::start(
        Command::new(program)
            .arg(format!(
                "--config.file={}",
                dir.path().join("am.yml").display()
            ))
            .arg(format!(
                "--storage.path={}",
                dir.path().join("data").display()
            ))
            .arg(format!("--web.listen-address={address}"))
            .arg("--cluster.listen-address=")
            .envs(env.iter().copied())
            .stdout(Stdio::null())
            .stderr(Stdio::null()),
    );
    eventually("ready Alertmanager", || {
        std::net::TcpStream::connect(&address).ok()?;
        (http::request(&address, "GET", "/-/ready", &[], b"").status == 200).then_some(())
    });
    Side {
        address,
        webhook,
        _keep: Box::new((process, dir)),
    }
}

#[test]
fn amtool_works_against_us() {
    let Some(amtool) = peer("AMTOOL") else {
        return;
    };
    let side = ours(&|webhook| {
        format!(
            "route: {{receiver: r}}\nreceivers: [{{name: r, webhook_configs: [{{url: 'http://{webhook}/r'}}]}}]\n"
        )
    });
    let run = |args: &[&str]| {
        let output = Command::new(amtool)
            .arg(format!("--alertmanager.url=http://{}", side.address))
            .args(args)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        assert!(
            output.status.success(),
            "{args:?}: {text}{}",
            String::from_utf8_lossy(&output.stderr)
        );
        text
    };
    run(&["alert", "add", "alertname=A", "x=1", "--annotation=s=t"]);
    assert!(run(&["alert", "query"]).contains('A'));
    let id = run(&[
        "silence",
        "add",
        "--comment=c",
        "--author=me",
        "alertname=A",
    ]);
    assert!(run(&["silence", "query"]).contains(&id));
    assert!(!run(&["alert", "query"]).contains(" s "));
    run(&["silence", "expire", &id]);
    assert!(!run(&["silence", "query"]).contains(&id));
    assert!(run(&["silence", "query", "--expired"]).contains(&id));
    assert!(run(&["config", "show"]).contains("receiver"));
    assert_eq!(run(&["config", "routes", "test", "a=b"]), "r");
}

/// Name, extra fields of the route, extra fields of the webhook, events.
type Scenario = (
    &'static str,
    &'static str,
    &'static str,
    &'static [(u64, &'static str)],
);

/// Scenarios that run at the same time, each with a route and a path of its own: name, extra fields of the route,
/// extra fields of the webhook, and what happens when (tenths of a second).
const SCENARIOS: &[Scenario] = &[
    ("one", "", "", &[(0, "a+")]),
    ("two_in_wait", "", "", &[(0, "a+"), (5, "b+")]),
    ("late_second", "", "", &[(0, "a+"), (20, "b+")]),
    ("resolved", "", "", &[(0, "a+"), (20, "a-")]),
    ("resolved_in_wait", "", "", &[(0, "a+"), (4, "a-")]),
    ("refired", "", "", &[(0, "a+"), (20, "a-"), (55, "a+")]),
    (
        "partly_resolved",
        "",
        "",
        &[(0, "a+"), (1, "b+"), (25, "a-")],
    ),
    (
        "no_resolved",
        "",
        ", send_resolved: false",
        &[(0, "a+"), (20, "a-")],
    ),
    (
        "no_resolved_refired",
        "",
        ", send_resolved: false",
        &[(0, "a+"), (20, "a-"), (60, "a+")],
    ),
    (
        "no_resolved_partly",
        "",
        ", send_resolved: false",
        &[(0, "a+"), (1, "b+"), (25, "a-")],
    ),
    ("group_by_n", ", group_by: [n]", "", &[(0, "a+"), (0, "b+")]),
    (
        "group_by_all",
        ", group_by: ['...']",
        "",
        &[(0, "a+"), (0, "b+")],
    ),
    (
        "group_by_nothing_there",
        ", group_by: [zzz]",
        "",
        &[(0, "a+"), (0, "b+")],
    ),
    ("no_wait", ", group_wait: 0s", "", &[(0, "a+"), (15, "b+")]),
    (
        "repeats",
        ", group_interval: 1s, repeat_interval: 3s",
        "",
        &[(0, "a+")],
    ),
    (
        "max_alerts",
        "",
        ", max_alerts: 1",
        &[(0, "a+"), (0, "b+"), (0, "c+")],
    ),
    ("client_error_is_final", "", "/bad", &[(0, "a+")]),
    ("inhibited", "", "", &[(0, "src+"), (1, "tgt+")]),
    (
        "uninhibited",
        "",
        "",
        &[(0, "src+"), (1, "tgt+"), (35, "src-")],
    ),
    ("only_target", "", "", &[(0, "tgt+")]),
    ("silenced", "", "", &[(0, "quiet+"), (1, "b+")]),
    ("all_silenced", "", "", &[(0, "quiet+")]),
    ("old_start", ", group_wait: 5s", "", &[(0, "old+")]),
    ("muted", ", mute_time_intervals: [always]", "", &[(0, "a+")]),
    (
        "active",
        ", active_time_intervals: [always]",
        "",
        &[(0, "a+")],
    ),
    (
        "not_active",
        ", active_time_intervals: [never]",
        "",
        &[(0, "a+")],
    ),
    ("continues", ", continue: true", "", &[(0, "a+")]),
];

fn scenario_config(webhook: &str) -> String {
    let mut routes = String::new();
    let mut receivers = String::from("- name: root\n");
    for (name, route, extra, _) in SCENARIOS {
        let (path, extra) = if *extra == "/bad" {
            (format!("{name}/bad"), "")
        } else {
            ((*name).to_owned(), *extra)
        };
        routes.push_str(&format!(
            "  - {{receiver: {name}, matchers: ['s=\"{name}\"']{route}}}\n"
        ));
        receivers.push_str(&format!(
            "- name: {name}\n  webhook_configs: [{{url: 'http://{webhook}/{path}'{extra}}}]\n"
        ));
    }
    // What continues ends here.
    routes.push_str("  - {receiver: continues, matchers: ['s=continues'], group_by: [s]}\n");
    format!(
        "route:\n  receiver: root\n  group_by: [alertname]\n  group_wait: 1s\n  group_interval: 2s\n  repeat_interval: 1h\n  routes:\n{routes}\
         inhibit_rules: [{{source_matchers: ['n=src'], target_matchers: ['n=tgt'], equal: [s]}}]\n\
         time_intervals:\n- {{name: always, time_intervals: [{{years: ['2000:2100']}}]}}\n- {{name: never, time_intervals: [{{years: ['2000:2001']}}]}}\n\
         receivers:\n{receivers}"
    )
}

pub(super) fn act(side: &Side, scenario: &str, action: &str, start_ms: i64) {
    let time = |ms: i64| tidemark_alerting::notify::message::format_time(ms);
    let (name, is_firing) = (action.trim_end_matches(['+', '-']), action.ends_with('+'));
    let starts = if name == "old" {
        start_ms - 60_000
    } else {
        start_ms
    };
    let mut alert = serde_json::json!({
        "labels": {"alertname": "A", "s": scenario, "n": name},
        "annotations": {"note": "x"},
        "startsAt": time(starts),
    });
    if !is_firing {
        alert["endsAt"] = Value::from(time(now_ms()));
    }
    let body = serde_json::json!([alert]).to_string();
    let headers = [("content-type", "application/json")];
    let answer = http::request(
        &side.address,
        "POST",
        "/api/v2/alerts",
        &headers,
        body.as_bytes(),
    );
    assert_eq!(answer.status, 200, "{scenario} {action}: {}", answer.text());
}

/// The notifications of a scenario, without fields that differ between runs.
fn told(side: &Side, name: &str, extra: &str) -> Vec<String> {
    let path = if extra == "/bad" {
        format!("/{name}/bad")
    } else {
        format!("/{name}")
    };
    let line = |body: &Value| {
        let mut body = body.clone();
        // The addresses differ, and so do the moments of start and end; whether there is an end does not.
        body["externalURL"] = Value::Null;
        for alert in body["alerts"].as_array_mut().unwrap() {
            alert["startsAt"] = Value::Null;
            alert["endsAt"] = Value::from(alert["endsAt"] != "0001-01-01T00:00:00Z");
        }
        body.to_string()
    };
    side.webhook.at(&path).iter().map(line).collect()
}

/// The most by which both may hear of something late: less than lies between two things that must not change places.
const LATE_MS_MAX: i64 = 250;

/// Plays all scenarios to both; `None`: the machine was too busy to keep the timetable.
fn play(program: &Path) -> Option<[Side; 2]> {
    let sides = [ours(&scenario_config), theirs(program, &scenario_config)];
    let silence = {
        let time = |ms: i64| tidemark_alerting::notify::message::format_time(ms);
        serde_json::json!({
            "matchers": [{"name": "n", "value": "qui.*", "isRegex": true, "isEqual": true}],
            "startsAt": time(now_ms()), "endsAt": time(now_ms() + 3_600_000), "createdBy": "t", "comment": "c",
        })
    };
    for side in &sides {
        let headers = [("content-type", "application/json")];
        let answer = http::request(
            &side.address,
            "POST",
            "/api/v2/silences",
            &headers,
            silence.to_string().as_bytes(),
        );
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    let start_ms = now_ms();
    let mut actions: Vec<(u64, &str, &str)> = SCENARIOS
        .iter()
        .flat_map(|(name, _, _, actions)| {
            actions
                .iter()
                .map(move |(at, action)| (*at, *name, *action))
        })
        .collect();
    actions.sort_by_key(|(at, _, _)| *at);
    for (at, scenario, action) in actions {
        let due_ms = start_ms + (at * 100) as i64;
        std::thread::sleep(Duration::from_millis(
            u64::try_from(due_ms - now_ms()).unwrap_or(0),
        ));
        for side in &sides {
            act(side, scenario, action, start_ms);
        }
        if now_ms() > due_ms + LATE_MS_MAX {
            eprintln!("{scenario} {action} came too late: once more");
            return None;
        }
    }
    // The last thing that can happen is a flush after the last action.
    std::thread::sleep(Duration::from_secs(6));
    Some(sides)
}

#[test]
fn scenarios_end_as_with_the_real_alertmanager() {
    let Some(program) = peer("ALERTMANAGER") else {
        return;
    };
    assert!(SCENARIOS.len() >= 25);
    // A flush that a busy machine delays is not seen from here; a difference of ours comes each time.
    let mut wrong = vec!["the timetable was never kept".to_owned()];
    for _ in 0..6 {
        let Some(sides) = play(program) else {
            continue;
        };
        wrong = differing(&sides);
        if wrong.is_empty() {
            return;
        }
        eprintln!("once more: {}", wrong.join("\n"));
    }
    panic!("{}", wrong.join("\n"));
}

/// The scenarios with different notifications from the two servers.
fn differing(sides: &[Side; 2]) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut count = 0;
    for (name, _, extra, _) in SCENARIOS {
        let (mut got, mut want) = (told(&sides[0], name, extra), told(&sides[1], name, extra));
        count += want.len();
        if *name == "repeats" {
            // How often a repetition fits into the run depends on the machine.
            (got, want) = (
                got[..2.min(got.len())].to_vec(),
                want[..2.min(want.len())].to_vec(),
            );
        }
        if matches!(*name, "group_by_n" | "group_by_all" | "continues") {
            got.sort();
            want.sort();
        }
        if got != want {
            wrong.push(format!(
                "{name}:\n  ours:         {got:#?}\n  Alertmanager: {want:#?}"
            ));
        }
    }
    if count < 25 {
        wrong.push(format!("only {count} notifications in all"));
    }
    wrong
}

/// A receiver that is down at first; its neighbour in the same receiver, and one that stays down longer than a flush
/// may take.
fn flaky_config(webhook: &str) -> String {
    format!(
        "route: {{receiver: r, group_by: [s], group_wait: 0s, group_interval: 1s, repeat_interval: 1h}}\n\
         receivers:\n- name: r\n  webhook_configs:\n  - {{url: 'http://{webhook}/flaky'}}\n  - {{url: 'http://{webhook}/up'}}\n"
    )
}

/// The notifications that a receiver accepted: the group, and fields of each alert.
pub(super) fn taken(side: &Side, path: &str) -> Vec<String> {
    let line = |body: &Value| {
        let alerts = body["alerts"].as_array().unwrap().iter();
        let alerts: Vec<String> = alerts
            .map(|alert| format!("{}:{}", alert["labels"]["n"], alert["status"]))
            .collect();
        format!("{} {} {alerts:?}", body["groupKey"], body["status"])
    };
    let mut lines: Vec<String> = side.webhook.taken_at(path).iter().map(line).collect();
    lines.sort();
    lines
}

fn has_failed(side: &Side, names: &[&str]) -> bool {
    let metrics = http::request(&side.address, "GET", "/metrics", &[], b"").text();
    metrics.lines().any(|line| {
        names.iter().any(|name| line.starts_with(name))
            && line.contains("webhook")
            && !line.ends_with(" 0")
    })
}

/// A receiver that is down for a while gets exactly the notifications that Alertmanager sends, whether the flush that
/// failed still runs when the receiver returns, or has given up. Each step waits for an event of both servers, not for
/// a time.
#[test]
fn receiver_that_was_down_is_told_the_same() {
    let Some(program) = peer("ALERTMANAGER") else {
        return;
    };
    for outlasts_flush in [false, true] {
        let sides = [ours(&flaky_config), theirs(program, &flaky_config)];
        let start_ms = now_ms();
        let refused = |count: usize| {
            for side in &sides {
                eventually("attempts", || {
                    (side.webhook.requests("/flaky").len() >= count).then_some(())
                });
            }
        };
        for side in &sides {
            side.webhook.set_down(true);
            act(side, "x", "a+", start_ms);
        }
        refused(1);
        for side in &sides {
            act(side, "x", "b+", start_ms);
        }
        refused(3);
        if outlasts_flush {
            let failures = [
                "aggregator_notifications_failed_total",
                "alertmanager_notifications_failed_total",
            ];
            for side in &sides {
                eventually("failure", || has_failed(side, &failures).then_some(()));
            }
        }
        for side in &sides {
            side.webhook.set_down(false);
        }
        let both = |side: &Side, path: &str| {
            let lines = taken(side, path);
            lines
                .iter()
                .any(|line| line.contains("\\\"b"))
                .then_some(lines)
        };
        for side in &sides {
            eventually("both alerts", || both(side, "/flaky"));
            eventually("both alerts at the neighbour", || both(side, "/up"));
        }
        // The end of one, the other goes on.
        for side in &sides {
            act(side, "x", "a-", start_ms);
        }
        for side in &sides {
            for path in ["/flaky", "/up"] {
                eventually("end", || {
                    let lines = taken(side, path);
                    lines
                        .iter()
                        .any(|line| line.contains("resolved"))
                        .then_some(())
                });
            }
        }
        // Whatever else a flush would tell comes within the next ones.
        std::thread::sleep(Duration::from_secs(3));
        for path in ["/flaky", "/up"] {
            let (got, want) = (taken(&sides[0], path), taken(&sides[1], path));
            assert_eq!(got, want, "{path}, longer than a flush: {outlasts_flush}");
        }
        let count = taken(&sides[0], "/flaky").len();
        assert_eq!(count, if outlasts_flush { 2 } else { 3 });
    }
}
