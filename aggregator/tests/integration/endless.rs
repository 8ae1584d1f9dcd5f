//! Queries that would take hours end when their client or their time is gone.

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
    // A sample every four minutes for a week: within the lookback at all times.
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
fn query_stops_when_its_client_goes_away() {
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
    // There is one place: it must be free again long before the first query could have come to its end.
    let answer = aggregator.get("/api/v1/query?query=1&timeout=50s");
    assert_eq!(answer.data()["result"][1], "1");
    aggregator.stop();
}
