//! An agent that returns with a new spool to an aggregator that was restarted meanwhile.

use std::fs;

use super::agent::Agent;
use super::{NODE, number, quic_address};
use crate::harness::{Aggregator, eventually};

/// Starts an agent with an empty spool and a series that names it.
fn start(aggregator: &Aggregator, address: &str, spool: &str) -> Agent {
    let dir = tempfile::tempdir().unwrap();
    let text = dir.path().join("text");
    fs::create_dir(&text).unwrap();
    fs::write(
        text.join("a.prom"),
        format!("spool{{name=\"{spool}\"}} 1\n"),
    )
    .unwrap();
    let textfile = format!("--collector.textfile.directory={}", text.display());
    let flags = ["--node.name", NODE, &textfile];
    Agent::start_with(dir, &[aggregator], address, &flags)
}

#[test]
fn series_of_a_lost_spool_end_when_the_node_returns_to_a_restarted_aggregator() {
    let mut aggregator = Aggregator::start();
    let address = quic_address(&mut aggregator);
    let first = start(&aggregator, &address, "first");
    eventually("series of the first agent", || {
        number(&aggregator, r#"spool{name="first"}"#)
    });
    drop(first);
    let listen = format!("--quic.listen-address={address}");
    let aggregator = Aggregator::start_in(aggregator.kill(), &[&listen]);
    assert_eq!(
        number(&aggregator, "sum(spool)"),
        Some(1.0),
        "the first agent's series is still within the lookback"
    );
    let _second = start(&aggregator, &address, "second");
    eventually("series of the second agent", || {
        number(&aggregator, r#"spool{name="second"}"#)
    });
    eventually("end of the first agent's series", || {
        (number(&aggregator, "sum(spool)") == Some(1.0)).then_some(())
    });
    assert_eq!(number(&aggregator, r#"spool{name="first"}"#), None);
    assert_eq!(number(&aggregator, "count(node_load1)"), Some(1.0));
}
