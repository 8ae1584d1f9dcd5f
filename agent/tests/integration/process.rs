//! The agent as a process: unprivileged, with bad arguments, and stopped in order.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use nix::sys::signal::Signal;

use crate::support::{Agent, eventually, get, is_root, name_of, skip};

const NOBODY: u32 = 65534;

/// Flags for tests about nodes and cgroups, which ignore the agent's own metrics.
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
    let root = families(&as_root);
    // File systems are read outside of ticks and may appear in a later one.
    let missing = || {
        let nobody = families(&as_nobody);
        let missing = root.iter().filter(|name| !nobody.contains(name));
        missing.cloned().collect::<Vec<_>>()
    };
    let mut left = missing();
    for _ in 0..50 {
        if left.is_empty() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
        left = missing();
    }
    assert!(left.is_empty(), "absent without privileges: {left:?}");
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
    for what in ["ready", "healthy"] {
        assert_eq!(probe(what, &agent.address), (Some(0), String::new()));
    }
    assert_eq!(get(&agent.address, "/nonsense").unwrap().0, 404);
    agent.signal(Signal::SIGTERM);
    assert!(agent.wait().success());
    let log = agent.log.lock().unwrap().clone();
    assert!(
        !log.contains("level=ERROR") && !log.contains("level=WARN"),
        "{log}"
    );
}

/// Exit code and output of a binary that probes another agent.
fn probe(what: &str, address: &str) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_tidemark-agent"))
        .args(["--probe", what, "--web.listen-address", address])
        .output()
        .unwrap();
    (
        output.status.code(),
        String::from_utf8(output.stderr).unwrap(),
    )
}

#[test]
fn probe_of_a_free_port_and_of_another_program_fails() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let other = std::thread::spawn(move || {
        use std::io::{BufRead as _, BufReader, Write as _};
        let (mut stream, _) = listener.accept().unwrap();
        let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
        while lines.next().is_some_and(|line| !line.unwrap().is_empty()) {}
        stream
            .write_all(b"HTTP/1.1 503 Service Unavailable\r\n\r\n")
            .unwrap();
    });
    let (code, said) = probe("ready", &address);
    assert!(
        code == Some(1) && said.contains("503 Service Unavailable"),
        "{said}"
    );
    other.join().unwrap();
    let (code, said) = probe("healthy", &address);
    assert!(
        code == Some(1) && said.contains(&format!("ask {address}")),
        "{said}"
    );
}

#[test]
fn bad_arguments_are_reported_with_their_cause() {
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

#[test]
fn own_metrics_are_in_the_documentation() {
    let dir = tempfile::tempdir().unwrap();
    let agent = Agent::start(dir.path(), &["--interval=1s"], None);
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/metrics.md");
    let page = std::fs::read_to_string(page).unwrap();
    let (_, text) = get(&agent.address, "/metrics").unwrap();
    let mut seen = 0;
    for line in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let (name, kind) = line.split_once(' ').unwrap();
        if name.starts_with("agent_") || name.starts_with("process_") {
            seen += 1;
            let row = format!("| `{name}` | {kind} |");
            assert!(page.contains(&row), "docs/metrics.md has no {row}");
        }
    }
    assert!(seen > 20, "{seen} families of its own");
}
