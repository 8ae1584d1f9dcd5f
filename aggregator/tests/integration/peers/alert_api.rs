//! Alertmanager's API: sends the same requests to the real one and to us, as amtool, Grafana's data source and careless
//! clients do. Status and JSON must agree, except for IDs, timestamps and error texts.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use super::alertmanager::{Side, ours, theirs};
use super::{assert_alike, peer};
use crate::harness::now_ms;
use crate::http;

const CONFIG: &str = "
route:
  receiver: root
  group_by: [alertname]
  routes: [{receiver: team, matchers: ['team=\"a\"']}]
inhibit_rules: [{source_matchers: ['sev=src'], target_matchers: ['sev=tgt'], equal: [cluster]}]
receivers: [{name: root}, {name: team}, {name: unused}]
";

/// Requests in order: method, path, body. `ID` is the ID of the last silence; `T+60` is a time in seconds from now.
const REQUESTS: &[(&str, &str, &str)] = &[
    ("GET", "/alerts", ""),
    ("GET", "/alerts/groups", ""),
    ("GET", "/silences", ""),
    ("GET", "/receivers", ""),
    (
        "POST",
        "/alerts",
        r#"[{"labels":{"alertname":"A","team":"a","x":"1"},"annotations":{"s":"t"},"startsAt":"T-60","generatorURL":"http://g/1"}]"#,
    ),
    (
        "POST",
        "/alerts",
        r#"[{"labels":{"alertname":"B","sev":"src","cluster":"c"},"startsAt":"T-50"},{"labels":{"alertname":"C","sev":"tgt","cluster":"c"},"startsAt":"T-40"}]"#,
    ),
    (
        "POST",
        "/alerts",
        r#"[{"labels":{"alertname":"D"},"startsAt":"T-30","endsAt":"T+600"}]"#,
    ),
    (
        "POST",
        "/alerts",
        r#"[{"labels":{"alertname":"Gone"},"startsAt":"T-30","endsAt":"T-10"}]"#,
    ),
    (
        "POST",
        "/alerts",
        r#"[{"labels":{"alertname":"Soon"},"startsAt":"T+300","endsAt":"T+600"}]"#,
    ),
    (
        "POST",
        "/alerts",
        r#"[{"labels":{"alertname":"E","empty":""},"startsAt":"T-30"}]"#,
    ),
    (
        "POST",
        "/alerts",
        r#"[{"labels":{"alertname":"ü","größe":"1"},"startsAt":"T-30"}]"#,
    ),
    ("POST", "/alerts", "[]"),
    ("POST", "/alerts", "null"),
    ("POST", "/alerts", "{}"),
    ("POST", "/alerts", "[{}]"),
    ("POST", "/alerts", "["),
    ("POST", "/alerts", ""),
    ("POST", "/alerts", r#"[{"labels":{}}]"#),
    ("POST", "/alerts", r#"[{"labels":{"":"x"}}]"#),
    ("POST", "/alerts", r#"[{"labels":{"a":1}}]"#),
    (
        "POST",
        "/alerts",
        r#"[{"labels":{"a":"b"},"startsAt":"T+60","endsAt":"T-60"}]"#,
    ),
    (
        "POST",
        "/alerts",
        r#"[{"labels":{"a":"b"},"startsAt":"yesterday"}]"#,
    ),
    (
        "POST",
        "/alerts",
        r#"[{"labels":{"alertname":"Good"},"startsAt":"T-20"},{"labels":{}}]"#,
    ),
    (
        "POST",
        "/alerts",
        r#"[{"labels":{"a":"b"},"generatorURL":"not a url"}]"#,
    ),
    ("GET", "/alerts", ""),
    (
        "GET",
        "/alerts?active=true&inhibited=true&silenced=true&unprocessed=true",
        "",
    ),
    ("GET", "/alerts?active=false", ""),
    ("GET", "/alerts?inhibited=false", ""),
    ("GET", "/alerts?active=maybe", ""),
    ("GET", "/alerts?receiver=team", ""),
    ("GET", "/alerts?receiver=t.*", ""),
    ("GET", "/alerts?receiver=tea", ""),
    ("GET", "/alerts?receiver=%5B", ""),
    ("GET", "/alerts?filter=alertname%3D%22A%22", ""),
    ("GET", "/alerts?filter=alertname%3DA", ""),
    (
        "GET",
        "/alerts?filter=alertname%3D~%22A%7CB%22&filter=team%21%3D%22a%22",
        "",
    ),
    ("GET", "/alerts?filter=missing%3D%22%22", ""),
    ("GET", "/alerts?filter=%7B", ""),
    ("GET", "/alerts?filter=a%3D~%22%5B%22", ""),
    ("GET", "/alerts/groups", ""),
    (
        "GET",
        "/alerts/groups?active=true&inhibited=false&silenced=true&muted=true",
        "",
    ),
    ("GET", "/alerts/groups?receiver=team", ""),
    ("GET", "/alerts/groups?filter=alertname%3D%22B%22", ""),
    ("GET", "/alerts/groups?filter=%7B", ""),
    (
        "POST",
        "/silences",
        r#"{"matchers":[{"name":"alertname","value":"A","isRegex":false,"isEqual":true}],"startsAt":"T-10","endsAt":"T+3600","createdBy":"me","comment":"c"}"#,
    ),
    ("GET", "/silence/ID", ""),
    ("GET", "/silences", ""),
    ("GET", "/silences?filter=alertname%3D%22A%22", ""),
    ("GET", "/silences?filter=alertname%3D%22Z%22", ""),
    ("GET", "/silences?filter=other%3D%22A%22", ""),
    ("GET", "/silences?filter=%7B", ""),
    ("GET", "/alerts", ""),
    ("GET", "/alerts?silenced=false", ""),
    ("GET", "/alerts/groups?silenced=false", ""),
    ("DELETE", "/silence/ID", ""),
    ("DELETE", "/silence/ID", ""),
    ("GET", "/silence/ID", ""),
    ("GET", "/silences", ""),
    ("GET", "/silence/00000000-0000-4000-8000-000000000000", ""),
    (
        "DELETE",
        "/silence/00000000-0000-4000-8000-000000000000",
        "",
    ),
    ("GET", "/silence/nonsense", ""),
    ("DELETE", "/silence/nonsense", ""),
    (
        "POST",
        "/silences",
        r#"{"matchers":[],"startsAt":"T-10","endsAt":"T+3600","createdBy":"me","comment":"c"}"#,
    ),
    (
        "POST",
        "/silences",
        r#"{"matchers":[{"name":"a","value":"","isRegex":false}],"startsAt":"T-10","endsAt":"T+3600","createdBy":"me","comment":"c"}"#,
    ),
    (
        "POST",
        "/silences",
        r#"{"matchers":[{"name":"a","value":".*","isRegex":true}],"startsAt":"T-10","endsAt":"T+3600","createdBy":"me","comment":"c"}"#,
    ),
    (
        "POST",
        "/silences",
        r#"{"matchers":[{"name":"a","value":"[","isRegex":true}],"startsAt":"T-10","endsAt":"T+3600","createdBy":"me","comment":"c"}"#,
    ),
    (
        "POST",
        "/silences",
        r#"{"matchers":[{"name":"","value":"x","isRegex":false}],"startsAt":"T-10","endsAt":"T+3600","createdBy":"me","comment":"c"}"#,
    ),
    (
        "POST",
        "/silences",
        r#"{"matchers":[{"name":"a","value":"x","isRegex":false}],"startsAt":"T-20","endsAt":"T-10","createdBy":"me","comment":"c"}"#,
    ),
    (
        "POST",
        "/silences",
        r#"{"matchers":[{"name":"a","value":"x","isRegex":false}],"startsAt":"T+20","endsAt":"T+10","createdBy":"me","comment":"c"}"#,
    ),
    (
        "POST",
        "/silences",
        r#"{"matchers":[{"name":"a","value":"x","isRegex":false}],"startsAt":"T-10","createdBy":"me","comment":"c"}"#,
    ),
    (
        "POST",
        "/silences",
        r#"{"matchers":[{"name":"a","value":"x","isRegex":false}],"startsAt":"T-10","endsAt":"T+60","comment":"c"}"#,
    ),
    (
        "POST",
        "/silences",
        r#"{"matchers":[{"name":"a","value":"x","isRegex":false}],"startsAt":"T-10","endsAt":"T+60","createdBy":"me"}"#,
    ),
    (
        "POST",
        "/silences",
        r#"{"matchers":[{"name":"a","value":"x"}],"startsAt":"T-10","endsAt":"T+60","createdBy":"me","comment":"c"}"#,
    ),
    (
        "POST",
        "/silences",
        r#"{"id":"00000000-0000-4000-8000-000000000000","matchers":[{"name":"a","value":"x","isRegex":false}],"startsAt":"T-10","endsAt":"T+60","createdBy":"me","comment":"c"}"#,
    ),
    ("POST", "/silences", "{}"),
    ("POST", "/silences", "["),
    (
        "POST",
        "/silences",
        r#"{"matchers":[{"name":"team","value":"a|b","isRegex":true,"isEqual":false}],"startsAt":"T+60","endsAt":"T+3600","createdBy":"me","comment":"pending"}"#,
    ),
    ("GET", "/silence/ID", ""),
    (
        "POST",
        "/silences",
        r#"{"id":"ID","matchers":[{"name":"team","value":"a|b","isRegex":true,"isEqual":false}],"startsAt":"T+60","endsAt":"T+7200","createdBy":"me","comment":"longer"}"#,
    ),
    ("GET", "/silences", ""),
    ("DELETE", "/silence/ID", ""),
    ("GET", "/silences", ""),
    ("DELETE", "/alerts", ""),
    ("PUT", "/silences", "{}"),
    ("GET", "/nothing", ""),
];

/// Replaces texts that differ between runs by placeholders.
fn same(value: &Value) -> Value {
    match value {
        Value::String(text) if is_time(text) => json!("TIME"),
        Value::String(text) if is_id(text) => json!("ID"),
        Value::Array(items) => items.iter().map(same).collect(),
        Value::Object(fields) => {
            let fields = fields
                .iter()
                .map(|(name, value)| (name.clone(), same(value)));
            Value::Object(fields.collect())
        }
        other => other.clone(),
    }
}

fn is_time(text: &str) -> bool {
    text.parse::<jiff::Timestamp>().is_ok()
}

fn is_id(text: &str) -> bool {
    text.len() == 36 && text.chars().all(|c| c == '-' || c.is_ascii_hexdigit())
}

/// Fills in the times of a text.
fn with_times(text: &str, start_ms: i64) -> String {
    let mut parts = text.split("\"T");
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (seconds, rest) = part.split_once('"').unwrap();
        let seconds: i64 = seconds.parse().unwrap();
        let time = tidemark_alerting::notify::message::format_time(start_ms + seconds * 1000);
        out.push_str(&format!("\"{time}\"{rest}"));
    }
    out
}

/// Status, and the JSON of a success.
type Shown = (u16, Value);

/// The responses of one server. Alertmanager groups alerts after it has answered, so a request is repeated for some
/// seconds until the response is as `expected`.
fn answers(side: &Side, expected: Option<&[Shown]>) -> Vec<Shown> {
    let start_ms = now_ms() / 1000 * 1000;
    let mut id = String::new();
    let mut ask = |(method, path, body): &(&str, &str, &str)| {
        let path = format!("/api/v2{}", path.replace("ID", &id));
        let body = with_times(&body.replace("ID", &id), start_ms);
        let headers = [("content-type", "application/json")];
        let answer = http::request(&side.address, method, &path, &headers, body.as_bytes());
        let json: Value = serde_json::from_slice(&answer.body).unwrap_or(Value::Null);
        if let Some(made) = json["silenceID"].as_str() {
            made.clone_into(&mut id);
        }
        let shown = if answer.status < 300 {
            same(&json)
        } else {
            Value::Null
        };
        (answer.status, shown)
    };
    let mut all = Vec::new();
    for (index, request) in REQUESTS.iter().enumerate() {
        let mut answer = ask(request);
        if let Some(expected) = expected.filter(|_| request.0 == "GET") {
            for _ in 0..20 {
                if answer == expected[index] {
                    break;
                }
                std::thread::sleep(Duration::from_millis(100));
                answer = ask(request);
            }
        }
        all.push(answer);
    }
    all
}

#[test]
fn responses_equal_those_of_alertmanager() {
    let Some(program) = peer("ALERTMANAGER") else {
        return;
    };
    let config = |_: &str| CONFIG.to_owned();
    let (ours, theirs) = (ours(&config), theirs(program, &config));
    // The nearest time is ten seconds away, so each server gets its own.
    let got = answers(&ours, None);
    let want = answers(&theirs, Some(&got));
    let answers = REQUESTS.iter().zip(got).zip(want);
    assert_alike(
        answers.map(|(((method, path, body), got), want)| {
            (format!("{method} {path} {body}"), got, want)
        }),
    );
    // Responses about the program itself have the same fields of the same types.
    let fields = |side: &Side| {
        let answer = http::request(&side.address, "GET", "/api/v2/status", &[], b"");
        let mut kinds = BTreeMap::new();
        kinds_of("", &answer.json(), &mut kinds);
        kinds
    };
    assert_eq!(fields(&ours), fields(&theirs));
}

fn kinds_of(path: &str, value: &Value, kinds: &mut BTreeMap<String, &'static str>) {
    let kind = match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                kinds_of(&format!("{path}/{name}"), value, kinds);
            }
            "object"
        }
        Value::Array(_) => "list",
        Value::String(_) => "text",
        _ => "other",
    };
    kinds.insert(path.to_owned(), kind);
}
