//! Tests of an aggregator restored from an older backup, and of repeated sequences.

use std::fs;
use std::path::Path;
use std::process::Command;

use common::model::Labels;

use super::agent::{Agent, Counts};
use super::sender::Sender;
use super::{NODE, check_complete, metric, number, peer, quic_address, stored};
use crate::harness::{Aggregator, eventually};

/// Creates a snapshot and returns its name.
fn snapshot(aggregator: &Aggregator) -> String {
    let made = aggregator.post_form("/api/v1/admin/tsdb/snapshot", "");
    made.data()["name"].as_str().unwrap().to_owned()
}

/// Kills the aggregator and starts one from its snapshot, with its certificates, at the same address.
fn restore(aggregator: Aggregator, name: &str, address: &str) -> Aggregator {
    let old = aggregator.kill();
    let old = old.path().join("data");
    let restored = tempfile::tempdir().unwrap();
    let data = restored.path().join("data");
    let status = Command::new(env!("CARGO_BIN_EXE_tidemarkctl"))
        .args(["storage", "restore"])
        .args([&old.join("snapshots").join(name), &data])
        .status();
    assert!(status.unwrap().success());
    copy(&old.join("pki"), &data.join("pki"));
    Aggregator::start_in(restored, &[&format!("--quic.listen-address={address}")])
}

fn copy(from: &Path, to: &Path) {
    let status = Command::new("cp").arg("-a").args([from, to]).status();
    assert!(status.unwrap().success(), "{}", fs::exists(from).unwrap());
}

/// T-11.
#[test]
fn agent_sends_what_an_older_backup_lacks_and_nothing_counts_twice() {
    let mut aggregator = Aggregator::start_with(&["--web.enable-admin-api"]);
    let address = quic_address(&mut aggregator);
    let agent = Agent::start(&aggregator, &address, NODE);
    let more_acknowledged = |ticks: u64| {
        let before = agent.counts().ticks;
        eventually("acknowledged ticks", || {
            let enough = agent.counts().ticks >= before + ticks;
            (enough && agent.is_acknowledged()).then_some(())
        });
    };
    more_acknowledged(3);
    let name = snapshot(&aggregator);
    more_acknowledged(3);
    let acknowledged = stored(&aggregator).ticks;
    let aggregator = restore(aggregator, &name, &address);
    // What was acknowledged after the backup is sent again.
    eventually("ticks of before and after", || {
        (stored(&aggregator).ticks > acknowledged).then_some(())
    });
    check_complete(&aggregator, agent, Counts::default());
}

const SERIES: u32 = 20;

/// Opens a session and sends ticks of these sequences, each with its own time and value.
async fn send(address: &str, known: &peer::Known, sequences: &[u64], start_ms: i64) -> Sender {
    let before = sequences[0] - 1;
    let mut sender = Sender::connect(address, known, NODE, before).await;
    let of = |n: u32| Labels::from_pairs([("__name__", "m"), ("n", &n.to_string())]).unwrap();
    sender
        .schema(true, 0..0, (0..SERIES).map(|n| (n, of(n))))
        .await;
    for &sequence in sequences {
        let value = sequence as f64;
        let values: Vec<_> = (0..SERIES).map(|n| (n, value)).collect();
        sender
            .tick(start_ms + sequence as i64 * 1000, &values)
            .await;
    }
    sender
}

/// T-11.
#[test]
fn old_sequences_are_refused_and_count_once_after_a_restore() {
    let mut aggregator = Aggregator::start_with(&["--web.enable-admin-api"]);
    let address = quic_address(&mut aggregator);
    let start_ms = crate::harness::now_ms() - 600_000;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let token = peer::token(&aggregator);
    let known = runtime
        .block_on(peer::join(&address, &token, NODE))
        .unwrap();
    let take = |sequences: &[u64]| {
        runtime.block_on(async {
            let mut sender = send(&address, &known, sequences, start_ms).await;
            sender.acknowledged().await;
        });
    };
    let refuse = |sequences: &[u64], reason: &str| {
        runtime.block_on(async {
            let sender = send(&address, &known, sequences, start_ms).await;
            let closed = sender.closed().await;
            assert!(closed.contains(reason), "{closed}");
        });
    };
    let samples = |aggregator: &Aggregator| {
        number(aggregator, "sum(count_over_time(m[1h]))").map(|count| count / f64::from(SERIES))
    };
    take(&[1, 2, 3]);
    let name = snapshot(&aggregator);
    take(&[4, 5]);
    refuse(&[3, 4, 5], "sequence 3 after 5");
    refuse(&[5], "sequence 5 after 5");
    assert_eq!(samples(&aggregator), Some(5.0));
    let aggregator = restore(aggregator, &name, &address);
    assert_eq!(samples(&aggregator), Some(3.0));
    // A backup has samples but no sequences: an agent sends everything it still has, and duplicates count once.
    take(&[1, 2, 3, 4, 5]);
    let duplicates = r#"aggregator_ingest_samples_total{result="duplicate"}"#;
    assert_eq!(metric(&aggregator, duplicates), 3.0 * f64::from(SERIES));
    refuse(&[4, 5], "sequence 4 after 5");
    take(&[6]);
    assert_eq!(samples(&aggregator), Some(6.0));
    let sum = number(&aggregator, "sum(sum_over_time(m[1h]))");
    assert_eq!(sum, Some(f64::from(SERIES) * 21.0), "each value once");
}
