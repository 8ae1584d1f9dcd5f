//! Templates of rules and of notifications.

use common::model::Labels;
use tidemark_alerting::annotations::Annotations;
use tidemark_alerting::template::{
    Env, Escaping, ExpandError, Job, Limits, QueryResult, Set, notification, rule,
};

const LIMITS: Limits = Limits {
    output_bytes: 64 << 10,
    steps: 20_000,
};
/// 2023-11-14T22:13:20Z.
const NOW_MS: i64 = 1_700_000_000_000;

fn labels() -> Labels {
    let pairs = [("alertname", "Down"), ("instance", "a:1"), ("job", "<j>")];
    Labels::from_pairs(pairs).expect("labels of this harness")
}

/// A template, expanded with the data of an alert and of a notification, as text and as HTML. It respects the limits, and
/// the same data yields the same text.
///
/// # Panics
/// One of these is violated.
pub fn template(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    let is_sound = rule::check("Down", text).is_ok();
    let data = rule::data(&labels(), &Labels::empty(), "http://localhost/p", 1.5);
    let expand = || {
        let mut query =
            |_: &str| -> Result<QueryResult, String> { Ok(vec![(labels(), 2.0), (labels(), 3.0)]) };
        let mut env = Env {
            now_ms: NOW_MS,
            external_url: "http://localhost/p",
            query: Some(&mut query),
            queries_left: 3,
        };
        rule::Text::new("Down", text).expand(&data, &mut env)
    };
    let expanded = expand();
    assert_eq!(expand(), expanded, "templates have no state");
    if text.contains("{{") && !is_sound {
        assert!(
            expanded.starts_with("<error expanding template"),
            "{expanded}"
        );
    }
    notify(text);
}

fn notify(text: &str) {
    let alert = notification::AlertData {
        status: "firing",
        labels: labels(),
        annotations: labels().iter().collect(),
        starts_at_ms: NOW_MS - 60_000,
        ends_at_ms: None,
        generator_url: "http://localhost/g".to_owned(),
        fingerprint: "0123456789abcdef".to_owned(),
    };
    let data = notification::Data {
        receiver: "team".to_owned(),
        status: "firing",
        alerts: vec![alert.clone(), alert],
        group_labels: labels(),
        route_labels: labels(),
        common_labels: labels(),
        common_annotations: Annotations::empty(),
        external_url: "http://localhost/am".to_owned(),
        group_key: "{}:{}".to_owned(),
        reason: "new alerts",
    };
    for escaping in [Escaping::None, Escaping::Html] {
        let job = Job {
            name: "t",
            source: text,
            functions: notification::lookup,
            limits: LIMITS,
            escaping,
        };
        let mut env = Env {
            now_ms: NOW_MS,
            external_url: "http://localhost/am",
            query: None,
            queries_left: 0,
        };
        match Set::default().expand(&job, data.to_value(), &mut env) {
            Ok(expanded) => {
                let written = expanded.len();
                assert!(written <= LIMITS.output_bytes, "{written} bytes of output");
            }
            Err(ExpandError::Parse(error)) => {
                let lines = 1 + text.matches('\n').count();
                assert!(error.line <= lines, "{error} in {lines} lines");
            }
            Err(ExpandError::Execute(_)) => {}
        }
    }
}
