//! Runs a real Prometheus for a test.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::model::{Labels, Sample};
use prost::Message;
use serde_json::Value;

/// A running Prometheus, which is stopped when the value is dropped.
pub(crate) struct Prometheus {
    process: Child,
    address: SocketAddr,
    /// Its data and configuration, removed at the end.
    folder: tempfile::TempDir,
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        if let Err(error) = self
            .process
            .kill()
            .and_then(|()| self.process.wait().map(drop))
        {
            println!("stop Prometheus: {error}");
        }
    }
}

/// Returns the path of the Prometheus binary. If there is none, prints why and returns `None`.
pub(crate) fn binary() -> Option<String> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/peers");
    let output = Command::new(&script).stderr(Stdio::inherit()).output();
    let output = match output {
        Ok(output) => output,
        Err(error) => {
            println!("SKIPPED: run {}: {error}", script.display());
            return None;
        }
    };
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let path = text
        .lines()
        .find_map(|line| line.strip_prefix("PEER_PROMETHEUS="));
    let Some(path) = path else {
        println!("SKIPPED: no Prometheus to compare with (see scripts/peers)");
        return None;
    };
    let version = Command::new(path).arg("--version").output().unwrap();
    let version = String::from_utf8_lossy(&version.stdout).into_owned();
    let first = version.lines().next().unwrap_or_default();
    if !first.contains("version 3.5.") {
        println!("SKIPPED: comparison is with Prometheus 3.5, here is {first:?}");
        return None;
    }
    Some(path.to_owned())
}

impl Prometheus {
    /// Starts `binary` with feature flags and waits until it is ready.
    pub(crate) fn start(binary: &str, features: &str) -> Self {
        // Another test may take the chosen port before Prometheus listens on it.
        (0..10)
            .find_map(|_| Self::try_start(binary, features))
            .expect("start Prometheus on a free port")
    }

    /// Returns `None` if another process has the port.
    fn try_start(binary: &str, features: &str) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("prometheus.yml");
        std::fs::write(&config, "global: {}\n").unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let mut command = Command::new(binary);
        command
            .arg(format!("--config.file={}", config.display()))
            .arg(format!(
                "--storage.tsdb.path={}",
                folder.path().join("data").display()
            ))
            .arg(format!("--web.listen-address={address}"))
            .args(["--web.enable-remote-write-receiver", "--log.level=error"])
            .stdout(Stdio::null());
        if !features.is_empty() {
            command.arg(format!("--enable-feature={features}"));
        }
        let process = command.spawn().unwrap();
        let peer = Self {
            process,
            address,
            folder,
        };
        let mut peer = peer;
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            if !matches!(peer.process.try_wait(), Ok(None)) {
                return None;
            }
            if let Some((200, _)) = peer.request("GET", "/-/ready", "", &[]) {
                break;
            }
            assert!(
                Instant::now() < deadline,
                "Prometheus is not ready after a minute"
            );
            std::thread::sleep(Duration::from_millis(50));
        }
        let (_, flags) = peer.request("GET", "/api/v1/status/flags", "", &[])?;
        let flags: Value = serde_json::from_slice(&flags).ok()?;
        let path = flags["data"]["storage.tsdb.path"].as_str()?;
        Path::new(path)
            .starts_with(peer.folder.path())
            .then_some(peer)
    }

    /// Sends a form to the API; returns the JSON of the answer, whatever its status.
    pub(crate) fn api(&self, path: &str, form: &[(&str, &str)]) -> Value {
        let pairs: Vec<_> = form
            .iter()
            .map(|(name, value)| format!("{name}={}", percent_encoded(value)))
            .collect();
        let kind = "Content-Type: application/x-www-form-urlencoded\r\n";
        let (_, body) = self
            .request("POST", path, kind, pairs.join("&").as_bytes())
            .unwrap();
        serde_json::from_slice(&body).unwrap()
    }

    /// Stores series by remote write, in the order of time.
    pub(crate) fn write(&self, series: &[(Labels, Vec<Sample>)]) {
        let times = || {
            series
                .iter()
                .flat_map(|(_, samples)| samples)
                .map(|s| s.timestamp_ms)
        };
        let (Some(first), Some(last)) = (times().min(), times().max()) else {
            return;
        };
        // Prometheus rejects samples that are half an hour older than the newest.
        let slice_ms = 10 * 60 * 1000;
        let mut from = first;
        while from <= last {
            let range = from..from + slice_ms;
            let request = WriteRequest::of(series, &range);
            if !request.timeseries.is_empty() {
                let body = snap::raw::Encoder::new()
                    .compress_vec(&request.encode_to_vec())
                    .unwrap();
                let kind = "Content-Type: application/x-protobuf\r\nContent-Encoding: snappy\r\nX-Prometheus-Remote-Write-Version: 0.1.0\r\n";
                let (status, answer) = self.request("POST", "/api/v1/write", kind, &body).unwrap();
                assert_eq!(status, 204, "{}", String::from_utf8_lossy(&answer));
            }
            from += slice_ms;
        }
    }

    /// Sends one HTTP/1.0 request, so that the answer is not chunked and ends with the connection.
    fn request(
        &self,
        method: &str,
        path: &str,
        headers: &str,
        body: &[u8],
    ) -> Option<(u16, Vec<u8>)> {
        let mut stream = TcpStream::connect(self.address).ok()?;
        stream
            .set_read_timeout(Some(Duration::from_secs(60)))
            .unwrap();
        let length = body.len();
        let head = format!(
            "{method} {path} HTTP/1.0\r\nHost: peer\r\n{headers}Content-Length: {length}\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).ok()?;
        stream.write_all(body).ok()?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).ok()?;
        let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n")?;
        let head = String::from_utf8_lossy(&answer[..end]).into_owned();
        let status = head.split(' ').nth(1)?.parse().ok()?;
        Some((status, answer[end + 4..].to_vec()))
    }
}

fn percent_encoded(text: &str) -> String {
    let encoded = text.bytes().map(|byte| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'_' | b'-' => {
            char::from(byte).to_string()
        }
        _ => format!("%{byte:02X}"),
    });
    encoded.collect()
}

#[derive(Clone, PartialEq, Message)]
struct WriteRequest {
    #[prost(message, repeated, tag = "1")]
    timeseries: Vec<TimeSeries>,
}

#[derive(Clone, PartialEq, Message)]
struct TimeSeries {
    #[prost(message, repeated, tag = "1")]
    labels: Vec<Label>,
    #[prost(message, repeated, tag = "2")]
    samples: Vec<Point>,
}

#[derive(Clone, PartialEq, Message)]
struct Label {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    value: String,
}

#[derive(Clone, PartialEq, Message)]
struct Point {
    /// Optional, because prost omits a negative zero as the default otherwise.
    #[prost(double, optional, tag = "1")]
    value: Option<f64>,
    #[prost(int64, tag = "2")]
    timestamp: i64,
}

impl WriteRequest {
    fn of(series: &[(Labels, Vec<Sample>)], range: &std::ops::Range<i64>) -> Self {
        let mut timeseries = Vec::new();
        for (labels, samples) in series {
            let samples: Vec<_> = samples
                .iter()
                .filter(|sample| range.contains(&sample.timestamp_ms))
                .map(|sample| Point {
                    value: Some(sample.value),
                    timestamp: sample.timestamp_ms,
                })
                .collect();
            if samples.is_empty() {
                continue;
            }
            let label = |(name, value): (&str, &str)| Label {
                name: name.to_owned(),
                value: value.to_owned(),
            };
            timeseries.push(TimeSeries {
                labels: labels.iter().map(label).collect(),
                samples,
            });
        }
        Self { timeseries }
    }
}
