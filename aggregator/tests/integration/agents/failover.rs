//! Test of an agent with a list of aggregators that share an authority.

use std::collections::BTreeSet;

use super::agent::{Agent, Counts};
use super::{NODE, query, quic_address, stored};
use crate::harness::{Aggregator, eventually};

/// Starts an aggregator with the authority of `first`.
fn beside(first: &Aggregator) -> Aggregator {
    let pki = first.dir.path().join("data/pki");
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("tidemark.yml");
    let (cert, key) = (pki.join("ca.pem"), pki.join("ca-key.pem"));
    let text = format!(
        "tls:\n  name: second\n  authority:\n    cert_file: {}\n    key_file: {}\n",
        cert.display(),
        key.display()
    );
    std::fs::write(&file, text).unwrap();
    Aggregator::start_in(dir, &[&format!("--config.file={}", file.display())])
}

/// Returns the times of the ticks that an aggregator has.
fn times(aggregator: &Aggregator) -> Vec<String> {
    let range = query(aggregator, &format!(r#"node_load1{{node="{NODE}"}}[1h]"#));
    let samples = range[0]["values"].as_array().cloned().unwrap_or_default();
    samples.iter().map(|one| one[0].to_string()).collect()
}

/// Waits until an aggregator stores ticks of the agent and has acknowledged them.
fn wait_for_session(aggregator: &Aggregator, agent: &Agent, what: &str) {
    let before = times(aggregator).len();
    eventually(what, || {
        (times(aggregator).len() > before + 1 && agent.is_acknowledged()).then_some(())
    });
}

#[test]
fn agent_fails_over_to_the_next_aggregator_and_back_without_losing_a_tick() {
    let mut first = Aggregator::start();
    let mut second = beside(&first);
    let addresses = [quic_address(&mut first), quic_address(&mut second)];
    let agent = Agent::start_with(
        tempfile::tempdir().unwrap(),
        &[&first],
        &addresses.join(","),
        &["--node.name", NODE],
    );
    wait_for_session(&first, &agent, "session with the first");
    assert_eq!(
        times(&second),
        [""; 0],
        "the second is asked when the first is silent"
    );
    // The files of the authority are in the first one's directory, which stays.
    let first_dir = first.kill();
    wait_for_session(&second, &agent, "session with the second");
    let fixed = |address: &str| format!("--quic.listen-address={address}");
    let first = Aggregator::start_in(first_dir, &[&fixed(&addresses[0])]);
    // An aggregator that stops says so, and the agent need not wait for a timeout.
    let second_dir = second.stop();
    wait_for_session(&first, &agent, "session with the first again");
    let config = format!(
        "--config.file={}",
        second_dir.path().join("tidemark.yml").display()
    );
    let second = Aggregator::start_in(second_dir, &[&config, &fixed(&addresses[1])]);
    assert_eq!(agent.metric("agent_spool_dropped_ticks_total"), 0.0);
    let log = agent.stop();
    let written = super::agent::counts_of_log(&log);
    let Counts { ticks, .. } = written.unwrap_or_else(|| panic!("not all acknowledged:\n{log}"));
    // Both may have the ticks that were in flight when one died: each tick counts once.
    let union: BTreeSet<String> = [&first, &second].into_iter().flat_map(times).collect();
    assert_eq!(union.len() as u64, ticks, "{union:?}");
    for aggregator in [&first, &second] {
        let stored = stored(aggregator);
        assert!(
            stored.ticks > 0 && stored.samples > 100 * stored.ticks,
            "{stored:?}"
        );
    }
}
