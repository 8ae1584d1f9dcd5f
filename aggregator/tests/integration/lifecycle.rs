//! Tests of start, reload and stop.

use std::fs;
use std::process::Command;

use crate::harness::{Aggregator, now_ms};
use crate::http;
use crate::remote::{series, write};

fn run(args: &[&str], env: &[(&str, &str)]) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_tidemark-aggregator"))
        .args(args)
        .envs(env.iter().copied())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned()
        + &String::from_utf8_lossy(&output.stdout);
    (output.status.code(), text)
}

#[track_caller]
fn check(args: &[&str], code: i32, want: &str) {
    let (got, text) = run(args, &[]);
    assert_eq!(got, Some(code), "{args:?}: {text}");
    assert!(text.contains(want), "{args:?}: {text:?} lacks {want:?}");
}

#[test]
fn configuration_is_checked_without_starting() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let good = file("good.yml", "global:\n  scrape_interval: 15s\n");
    let typo = file("typo.yml", "global:\n  scrape_intervall: 15s\n");
    let section = file("section.yml", "global: {}\ntracing:\n  endpoint: x\n");
    check(
        &["--check-config", "--config.file", &good],
        0,
        "configuration is valid",
    );
    check(
        &["--check-config", "--config.file", &typo],
        1,
        "typo.yml:2: ",
    );
    check(
        &["--check-config", "--config.file", &section],
        1,
        "section \"tracing\" is not supported",
    );
    check(
        &["--check-config", "--config.file", "/no/such"],
        1,
        "/no/such",
    );
    check(&["--version"], 0, env!("CARGO_PKG_VERSION"));
    check(&["--no-such-flag"], 2, "--no-such-flag");
    check(&["--check-config", "--enable-feature=nope"], 1, "nope");
    check(
        &["--web.listen-address=0.0.0.0:0"],
        1,
        "needs authentication",
    );
}

#[test]
fn environment_sets_flags_and_flags_take_precedence() {
    let env = [("TIDEMARK_WEB_LISTEN_ADDRESS", "0.0.0.0:0")];
    let (code, text) = run(&["--check-config"], &env);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("needs authentication"), "{text}");
    let (code, text) = run(
        &["--check-config", "--web.listen-address=127.0.0.1:0"],
        &env,
    );
    assert_eq!(code, Some(0), "{text}");
}

#[test]
fn reload_applies_a_valid_file_and_keeps_the_old_one_otherwise() {
    let config = tempfile::NamedTempFile::new().unwrap();
    let set = |dc: &str| {
        fs::write(
            config.path(),
            format!("global:\n  external_labels: {{dc: {dc}}}\n"),
        )
    };
    set("one").unwrap();
    let path = config.path().to_str().unwrap().to_owned();
    let mut aggregator =
        Aggregator::start_with(&["--web.enable-lifecycle", "--config.file", &path]);
    let yaml = |aggregator: &Aggregator| {
        aggregator.get("/api/v1/status/config").data()["yaml"].to_string()
    };
    let reload =
        |aggregator: &Aggregator| http::request(&aggregator.address, "POST", "/-/reload", &[], b"");
    assert!(yaml(&aggregator).contains("dc: one"));

    set("two").unwrap();
    assert_eq!(reload(&aggregator).status, 200);
    assert!(yaml(&aggregator).contains("dc: two"));

    fs::write(config.path(), "global: {nonsense: 1}\n").unwrap();
    let refused = reload(&aggregator);
    assert_eq!(refused.status, 500);
    assert!(refused.text().contains("nonsense"), "{}", refused.text());
    assert!(yaml(&aggregator).contains("dc: two"));

    set("three").unwrap();
    aggregator.signal("HUP");
    aggregator.wait_for("second reload", |log| {
        (log.matches("configuration reloaded").count() == 2).then_some(())
    });
    assert!(yaml(&aggregator).contains("dc: three"));
}

#[test]
fn quit_and_reload_need_the_lifecycle_flag() {
    let aggregator = Aggregator::start();
    for path in ["/-/quit", "/-/reload"] {
        let post = http::request(&aggregator.address, "POST", path, &[], b"");
        assert_eq!(
            (post.status, post.text().as_str()),
            (403, "Lifecycle API is not enabled.")
        );
        assert_eq!(aggregator.get(path).status, 405);
    }
    aggregator.stop();
    let mut aggregator = Aggregator::start_with(&["--web.enable-lifecycle"]);
    assert_eq!(
        http::request(&aggregator.address, "PUT", "/-/quit", &[], b"").status,
        200
    );
    assert!(aggregator.wait().success());
}

#[test]
fn admin_endpoints_need_their_flag() {
    let aggregator = Aggregator::start();
    let answer = aggregator.post_form("/api/v1/admin/tsdb/flush", "");
    assert_eq!(answer.status, 500);
    assert_eq!(answer.json()["error"], "admin APIs disabled");
    aggregator.stop();
    let aggregator = Aggregator::start_with(&["--web.enable-admin-api"]);
    assert_eq!(
        aggregator.post_form("/api/v1/admin/tsdb/flush", "").status,
        204
    );
    aggregator.stop();
}

#[test]
fn paths_are_under_the_external_url() {
    let aggregator = Aggregator::start_with(&["--web.external-url=http://example.org/tide/"]);
    assert_eq!(aggregator.get("/tide/-/ready").status, 200);
    assert_eq!(aggregator.get("/-/ready").status, 404);
    aggregator.stop();
}

#[test]
fn admin_deletes_series_and_creates_snapshots() {
    let aggregator = Aggregator::start_with(&["--web.enable-admin-api"]);
    let now = now_ms();
    let of = |job: &str| {
        series(
            &[("__name__", "d"), ("job", job)],
            &[(now, 1.0), (now - 60_000, 2.0)],
        )
    };
    assert_eq!(write(&aggregator, vec![of("a"), of("b")]).status, 204);
    let count = || {
        let path = "/api/v1/query?query=sum%20by(job)(count_over_time(d%5B5m%5D))";
        aggregator.get(path).data()["result"]
            .as_array()
            .unwrap()
            .len()
    };
    let admin = |path: &str| aggregator.post_form(&format!("/api/v1/admin/tsdb/{path}"), "");
    let name = admin("snapshot").data()["name"]
        .as_str()
        .unwrap()
        .to_owned();
    let snapshot = aggregator.dir.path().join("data/snapshots").join(&name);
    assert!(snapshot.is_dir(), "{}", snapshot.display());
    assert_eq!(count(), 2);
    assert_eq!(
        admin("delete_series?match[]=d%7Bjob=%22a%22%7D").status,
        204
    );
    assert_eq!(count(), 1);
    assert_eq!(admin("clean_tombstones").status, 204);
    assert_eq!(
        admin("delete_series").json()["error"],
        "no match[] parameter provided"
    );
    assert_eq!(admin("snapshot?skip_head=x").status, 400);
    aggregator.stop();
}

#[test]
fn own_metrics_are_in_the_documentation() {
    let aggregator = Aggregator::start();
    let page = fs::read_to_string(crate::harness::workspace().join("docs/metrics.md")).unwrap();
    let text = aggregator.get("/metrics").text();
    let mut seen = 0;
    for line in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        seen += 1;
        let (name, kind) = line.split_once(' ').unwrap();
        let row = format!("| `{name}` | {kind} |");
        assert!(page.contains(&row), "docs/metrics.md has no {row}");
    }
    assert!(seen > 60, "{seen} families of its own");
}
