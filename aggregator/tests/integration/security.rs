//! Authentication, and limits of a single client.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use base64::Engine as _;

use crate::harness::Aggregator;
use crate::http;

#[test]
fn basic_authentication_is_required_and_allows_a_public_address() {
    let dir = tempfile::tempdir().unwrap();
    let web = dir.path().join("web.yml");
    let hash = bcrypt::hash("pa:ss", 4).unwrap();
    fs::write(&web, format!("basic_auth_users:\n  ann: {hash}\n")).unwrap();
    let aggregator = Aggregator::start_with(&[
        "--web.config.file",
        web.to_str().unwrap(),
        "--web.listen-address=0.0.0.0:0",
    ]);
    let port = aggregator.address.rsplit_once(':').unwrap().1.to_owned();
    let address = format!("127.0.0.1:{port}");
    let ask = |credentials: Option<&str>| {
        let value = credentials.map(|pair| {
            let encoded = base64::engine::general_purpose::STANDARD.encode(pair);
            format!("Basic {encoded}")
        });
        let headers: Vec<_> = value
            .iter()
            .map(|v| ("authorization", v.as_str()))
            .collect();
        http::request(&address, "GET", "/api/v1/status/buildinfo", &headers, b"")
    };
    let refused = ask(None);
    assert_eq!(refused.status, 401);
    assert_eq!(refused.headers["www-authenticate"], "Basic");
    assert_eq!(ask(Some("ann:wrong")).status, 401);
    assert_eq!(ask(Some("bob:pa:ss")).status, 401);
    assert_eq!(ask(Some("ann:pa:ss")).status, 200);
    // Neither a redirect nor a 404 reveals which paths exist.
    for path in ["/", "/-/healthy", "/metrics", "/nope", "//api/v1/query"] {
        let answer = http::request(&address, "GET", path, &[], b"");
        assert_eq!(answer.status, 401, "{path}");
    }
    for method in ["OPTIONS", "PATCH", "DELETE"] {
        let answer = http::request(&address, method, "/api/v1/query", &[], b"");
        assert_eq!(answer.status, 401, "{method}");
    }
}

#[test]
fn slow_request_heads_are_aborted() {
    let aggregator = Aggregator::start_with(&["--web.read-timeout=200ms"]);
    let mut stream = TcpStream::connect(&aggregator.address).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    stream
        .write_all(b"GET /-/ready HTTP/1.1\r\nhost: x\r\n")
        .unwrap();
    let mut rest = Vec::new();
    // The server closes the connection, with or without a 408.
    stream.read_to_end(&mut rest).unwrap();
    assert!(!String::from_utf8_lossy(&rest).contains("200 OK"));
    aggregator.stop();
}

#[test]
fn connections_beyond_the_limit_wait() {
    let aggregator =
        Aggregator::start_with(&["--web.max-connections=1", "--web.read-timeout=300ms"]);
    let holder = TcpStream::connect(&aggregator.address).unwrap();
    // Answered once the server has closed the idle connection.
    assert_eq!(aggregator.get("/-/ready").status, 200);
    drop(holder);
    aggregator.stop();
}
