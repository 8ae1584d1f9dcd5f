//! Tests of what is written in each state of the watches.

use common::clock::ManualClock;
use tidemark_storage::{ReadControl, Readable as _, Selection, StoreOptions, Values};

use super::*;

fn cluster() -> (tempfile::TempDir, Store, Cluster, Registry) {
    let folder = tempfile::tempdir().unwrap();
    let options = StoreOptions {
        path: folder.path().to_owned(),
        retention: None,
        retention_bytes: 0,
        memory_budget_bytes: 64 << 20,
        ..StoreOptions::default()
    };
    let store = Store::open(options, Arc::new(ManualClock::new(1_000_000))).unwrap();
    let options = ClusterOptions {
        interval: Duration::from_secs(30),
        base: BaseLabels::new("api", Some("c1")),
        series_per_kind_max: 1000,
    };
    let registry = Registry::default();
    let cluster = Cluster::new(&store, &options, Arc::new(Metrics::new(&registry)));
    (folder, store, cluster, registry)
}

fn up(store: &Store) -> Vec<f64> {
    let selection = Selection {
        matchers: vec![
            common::model::Matcher::equal("__name__", "up"),
            common::model::Matcher::equal("job", "kube-state-metrics"),
            common::model::Matcher::equal("cluster", "c1"),
        ],
        start_ms: 0,
        end_ms: 1_000_000,
    };
    let control = ReadControl::unlimited();
    let set = store.select(&selection, &control).unwrap();
    let mut values = Vec::new();
    set.read(0..set.len(), &control, &mut |_, column| {
        let Values::Floats(floats) = column.values;
        values.extend_from_slice(floats);
        Ok(())
    })
    .unwrap();
    values
}

fn failed(reason: Failure) -> Change {
    Change::Failed {
        reason,
        error: "x".to_owned(),
    }
}

fn follow(cluster: &mut Cluster) {
    for kind in Kind::ALL {
        cluster.change(kind, Change::ListBegins);
        cluster.change(kind, Change::ListEnds);
        cluster.change(kind, Change::Following);
    }
}

#[test]
fn nothing_is_written_before_the_first_lists_are_complete() {
    let (_folder, store, mut cluster, _registry) = cluster();
    cluster.change(Kind::Pod, Change::ListBegins);
    cluster.write(1000);
    cluster.change(Kind::Pod, Change::ListEnds);
    cluster.change(Kind::Pod, Change::Following);
    cluster.write(2000);
    assert!(!cluster.is_started());
    assert!(up(&store).is_empty(), "{:?}", up(&store));
    follow(&mut cluster);
    assert!(cluster.is_started());
    cluster.write(3000);
    assert_eq!(up(&store), [1.0]);
}

#[test]
fn api_server_that_fails_from_the_start_is_down() {
    let (_folder, store, mut cluster, _registry) = cluster();
    cluster.change(Kind::Pod, failed(Failure::Connection));
    cluster.write(1000);
    assert_eq!(up(&store), [0.0]);
}

#[tokio::test]
async fn first_row_follows_the_first_lists_at_once() {
    let (_folder, store, cluster, _registry) = cluster();
    let (sender, receiver) = mpsc::channel(CHANGES_MAX);
    let clock = Arc::new(ManualClock::new(500_000));
    let cancel = CancellationToken::new();
    let every = Duration::from_secs(30);
    let writer = tokio::spawn(run(cluster, receiver, every, clock, cancel.clone()));
    for kind in Kind::ALL {
        for change in [Change::ListBegins, Change::ListEnds, Change::Following] {
            sender.send((kind, change)).await.unwrap();
        }
    }
    // Long before the next tick, which is 30 s away.
    for _ in 0..1000 {
        if !up(&store).is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(up(&store), [1.0]);
    cancel.cancel();
    writer.await.unwrap();
}

#[test]
fn up_is_1_while_every_kind_is_followed() {
    let (_folder, store, mut cluster, registry) = cluster();
    follow(&mut cluster);
    cluster.write(2000);
    cluster.change(Kind::Node, failed(Failure::Forbidden));
    cluster.write(3000);
    cluster.change(Kind::Node, Change::Following);
    cluster.write(4000);
    assert_eq!(up(&store), [1.0, 0.0, 1.0]);
    let mut text = String::new();
    registry.render(&mut text);
    assert!(
        text.contains(
            r#"aggregator_kube_watch_failures_total{resource="nodes",reason="forbidden"} 1"#
        ),
        "{text}"
    );
}

#[test]
fn forgetful_server_is_no_outage() {
    let (_folder, store, mut cluster, _registry) = cluster();
    for kind in Kind::ALL {
        cluster.change(kind, Change::Following);
    }
    cluster.change(Kind::Node, failed(Failure::Expired));
    cluster.write(1000);
    assert_eq!(up(&store), [1.0]);
}

#[test]
fn families_are_described_in_the_store() {
    let (_folder, store, _cluster, _registry) = cluster();
    let metadata = store.metadata();
    let named = |name: &str| metadata.iter().find(|(family, _)| family == name);
    assert_eq!(
        named("kube_node_info").unwrap().1.metric_type,
        MetricType::Gauge
    );
}
