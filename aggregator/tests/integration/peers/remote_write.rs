//! A real Prometheus scrapes node_exporter and sends all samples to us; queries to both must agree.

use std::collections::HashMap;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::{Prometheus, peer, vector};
use crate::harness::{Aggregator, eventually, now_ms};
use crate::process::{Process, free_port};

const RATES: [&str; 10] = [
    "sum by (mode) (rate(node_cpu_seconds_total[15s]))",
    "rate(node_context_switches_total[15s])",
    "rate(node_intr_total[15s])",
    "rate(node_forks_total[15s])",
    "rate(node_network_receive_bytes_total[15s])",
    "rate(node_network_transmit_packets_total[15s])",
    "rate(node_vmstat_pgfault[15s])",
    "irate(node_cpu_seconds_total[15s])",
    "increase(node_cpu_guest_seconds_total[15s])",
    "sum(rate(node_disk_reads_completed_total[15s]))",
];

/// Labels whose values differ, with both values. Sums in another order differ in the last digits.
fn differing<'a>(
    theirs: &'a HashMap<String, String>,
    ours: &'a HashMap<String, String>,
) -> Vec<(&'a String, Option<&'a String>, Option<&'a String>)> {
    let labels = theirs.keys().chain(ours.keys());
    let both = labels.map(|labels| (labels, theirs.get(labels), ours.get(labels)));
    both.filter(|(_, theirs, ours)| {
        let number = |value: &Option<&String>| value.map(|text| text.parse::<f64>().unwrap());
        let (Some(value), Some(other)) = (number(theirs), number(ours)) else {
            return true;
        };
        let close = (value - other).abs() <= 1e-12 * value.abs();
        !(close || value.is_nan() && other.is_nan())
    })
    .collect()
}

#[test]
fn queries_over_sent_samples_equal_those_of_prometheus() {
    let (Some(prometheus), Some(exporter)) = (peer("PROMETHEUS"), peer("NODE_EXPORTER")) else {
        return;
    };
    let aggregator = Aggregator::start();
    let target = format!("127.0.0.1:{}", free_port());
    let _exporter = Process::start(
        Command::new(exporter)
            .arg(format!("--web.listen-address={target}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null()),
    );
    let prometheus = Prometheus::start(
        prometheus,
        &format!(
            "global: {{scrape_interval: 1s, external_labels: {{}}}}\n\
             scrape_configs:\n- job_name: node\n  static_configs: [{{targets: ['{target}']}}]\n\
             remote_write:\n- url: {}/api/v1/write\n  queue_config: {{batch_send_deadline: 200ms}}\n",
            aggregator.url()
        ),
    );
    let count = "count({__name__=~\"node_.+\"})";
    // Twenty seconds of data, and a timestamp that both have passed.
    let samples = "count_over_time(up{job=\"node\"}[1m])";
    eventually("twenty scrapes here", || {
        let count = vector(&aggregator.address, samples, None)
            .into_values()
            .next()?;
        (count.parse::<f64>().ok()? >= 20.0).then_some(())
    });
    let at = (now_ms() / 1000 - 3) as f64;
    for query in [count].iter().chain(&RATES) {
        // A scrape that began before that timestamp may still be on its way to Prometheus or to us.
        let (mut theirs, mut ours) = Default::default();
        for _ in 0..60 {
            theirs = vector(&prometheus.address, query, Some(at));
            ours = vector(&aggregator.address, query, Some(at));
            if differing(&theirs, &ours).is_empty() {
                break;
            }
            std::thread::sleep(Duration::from_millis(500));
        }
        assert!(!theirs.is_empty(), "{query}: Prometheus has no answer");
        let differing = differing(&theirs, &ours);
        assert!(differing.is_empty(), "{query}: {differing:?}");
    }
    let nodes: f64 = vector(&aggregator.address, count, Some(at))["{}"]
        .parse()
        .unwrap();
    assert!(nodes > 200.0, "{nodes} series");
    aggregator.stop();
}
