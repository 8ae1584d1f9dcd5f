//! An aggregator whose certificate authority was replaced while agents are running.

use std::fs;
use std::path::{Path, PathBuf};

use super::agent::{Agent, Counts};
use super::{NODE, check_complete, check_no_gap, number, quic_address, stored};
use crate::harness::{Aggregator, eventually};

/// Files that an agent reads, as Kubernetes mounts them.
struct AgentFiles {
    ca: PathBuf,
    token: PathBuf,
}

impl AgentFiles {
    fn new(dir: &Path) -> Self {
        Self {
            ca: dir.join("ca.pem"),
            token: dir.join("token"),
        }
    }

    /// Replaces the files with those of `aggregator`.
    fn update(&self, aggregator: &Aggregator) {
        let data = aggregator.dir.path().join("data");
        fs::copy(data.join("pki/ca.pem"), &self.ca).unwrap();
        fs::copy(data.join("join-token"), &self.token).unwrap();
    }

    fn flags(&self) -> [String; 2] {
        [
            format!("--tls.ca-file={}", self.ca.display()),
            format!("--join.token-file={}", self.token.display()),
        ]
    }
}

fn start_agent(dir: tempfile::TempDir, files: &AgentFiles, address: &str) -> Agent {
    let [ca, token] = files.flags();
    Agent::start_with(dir, &[], address, &["--node.name", NODE, &ca, &token])
}

#[track_caller]
fn wait_for_ticks(agent: &Agent, ticks: u64) {
    let before = agent.counts().ticks;
    eventually("acknowledged ticks", || {
        let enough = agent.counts().ticks >= before + ticks;
        (enough && agent.is_acknowledged()).then_some(())
    });
}

#[test]
fn running_agent_joins_a_new_authority_and_returns_without_losing_or_doubling_ticks() {
    let mut first = Aggregator::start();
    let address = quic_address(&mut first);
    let fixed = format!("--quic.listen-address={address}");
    let (mounted, dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let files = AgentFiles::new(mounted.path());
    files.update(&first);
    let agent = start_agent(dir, &files, &address);
    wait_for_ticks(&agent, 3);

    // The agent rejects the second aggregator until its mounted files change.
    let first_dir = first.kill();
    let second = Aggregator::start_with(&[&fixed]);
    eventually("rejected certificate", || {
        agent.log().contains("certificate rejected").then_some(())
    });
    files.update(&second);
    wait_for_ticks(&agent, 3);
    assert_eq!(agent.metric("agent_uplink_joins_total"), 2.0);
    // The spool still holds the ticks that the first aggregator acknowledged, and the second lacks them.
    let written = agent.counts().ticks;
    eventually("every tick", || {
        (stored(&second).ticks >= written).then_some(())
    });
    check_no_gap(&second, stored(&second).ticks);

    // The files change first: the aggregator rejects the agent's certificate.
    let second_dir = second.kill();
    let first = Aggregator::start_in(first_dir, &[&fixed]);
    files.update(&first);
    wait_for_ticks(&agent, 3);
    assert_eq!(agent.metric("agent_uplink_joins_total"), 3.0);
    check_complete(&first, agent, Counts::default());
    drop(second_dir);
}

#[test]
fn agent_that_starts_with_a_certificate_of_the_old_authority_joins_the_new_one() {
    let mut first = Aggregator::start();
    let address = quic_address(&mut first);
    let fixed = format!("--quic.listen-address={address}");
    let (mounted, dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let files = AgentFiles::new(mounted.path());
    files.update(&first);
    let agent = start_agent(dir, &files, &address);
    wait_for_ticks(&agent, 2);
    let (dir, _) = agent.kill_after_a_tick();
    drop(first.kill());
    let second = Aggregator::start_with(&[&fixed]);
    files.update(&second);
    let agent = start_agent(dir, &files, &address);
    wait_for_ticks(&agent, 2);
    assert_eq!(agent.metric("agent_uplink_joins_total"), 1.0);
    assert!(number(&second, &format!(r#"count({{node="{NODE}"}})"#)) > Some(100.0));
    agent.stop();
}
