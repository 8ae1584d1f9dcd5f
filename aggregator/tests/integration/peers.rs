//! Other projects' programs talk to the real server. `scripts/peers` provides them; without them each test prints that
//! it is skipped.

mod alert_api;
mod alertmanager;
mod daylight;
mod federation;
mod generator;
mod grafana;
mod mail;
mod promtool;
mod push;
mod python;
mod receivers;
mod remote_write;
mod rules;
mod same_series;
mod same_words;

use std::collections::HashMap;
use std::fmt::Debug;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use serde_json::Value;

use crate::harness::{eventually, workspace};
use crate::http::{self, encode};
use crate::process::{Process, free_port};

/// Paths of the peers' programs, by their names in `scripts/peers`.
fn peers() -> &'static HashMap<String, PathBuf> {
    static PEERS: OnceLock<HashMap<String, PathBuf>> = OnceLock::new();
    PEERS.get_or_init(|| {
        let output = Command::new(workspace().join("scripts/peers"))
            .stderr(Stdio::inherit())
            .output()
            .unwrap();
        String::from_utf8_lossy(&output.stdout)
            .lines()
            .filter_map(|line| line.strip_prefix("PEER_")?.split_once('='))
            .map(|(name, path)| (name.to_owned(), PathBuf::from(path)))
            .collect()
    })
}

/// The path of a peer. Prints a message and returns `None` if it is missing.
#[track_caller]
pub(crate) fn peer(name: &str) -> Option<&'static Path> {
    let found = peers().get(name);
    if found.is_none() {
        eprintln!("SKIPPED: {name} can't be had on this machine (see scripts/peers)");
    }
    found.map(PathBuf::as_path)
}

/// A new Prometheus with a configuration.
struct Prometheus {
    _process: Process,
    _dir: tempfile::TempDir,
    address: String,
}

impl Prometheus {
    fn start(program: &Path, config: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let address = format!("127.0.0.1:{}", free_port());
        let file = dir.path().join("prometheus.yml");
        std::fs::write(&file, config).unwrap();
        let log = std::fs::File::create(dir.path().join("log")).unwrap();
        let process = Process::start(
            Command::new(program)
                .arg(format!("--config.file={}", file.display()))
                .arg(format!(
                    "--storage.tsdb.path={}",
                    dir.path().join("data").display()
                ))
                .arg(format!("--web.listen-address={address}"))
                .arg("--web.enable-remote-write-receiver")
                .current_dir(dir.path())
                .stdout(Stdio::null())
                .stderr(log),
        );
        eventually("ready Prometheus", || {
            std::net::TcpStream::connect(&address).ok()?;
            let ready = http::request(&address, "GET", "/-/ready", &[], b"");
            (ready.status == 200).then_some(())
        });
        Self {
            _process: process,
            _dir: dir,
            address,
        }
    }
}

/// Fails with all comparisons (name, our response, theirs) that differ.
#[track_caller]
fn assert_alike<A: PartialEq + Debug>(questions: impl Iterator<Item = (String, A, A)>) {
    let differing = questions.filter(|(_, ours, theirs)| ours != theirs);
    let lines: Vec<String> = differing
        .map(|(name, ours, theirs)| {
            format!("{name}\n  theirs {theirs:.2000?}\n  ours   {ours:.2000?}")
        })
        .collect();
    assert!(lines.is_empty(), "{}", lines.join("\n"));
}

/// The values of an instant query, by labels as JSON text.
fn vector(address: &str, query: &str, at: Option<f64>) -> HashMap<String, String> {
    let time = at.map_or_else(String::new, |at| format!("&time={at}"));
    let path = format!("/api/v1/query?query={}{time}", encode(query));
    let data = http::request(address, "GET", &path, &[], b"").data();
    let result = data["result"].as_array().unwrap();
    let entry = |one: &Value| {
        let value = one["value"][1].as_str().unwrap().to_owned();
        (one["metric"].to_string(), value)
    };
    result.iter().map(entry).collect()
}
