//! The HTTP API over a real store, with requests of clients and attackers.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use aggregator::alerting::{Alerting, Parts, Plan};
use aggregator::config::{ConfigFile, Flags, Settings};
use aggregator::http::auth::Auth;
use aggregator::http::metrics::RequestMetrics;
use aggregator::http::router::router;
use aggregator::http::state::{Api, Core};
use aggregator::ingest::Agents;
use aggregator::run;
use axum::Router;
use axum::body::Body;
use bytes::Bytes;
use common::clock::{Clock, ManualClock};
use common::model::{Labels, Sample};
use common::telemetry::Registry;
use http::{Request, StatusCode, header};
use http_body_util::BodyExt as _;
use tempfile::TempDir;
use tidemark_promql::Engine;
use tidemark_storage::{AppendMode, SeriesSamples, Store, StoreOptions};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

const NOW_MS: i64 = 1_700_000_000_000;
/// Number of requests after which a server is replaced, so that stored data does not pile up.
const REQUESTS_MAX: u32 = 500;
const RESPONSE_BYTES_MAX: usize = 64 << 20;

/// A server without a listener.
struct Server {
    runtime: Runtime,
    router: Router,
    store: Store,
    requests: u32,
    _directory: TempDir,
}

/// A response.
struct Answer {
    status: StatusCode,
    content_type: String,
    body: Bytes,
}

thread_local! {
    static SERVER: RefCell<Option<Server>> = const { RefCell::new(None) };
}

/// Sends a request to the thread's server.
fn send(request: Request<Body>) -> Answer {
    SERVER.with_borrow_mut(|slot| {
        if slot
            .as_ref()
            .is_some_and(|server| server.requests >= REQUESTS_MAX)
        {
            *slot = None;
        }
        slot.get_or_insert_with(Server::new).send(request)
    })
}

impl Server {
    fn new() -> Self {
        let directory = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
        let directory = directory.expect("a temporary directory");
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        let clock: Arc<dyn Clock> = Arc::new(ManualClock::new(NOW_MS));
        let store = open_store(directory.path(), &clock);
        let api = runtime.block_on(async { make_api(directory.path(), &store, &clock) });
        let requests = Arc::new(RequestMetrics::new(&api.registry));
        let auth = Arc::new(Auth::new(BTreeMap::new(), &api.registry));
        Self {
            runtime,
            router: router(api, requests, auth),
            store,
            requests: 0,
            _directory: directory,
        }
    }

    fn send(&mut self, request: Request<Body>) -> Answer {
        self.requests += 1;
        let router = self.router.clone();
        self.runtime.block_on(async move {
            let response = router.oneshot(request).await;
            let response = response.unwrap_or_else(|never| match never {});
            let (head, body) = response.into_parts();
            let kind = head.headers.get(header::CONTENT_TYPE);
            let content_type = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
            let limited = http_body_util::Limited::new(body, RESPONSE_BYTES_MAX);
            let body = limited.collect().await.map(|body| body.to_bytes());
            Answer {
                status: head.status,
                content_type: content_type.to_owned(),
                body: body.expect("a whole answer of bounded size"),
            }
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The directory is removed with it.
        let _closed = self.store.close();
    }
}

fn open_store(path: &Path, clock: &Arc<dyn Clock>) -> Store {
    let options = StoreOptions {
        path: path.join("data"),
        ..StoreOptions::default()
    };
    let store = Store::open(options, Arc::clone(clock)).expect("an empty store opens");
    let mut series = Vec::new();
    for (name, job) in [("up", "a"), ("up", "b"), ("requests_total", "a")] {
        let labels = Labels::from_pairs([("__name__", name), ("job", job), ("instance", "i")]);
        let samples = (0..20).map(|index| Sample {
            timestamp_ms: NOW_MS - 300_000 + index * 15_000,
            value: index as f64,
        });
        series.push(SeriesSamples {
            labels: labels.expect("labels of this harness"),
            samples: samples.collect(),
        });
    }
    let appended = store.append(&series, AppendMode::Atomic);
    appended.expect("an empty store takes samples");
    store
}

fn make_api(path: &Path, store: &Store, clock: &Arc<dyn Clock>) -> Api {
    let flags = Flags::from_args(["fuzz", "--query.max-samples=200000", "--query.timeout=5s"]);
    let flags = flags.expect("flags of this harness");
    let file = ConfigFile::default();
    let settings = Settings::new(&flags, &file).expect("settings of this harness");
    let features = settings.promql_features();
    let plan = Plan::load(&file, None, features).expect("no rules, no notifications");
    let registry = Registry::default();
    let (reload, _reloads) = mpsc::channel(1);
    let parts = (flags, file, settings);
    let stop = CancellationToken::new();
    let api = run::shared(parts, reload, Arc::clone(clock), &registry, stop);
    let engine = Arc::new(Engine::new(run::engine_options(&api)));
    let parts = Parts {
        store: store.clone(),
        engine: Arc::clone(&engine),
        clock: Arc::clone(clock),
        external_url: "http://localhost".to_owned(),
        series_max: 1000,
        resend_delay: std::time::Duration::from_secs(60),
    };
    let alerting = Alerting::open(path, plan, parts, &registry).expect("state of no alerts");
    let core = Core {
        store: store.clone(),
        engine,
        agents: Agents::default(),
    };
    assert!(api.core.set(core).is_ok() && api.alerting.set(alerting).is_ok());
    api.ready.store(true, Ordering::Release);
    api
}

/// Splits `PATH?QUERY` from the body on the following lines.
fn target_and_body(input: &[u8]) -> Option<(String, &[u8])> {
    let end = input.iter().position(|&byte| byte == b'\n');
    let (line, body) = input.split_at(end.unwrap_or(input.len()));
    let mut target = String::new();
    for &byte in line {
        // Like clients, escapes characters that are not allowed in a URL.
        if byte.is_ascii_graphic() && !b"\"<>\\^`{|}#".contains(&byte) {
            target.push(char::from(byte));
        } else {
            write!(target, "%{byte:02X}").ok()?;
        }
    }
    Some((target, body.get(1..).unwrap_or_default()))
}

/// An API request: `PATH?QUERY`, followed by lines with the form of a POST. The response is Prometheus' JSON with a
/// matching status, and never an internal error.
///
/// # Panics
/// The response is another one.
pub fn query(input: &[u8]) {
    let Some((target, form)) = target_and_body(input) else {
        return;
    };
    let mut request = Request::builder().uri(format!("/api/v1/{target}"));
    let mut body = Body::empty();
    if !form.is_empty() {
        request = request
            .method("POST")
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        body = Body::from(form.to_vec());
    }
    let Ok(request) = request.body(body) else {
        return;
    };
    let answer = send(request);
    assert_ne!(answer.status, StatusCode::INTERNAL_SERVER_ERROR, "{target}");
    if answer.content_type.starts_with("application/json") {
        let json: serde_json::Value =
            serde_json::from_slice(&answer.body).expect("JSON that can be read");
        let says = json.get("status").and_then(serde_json::Value::as_str);
        let wanted = if answer.status.is_success() {
            "success"
        } else {
            "error"
        };
        assert_eq!(says, Some(wanted), "{target}: {json}");
    }
}

/// A request to Alertmanager's API: a path below `/api/v2`, followed by lines with the JSON of a POST.
///
/// # Panics
/// The response is an internal error.
pub fn alertmanager(input: &[u8]) {
    let Some((target, json)) = target_and_body(input) else {
        return;
    };
    let mut request = Request::builder().uri(format!("/api/v2/{target}"));
    let mut body = Body::empty();
    if !json.is_empty() {
        request = request
            .method("POST")
            .header(header::CONTENT_TYPE, "application/json");
        body = Body::from(json.to_vec());
    }
    if let Ok(request) = request.body(body) {
        let answer = send(request);
        assert_ne!(answer.status, StatusCode::INTERNAL_SERVER_ERROR, "{target}");
    }
}

/// A remote-write request. The first byte selects the form: 0 is version 1.0 and 1 is version 2.0, both compressed here, so
/// that mutations reach the message. Otherwise, the rest is sent unchanged.
///
/// # Panics
/// The response is an internal error.
pub fn remote_write(input: &[u8]) {
    const VERSION_2: &str = "application/x-protobuf;proto=io.prometheus.write.v2.Request";
    let Some((&kind, message)) = input.split_first() else {
        return;
    };
    let (content_type, body) = match kind {
        0 => ("application/x-protobuf", compressed(message)),
        1 => (VERSION_2, compressed(message)),
        _ => ("application/x-protobuf", message.to_vec()),
    };
    let answer = post("/api/v1/write", content_type, body);
    assert_ne!(answer.status, StatusCode::INTERNAL_SERVER_ERROR);
}

/// A remote-read request: 0 and a message, which is compressed here, or another byte and an unchanged body.
///
/// # Panics
/// The response is an internal error.
pub fn remote_read(input: &[u8]) {
    let Some((&kind, message)) = input.split_first() else {
        return;
    };
    let body = if kind == 0 {
        compressed(message)
    } else {
        message.to_vec()
    };
    let answer = post("/api/v1/read", "application/x-protobuf", body);
    assert_ne!(answer.status, StatusCode::INTERNAL_SERVER_ERROR);
}

fn compressed(message: &[u8]) -> Vec<u8> {
    let packed = snap::raw::Encoder::new().compress_vec(message);
    packed.expect("inputs are far below snappy's limit")
}

fn post(path: &str, content_type: &str, body: Vec<u8>) -> Answer {
    let request = Request::post(path)
        .header(header::CONTENT_TYPE, content_type)
        .header(header::CONTENT_ENCODING, "snappy")
        .body(Body::from(body));
    send(request.expect("a request of this harness"))
}
