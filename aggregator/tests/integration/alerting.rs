//! Tests of rules and notifications with the real binary: from an expression to a webhook, and through kill -9.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::harness::{Aggregator, PATIENCE, eventually, now_ms, workspace};
use crate::http;

/// A receiver that records requests by path.
pub(crate) struct Webhook {
    pub(crate) address: String,
    received: Arc<Mutex<Vec<Received>>>,
    is_down: Arc<AtomicBool>,
}

/// A request and its answer.
#[derive(Clone)]
pub(crate) struct Received {
    pub(crate) method: String,
    pub(crate) path: String,
    /// Headers by lower-case name.
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Value,
    status: u16,
}

impl Webhook {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let webhook = Self {
            address: listener.local_addr().unwrap().to_string(),
            received: Arc::default(),
            is_down: Arc::default(),
        };
        let (received, is_down) = (Arc::clone(&webhook.received), Arc::clone(&webhook.is_down));
        // Ends with the process.
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (received, is_down) = (Arc::clone(&received), Arc::clone(&is_down));
                std::thread::spawn(move || serve(stream.unwrap(), &received, &is_down));
            }
        });
        webhook
    }

    /// Whether paths with `/flaky` are answered 503.
    pub(crate) fn set_down(&self, is_down: bool) {
        self.is_down.store(is_down, Ordering::SeqCst);
    }

    /// Returns the requests to `path`, whatever their answer.
    pub(crate) fn requests(&self, path: &str) -> Vec<Received> {
        let received = self.received.lock().unwrap();
        received
            .iter()
            .filter(|request| request.path == path)
            .cloned()
            .collect()
    }

    /// Returns the first request whose path begins with `prefix`.
    pub(crate) fn find(&self, prefix: &str) -> Option<Received> {
        let received = self.received.lock().unwrap();
        received
            .iter()
            .find(|request| request.path.starts_with(prefix))
            .cloned()
    }

    /// Returns the bodies sent to `path`.
    pub(crate) fn at(&self, path: &str) -> Vec<Value> {
        let requests = self.requests(path).into_iter();
        requests.map(|request| request.body).collect()
    }

    /// Returns the bodies sent to `path` and accepted.
    pub(crate) fn taken_at(&self, path: &str) -> Vec<Value> {
        let requests = self.requests(path).into_iter();
        let taken = requests.filter(|request| request.status < 300);
        taken.map(|request| request.body).collect()
    }

    /// Returns the authorization of the requests to `path`.
    pub(crate) fn authorizations(&self, path: &str) -> Vec<String> {
        let requests = self.requests(path).into_iter();
        let authorization = |request: Received| request.headers.get("authorization").cloned();
        requests
            .map(|request| authorization(request).unwrap_or_default())
            .collect()
    }
}

/// Answers the requests of one connection.
fn serve(stream: TcpStream, received: &Mutex<Vec<Received>>, is_down: &AtomicBool) {
    let mut writer = stream.try_clone().unwrap();
    let mut reader = BufReader::new(stream);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) == 0 {
            return;
        }
        let mut words = line.split(' ').map(str::to_owned);
        let (method, path) = (words.next().unwrap(), words.next().unwrap_or_default());
        let mut headers = BTreeMap::new();
        loop {
            let mut header = String::new();
            reader.read_line(&mut header).unwrap();
            let Some((name, value)) = header.split_once(':') else {
                break;
            };
            headers.insert(name.to_lowercase(), value.trim().to_owned());
        }
        let length = headers.get("content-length");
        let mut body = vec![0; length.map_or(0, |text| text.parse().unwrap())];
        reader.read_exact(&mut body).unwrap();
        let (status, answer) = answer(&path, is_down.load(Ordering::SeqCst));
        received.lock().unwrap().push(Received {
            method,
            path,
            headers,
            body: serde_json::from_slice(&body).unwrap_or(Value::Null),
            status,
        });
        let length = answer.len();
        let head = format!("HTTP/1.1 {status} x\r\ncontent-length: {length}\r\n\r\n");
        if write!(writer, "{head}{answer}").is_err() {
            return;
        }
    }
}

/// Returns status and body of the answer to a request to `path`.
fn answer(path: &str, is_down: bool) -> (u16, &'static str) {
    match path {
        path if path.contains("/down") => (500, ""),
        path if path.contains("/flaky") && is_down => (503, ""),
        path if path.contains("/bad") => (400, ""),
        path if path.contains("/gettoken") => (200, r#"{"errcode":0,"access_token":"a-token"}"#),
        path if path.contains("/send") => (200, r#"{"errcode":0,"errmsg":"ok"}"#),
        path if path.contains("/enqueue") => (202, r#"{"status":"success"}"#),
        path if path.contains("/slack") => (200, "ok"),
        _ => (200, ""),
    }
}

/// Starts an aggregator with a section `alertmanager` and `rules`.
fn start(dir: tempfile::TempDir, alertmanager: &str, rules: &str) -> Aggregator {
    let config = "rule_files: [rules.yml]\nalertmanager: am.yml\n";
    std::fs::write(dir.path().join("c.yml"), config).unwrap();
    std::fs::write(dir.path().join("am.yml"), alertmanager).unwrap();
    std::fs::write(dir.path().join("rules.yml"), rules).unwrap();
    let file = format!("--config.file={}", dir.path().join("c.yml").display());
    Aggregator::start_in(dir, &[&file])
}

fn quick_config(webhook: &Webhook) -> String {
    format!(
        "route: {{receiver: r, group_by: [alertname], group_wait: 0s, group_interval: 1s, repeat_interval: 1h}}\n\
         receivers:\n- name: r\n  webhook_configs: [{{url: 'http://{}/r'}}]\n",
        webhook.address
    )
}

const RULES: &str = "
groups:
- name: g
  interval: 500ms
  rules:
  - {record: one, expr: vector(1), labels: {job: test}}
  - {alert: A, expr: 'one == 1', annotations: {s: 'value {{ $value }} of {{ $labels.job }}'}}
  - {alert: Waits, expr: 'one == 1', for: 1h}
";

fn silence(aggregator: &Aggregator, name: &str) -> String {
    let time = |ms: i64| tidemark_alerting::notify::message::format_time(ms);
    let body = json!({
        "matchers": [{"name": "alertname", "value": name, "isRegex": false, "isEqual": true}],
        "startsAt": time(now_ms()), "endsAt": time(now_ms() + 3_600_000), "createdBy": "t", "comment": "c",
    });
    let headers = [("content-type", "application/json")];
    let answer = http::request(
        &aggregator.address,
        "POST",
        "/api/v2/silences",
        &headers,
        body.to_string().as_bytes(),
    );
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["silenceID"].as_str().unwrap().to_owned()
}

fn states(aggregator: &Aggregator) -> Vec<(String, String, String)> {
    let data = aggregator.get("/api/v1/alerts").data();
    let text =
        |alert: &Value, path: &str| alert.pointer(path).unwrap().as_str().unwrap().to_owned();
    let alerts = data["alerts"].as_array().unwrap().iter();
    alerts
        .map(|a| {
            (
                text(a, "/labels/alertname"),
                text(a, "/state"),
                text(a, "/activeAt"),
            )
        })
        .collect()
}

/// How often a server is killed; `TIDEMARK_KILL_ROUNDS=100` is the full test.
fn rounds() -> usize {
    let rounds = std::env::var("TIDEMARK_KILL_ROUNDS").ok();
    rounds.map_or(5, |text| text.parse().unwrap())
}

#[test]
fn alert_reaches_the_webhook_and_survives_kill_nine() {
    let webhook = Webhook::start();
    let config = quick_config(&webhook);
    let aggregator = start(tempfile::tempdir().unwrap(), &config, RULES);
    let body = eventually("notification", || webhook.at("/r").first().cloned());
    assert_eq!(body["status"], "firing");
    assert_eq!(body["groupKey"], "{}:{alertname=\"A\"}");
    assert_eq!(body["alerts"][0]["annotations"]["s"], "value 1 of test");
    let before = eventually("both alerts", || {
        Some(states(&aggregator)).filter(|states| states.len() == 2)
    });
    // A kill between the receiver's answer and its record may repeat a notification.
    wait_until_noted(&aggregator, "A");
    let rules = aggregator.get("/api/v1/rules").data();
    assert_eq!(rules["groups"][0]["rules"][1]["state"], "firing");
    assert_eq!(rules["groups"][0]["rules"][2]["state"], "pending");
    // Rounds of kill -9 right after a silence was acknowledged.
    let mut aggregator = aggregator;
    let mut ids = Vec::new();
    for round in 0..rounds() {
        // At any point of an evaluation, directly after the silence.
        let pause = rand::random_range(0..1000);
        std::thread::sleep(std::time::Duration::from_millis(pause));
        ids.push(silence(&aggregator, &format!("S{round}")));
        aggregator.signal("KILL");
        aggregator.wait();
        let dir = std::mem::replace(&mut aggregator.dir, tempfile::tempdir().unwrap());
        drop(aggregator);
        aggregator = start(dir, &config, RULES);
        assert_eq!(states(&aggregator), before, "round {round}");
        for id in &ids {
            assert_eq!(
                aggregator.get(&format!("/api/v2/silence/{id}")).status,
                200,
                "round {round}"
            );
        }
    }
    // What was sent before the first kill is not sent again.
    let group = eventually("another evaluation", || {
        let data = aggregator.get("/api/v1/rules").data();
        (data["groups"][0]["lastEvaluation"] != "0001-01-01T00:00:00Z").then_some(data)
    });
    assert_eq!(group["groups"][0]["rules"][0]["health"], "ok");
    std::thread::sleep(std::time::Duration::from_secs(2));
    assert_eq!(webhook.at("/r").len(), 1);
}

fn contains(bytes: &[u8], wanted: &[u8]) -> bool {
    bytes.windows(wanted.len()).any(|window| window == wanted)
}

/// Waits until the receiver has the alert's notification, and its record is in the log.
#[track_caller]
fn wait_until_noted(aggregator: &Aggregator, name: &str) {
    let noted = format!("{{}}:{{alertname=\"{name}\"}}");
    let log = aggregator.dir.path().join("data/alerting/state.log");
    let deadline = std::time::Instant::now() + PATIENCE;
    while !contains(&std::fs::read(&log).unwrap_or_default(), noted.as_bytes()) {
        assert!(std::time::Instant::now() < deadline, "{name} is not noted");
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
}

/// Kill -9 during a notification or right after it: it is never lost, and hardly ever repeated.
#[test]
fn notifications_survive_kill_nine() {
    let webhook = Webhook::start();
    let config = quick_config(&webhook);
    let mut aggregator = start(tempfile::tempdir().unwrap(), &config, "groups: []\n");
    let told = |name: &str| {
        let bodies = webhook.at("/r").into_iter();
        bodies
            .filter(|body| body["groupLabels"]["alertname"] == name)
            .count()
    };
    let post = |aggregator: &Aggregator, name: &str, at_ms: i64| {
        let time = tidemark_alerting::notify::message::format_time(at_ms);
        let body = json!([{"labels": {"alertname": name}, "startsAt": time}]).to_string();
        let headers = [("content-type", "application/json")];
        let path = "/api/v2/alerts";
        let answer = http::request(&aggregator.address, "POST", path, &headers, body.as_bytes());
        assert_eq!(answer.status, 200, "{}", answer.text());
    };
    let (mut twice, rounds) = (0, rounds());
    for round in 0..rounds {
        let name = format!("N{round}");
        let at_ms = now_ms();
        post(&aggregator, &name, at_ms);
        if round % 2 == 0 {
            wait_until_noted(&aggregator, &name);
        } else {
            // Before, during or after the delivery.
            let pause = rand::random_range(0..100);
            std::thread::sleep(std::time::Duration::from_millis(pause));
        }
        let dir = aggregator.kill();
        let before = told(&name);
        aggregator = start(dir, &config, "groups: []\n");
        // The remote-write client is independent of the kills.
        post(&aggregator, &name, at_ms);
        eventually("notification", || (told(&name) > 0).then_some(()));
        if round % 2 == 0 {
            // A flush or two later.
            std::thread::sleep(std::time::Duration::from_millis(1500));
            twice += usize::from(told(&name) > before);
        }
    }
    // At most one in a hundred.
    assert!(twice <= rounds / 100, "{twice} of {rounds}");
    for round in 0..rounds {
        assert!(told(&format!("N{round}")) > 0, "round {round}");
    }
}

/// Ten thousand alerts in a thousand groups: each one is sent.
#[test]
fn storm_of_alerts_reaches_the_receiver_whole() {
    let webhook = Webhook::start();
    let config =
        quick_config(&webhook).replace("group_by: [alertname]", "group_by: [alertname, group]");
    let aggregator = start(tempfile::tempdir().unwrap(), &config, "groups: []\n");
    let (groups, alerts_each) = (1000, 10);
    let time = tidemark_alerting::notify::message::format_time(now_ms());
    for start in (0..groups).step_by(100) {
        let mut alerts = Vec::new();
        for group in start..start + 100 {
            for n in 0..alerts_each {
                let labels =
                    json!({"alertname": "Storm", "group": format!("g{group}"), "n": n.to_string()});
                alerts.push(json!({"labels": labels, "annotations": {"s": "x".repeat(100)}, "startsAt": time}));
            }
        }
        let headers = [("content-type", "application/json")];
        let body = Value::from(alerts).to_string();
        let path = "/api/v2/alerts";
        let answer = http::request(&aggregator.address, "POST", path, &headers, body.as_bytes());
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    let told = || {
        let mut fingerprints = std::collections::BTreeSet::new();
        for body in webhook.at("/r") {
            let alerts = body["alerts"].as_array().unwrap().iter();
            fingerprints.extend(alerts.map(|alert| alert["fingerprint"].to_string()));
        }
        fingerprints.len()
    };
    eventually("every alert", || {
        (told() == groups * alerts_each).then_some(())
    });
}

/// A slow rule is cancelled at its group's interval and counted; other groups stay on time.
#[test]
fn slow_rule_delays_no_other_group() {
    let rules = "groups:\n- name: slow\n  interval: 1s\n  rules:\n  - record: never\n    expr: quantile_over_time(0.5, quantile_over_time(0.5, vector(1)[1h:1s])[24h:1s])\n\
                 - name: quick\n  interval: 1s\n  rules:\n  - {record: always, expr: vector(1)}\n";
    let aggregator = start(
        tempfile::tempdir().unwrap(),
        "{route: {receiver: r}, receivers: [{name: r}]}",
        rules,
    );
    let groups = || {
        aggregator.get("/api/v1/rules").data()["groups"]
            .as_array()
            .unwrap()
            .clone()
    };
    let error = eventually("cut-off evaluation", || {
        let slow = groups().into_iter().find(|group| group["name"] == "slow")?;
        let error = slow["rules"][0]["lastError"].as_str()?;
        (!error.is_empty()).then(|| error.to_owned())
    });
    assert!(error.contains("timed out"), "{error}");
    let counted = eventually("count", || {
        let metrics = aggregator.get("/metrics").text();
        let name = "aggregator_rules_evaluation_timeouts_total ";
        let line = metrics
            .lines()
            .find_map(|line| line.strip_prefix(name))?
            .to_owned();
        (line != "0").then_some(line)
    });
    assert!(counted.parse::<f64>().unwrap() >= 1.0);
    let evaluations = |name: &str| {
        let query = format!("/api/v1/query?query=count_over_time({name}[30s])");
        let data = aggregator.get(&query).data();
        let value = data.pointer("/result/0/value/1").and_then(Value::as_str);
        value.map_or(0, |text| text.parse().unwrap())
    };
    // Meanwhile the other group has a result for each of its slots.
    let before = evaluations("always");
    let started = std::time::Instant::now();
    eventually("five more slots", || {
        (evaluations("always") >= before + 5).then_some(())
    });
    let slots = started.elapsed().as_secs() + 3;
    assert!(
        evaluations("always") <= before + slots,
        "no slot is evaluated twice"
    );
    assert_eq!(evaluations("never"), 0);
}

#[test]
fn invalid_rules_and_receivers_are_refused_with_their_position() {
    let dir = tempfile::tempdir().unwrap();
    let check = |config: &str, rules: &str| {
        std::fs::write(dir.path().join("c.yml"), config).unwrap();
        std::fs::write(dir.path().join("r.yml"), rules).unwrap();
        let output = Command::new(env!("CARGO_BIN_EXE_tidemark-aggregator"))
            .arg("--check-config")
            .arg(format!(
                "--config.file={}",
                dir.path().join("c.yml").display()
            ))
            .output()
            .unwrap();
        let text = format!(
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        (output.status.success(), text)
    };
    let rules = "groups:\n- name: g\n  rules:\n  - {record: r, expr: 'sum('}\n";
    let (good, text) = check("rule_files: [r.yml]\n", rules);
    assert!(!good && text.contains("r.yml: 4:23: group"), "{text}");
    let config = "alertmanager:\n  route: {receiver: r}\n  receivers:\n  - name: r\n    opsgenie_configs: [{}]\n";
    let (good, text) = check(config, "");
    assert!(
        !good && text.contains("opsgenie_configs is not supported"),
        "{text}"
    );
    let (good, text) = check("rule_files: [r.yml]\n", RULES);
    assert!(good, "{text}");
}

/// The shipped rules load, and their own tests pass.
#[test]
fn shipped_rules_pass_their_tests() {
    let files = |folder: &str| {
        let entries = std::fs::read_dir(workspace().join(folder)).unwrap();
        let paths = entries.map(|entry| entry.unwrap().path());
        let mut paths: Vec<_> = paths
            .filter(|path| path.extension().is_some_and(|e| e == "yml"))
            .collect();
        paths.sort();
        paths
    };
    let tests = files("deploy/rules/tests");
    let rules = files("deploy/rules");
    assert_eq!(tests.len(), rules.len(), "each file has its tests");
    let run = |args: [&str; 2], paths: &[std::path::PathBuf]| {
        let output = Command::new(env!("CARGO_BIN_EXE_tidemarkctl"))
            .args(args)
            .args(paths)
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stdout)
        );
    };
    run(["check", "rules"], &rules);
    run(["test", "rules"], &tests);
}

/// Returns the folder of shared rule files; `None` with a message if it does not exist.
pub(crate) fn shared_rules() -> Option<std::path::PathBuf> {
    let shared = std::env::var_os("TIDEMARK_SHARED")
        .map_or_else(|| workspace().join("../shared"), Into::into);
    let rules = Path::new(&shared).join("fixtures/rules");
    if rules.is_dir() {
        return Some(rules);
    }
    eprintln!(
        "SKIPPED: no rule corpus at {} (set TIDEMARK_SHARED)",
        rules.display()
    );
    None
}
