//! `tidemarkctl` with the real server: output formats and exit codes.

use std::process::{Command, Stdio};

use serde_json::json;

use crate::harness::{Aggregator, now_ms};
use crate::remote::{series, write};

pub(crate) fn run(args: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_tidemarkctl"))
        .args(args)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    (
        output.status.code(),
        String::from_utf8(output.stdout).unwrap(),
        String::from_utf8(output.stderr).unwrap(),
    )
}

#[test]
fn every_format_shows_query_results() {
    let aggregator = Aggregator::start();
    let now = now_ms() / 1000 * 1000;
    let labels = [("__name__", "c"), ("job", "a,b")];
    assert_eq!(
        write(&aggregator, vec![series(&labels, &[(now, 1.5)])]).status,
        204
    );
    let (url, at) = (aggregator.url(), (now / 1000).to_string());
    let ask = |form: &str| {
        let args = [
            "--url", &url, "-o", form, "query", "instant", "c", "--time", &at,
        ];
        let (code, out, errors) = run(&args);
        assert_eq!(code, Some(0), "{errors}");
        out
    };
    assert_eq!(
        ask("csv"),
        format!("__name__,job,time,value\nc,\"a,b\",{at},1.5\n")
    );
    let table = ask("table");
    let row = table.lines().nth(1).unwrap();
    assert!(
        row.starts_with("c{job=\"a,b\"}") && row.ends_with("1.5"),
        "{table}"
    );
    let parsed: serde_json::Value = serde_json::from_str(&ask("json")).unwrap();
    assert_eq!(parsed["result"][0]["value"], json!([now / 1000, "1.5"]));
    assert!(ask("yaml").contains("resultType: vector"));
    let list = |args: &[&str]| run(&[&["--url", &url, "-o", "csv"][..], args].concat()).1;
    assert_eq!(
        list(&["query", "labels", "job", "--match", "c"]),
        "job\n\"a,b\"\n"
    );
    assert_eq!(
        list(&["query", "series", "--match", "c"]),
        "__name__,job\nc,\"a,b\"\n"
    );
    assert!(list(&["agents"]).starts_with("idc,node,connected"));
    assert!(list(&["storage", "stats"]).contains("head,numSeries,"));
    assert!(list(&["top", "nodes"]).starts_with("cpu(cores),memory(bytes)"));
    assert_eq!(run(&["--url", &url, "check", "ready"]).0, Some(0));
    aggregator.stop();
}

/// On a node with pods, parent cgroups and services are not shown as containers.
#[test]
fn top_counts_each_usage_once_and_nodes_as_the_kubelet_does() {
    let aggregator = Aggregator::start();
    let now = now_ms();
    let working_set = |node: &str, pod: &str, container: &str, id: &str, mebibytes: i32| {
        let labels = [
            ("__name__", "container_memory_working_set_bytes"),
            ("node", node),
            ("pod", pod),
            ("container", container),
            ("id", id),
        ];
        let labels: Vec<_> = labels.into_iter().filter(|(_, v)| !v.is_empty()).collect();
        series(&labels, &[(now, f64::from(mebibytes << 20))])
    };
    let memory = |name: &str, node: &str, mebibytes: i32| {
        let labels = [("__name__", name), ("node", node)];
        series(&labels, &[(now, f64::from(mebibytes << 20))])
    };
    let written = vec![
        working_set("cluster", "web", "nginx", "/kubepods/burstable/pod1/c1", 40),
        working_set("cluster", "", "", "/kubepods", 60),
        working_set("cluster", "", "", "/kubepods/burstable", 50),
        working_set("cluster", "", "", "/system.slice", 30),
        working_set("cluster", "", "", "/", 200),
        working_set("plain", "", "", "/system.slice/ssh.service", 7),
        memory("node_memory_MemTotal_bytes", "cluster", 1000),
        memory("node_memory_MemAvailable_bytes", "cluster", 900),
        memory("node_memory_MemTotal_bytes", "plain", 1000),
        memory("node_memory_MemAvailable_bytes", "plain", 700),
    ];
    assert_eq!(write(&aggregator, written).status, 204);
    let url = aggregator.url();
    let top = |what: &str| {
        run(&[
            "--url",
            &url,
            "-o",
            "csv",
            "top",
            what,
            "--sort-by",
            "memory",
        ])
        .1
    };
    assert_eq!(
        top("containers"),
        "pod,container,id,cpu(cores),memory(bytes)\n\
         web,nginx,/kubepods/burstable/pod1/c1,0m,40Mi\n\
         ,,/system.slice/ssh.service,0m,7Mi\n"
    );
    assert_eq!(
        top("nodes"),
        "node,cpu(cores),memory(bytes)\nplain,0m,300Mi\ncluster,0m,200Mi\n"
    );
    aggregator.stop();
}

#[test]
fn exit_codes_distinguish_failure_usage_and_lint() {
    let aggregator = Aggregator::start();
    let url = aggregator.url();
    let (code, _, errors) = run(&["--url", &url, "query", "instant", "sum("]);
    assert_eq!(code, Some(1));
    assert!(
        errors.contains("bad_data: invalid parameter \"query\": 1:5: parse error"),
        "{errors}"
    );
    aggregator.stop();
    let (code, _, errors) = run(&["--url", &url, "check", "ready"]);
    assert_eq!(code, Some(1));
    assert!(errors.contains("connect to 127.0.0.1"), "{errors}");
    assert_eq!(run(&["query", "instant"]).0, Some(2));
    assert_eq!(run(&["--url", "ftp://x", "agents"]).0, Some(1));

    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let good = file(
        "good.prom",
        "# HELP a_total A.\n# TYPE a_total counter\na_total 1\n",
    );
    let lint = file("lint.prom", "a 1\n");
    let broken = file("broken.prom", "a{ 1\n");
    assert_eq!(run(&["check", "metrics", &good]).0, Some(0));
    let (code, out, _) = run(&["check", "metrics", &lint]);
    assert_eq!((code, out.as_str()), (Some(3), "a no help text\n"));
    assert_eq!(run(&["check", "metrics", &broken]).0, Some(1));
    let config = file("c.yml", "global:\n  evaluation_interval: 30s\n");
    let typo = file("typo.yml", "globall: {}\n");
    assert_eq!(run(&["check", "config", &config]).0, Some(0));
    let (code, out, _) = run(&["check", "config", &config, &typo]);
    assert_eq!(code, Some(1));
    assert!(out.contains("typo.yml:1: "), "{out}");
}
