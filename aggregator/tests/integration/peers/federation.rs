//! A real Prometheus uses our remote read and scrapes `/federate`.

use super::{Prometheus, peer, vector};
use crate::harness::{Aggregator, eventually, now_ms};
use crate::http::{self, encode};
use crate::remote::{series, write};

fn loaded(flags: &[&str]) -> Aggregator {
    let aggregator = Aggregator::start_with(flags);
    let now = now_ms() / 1000 * 1000;
    let samples: Vec<_> = (0..400)
        .map(|n| (now - 1_995_000 + n * 5000, (n * n) as f64 / 3.0))
        .collect();
    let all = (0..5).map(|n| {
        let instance = format!("host-{n}");
        series(
            &[("__name__", "far_total"), ("instance", &instance)],
            &samples,
        )
    });
    assert_eq!(write(&aggregator, all.collect()).status, 204);
    aggregator
}

#[test]
fn prometheus_reads_by_remote_read() {
    let Some(prometheus) = peer("PROMETHEUS") else {
        return;
    };
    let aggregator = loaded(&[]);
    let prometheus = Prometheus::start(
        prometheus,
        &format!(
            "remote_read:\n- url: {}/api/v1/read\n  read_recent: true\n",
            aggregator.url()
        ),
    );
    let at = (now_ms() / 1000) as f64;
    for query in [
        "count(far_total)",
        "far_total{instance=~\"host-[12]\"}",
        "rate(far_total[10m])",
        "sum(count_over_time(far_total[30m]))",
        "avg_over_time(far_total{instance!=\"host-0\"}[20m])",
    ] {
        let theirs = vector(&prometheus.address, query, Some(at));
        assert!(!theirs.is_empty(), "{query}: Prometheus has no answer");
        assert_eq!(
            theirs,
            vector(&aggregator.address, query, Some(at)),
            "{query}"
        );
    }
    aggregator.stop();
}

#[test]
fn prometheus_scrapes_federate() {
    let Some(prometheus) = peer("PROMETHEUS") else {
        return;
    };
    let config = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(config.path(), "global:\n  external_labels: {dc: north}\n").unwrap();
    let aggregator = loaded(&["--config.file", config.path().to_str().unwrap()]);
    let prometheus = Prometheus::start(
        prometheus,
        &format!(
            "scrape_configs:\n- job_name: federate\n  scrape_interval: 1s\n  honor_labels: true\n  \
             metrics_path: /federate\n  params: {{'match[]': ['{{__name__=\"far_total\"}}']}}\n  \
             static_configs: [{{targets: ['{}']}}]\n",
            aggregator.address
        ),
    );
    let found = eventually("federated series", || {
        let found = vector(&prometheus.address, "far_total{dc=\"north\"}", None);
        (found.len() == 5).then_some(found)
    });
    let ours = vector(
        &aggregator.address,
        "label_replace(far_total, \"dc\", \"north\", \"\", \"\")",
        None,
    );
    let without_job: Vec<_> = found
        .keys()
        .map(|labels| labels.replace(",\"job\":\"federate\"", ""))
        .collect();
    for labels in without_job {
        assert!(ours.contains_key(&labels), "{labels} is not in {ours:?}");
    }
    let path = format!("/api/v1/query?query={}", encode("up{job=\"federate\"}"));
    let up = http::request(&prometheus.address, "GET", &path, &[], b"").data();
    assert_eq!(up["result"][0]["value"][1], "1");
    aggregator.stop();
}
