//! The same rules over the same samples at the same time, in the real Prometheus and in us: states and what is sent to
//! Alertmanagers must be the same. The virtual-clock form is `src/alerting/compliance.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::process::{Command, Stdio};
use std::time::Duration;

use super::peer;
use crate::alerting::Webhook;
use crate::harness::{Aggregator, eventually, now_ms};
use crate::http::{self, encode};
use crate::process::{Process, free_port};
use crate::remote::{series, write_to};

const RULES: &str = "
groups:
- name: g
  interval: 1s
  rules:
  - {alert: Long, expr: load > 10, for: 4s, labels: {foo: bar}, annotations: {s: 'is {{ $value }}'}}
  - {alert: Short, expr: load == 12, for: 20s}
  - {alert: Zero, expr: load > 10, labels: {i: 'was {{ $labels.i }}', alertname: Other}}
  - {alert: Small, expr: load > 10, for: 300ms}
  - {alert: Keeps, expr: load > 10, keep_firing_for: 3s}
  - {alert: After, expr: 'ALERTS{alertname=\"Zero\", alertstate=\"firing\"}', labels: {from: zero}}
  - {alert: Same, expr: load > 10, labels: {i: x, alertname: y}}
  - {record: 'firing:count', expr: 'count by (alertname) (ALERTS{alertstate=\"firing\"})', labels: {r: s}}
";

/// Value of the first and the second series at each half second.
fn pattern(tick: i64) -> [f64; 2] {
    match tick {
        0..8 => [5.0, 5.0],
        8..14 => [12.0, 5.0],
        14..26 => [15.0, 5.0],
        26..44 => [5.0, 5.0],
        44..50 => [15.0, 15.0],
        _ => [5.0, 5.0],
    }
}

const TICKS: i64 = 70;

/// A Prometheus that pushes to `alertmanager`.
fn prometheus(program: &std::path::Path, dir: &std::path::Path, address: &str) -> Process {
    let process = Process::start(
        Command::new(program)
            .arg(format!("--config.file={}", dir.join("c.yml").display()))
            .arg(format!(
                "--storage.tsdb.path={}",
                dir.join("theirs").display()
            ))
            .arg(format!("--web.listen-address={address}"))
            .args([
                "--web.enable-remote-write-receiver",
                "--rules.alert.resend-delay=2s",
            ])
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(dir.join("theirs.log")).unwrap()),
    );
    eventually("ready Prometheus", || {
        std::net::TcpStream::connect(address).ok()?;
        let ready = http::request(address, "GET", "/-/ready", &[], b"");
        (ready.status == 200).then_some(())
    });
    process
}

/// The series of `ALERTS` and of the recording rule, each with how many runs of samples it has and about how many samples.
fn history(address: &str) -> BTreeMap<String, (usize, usize)> {
    let query = encode("{__name__=~\"ALERTS|firing:count\"}[60s]");
    let path = format!("/api/v1/query?query={query}");
    let data = http::request(address, "GET", &path, &[], b"").data();
    let mut all = BTreeMap::new();
    for one in data["result"].as_array().unwrap() {
        let times: Vec<f64> = one["values"]
            .as_array()
            .unwrap()
            .iter()
            .map(|v| v[0].as_f64().unwrap())
            .collect();
        let gaps = times
            .windows(2)
            .filter(|pair| pair[1] - pair[0] > 1.5)
            .count();
        all.insert(one["metric"].to_string(), (gaps + 1, times.len()));
    }
    all
}

/// What was pushed of each alert: annotations, and whether it had ended, in order, without repetitions.
fn pushed(webhook: &Webhook, path: &str) -> BTreeMap<String, Vec<(String, bool)>> {
    let mut all: BTreeMap<String, Vec<(String, bool)>> = BTreeMap::new();
    let mut latest_ends: BTreeMap<(String, i64), i64> = BTreeMap::new();
    for body in webhook.at(&format!("/{path}/api/v2/alerts")) {
        for alert in body.as_array().unwrap() {
            let time = |name: &str| {
                let text = alert[name].as_str().unwrap();
                text.parse::<jiff::Timestamp>().unwrap().as_millisecond()
            };
            let labels = alert["labels"].to_string();
            // While an alert fires its end moves on before it; one that ended did so before that.
            let latest = latest_ends.entry((labels.clone(), time("startsAt")));
            let latest = latest.or_insert(i64::MIN);
            let is_over = time("endsAt") < *latest;
            *latest = (*latest).max(time("endsAt"));
            // No annotations are null there, and an empty object here.
            let annotations = alert["annotations"]
                .as_object()
                .cloned()
                .unwrap_or_default();
            let told = (serde_json::Value::from(annotations).to_string(), is_over);
            let list = all.entry(labels).or_default();
            if list.last() != Some(&told) {
                list.push(told);
            }
        }
    }
    all
}

/// The most by which samples may come late: less than a change lies before the evaluation that has to see it.
const LATE_MS_MAX: i64 = 250;

/// What came of it at one side: its series, and what it pushed.
type Outcome = (
    BTreeMap<String, (usize, usize)>,
    BTreeMap<String, Vec<(String, bool)>>,
);

/// Plays the pattern to both. Returns what came of it here and there; `None`: the machine was too busy to keep the
/// timetable.
fn play(program: &std::path::Path) -> Option<[Outcome; 2]> {
    let webhook = Webhook::start();
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().to_owned();
    std::fs::write(at.join("rules.yml"), RULES).unwrap();
    let config = |prefix: &str| {
        format!(
            "rule_files: [{}/rules.yml]\nalerting: {{alertmanagers: [{{path_prefix: {prefix}, static_configs: [{{targets: ['{}']}}]}}]}}\n",
            at.display(),
            webhook.address
        )
    };
    std::fs::write(at.join("c.yml"), config("theirs")).unwrap();
    let address = format!("127.0.0.1:{}", free_port());
    let _prometheus = prometheus(program, &at, &address);
    let ours = tempfile::tempdir().unwrap();
    std::fs::write(ours.path().join("c.yml"), config("ours")).unwrap();
    let file = format!("--config.file={}", ours.path().join("c.yml").display());
    let aggregator = Aggregator::start_in(ours, &[&file, "--rules.alert.resend-delay=2s"]);
    let start_ms = now_ms();
    for tick in 0..TICKS {
        let due_ms = start_ms + tick * 500;
        std::thread::sleep(Duration::from_millis(
            u64::try_from(due_ms - now_ms()).unwrap_or(0),
        ));
        let values = pattern(tick);
        let sent = ["a", "b"].into_iter().zip(values);
        let sent: Vec<_> = sent
            .map(|(i, value)| series(&[("__name__", "load"), ("i", i)], &[(due_ms, value)]))
            .collect();
        for to in [&address, &aggregator.address] {
            assert!(write_to(to, sent.clone()).status < 300);
        }
        if now_ms() > due_ms + LATE_MS_MAX {
            eprintln!("tick {tick} came too late: once more");
            return None;
        }
    }
    let ours = (history(&aggregator.address), pushed(&webhook, "ours"));
    Some([ours, (history(&address), pushed(&webhook, "theirs"))])
}

#[test]
fn alerts_are_generated_as_prometheus_does() {
    let Some(program) = peer("PROMETHEUS") else {
        return;
    };
    // A busy machine may delay or skip evaluations, which is invisible here. A real difference shows each time.
    let mut difference = String::from("the timetable was never kept");
    for _ in 0..6 {
        let Some(outcomes) = play(program) else {
            continue;
        };
        match differing(&outcomes) {
            None => return,
            Some(found) => difference = found,
        }
        eprintln!("once more: {difference}");
    }
    panic!("{difference}");
}

fn differing([(got, got_pushed), (want, want_pushed)]: &[Outcome; 2]) -> Option<String> {
    let keys =
        |map: &BTreeMap<String, (usize, usize)>| map.keys().cloned().collect::<BTreeSet<_>>();
    if keys(got) != keys(want) {
        return Some(format!("ours: {got:#?}\ntheirs: {want:#?}"));
    }
    for (series, (runs, samples)) in want {
        let (our_runs, our_samples) = got[series];
        // Both evaluate once a second, but not at the same moment of it.
        if our_runs != *runs || our_samples.abs_diff(*samples) > 2 * runs {
            return Some(format!(
                "{series}: {our_samples} in {our_runs} runs, theirs {samples} in {runs}"
            ));
        }
    }
    let is_same = got_pushed == want_pushed && !want_pushed.is_empty();
    (!is_same).then(|| format!("pushed by us: {got_pushed:#?}\nby theirs: {want_pushed:#?}"))
}
