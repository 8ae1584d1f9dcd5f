use super::*;

use std::sync::Arc;

use common::clock::ManualClock;
use common::model::STALE_NAN;
use prost::Message;
use tidemark_storage::{ReadControl, Readable as _, Selection, StoreOptions, Values};

const NOW: i64 = 1_700_000_000_000;

#[derive(Clone, PartialEq, Message)]
struct LabelMessage {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    value: String,
}

#[derive(Clone, PartialEq, Message)]
struct SampleMessage {
    #[prost(double, tag = "1")]
    value: f64,
    #[prost(int64, tag = "2")]
    timestamp: i64,
}

#[derive(Clone, PartialEq, Message)]
struct SeriesMessage {
    #[prost(message, repeated, tag = "1")]
    labels: Vec<LabelMessage>,
    #[prost(message, repeated, tag = "2")]
    samples: Vec<SampleMessage>,
    #[prost(bytes = "vec", repeated, tag = "4")]
    histograms: Vec<Vec<u8>>,
}

#[derive(Clone, PartialEq, Message)]
struct MetadataMessage {
    #[prost(int32, tag = "1")]
    kind: i32,
    #[prost(string, tag = "2")]
    family: String,
    #[prost(string, tag = "4")]
    help: String,
    #[prost(string, tag = "5")]
    unit: String,
}

#[derive(Clone, PartialEq, Message)]
struct RequestMessage {
    #[prost(message, repeated, tag = "1")]
    series: Vec<SeriesMessage>,
    #[prost(message, repeated, tag = "3")]
    metadata: Vec<MetadataMessage>,
}

#[derive(Clone, PartialEq, Message)]
struct SeriesMessage2 {
    #[prost(uint32, repeated, tag = "1")]
    labels: Vec<u32>,
    #[prost(message, repeated, tag = "2")]
    samples: Vec<SampleMessage>,
    #[prost(bytes = "vec", repeated, tag = "3")]
    histograms: Vec<Vec<u8>>,
    #[prost(message, repeated, tag = "4")]
    exemplars: Vec<ExemplarMessage2>,
    #[prost(message, optional, tag = "5")]
    metadata: Option<MetadataMessage2>,
}

#[derive(Clone, PartialEq, Message)]
struct ExemplarMessage2 {
    #[prost(uint32, repeated, tag = "1")]
    labels: Vec<u32>,
    #[prost(double, tag = "2")]
    value: f64,
    #[prost(int64, tag = "3")]
    timestamp: i64,
}

#[derive(Clone, PartialEq, Message)]
struct MetadataMessage2 {
    #[prost(int32, tag = "1")]
    kind: i32,
    #[prost(uint32, tag = "3")]
    help: u32,
    #[prost(uint32, tag = "4")]
    unit: u32,
}

#[derive(Clone, PartialEq, Message)]
struct RequestMessage2 {
    #[prost(string, repeated, tag = "4")]
    symbols: Vec<String>,
    #[prost(message, repeated, tag = "5")]
    series: Vec<SeriesMessage2>,
}

struct Fixture {
    store: Store,
    _directory: tempfile::TempDir,
}

fn fixture() -> Fixture {
    let directory = tempfile::tempdir().unwrap();
    let options = StoreOptions {
        path: directory.path().to_path_buf(),
        retention: None,
        retention_bytes: 0,
        memory_budget_bytes: 1 << 30,
        ..StoreOptions::default()
    };
    Fixture {
        store: Store::open(options, Arc::new(ManualClock::new(NOW))).unwrap(),
        _directory: directory,
    }
}

impl Fixture {
    async fn post(&self, content_type: Option<&str>, body: Vec<u8>) -> Response<String> {
        let mut headers = HeaderMap::new();
        if let Some(content_type) = content_type {
            headers.insert(CONTENT_TYPE, content_type.parse().unwrap());
        }
        receive(&self.store, &headers, body.into()).await.response
    }

    async fn post_v1(&self, request: &RequestMessage) -> Response<String> {
        self.post(None, pack(&request.encode_to_vec())).await
    }

    async fn post_v2(&self, request: &RequestMessage2) -> Response<String> {
        let content_type = "application/x-protobuf;proto=io.prometheus.write.v2.Request";
        self.post(Some(content_type), pack(&request.encode_to_vec()))
            .await
    }

    /// Returns all samples as sorted lines.
    fn content(&self) -> Vec<String> {
        let selection = Selection {
            matchers: vec![],
            start_ms: i64::MIN,
            end_ms: i64::MAX,
        };
        let control = ReadControl::unlimited();
        let set = self.store.select(&selection, &control).unwrap();
        let mut lines = Vec::new();
        set.read(0..set.len(), &control, &mut |index, column| {
            let Values::Floats(values) = column.values;
            for (time, value) in column.timestamps_ms.iter().zip(values) {
                lines.push(format!(
                    "{} {time} {:x}",
                    set.labels(index),
                    value.to_bits()
                ));
            }
            Ok(())
        })
        .unwrap();
        lines.sort();
        lines
    }
}

fn pack(bytes: &[u8]) -> Vec<u8> {
    snap::raw::Encoder::new().compress_vec(bytes).unwrap()
}

fn series(labels: &[(&str, &str)], samples: &[(i64, f64)]) -> SeriesMessage {
    SeriesMessage {
        labels: labels
            .iter()
            .map(|&(name, value)| LabelMessage {
                name: name.to_owned(),
                value: value.to_owned(),
            })
            .collect(),
        samples: samples_of(samples),
        histograms: vec![],
    }
}

fn samples_of(samples: &[(i64, f64)]) -> Vec<SampleMessage> {
    samples
        .iter()
        .map(|&(timestamp, value)| SampleMessage { value, timestamp })
        .collect()
}

fn request(series: Vec<SeriesMessage>) -> RequestMessage {
    RequestMessage {
        series,
        metadata: vec![],
    }
}

#[tokio::test]
async fn request_is_stored_exactly() {
    let fixture = fixture();
    let good = series(
        &[("job", "j"), ("__name__", "up")],
        &[(1, 1.5), (2, STALE_NAN)],
    );
    let response = fixture.post_v1(&request(vec![good.clone()])).await;
    assert_eq!(
        (response.status(), response.body().as_str()),
        (StatusCode::NO_CONTENT, "")
    );
    let want = [
        "{__name__=\"up\", job=\"j\"} 1 3ff8000000000000",
        "{__name__=\"up\", job=\"j\"} 2 7ff0000000000002",
    ];
    assert_eq!(fixture.content(), want);
    let again = fixture.post_v1(&request(vec![good])).await;
    assert_eq!(again.status(), StatusCode::NO_CONTENT);
    assert_eq!(fixture.content(), want);
}

#[tokio::test]
async fn one_refused_sample_rolls_a_v1_request_back() {
    let fixture = fixture();
    let up = [("__name__", "up")];
    fixture
        .post_v1(&request(vec![series(&up, &[(1, 1.0)])]))
        .await;
    let clash = request(vec![series(&up, &[(2, 1.0), (1, 5.0)])]);
    let response = fixture.post_v1(&clash).await;
    assert_eq!(response.status(), StatusCode::BAD_REQUEST);
    assert!(
        response.body().contains("duplicate sample for timestamp"),
        "{}",
        response.body()
    );
    let future = request(vec![series(&up, &[(NOW + 3_600_000, 1.0)])]);
    assert_eq!(
        fixture.post_v1(&future).await.status(),
        StatusCode::BAD_REQUEST
    );
    assert_eq!(fixture.content().len(), 1);
}

#[tokio::test]
async fn series_with_invalid_labels_are_dropped() {
    let fixture = fixture();
    let bad = vec![
        series(&[("job", "no name")], &[(1, 1.0)]),
        series(&[("__name__", "good")], &[(1, 1.0)]),
    ];
    let response = fixture.post_v1(&request(bad)).await;
    assert_eq!(response.status(), StatusCode::NO_CONTENT);
    assert_eq!(
        fixture.content(),
        ["{__name__=\"good\"} 1 3ff0000000000000"]
    );
    let named = request(vec![series(&[("__name__", "a"), ("x", "Q")], &[(1, 1.0)])]);
    let mut not_text = named.encode_to_vec();
    for byte in not_text.iter_mut().filter(|byte| **byte == b'Q') {
        *byte = 0xff;
    }
    let response = fixture.post(None, pack(&not_text)).await;
    assert_eq!(response.status(), StatusCode::NO_CONTENT);
    assert_eq!(fixture.content().len(), 1);
}

/// prometheus/prometheus#9214: Prometheus keeps the first value and drops the others silently.
#[tokio::test]
async fn first_of_several_values_for_one_timestamp_is_stored() {
    let fixture = fixture();
    let sent = vec![
        series(&[("__name__", "a")], &[(1, 1.0)]),
        series(&[("__name__", "b")], &[(1, 1.0), (1, 2.0), (2, 4.0)]),
        series(&[("__name__", "c")], &[(1, 1.0)]),
        series(&[("__name__", "c")], &[(1, 2.0)]),
    ];
    let response = fixture.post_v1(&request(sent)).await;
    assert_eq!(response.status(), StatusCode::NO_CONTENT, "{response:?}");
    let want = [
        "{__name__=\"a\"} 1 3ff0000000000000",
        "{__name__=\"b\"} 1 3ff0000000000000",
        "{__name__=\"b\"} 2 4010000000000000",
        "{__name__=\"c\"} 1 3ff0000000000000",
    ];
    assert_eq!(fixture.content(), want);
}

/// prometheus/prometheus#19665.
#[tokio::test]
async fn series_with_a_duplicate_label_name_is_refused_and_the_rest_kept() {
    let fixture = fixture();
    let sent = vec![
        series(&[("__name__", "a"), ("x", "1"), ("x", "2")], &[(1, 1.0)]),
        series(&[("__name__", "good")], &[(1, 1.0)]),
    ];
    let response = fixture.post_v1(&request(sent)).await;
    assert_eq!(
        (response.status(), response.body().as_str()),
        (
            StatusCode::BAD_REQUEST,
            "1 series refused: label name occurs twice"
        )
    );
    assert_eq!(
        fixture.content(),
        ["{__name__=\"good\"} 1 3ff0000000000000"]
    );
}

#[tokio::test]
async fn refused_requests_have_a_reason() {
    let fixture = fixture();
    let refusal = async |content_type: &'static str, body: Vec<u8>| {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        let received = receive(&fixture.store, &headers, body.into()).await;
        received.refusal
    };
    let pack_one = |labels: &[(&str, &str)], sample| {
        pack(&request(vec![series(labels, &[sample])]).encode_to_vec())
    };
    let good = pack_one(&[("__name__", "a")], (1, 1.0));
    assert_eq!(refusal("application/x-protobuf", good.clone()).await, None);
    let cases = [
        ("text/plain", good, RequestRefusal::MediaType),
        (MEDIA_TYPE, b"x".to_vec(), RequestRefusal::Malformed),
        (
            MEDIA_TYPE,
            vec![0xff, 0xff, 0xff, 0xff, 0x0f, 0],
            RequestRefusal::TooLarge,
        ),
        (
            MEDIA_TYPE,
            pack_one(&[("__name__", "a")], (1, 2.0)),
            RequestRefusal::Samples,
        ),
    ];
    for (content_type, body, want) in cases {
        assert_eq!(refusal(content_type, body).await, Some(want));
    }
}

#[tokio::test]
async fn wrong_types_are_415_and_bad_bodies_400() {
    let fixture = fixture();
    let body = pack(&request(vec![]).encode_to_vec());
    for (content_type, want) in [
        (Some("application/x-protobuf"), 204),
        (
            Some("application/x-protobuf;proto=prometheus.WriteRequest"),
            204,
        ),
        (
            Some("application/x-protobuf; proto=io.prometheus.write.v2.Request"),
            204,
        ),
        (Some("application/x-protobuf;proto=prometheus.Other"), 415),
        (Some("application/json"), 415),
        (None, 204),
    ] {
        let response = fixture.post(content_type, body.clone()).await;
        assert_eq!(response.status(), want, "{content_type:?}");
    }
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    let response = receive(&fixture.store, &headers, body.into())
        .await
        .response;
    assert_eq!(response.status(), 415);
    assert_eq!(
        fixture.post(None, b"not snappy".to_vec()).await.status(),
        400
    );
    assert_eq!(fixture.post(None, pack(b"\x0a\xff")).await.status(), 400);
    // A declared length of 4 GiB is refused before anything is allocated.
    let bomb = vec![0xff, 0xff, 0xff, 0xff, 0x0f, 0];
    assert_eq!(fixture.post(None, bomb).await.status(), 400);
}

#[tokio::test]
async fn native_histograms_are_refused_by_name_and_the_rest_kept() {
    let fixture = fixture();
    let mut with_histogram = series(&[("__name__", "h")], &[]);
    with_histogram.histograms.push(vec![]);
    let good = series(&[("__name__", "up")], &[(1, 1.0)]);
    let response = fixture.post_v1(&request(vec![with_histogram, good])).await;
    assert_eq!(response.status(), StatusCode::BAD_REQUEST);
    assert!(response.body().contains("native histogram"));
    assert_eq!(fixture.content().len(), 1);
}

#[tokio::test]
async fn metadata_is_kept() {
    let fixture = fixture();
    let mut with_metadata = request(vec![]);
    with_metadata.metadata.push(MetadataMessage {
        kind: 1,
        family: "hits_total".to_owned(),
        help: "Hits.".to_owned(),
        unit: String::new(),
    });
    fixture.post_v1(&with_metadata).await;
    let known = fixture.store.metadata();
    assert_eq!(known[0].0, "hits_total");
    assert_eq!(known[0].1.metric_type.as_str(), "counter");
}

fn request_v2() -> RequestMessage2 {
    let symbols = ["", "__name__", "up", "job", "j", "Is it up?"];
    RequestMessage2 {
        symbols: symbols.map(str::to_owned).to_vec(),
        series: vec![SeriesMessage2 {
            labels: vec![1, 2, 3, 4],
            samples: samples_of(&[(1, 1.0), (2, 2.0)]),
            histograms: vec![],
            exemplars: vec![],
            metadata: Some(MetadataMessage2 {
                kind: 2,
                help: 5,
                unit: 0,
            }),
        }],
    }
}

#[track_caller]
fn check_written(response: &Response<String>, status: u16, samples: u64) {
    assert_eq!(response.status(), status, "{}", response.body());
    let counts = WRITTEN.map(|name| response.headers()[name].to_str().unwrap().to_owned());
    assert_eq!(
        counts,
        [samples.to_string(), "0".to_owned(), "0".to_owned()]
    );
}

#[tokio::test]
async fn v2_says_what_was_written() {
    let fixture = fixture();
    check_written(&fixture.post_v2(&request_v2()).await, 204, 2);
    assert_eq!(fixture.content().len(), 2);
    assert_eq!(fixture.store.metadata()[0].1.help, "Is it up?");
    let mut mixed = request_v2();
    mixed.series[0].samples = samples_of(&[(2, 7.0), (3, 3.0)]);
    mixed.series.push(SeriesMessage2 {
        labels: vec![1, 99],
        samples: samples_of(&[(1, 1.0)]),
        exemplars: vec![],
        histograms: vec![],
        metadata: None,
    });
    check_written(&fixture.post_v2(&mixed).await, 400, 1);
    assert_eq!(fixture.content().len(), 3);
    let mut bad_symbols = request_v2();
    bad_symbols.symbols[0] = "x".to_owned();
    check_written(&fixture.post_v2(&bad_symbols).await, 400, 0);
}

/// Five series that differ in one label, each with a sample that identifies it.
fn round(number: i64) -> Vec<SeriesMessage> {
    let one = |n: i64| {
        let pod = format!("p{n}");
        let sample = (NOW - 100_000 + number * 1000, (n * 100 + number) as f64);
        series(&[("__name__", "m"), ("pod", &pod)], &[sample])
    };
    (0..5).map(one).collect()
}

#[tokio::test]
async fn series_named_again_are_found_in_any_order() {
    let fixture = fixture();
    let mut want = Vec::new();
    for number in 0..9 {
        let mut series = round(number);
        // The order stays for three requests, then changes; sometimes one series is missing.
        series.rotate_left(number as usize / 3);
        if number % 4 == 3 {
            series.remove(1);
        }
        if number == 6 {
            fixture.store.flush().unwrap();
        }
        for one in &series {
            let pod = &one.labels[1].value;
            let SampleMessage { value, timestamp } = one.samples[0];
            let bits = value.to_bits();
            want.push(format!(
                "{{__name__=\"m\", pod=\"{pod}\"}} {timestamp} {bits:x}"
            ));
        }
        let metadata = vec![];
        let response = fixture.post_v1(&RequestMessage { series, metadata }).await;
        assert_eq!(response.status(), StatusCode::NO_CONTENT);
    }
    want.sort();
    assert_eq!(fixture.content(), want);
}

#[tokio::test]
async fn label_after_the_samples_is_refused() {
    let fixture = fixture();
    let plain = |time| series(&[("__name__", "m"), ("a", "1")], &[(time, 1.0)]);
    for time in [NOW - 4000, NOW - 3000] {
        let body = RequestMessage {
            series: vec![plain(time)],
            metadata: vec![],
        };
        fixture.post_v1(&body).await;
    }
    // Protobuf: two concatenated messages are one with the fields of both.
    let mut message = plain(NOW - 2000).encode_to_vec();
    message.extend(series(&[("b", "2")], &[]).encode_to_vec());
    let mut request = vec![0x0a, message.len() as u8];
    request.extend(&message);
    let response = fixture.post(None, pack(&request)).await;
    assert_eq!(response.status(), StatusCode::BAD_REQUEST);
    let one = 1.0_f64.to_bits();
    let want = [
        format!("{{__name__=\"m\", a=\"1\"}} {} {one:x}", NOW - 4000),
        format!("{{__name__=\"m\", a=\"1\"}} {} {one:x}", NOW - 3000),
    ];
    assert_eq!(fixture.content(), want);
}

#[tokio::test]
async fn exemplars_of_v2_are_kept_and_counted() {
    let fixture = fixture();
    let mut request = request_v2();
    request
        .symbols
        .extend(["trace_id", "f00d"].map(str::to_owned));
    let exemplar = |timestamp| ExemplarMessage2 {
        labels: vec![6, 7],
        value: 0.5,
        timestamp,
    };
    request.series[0].exemplars = vec![exemplar(1), exemplar(2)];
    let response = fixture.post_v2(&request).await;
    assert_eq!(response.status(), 204, "{}", response.body());
    let exemplars = &response.headers()["x-prometheus-remote-write-exemplars-written"];
    assert_eq!(exemplars, "2");
    let up = [vec![common::model::Matcher::equal("__name__", "up")]];
    let found = fixture.store.exemplars(&up, 0, 10);
    assert_eq!(found[0].1.len(), 2);
    assert_eq!(found[0].1[0].labels.get("trace_id"), Some("f00d"));
}

#[tokio::test]
async fn same_series_by_other_symbols_and_by_v1_are_one_series() {
    let fixture = fixture();
    check_written(&fixture.post_v2(&request_v2()).await, 204, 2);
    let mut other = request_v2();
    other.symbols = ["", "j", "job", "up", "__name__"]
        .map(str::to_owned)
        .to_vec();
    other.series[0].labels = vec![4, 3, 2, 1];
    other.series[0].metadata = None;
    other.series[0].samples = samples_of(&[(3, 3.0)]);
    for _ in 0..2 {
        check_written(&fixture.post_v2(&other).await, 204, 1);
    }
    let v1 = series(&[("__name__", "up"), ("job", "j")], &[(4, 4.0)]);
    assert_eq!(fixture.post_v1(&request(vec![v1])).await.status(), 204);
    let lines = fixture.content();
    assert_eq!(lines.len(), 4);
    assert!(
        lines
            .iter()
            .all(|line| line.starts_with("{__name__=\"up\", job=\"j\"}"))
    );
}
