//! The agent as a process: unprivileged, started wrongly, stopped in order.

use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use nix::sys::signal::Signal;

use crate::support::{Agent, eventually, get, is_root, name_of, skip};

const NOBODY: u32 = 65534;

/// Where node and cgroups are the subject, what the agent says of itself is not.
fn families(agent: &Agent) -> Vec<String> {
    let scrape = agent.scrape();
    let mut names: Vec<String> = scrape
        .keys()
        .map(|series| name_of(series))
        .filter(|name| name.starts_with("node_") || name.starts_with("container_"))
        .map(str::to_owned)
        .collect();
    names.dedup();
    names
}

#[test]
fn unprivileged_agent_reads_what_root_reads() {
    if !is_root() {
        return skip("comparison of root and nobody", "not started by root");
    }
    let dir = tempfile::tempdir().unwrap();
    let own = tempfile::tempdir().unwrap();
    nix::unistd::chown(own.path(), Some(NOBODY.into()), Some(NOBODY.into())).unwrap();
    std::fs::set_permissions(own.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
    let as_root = Agent::start(dir.path(), &["--interval=10m"], None);
    let as_nobody = Agent::start(own.path(), &["--interval=10m"], Some(NOBODY));
    let (root, nobody) = (families(&as_root), families(&as_nobody));
    let missing: Vec<_> = root.iter().filter(|name| !nobody.contains(name)).collect();
    assert!(missing.is_empty(), "absent without privileges: {missing:?}");
    let faults: Vec<_> = as_nobody
        .scrape()
        .into_iter()
        .filter(|(series, _)| name_of(series) == "agent_collector_faults_total")
        .collect();
    assert!(faults.is_empty(), "{faults:?}");
}

#[test]
fn health_pages_and_orderly_stop() {
    let dir = tempfile::tempdir().unwrap();
    let mut agent = Agent::start(dir.path(), &["--interval=1s"], None);
    eventually("readiness", || {
        get(&agent.address, "/-/ready")
            .ok()
            .filter(|(code, _)| *code == 200)
    });
    assert_eq!(get(&agent.address, "/-/healthy").unwrap().0, 200);
    assert_eq!(get(&agent.address, "/nonsense").unwrap().0, 404);
    agent.signal(Signal::SIGTERM);
    assert!(agent.wait().success());
    let log = agent.log.lock().unwrap().clone();
    assert!(
        !log.contains("level=ERROR") && !log.contains("level=WARN"),
        "{log}"
    );
}

#[test]
fn bad_start_says_what_and_why() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("agent.yml");
    std::fs::write(&file, "intervall: 3s\n").unwrap();
    let file = format!("--config.file={}", file.display());
    let cases: [(&[&str], i32, &str); 6] = [
        (&[&file], 1, "agent.yml:1: no setting \"intervall\""),
        (&["--interval=1ms"], 2, "between 1s and 10m"),
        (&["--node.name=a b"], 1, "is not a node name"),
        (
            &["--path.cgroupfs=/proc"],
            1,
            "no cgroup hierarchy below /proc",
        ),
        (
            &["--collector.netdev.device-exclude=("],
            1,
            "--collector.netdev.device-exclude",
        ),
        (&["--tls.cert-file=/x"], 2, "--tls.key-file"),
    ];
    for (args, code, want) in cases {
        let output = Command::new(env!("CARGO_BIN_EXE_tidemark-agent"))
            .arg("--check-config")
            .args(args)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains(want), "{args:?} said {said}");
        assert_eq!(output.status.code(), Some(code), "{args:?}");
    }
    let good = Command::new(env!("CARGO_BIN_EXE_tidemark-agent"))
        .arg("--check-config")
        .status()
        .unwrap();
    assert!(good.success());
}
