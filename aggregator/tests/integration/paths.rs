//! Paths as Prometheus' servers treat them: decoded, cleaned, redirected.

use crate::harness::Aggregator;
use crate::http::{self, Answer};

fn ask(aggregator: &Aggregator, method: &str, path: &str) -> Answer {
    http::request(&aggregator.address, method, path, &[], b"")
}

#[track_caller]
fn check(aggregator: &Aggregator, method: &str, path: &str, status: u16, location: Option<&str>) {
    let answer = ask(aggregator, method, path);
    let got = answer.headers.get("location");
    let got = got.map(|value| value.to_str().unwrap());
    assert_eq!((answer.status, got), (status, location), "{method} {path}");
}

#[test]
fn needless_percent_encoding_is_decoded() {
    let aggregator = Aggregator::start();
    check(&aggregator, "GET", "/api/v1/%71uery?query=1", 200, None);
    check(&aggregator, "POST", "/api/v1/%71uery?query=1", 200, None);
    check(&aggregator, "GET", "/%2D/healthy", 200, None);
    // An encoded slash is part of a segment.
    check(&aggregator, "GET", "/api/v1/label/a%2Fb/values", 200, None);
    check(&aggregator, "GET", "/api/v2/%73ilence/a%2Fb", 422, None);
    check(&aggregator, "GET", "/api/v1%2Fquery?query=1", 404, None);
    aggregator.stop();
}

#[test]
fn unclean_paths_are_redirected() {
    let aggregator = Aggregator::start();
    for method in ["GET", "POST"] {
        for (path, target) in [
            ("//api/v1/query?query=1", "/api/v1/query?query=1"),
            ("/api/v1//query?query=1", "/api/v1/query?query=1"),
            ("/api/v1/label//values", "/api/v1/label/values"),
            ("/api/v1/x/../labels", "/api/v1/labels"),
            ("//api/v2/alerts", "/api/v2/alerts"),
            // No redirect leaves this server.
            ("//\\example.org", "/%5Cexample.org"),
        ] {
            check(&aggregator, method, path, 301, Some(target));
        }
    }
    let slash = "/api/v1/query/?query=1";
    let target = Some("/api/v1/query?query=1");
    check(&aggregator, "GET", slash, 301, target);
    check(&aggregator, "POST", slash, 307, target);
    check(&aggregator, "GET", "/-/ready/", 301, Some("/-/ready"));
    check(&aggregator, "GET", "/nope/", 404, None);
    check(&aggregator, "GET", "/nope", 404, None);
    check(&aggregator, "GET", "/api/v1/label/values", 404, None);
    aggregator.stop();
}

#[test]
fn options_is_answered_on_any_path_of_the_api() {
    let aggregator = Aggregator::start();
    for path in [
        "/api/v1/query",
        "/api/v1/query/",
        "/api/v1/nope",
        "/api/v1/",
    ] {
        check(&aggregator, "OPTIONS", path, 204, None);
    }
    check(&aggregator, "OPTIONS", "/nope", 404, None);
    check(&aggregator, "HEAD", "/api/v1/query?query=1", 405, None);
    check(&aggregator, "PATCH", "/api/v1/query?query=1", 405, None);
    aggregator.stop();
}

#[test]
fn federation_of_the_empty_selector_answers_nothing() {
    let aggregator = Aggregator::start();
    let answer = ask(&aggregator, "GET", "/federate?match[]=%7B%7D");
    assert_eq!((answer.status, answer.text().as_str()), (200, ""));
    aggregator.stop();
}

#[test]
fn paths_are_below_the_prefix_of_the_external_url() {
    let aggregator = Aggregator::start_with(&["--web.external-url=/tide"]);
    check(&aggregator, "GET", "/tide/api/v1/query?query=1", 200, None);
    check(&aggregator, "GET", "/tide", 200, None);
    check(&aggregator, "GET", "/tide/", 200, None);
    check(&aggregator, "OPTIONS", "/tide/api/v1/nope", 204, None);
    let slash = "/tide/api/v1/query/";
    check(&aggregator, "GET", slash, 301, Some("/tide/api/v1/query"));
    check(&aggregator, "GET", "/api/v1/query?query=1", 404, None);
    aggregator.stop();
}
