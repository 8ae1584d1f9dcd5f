//! Tests of the client against the API server of `fake`, on loopback.

use std::sync::Arc;

use common::clock::SystemClock;
use common::model::Matcher;
use common::telemetry::Registry;
use serde_json::Value;
use tidemark_storage::{ReadControl, Readable as _, Selection, Store, StoreOptions};
use tokio::sync::mpsc;

use super::fake::{FakeApi, Fault};
use super::*;
use crate::kube::cluster::{self, Change, ClusterOptions};
use crate::kube::families::Node;
use crate::kube::join::{JoinError, JoinPolicy};
use crate::kube::kind::Kind;

fn patience() -> Patience {
    Patience {
        request: Duration::from_secs(60),
        watch: Duration::from_secs(70),
        silence: Duration::from_secs(80),
        backoff_min: Duration::from_millis(1),
        backoff_max: Duration::from_millis(10),
    }
}

fn client(api: &FakeApi, patience: Patience) -> ApiClient {
    let mut config = ::kube::Config::new(api.url().parse().unwrap());
    config.default_namespace = "tidemark".to_owned();
    ApiClient::with_config(config, patience).unwrap()
}

/// A watch of nodes, and what it reports, as text.
struct Reports(mpsc::Receiver<(Kind, Change)>, CancellationToken);

impl Drop for Reports {
    fn drop(&mut self) {
        self.1.cancel();
    }
}

impl Reports {
    fn watch(api: &FakeApi, patience: Patience) -> Self {
        let (sender, receiver) = mpsc::channel(4);
        let base = BaseLabels::new("api", None);
        let watch = client(api, patience).watch_of::<Node>(&base, &sender);
        let cancel = CancellationToken::new();
        tokio::spawn(watch.run(cancel.clone()));
        Self(receiver, cancel)
    }

    async fn next(&mut self) -> String {
        let next = timeout(Duration::from_secs(60), self.0.recv()).await;
        let (kind, change) = next
            .expect("the watch went quiet")
            .expect("the watch ended");
        assert_eq!(kind, Kind::Node);
        match change {
            Change::ListBegins => "list".to_owned(),
            Change::Applied {
                key,
                series,
                malformed,
            } => {
                assert!(series.len() > 2 && malformed == 0);
                format!("apply {key}")
            }
            Change::Removed { key } => format!("remove {key}"),
            Change::ListEnds => "listed".to_owned(),
            Change::Following => "follow".to_owned(),
            Change::Failed { reason, .. } => format!("failed {}", reason.as_str()),
        }
    }

    async fn expect(&mut self, want: &[&str]) {
        for want in want {
            assert_eq!(self.next().await, *want);
        }
    }

    /// Skips everything before `want`; the watch may retry several times.
    async fn until(&mut self, want: &str) {
        while self.next().await != want {}
    }
}

fn node(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "managedFields": [{"a": {}}]},
           "spec": {}, "status": {"capacity": {"cpu": "2"}}})
}

#[tokio::test]
async fn list_in_pages_then_changes() {
    let api = FakeApi::start().await;
    for name in ["a", "b", "c"] {
        api.put("nodes", node(name));
    }
    let mut reports = Reports::watch(&api, patience());
    reports
        .expect(&[
            "list", "apply /a", "apply /b", "apply /c", "listed", "follow",
        ])
        .await;
    api.put("nodes", node("d"));
    api.put("nodes", node("a"));
    api.delete("nodes", "b");
    reports.expect(&["apply /d", "apply /a", "remove /b"]).await;
}

#[tokio::test]
async fn broken_watch_continues_without_a_list() {
    let api = FakeApi::start().await;
    api.put("nodes", node("a"));
    let mut reports = Reports::watch(&api, patience());
    reports
        .expect(&["list", "apply /a", "listed", "follow"])
        .await;
    api.put("nodes", node("b"));
    reports.expect(&["apply /b"]).await;
    // No node changes any more, but the server's version advances.
    let version = api.bookmark("nodes");
    api.cut();
    reports.expect(&["follow"]).await;
    api.put("nodes", node("c"));
    reports.expect(&["apply /c"]).await;
    let requests = api.seen("/nodes");
    let lists = requests
        .iter()
        .filter(|seen| !seen.query.contains_key("watch"))
        .count();
    assert_eq!(lists, 1);
    assert_eq!(requests[2].query["resourceVersion"], version);
    assert_eq!(requests[2].query["allowWatchBookmarks"], "true");
}

#[tokio::test]
async fn compacted_server_is_listed_again() {
    let api = FakeApi::start().await;
    api.put("nodes", node("a"));
    let mut reports = Reports::watch(&api, patience());
    reports
        .expect(&["list", "apply /a", "listed", "follow"])
        .await;
    api.forget();
    reports.until("failed expired").await;
    reports
        .expect(&["list", "apply /a", "listed", "follow"])
        .await;
}

#[tokio::test]
async fn refusals_are_named_and_retried() {
    let api = FakeApi::start().await;
    let mut reports = Reports::watch(&api, patience());
    reports.until("follow").await;
    for (code, reason) in [
        (401, "unauthorized"),
        (403, "forbidden"),
        (404, "not_found"),
        (429, "refused"),
        (500, "refused"),
    ] {
        api.fail("nodes", Some(Fault::Status(code)));
        api.cut();
        reports.until(&format!("failed {reason}")).await;
    }
    api.fail("nodes", None);
    reports.until("follow").await;
}

#[tokio::test]
async fn garbage_is_malformed() {
    let api = FakeApi::start().await;
    api.fail("nodes", Some(Fault::Garbage));
    let mut reports = Reports::watch(&api, patience());
    reports.expect(&["list", "failed malformed"]).await;
    api.fail("nodes", None);
    reports.until("follow").await;
}

#[tokio::test]
async fn requests_to_a_hanging_server_time_out() {
    let api = FakeApi::start().await;
    api.fail("nodes", Some(Fault::Hang));
    let patience = Patience {
        request: Duration::from_millis(200),
        ..patience()
    };
    let mut reports = Reports::watch(&api, patience);
    reports.expect(&["list", "failed connection"]).await;
    api.fail("nodes", None);
    reports.until("follow").await;
}

#[tokio::test]
async fn silent_watch_counts_as_a_dead_connection() {
    let api = FakeApi::start().await;
    let patience = Patience {
        silence: Duration::from_millis(200),
        ..patience()
    };
    let mut reports = Reports::watch(&api, patience);
    reports
        .expect(&["list", "listed", "follow", "failed connection", "follow"])
        .await;
}

#[tokio::test]
async fn unreachable_server_is_retried() {
    let api = FakeApi::start().await;
    let mut config = ::kube::Config::new("http://127.0.0.1:1".parse().unwrap());
    config.default_namespace = "x".to_owned();
    let client = ApiClient::with_config(config, patience()).unwrap();
    let (sender, receiver) = mpsc::channel(4);
    let cancel = CancellationToken::new();
    let watch = client.watch_of::<Node>(&BaseLabels::new("api", None), &sender);
    let task = tokio::spawn(watch.run(cancel.clone()));
    let mut reports = Reports(receiver, cancel);
    reports
        .expect(&["list", "failed connection", "list", "failed connection"])
        .await;
    reports.1.cancel();
    task.await.unwrap();
    drop(api);
}

#[tokio::test]
async fn kubeconfig_gives_server_and_token() {
    let api = FakeApi::start().await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kubeconfig");
    let text = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: c\n\
         clusters: [{{name: k, cluster: {{server: \"{}\"}}}}]\n\
         users: [{{name: u, user: {{token: t0ken}}}}]\n\
         contexts: [{{name: c, context: {{cluster: k, user: u, namespace: ns}}}}]\n",
        api.url()
    );
    std::fs::write(&path, text).unwrap();
    let client = ApiClient::new(&ApiServer::Kubeconfig(path), patience()).await;
    let client = client.unwrap().unwrap();
    assert_eq!(client.namespace(), "ns");
    client.publish_ca("PEM").await.unwrap();
    let seen = api.seen("tidemark-ca").remove(0);
    assert_eq!(seen.path, "/api/v1/namespaces/ns/configmaps/tidemark-ca");
    assert_eq!(seen.authorization.unwrap(), "Bearer t0ken");
    assert_eq!(seen.content_type.unwrap(), "application/apply-patch+yaml");
    assert_eq!(seen.query["fieldManager"], "tidemark-aggregator");
    let body: Value = serde_json::from_slice(&seen.body).unwrap();
    assert_eq!(body["data"]["ca.crt"], "PEM");
}

#[tokio::test]
async fn missing_kubeconfig_is_an_error_and_off_is_none() {
    let file = ApiServer::Kubeconfig("/nonexistent/kubeconfig".into());
    let error = ApiClient::new(&file, patience()).await.unwrap_err();
    assert!(common::report::chain(&error).contains("/nonexistent/kubeconfig"));
    assert!(
        ApiClient::new(&ApiServer::Off, patience())
            .await
            .unwrap()
            .is_none()
    );
}

#[tokio::test]
async fn join_token_is_reviewed_by_the_server() {
    let api = FakeApi::start().await;
    let client = client(&api, patience());
    let policy = JoinPolicy::service_account("tidemark", "tidemark-agent");
    api.review(
        json!({"status": {"authenticated": true, "audiences": ["tidemark"], "user": {
        "username": "system:serviceaccount:tidemark:tidemark-agent",
        "extra": {"authentication.kubernetes.io/node-name": ["node-a"]}}}}),
    );
    let admitted = policy.admit(&client, "secret", "node-a").await.unwrap();
    assert_eq!(admitted.node, "node-a");
    let seen = api.seen("tokenreviews").remove(0);
    assert_eq!(seen.path, "/apis/authentication.k8s.io/v1/tokenreviews");
    let body: Value = serde_json::from_slice(&seen.body).unwrap();
    assert_eq!(
        body["spec"],
        json!({"token": "secret", "audiences": ["tidemark"]})
    );
    api.fail("tokenreviews", Some(Fault::Status(403)));
    let error = policy.admit(&client, "secret", "node-a").await.unwrap_err();
    assert!(matches!(error, JoinError::Undecided(_)));
    assert!(!common::report::chain(&error).contains("secret"));
}

/// Returns whether the store has a series with these labels.
fn has(store: &Store, labels: &[(&str, &str)]) -> bool {
    let matchers = labels
        .iter()
        .map(|&(name, value)| Matcher::equal(name, value));
    let selection = Selection {
        matchers: matchers.collect(),
        start_ms: 0,
        end_ms: i64::MAX,
    };
    !store
        .select(&selection, &ReadControl::unlimited())
        .unwrap()
        .is_empty()
}

#[tokio::test]
async fn recorded_cluster_is_stored() {
    let api = FakeApi::start().await;
    for text in [
        include_str!("../../../tests/fixtures/kube/nodes-v1.json"),
        include_str!("../../../tests/fixtures/kube/nodes-v2.json"),
    ] {
        let list: Value = serde_json::from_str(text).unwrap();
        for item in list["items"].as_array().unwrap() {
            api.put("nodes", item.clone());
        }
    }
    let pod = include_str!("../../../tests/fixtures/kube/pod-unschedulable.json");
    api.put("pods", serde_json::from_str(pod).unwrap());
    let folder = tempfile::tempdir().unwrap();
    let options = StoreOptions {
        path: folder.path().to_owned(),
        retention: None,
        retention_bytes: 0,
        memory_budget_bytes: 64 << 20,
        ..StoreOptions::default()
    };
    let store = Store::open(options, Arc::new(SystemClock)).unwrap();
    let options = ClusterOptions {
        interval: Duration::from_millis(20),
        base: BaseLabels::new("api", Some("c1")),
        series_per_kind_max: 1000,
    };
    let cancel = CancellationToken::new();
    let registry = Registry::default();
    let clock = Arc::new(SystemClock);
    let (changes, writer) = cluster::start(&store, &options, clock, cancel.clone(), &registry);
    let (watching, stop) = (client(&api, patience()), cancel.clone());
    let watches = tokio::spawn(async move { watching.watch(&options.base, &changes, &stop).await });

    let wanted: [&[(&str, &str)]; 4] = [
        &[
            ("__name__", "kube_node_info"),
            ("node", "node-a"),
            ("cluster", "c1"),
        ],
        &[
            ("__name__", "kube_node_info"),
            ("node", "node-v2"),
            ("job", "kube-state-metrics"),
        ],
        &[
            ("__name__", "kube_pod_status_unschedulable"),
            ("pod", "unschedulable"),
        ],
        &[("__name__", "up"), ("job", "kube-state-metrics")],
    ];
    let all_there = async {
        while !wanted.iter().all(|labels| has(&store, labels)) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(Duration::from_secs(60), all_there)
        .await
        .expect("series are missing");
    assert_eq!(
        api.seen("/pods")[0].query["fieldSelector"],
        "spec.nodeName="
    );
    cancel.cancel();
    watches.await.unwrap();
    writer.await.unwrap();
}
