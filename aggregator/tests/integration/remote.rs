//! Sends remote write and checks what is stored.

use prost::Message;
use serde_json::json;

use crate::harness::{Aggregator, now_ms};
use crate::http::{self, Answer, encode};

#[derive(Clone, PartialEq, Message)]
pub(crate) struct WriteRequest {
    #[prost(message, repeated, tag = "1")]
    pub(crate) timeseries: Vec<TimeSeries>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct TimeSeries {
    #[prost(message, repeated, tag = "1")]
    pub(crate) labels: Vec<Label>,
    #[prost(message, repeated, tag = "2")]
    pub(crate) samples: Vec<Sample>,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct Label {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(string, tag = "2")]
    pub(crate) value: String,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct Sample {
    #[prost(double, tag = "1")]
    pub(crate) value: f64,
    #[prost(int64, tag = "2")]
    pub(crate) timestamp: i64,
}

/// Builds a series.
pub(crate) fn series(labels: &[(&str, &str)], samples: &[(i64, f64)]) -> TimeSeries {
    let mut labels: Vec<_> = labels
        .iter()
        .map(|&(name, value)| Label {
            name: name.to_owned(),
            value: value.to_owned(),
        })
        .collect();
    labels.sort_by(|a, b| a.name.cmp(&b.name));
    let samples = samples
        .iter()
        .map(|&(timestamp, value)| Sample { value, timestamp })
        .collect();
    TimeSeries { labels, samples }
}

/// Sends series by remote write 1.0.
pub(crate) fn write(aggregator: &Aggregator, timeseries: Vec<TimeSeries>) -> Answer {
    write_to(&aggregator.address, timeseries)
}

/// Sends series by remote write 1.0 to any receiver.
pub(crate) fn write_to(address: &str, timeseries: Vec<TimeSeries>) -> Answer {
    let message = WriteRequest { timeseries }.encode_to_vec();
    let body = snap::raw::Encoder::new().compress_vec(&message).unwrap();
    let headers = [
        ("content-type", "application/x-protobuf"),
        ("content-encoding", "snappy"),
        ("x-prometheus-remote-write-version", "0.1.0"),
    ];
    http::request(address, "POST", "/api/v1/write", &headers, &body)
}

#[test]
fn acknowledged_samples_are_visible_at_once_and_survive_a_kill() {
    let mut aggregator = Aggregator::start();
    let now = now_ms();
    let samples: Vec<_> = (0..50)
        .map(|n| (now - 60_000 + n * 1000, n as f64))
        .collect();
    let answer = write(
        &aggregator,
        vec![series(&[("__name__", "kept"), ("job", "t")], &samples)],
    );
    assert_eq!(answer.status, 204, "{}", answer.text());
    let path = format!(
        "/api/v1/query?query={}",
        encode("count_over_time(kept[5m])")
    );
    let count =
        |aggregator: &Aggregator| aggregator.get(&path).data()["result"][0]["value"][1].clone();
    assert_eq!(count(&aggregator), json!("50"));

    aggregator.signal("KILL");
    aggregator.wait();
    let dir = std::mem::replace(&mut aggregator.dir, tempfile::tempdir().unwrap());
    let aggregator = Aggregator::start_in(dir, &[]);
    assert_eq!(count(&aggregator), json!("50"));
}

#[test]
fn bad_writes_are_refused_with_prometheus_codes() {
    let aggregator = Aggregator::start();
    let post = |headers: &[(&str, &str)], body: &[u8]| {
        http::request(&aggregator.address, "POST", "/api/v1/write", headers, body)
    };
    let protobuf = ("content-type", "application/x-protobuf");
    assert_eq!(post(&[("content-type", "text/plain")], b"x").status, 415);
    assert_eq!(
        post(&[protobuf, ("content-encoding", "gzip")], b"x").status,
        415
    );
    assert_eq!(post(&[protobuf], b"not snappy").status, 400);
    let large = vec![0_u8; (32 << 20) + 1];
    assert_eq!(post(&[protobuf], &large).status, 413);

    let now = now_ms();
    let name = [("__name__", "twice")];
    assert_eq!(
        write(&aggregator, vec![series(&name, &[(now, 1.0)])]).status,
        204
    );
    assert_eq!(
        write(&aggregator, vec![series(&name, &[(now, 1.0)])]).status,
        204
    );
    let other = write(
        &aggregator,
        vec![series(&name, &[(now, 2.0), (now + 1, 2.0)])],
    );
    assert_eq!(other.status, 400, "{}", other.text());
    let data = aggregator.get("/api/v1/query?query=twice[1m]").data();
    assert_eq!(
        data["result"][0]["values"].as_array().map(Vec::len),
        Some(1)
    );
}
