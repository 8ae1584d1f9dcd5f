//! Tests of queries that would take hours: they end with their client or their timeout.

use std::io::Write as _;
use std::net::TcpStream;

use crate::harness::{Aggregator, now_ms};
use crate::http::encode;
use crate::remote::{series, write};

/// Sorts 86,400 values for each of 432,000 steps; loads few samples.
const ENDLESS: &str = "max(quantile_over_time(0.5, (quantile_over_time(0.5, x[1d:1s]))[5d:1s]))";

fn loaded(flags: &[&str]) -> Aggregator {
    let aggregator = Aggregator::start_with(flags);
    let now = now_ms();
    // A sample every four minutes for a week: always within the lookback.
    let samples: Vec<_> = (0..2520)
        .map(|n| (now - 240_000 * n, f64::from((n as i32 * 7919) % 1000)))
        .collect();
    let one = series(&[("__name__", "x")], &samples);
    assert_eq!(write(&aggregator, vec![one]).status, 204);
    aggregator
}

#[test]
fn query_stops_at_its_timeout() {
    let aggregator = loaded(&[]);
    let form = format!("timeout=300ms&query={}", encode(ENDLESS));
    let answer = aggregator.post_form("/api/v1/query", &form);
    let json = answer.json();
    assert_eq!(
        (answer.status, &json["errorType"]),
        (503, &"timeout".into()),
        "{json}"
    );
    aggregator.stop();
}

#[test]
fn query_stops_when_its_client_disconnects() {
    let aggregator = loaded(&["--query.max-concurrency=1"]);
    let mut client = TcpStream::connect(&aggregator.address).unwrap();
    let path = format!("/api/v1/query?query={}", encode(ENDLESS));
    write!(client, "GET {path} HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    crate::harness::eventually("running query", || {
        let text = aggregator.get("/metrics").text();
        text.contains("\naggregator_query_running 1\n")
            .then_some(())
    });
    drop(client);
    // One query runs at a time: the next one must start long before the first could have finished.
    let answer = aggregator.get("/api/v1/query?query=1&timeout=50s");
    assert_eq!(answer.data()["result"][1], "1");
    aggregator.stop();
}

/// Returns the resident memory of a process in KiB.
fn resident_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().nth(1));
    number.unwrap().parse().unwrap()
}

/// Queries meant to bring a server down. Each must be refused, or stopped soon after its timeout, in bounded memory, while
/// other queries are answered.
#[test]
fn queries_of_death_are_stopped_and_others_are_answered() {
    let aggregator = Aggregator::start_with(&[
        "--query.max-samples=2000000",
        "--query.timeout=2s",
        "--query.max-concurrency=4",
    ]);
    let now = now_ms();
    let samples: Vec<_> = (0..240)
        .map(|n| (now - 15_000 * n, f64::from(n as i32)))
        .collect();
    let labels: Vec<_> = (0..2000).map(|n| n.to_string()).collect();
    let many = labels.iter().map(|n| {
        let labels = [("__name__", "death"), ("n", n.as_str())];
        series(&labels, &samples)
    });
    assert_eq!(write(&aggregator, many.collect()).status, 204);
    let before_kib = resident_kib(aggregator.pid());
    let nested = |open: &str, close: &str, depth| {
        format!("{}death{}", open.repeat(depth), close.repeat(depth))
    };
    let instant = [
        "sum_over_time({__name__=~\".+\"}[30d])".to_owned(),
        "label_replace(death, \"m\", \"$1\", \"n\", \"(.*)\") * on (n, m) group_left death * on () group_left death"
            .to_owned(),
        "death{n=~\"(((a{1,30}){1,30}){1,30}){1,30}\"}".to_owned(),
        "count(death{n=~\"(.*.*.*.*.*.*.*.*.*.*)*x\"})".to_owned(),
        nested("(", ")", 10_000),
        nested("sum(", ")", 10_000),
        "-".repeat(100_000) + "1",
        "1+".repeat(500_000) + "1",
        "death ".repeat(200_000),
        "max_over_time(sum(death)[30d:1ms])".to_owned(),
        "sum(quantile_over_time(0.5, death[1h:1s]))".to_owned(),
    ];
    let range = format!(
        "start={}&end={}&step=1&query={}",
        now / 1000 - 10_900,
        now / 1000,
        encode("rate(death[1h])")
    );
    std::thread::scope(|scope| {
        let aggregator = &aggregator;
        let mut asked = Vec::new();
        for query in &instant {
            let form = format!("query={}", encode(query));
            asked.push(
                scope.spawn(move || (form.len(), aggregator.post_form("/api/v1/query", &form))),
            );
        }
        let range = &range;
        asked.push(scope.spawn(move || (0, aggregator.post_form("/api/v1/query_range", range))));
        // Meanwhile others only wait for a free slot.
        for _ in 0..20 {
            let answer = aggregator.get("/api/v1/query?query=vector(1)&timeout=30s");
            assert_eq!(answer.status, 200, "{}", answer.text());
        }
        for thread in asked {
            let (_, answer) = thread.join().unwrap();
            let json = answer.json();
            let kind = json["errorType"].as_str().unwrap_or("none").to_owned();
            let refused = ["bad_data", "execution", "timeout"].contains(&kind.as_str());
            // The regular expressions may be answered: matching is linear.
            assert!(
                refused || answer.status == 200,
                "{}: {json:.300}",
                answer.status
            );
        }
    });
    let grown_kib = resident_kib(aggregator.pid()).saturating_sub(before_kib);
    // Four queries with two million values of 16 bytes at a time, and memory retained by the allocator.
    assert!(grown_kib < 400 << 10, "grew by {grown_kib} KiB");
    aggregator.stop();
}
