//! `promtool query` and `promtool check`.

use std::process::Command;

use super::peer;
use crate::harness::{Aggregator, now_ms};
use crate::remote::{series, write};

#[test]
fn promtool_query_and_check_succeed() {
    let Some(promtool) = peer("PROMTOOL") else {
        return;
    };
    let aggregator = Aggregator::start();
    let now = now_ms() / 1000 * 1000;
    let samples: Vec<_> = (0..20)
        .map(|n| (now - 200_000 + n * 10_000, n as f64))
        .collect();
    let labels = [("__name__", "up"), ("job", "node"), ("instance", "a")];
    assert_eq!(
        write(&aggregator, vec![series(&labels, &samples)]).status,
        204
    );
    let url = aggregator.url();
    let ask = |args: &[&str]| {
        let output = Command::new(promtool).args(args).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{args:?}: {text}{errors}");
        text
    };
    let at = format!("{}", now / 1000 - 10);
    let start = format!("--start={}", now / 1000 - 60);
    let end = format!("--end={at}");
    let instant = ask(&[
        "query",
        "instant",
        &format!("--time={at}"),
        &url,
        "count(up{job=\"node\"})",
    ]);
    assert!(instant.starts_with("{} => 1 @["), "{instant}");
    let range = ask(&[
        "query",
        "range",
        &start,
        &end,
        "--step=10s",
        &url,
        "up{job=\"node\"}",
    ]);
    assert!(
        range.contains(r#"up{instance="a", job="node"} =>"#),
        "{range}"
    );
    assert_eq!(range.matches(" @[").count(), 6, "{range}");
    let found = ask(&["query", "series", "--match=up{job=\"node\"}", &url]);
    assert_eq!(found.trim(), r#"{__name__="up", instance="a", job="node"}"#);
    let values = ask(&[
        "query",
        "labels",
        "--match=up{job=\"node\"}",
        &url,
        "instance",
    ]);
    assert_eq!(values.trim(), "a");
    ask(&["check", "healthy", &format!("--url={url}")]);
    ask(&["check", "ready", &format!("--url={url}")]);
    aggregator.stop();
}

#[test]
fn own_metrics_pass_the_lint_of_promtool() {
    let Some(promtool) = peer("PROMTOOL") else {
        return;
    };
    let aggregator = Aggregator::start();
    let text = aggregator.get("/metrics").body;
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), &text).unwrap();
    let output = Command::new(promtool)
        .args(["check", "metrics"])
        .stdin(file.reopen().unwrap())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{said}");
    aggregator.stop();
}
