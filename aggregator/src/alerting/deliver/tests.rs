//! Tests of the driver with a receiver on loopback: each group is notified once, and each notification is durable.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::path::Path;

use common::clock::SystemClock;
use common::model::Labels;
use common::telemetry::Registry;
use http_body_util::{BodyExt as _, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tidemark_alerting::annotations::Annotations;
use tidemark_alerting::external;
use tidemark_alerting::notify::alert::Alert;
use tidemark_alerting::notify::config::Config;
use tidemark_alerting::notify::notifier::Notifier;
use tidemark_alerting::store::check_log;
use tidemark_promql::{Engine, EngineOptions};
use tidemark_storage::{Store, StoreOptions};
use tokio::net::TcpListener;

use super::*;
use crate::alerting::{Parts, Plan};

const GROUPS: usize = 300;
/// Both paths of the receiver get each group.
const NOTIFICATIONS: usize = 2 * GROUPS;

/// How often each path was sent each group.
type Notified = Arc<Mutex<BTreeMap<(String, String), usize>>>;

async fn receiver(notified: Notified) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let notified = Arc::clone(&notified);
            let service = service_fn(move |request| receive(request, Arc::clone(&notified)));
            let server = hyper::server::conn::http1::Builder::new();
            tokio::spawn(server.serve_connection(TokioIo::new(stream), service));
        }
    });
    address
}

async fn receive(
    request: Request<Incoming>,
    notified: Notified,
) -> Result<Response<Empty<Bytes>>, Infallible> {
    let path = request.uri().path().to_owned();
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
    let group = body["groupLabels"]["group"].as_str().unwrap().to_owned();
    *notified.lock().unwrap().entry((path, group)).or_default() += 1;
    Ok(Response::new(Empty::new()))
}

fn config(address: &str) -> Arc<Config> {
    let text = format!(
        "route: {{receiver: both, group_by: [group], group_wait: 0s, group_interval: 1h, repeat_interval: 4h}}\n\
         receivers:\n- name: both\n  webhook_configs: [{{url: 'http://{address}/a'}}, {{url: 'http://{address}/b'}}]\n"
    );
    Arc::new(Config::parse(&text, Path::new(".")).unwrap())
}

/// With `GROUPS` alerts, a group each; the clock is the system's.
fn alerting(folder: &Path, config: Arc<Config>) -> Arc<Alerting> {
    let options = StoreOptions {
        path: folder.to_owned(),
        memory_budget_bytes: 64 << 20,
        ..StoreOptions::default()
    };
    let clock = Arc::new(SystemClock);
    let plan = Plan {
        rules: Vec::new(),
        notifier: Some(config),
        external: external::Alerting::default(),
        interval: Duration::from_secs(60),
        query_offset: Duration::ZERO,
        external_labels: Labels::empty(),
    };
    let parts = Parts {
        store: Store::open(options, clock.clone()).unwrap(),
        engine: Arc::new(Engine::new(EngineOptions::default())),
        clock,
        external_url: "http://here".to_owned(),
        series_max: 1000,
        resend_delay: Duration::from_secs(60),
    };
    let alerting = Alerting::open(folder, plan, parts, &Registry::default()).unwrap();
    let now_ms = alerting.now_ms();
    let alerts = (0..GROUPS).map(|n| Alert {
        labels: Labels::from_pairs([("group", format!("g{n}"))]).unwrap(),
        annotations: Annotations::empty(),
        starts_at_ms: now_ms,
        ends_at_ms: now_ms + 3_600_000,
        updated_at_ms: 0,
        generator_url: Default::default(),
        timeout: false,
    });
    let refused = alerting.notifier().receive(alerts.collect(), now_ms);
    assert_eq!(refused, 0);
    alerting
}

fn records(folder: &Path) -> u64 {
    let log = check_log(&folder.join("alerting")).unwrap().unwrap();
    assert_eq!(log.damage, Vec::<u64>::new());
    log.records
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_group_is_notified_once_and_a_stop_loses_no_record() {
    let folder = tempfile::tempdir().unwrap();
    let notified = Notified::default();
    let config = config(&receiver(Arc::clone(&notified)).await);
    let alerting = alerting(folder.path(), Arc::clone(&config));
    let stop = CancellationToken::new();
    let running = tokio::spawn(run(Arc::clone(&alerting), stop.clone()));
    let delivered = alerting.metrics.of_receiver("both", "webhook");
    let patience = Instant::now() + Duration::from_secs(120);
    while delivered.all.get() < NOTIFICATIONS as u64 {
        assert!(
            Instant::now() < patience,
            "{} were sent",
            delivered.all.get()
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // The last ones may still wait for the recorder.
    stop.cancel();
    running.await.unwrap();
    let notified = notified.lock().unwrap().clone();
    assert_eq!(notified.len(), NOTIFICATIONS);
    assert_eq!(notified.values().max(), Some(&1));
    let now_ms = alerting.now_ms();
    let store = Arc::clone(&alerting.context.load().store);
    let mut next = Notifier::new(config, store, String::new(), now_ms);
    assert_eq!(next.alerts().count(), GROUPS);
    assert_eq!(next.tick(now_ms).len(), 0, "sent again after a restart");
}

#[tokio::test]
async fn waiting_outcomes_share_one_record() {
    let folder = tempfile::tempdir().unwrap();
    let alerting = alerting(folder.path(), config("127.0.0.1:9"));
    let (mut deliveries, _) = tick(&alerting);
    assert_eq!(deliveries.len(), NOTIFICATIONS);
    // As many as may wait.
    deliveries.truncate(DELIVERIES_MAX);
    let before = records(folder.path());
    let (outcomes, ended) = mpsc::channel(DELIVERIES_MAX);
    for delivery in deliveries {
        outcomes.try_send((Arc::new(delivery), true)).unwrap();
    }
    drop(outcomes);
    record(Arc::clone(&alerting), ended).await;
    assert_eq!(records(folder.path()), before + 1);
}
