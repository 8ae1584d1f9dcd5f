//! A real Prometheus scrapes node_exporter and sends everything to us: both must say the same.

use std::process::{Command, Stdio};

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

#[test]
fn prometheus_and_we_agree_on_what_it_sends() {
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
    // Twenty seconds of data, and a moment that both have passed.
    let samples = "count_over_time(up{job=\"node\"}[1m])";
    eventually("twenty scrapes here", || {
        let count = vector(&aggregator.address, samples, None)
            .into_values()
            .next()?;
        (count.parse::<f64>().ok()? >= 20.0).then_some(())
    });
    let at = (now_ms() / 1000 - 3) as f64;
    for query in [count].iter().chain(&RATES) {
        let theirs = vector(&prometheus.address, query, Some(at));
        assert!(!theirs.is_empty(), "{query}: Prometheus has no answer");
        // What Prometheus has scraped may still be on its way.
        let ours = eventually(query, || {
            let ours = vector(&aggregator.address, query, Some(at));
            (ours.len() == theirs.len()).then_some(ours)
        });
        for (labels, value) in &theirs {
            let (value, other): (f64, f64) =
                (value.parse().unwrap(), ours[labels].parse().unwrap());
            let close = (value - other).abs() <= 1e-12 * value.abs();
            assert!(
                close || value.is_nan() && other.is_nan(),
                "{query} {labels}: {value} and {other}"
            );
        }
    }
    let nodes: f64 = vector(&aggregator.address, count, Some(at))["{}"]
        .parse()
        .unwrap();
    assert!(nodes > 200.0, "{nodes} series");
    aggregator.stop();
}
