//! Runs the agent's binary.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use crate::harness::{Aggregator, default_address, eventually, workspace};
use crate::http;

/// Less than the time between two ticks, even if the first one is late.
const TICK_APART: Duration = Duration::from_millis(400);

/// A running agent; killed when dropped.
pub(crate) struct Agent {
    child: Child,
    dir: Option<tempfile::TempDir>,
    web: String,
}

/// Ticks and samples, in spools or in the store.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) ticks: u64,
    pub(super) samples: u64,
}

/// Returns the agent's binary next to the aggregator's, built if it does not exist.
pub(crate) fn binary() -> &'static PathBuf {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        let ours = PathBuf::from(env!("CARGO_BIN_EXE_tidemark-aggregator"));
        let path = ours.with_file_name("tidemark-agent");
        if !path.try_exists().unwrap() {
            let release = ours.components().any(|part| part.as_os_str() == "release");
            let status = Command::new(env!("CARGO"))
                .args([
                    "build",
                    "--quiet",
                    "--package=agent",
                    "--bin=tidemark-agent",
                ])
                .args(release.then_some("--release"))
                .current_dir(workspace())
                .status();
            assert!(status.unwrap().success(), "build of the agent");
        }
        path
    })
}

impl Agent {
    /// Starts an agent that ticks each second. `addresses` are separated by commas.
    pub(super) fn start(aggregator: &Aggregator, addresses: &str, node: &str) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), aggregator, addresses, node)
    }

    /// Starts an agent in the directory of an earlier one.
    pub(super) fn start_in(
        dir: tempfile::TempDir,
        aggregator: &Aggregator,
        addresses: &str,
        node: &str,
    ) -> Self {
        Self::start_with(dir, &[aggregator], addresses, &["--node.name", node])
    }

    /// Starts an agent with flags, and the join token of each aggregator.
    pub(crate) fn start_with(
        dir: tempfile::TempDir,
        aggregators: &[&Aggregator],
        addresses: &str,
        flags: &[&str],
    ) -> Self {
        let program = Command::new(binary());
        Self::start_as(program, dir, aggregators, addresses, flags)
    }

    /// Starts `command`, which becomes the agent: the binary, or a wrapper that runs it elsewhere.
    pub(super) fn start_as(
        mut command: Command,
        dir: tempfile::TempDir,
        aggregators: &[&Aggregator],
        addresses: &str,
        flags: &[&str],
    ) -> Self {
        let log = File::create(dir.path().join("log")).unwrap();
        for address in addresses.split(',') {
            command.args(["--aggregator.address", address]);
        }
        for aggregator in aggregators {
            let token = aggregator.dir.path().join("data/join-token");
            command.arg("--join.token-file").arg(token);
        }
        let child = command
            .arg("--interval=1s")
            .args(default_address(flags, "--web.listen-address"))
            .args(flags)
            .arg("--spool.path")
            .arg(dir.path().join("spool"))
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut agent = Self {
            child,
            dir: Some(dir),
            web: String::new(),
        };
        agent.web = eventually("address of the agent", || {
            let log = agent.log();
            let line = log.lines().find(|line| line.contains("serving /metrics"))?;
            let (_, rest) = line.split_once("address=")?;
            Some(rest.split(' ').next()?.to_owned())
        });
        agent
    }

    pub(super) fn log(&self) -> String {
        let dir = self.dir.as_ref().unwrap();
        fs::read_to_string(dir.path().join("log")).unwrap()
    }

    fn metrics(&self) -> String {
        http::request(&self.web, "GET", "/metrics", &[], b"").text()
    }

    #[track_caller]
    pub(super) fn metric(&self, name: &str) -> f64 {
        value_of(&self.metrics(), name).unwrap_or_else(|| panic!("no {name}"))
    }

    /// Returns what this process has written to its spool.
    pub(super) fn counts(&self) -> Counts {
        let text = self.metrics();
        let count = |name| value_of(&text, name).unwrap_or(0.0) as u64;
        Counts {
            ticks: count("agent_spool_ticks_total"),
            samples: count("agent_spool_samples_total"),
        }
    }

    /// Returns whether the aggregator has acknowledged everything.
    pub(super) fn is_acknowledged(&self) -> bool {
        let text = self.metrics();
        let last = value_of(&text, "agent_spool_last_sequence");
        last.is_some() && last == value_of(&text, "agent_uplink_acked_sequence")
    }

    /// Returns how many ticks of this process are acknowledged.
    pub(super) fn acknowledged_ticks(&self) -> u64 {
        let text = self.metrics();
        let value = |name| value_of(&text, name).unwrap_or(0.0);
        let missing = value("agent_spool_last_sequence") - value("agent_uplink_acked_sequence");
        (value("agent_spool_ticks_total") - missing) as u64
    }

    /// Kills the agent with SIGKILL between two ticks. Returns its directory, and what it has written to its spool.
    pub(super) fn kill_after_a_tick(mut self) -> (tempfile::TempDir, Counts) {
        let counts = loop {
            let before = self.counts();
            let mut asked = Instant::now();
            let counts = eventually("tick", || {
                let asking = Instant::now();
                let now = self.counts();
                if now == before {
                    asked = asking;
                    return None;
                }
                Some(now)
            });
            // Nothing may be written between reading the counters and the kill.
            self.signal("STOP");
            if asked.elapsed() < TICK_APART {
                break counts;
            }
            self.signal("CONT");
        };
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        (self.dir.take().unwrap(), counts)
    }

    fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let status = Command::new("kill").args(["-s", name, &pid]).status();
        assert!(status.unwrap().success());
    }

    /// Stops the agent with SIGTERM and returns its log.
    pub(crate) fn stop(mut self) -> String {
        self.signal("TERM");
        let status = eventually("end of the agent", || self.child.try_wait().unwrap());
        let log = self.log();
        assert!(status.success(), "{status}:\n{log}");
        log
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // The process may have exited already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Returns what a stopped agent logged as written.
pub(super) fn counts_of_log(log: &str) -> Option<Counts> {
    let line = log
        .lines()
        .find(|line| line.contains("everything is acknowledged"))?;
    let field = |name| {
        line.split(' ')
            .find_map(|word| word.strip_prefix(name)?.parse().ok())
    };
    Some(Counts {
        ticks: field("ticks=")?,
        samples: field("samples=")?,
    })
}

/// Returns the value of a series in text exposition format.
pub(super) fn value_of(text: &str, series: &str) -> Option<f64> {
    let mut lines = text.lines();
    let line = lines.find_map(|line| line.strip_prefix(series)?.strip_prefix(' '))?;
    line.trim().parse().ok()
}
