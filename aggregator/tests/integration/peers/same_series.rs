//! Rules that write the same series at the same time, in the real Prometheus and in us.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Prometheus, peer};
use crate::harness::{Aggregator, eventually};
use crate::http::{self, encode};

/// Equal values are one sample; of different ones the first stays, and the rule that comes later fails.
const RULES: &str = "
groups:
- name: g
  interval: 1s
  rules:
  - {record: twice, expr: vector(1)}
  - {record: twice, expr: vector(2)}
  - {record: equal, expr: vector(3)}
  - {record: equal, expr: vector(3)}
  - {record: partly, expr: 'label_replace(vector(1), \"i\", \"a\", \"\", \"\")'}
  - {record: partly, expr: 'label_replace(vector(2), \"i\", \"a\", \"\", \"\") or label_replace(vector(5), \"i\", \"b\", \"\", \"\")'}
  - {alert: Same, expr: vector(1)}
  - {alert: Same, expr: vector(2)}
  - {alert: Mixed, expr: vector(1), for: 1h}
  - {alert: Mixed, expr: vector(2)}
  - {record: after, expr: twice + on() equal}
";

/// Name, health and error of each rule, in order; the error without the time that it names.
fn health(address: &str) -> Vec<(String, String, String)> {
    let data = http::request(address, "GET", "/api/v1/rules", &[], b"").data();
    let text = |rule: &Value, name: &str| rule[name].as_str().unwrap_or_default().to_owned();
    let rules = data["groups"][0]["rules"].as_array().unwrap();
    let rules = rules.iter();
    rules
        .map(|rule| {
            (
                text(rule, "name"),
                text(rule, "health"),
                without_time(&text(rule, "lastError")),
            )
        })
        .collect()
}

fn without_time(error: &str) -> String {
    let is_time = |word: &&str| word.len() > 10 && word.starts_with(|c: char| c.is_ascii_digit());
    let words = error.split(' ').filter(|word| !is_time(word));
    words.collect::<Vec<_>>().join(" ")
}

/// The values that each series has had.
fn values(address: &str) -> BTreeMap<String, Vec<String>> {
    let query = encode("{__name__=~\"twice|equal|partly|after|ALERTS\"}[60s]");
    let path = format!("/api/v1/query?query={query}");
    let data = http::request(address, "GET", &path, &[], b"").data();
    let mut all = BTreeMap::new();
    for one in data["result"].as_array().unwrap() {
        let samples = one["values"].as_array().unwrap().iter();
        let mut values: Vec<String> = samples.map(|sample| sample[1].to_string()).collect();
        values.dedup();
        all.insert(one["metric"].to_string(), values);
    }
    all
}

#[test]
fn rules_that_write_the_same_series_end_as_prometheus_rules_do() {
    let Some(program) = peer("PROMETHEUS") else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let rules = dir.path().join("rules.yml");
    std::fs::write(&rules, RULES).unwrap();
    let config = format!("rule_files: ['{}']\n", rules.display());
    let prometheus = Prometheus::start(program, &config);
    let ours = tempfile::tempdir().unwrap();
    std::fs::write(ours.path().join("c.yml"), config).unwrap();
    let file = format!("--config.file={}", ours.path().join("c.yml").display());
    let aggregator = Aggregator::start_in(ours, &[&file]);
    // Each has evaluated a few times.
    for address in [&prometheus.address, &aggregator.address] {
        eventually("evaluations", || {
            let path = format!(
                "/api/v1/query?query={}",
                encode("count_over_time(after[60s])")
            );
            let data = http::request(address, "GET", &path, &[], b"").data();
            let count = data.pointer("/result/0/value/1")?.as_str()?.parse::<u32>();
            (count.unwrap() >= 3).then_some(())
        });
    }
    assert_eq!(
        values(&aggregator.address),
        values(&prometheus.address),
        "values"
    );
    assert_eq!(
        health(&aggregator.address),
        health(&prometheus.address),
        "health"
    );
}
