//! Runs the binaries on the recorded nodes: the agent streams over QUIC, and the aggregator must have the same series and
//! values as the store of the other tests, which is filled directly from the agent's collectors.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::queries::fixtures;
use super::recording::{Recording, Snapshot};

/// Time limit: the agent polls the kubelet twice a minute, and everything else takes seconds.
const PATIENCE: Duration = Duration::from_secs(120);

/// Families about this machine's file system, about the agent, and with a label that depends on whether the agent runs in a
/// pod.
const OF_THE_MACHINE: [&str; 3] = ["node_filesystem_", "agent_", "node_uname_"];
/// Families whose value is a time.
const OF_THE_MOMENT: [&str; 6] = [
    "node_time_",
    "node_timex_",
    "node_scrape_collector_",
    "node_boot_time_",
    "container_last_seen",
    "container_start_time_",
];

/// Values by labels.
type Series = BTreeMap<BTreeMap<String, String>, Option<f64>>;

/// A running program. Dropping kills it.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let (Ok(()) | Err(_)) = self.0.kill();
        let (Ok(_) | Err(_)) = self.0.wait();
    }
}

/// Returns a binary of the workspace, and builds it if it is missing.
fn binary(package: &str, name: &str) -> PathBuf {
    // The test's own binary is in `deps` next to them.
    let own = std::env::current_exe().unwrap();
    let profile = own.parent().and_then(Path::parent).unwrap();
    let path = profile.join(name);
    if !path.try_exists().unwrap() {
        let is_release = profile.ends_with("release");
        let status = Command::new(env!("CARGO"))
            .args(["build", "--quiet", "--package", package, "--bin", name])
            .args(is_release.then_some("--release"))
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .status();
        assert!(status.unwrap().success(), "build of {name}");
    }
    path
}

fn start(mut command: Command, log: &Path) -> Running {
    let log = File::create(log).unwrap();
    let (stdin, stdout) = (Stdio::null(), Stdio::null());
    let command = command.stdin(stdin).stdout(stdout).stderr(log);
    Running(command.spawn().unwrap())
}

/// Waits until `check` returns a value, or panics with the content of `log`.
fn eventually<T>(what: &str, log: &Path, mut check: impl FnMut() -> Option<T>) -> T {
    let begin = Instant::now();
    loop {
        if let Some(value) = check() {
            return value;
        }
        let log = || fs::read_to_string(log).unwrap_or_default();
        assert!(begin.elapsed() < PATIENCE, "{what} did not come: {}", log());
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Returns the address in a log line that contains `text`.
fn address_in(log: &Path, text: &str) -> String {
    eventually(text, log, || {
        let log = fs::read_to_string(log).ok()?;
        let line = log.lines().find(|line| line.contains(text))?;
        let (_, rest) = line.split_once("address=")?;
        Some(rest.split(' ').next()?.to_owned())
    })
}

/// Serves a recording as a kubelet's read-only port until the test ends.
fn kubelet(answers: [(&'static str, Vec<u8>); 3]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let mut request = [0; 4096];
            let length = stream.read(&mut request).unwrap_or_default();
            let request = String::from_utf8_lossy(request.get(..length).unwrap_or_default());
            let path = request.split(' ').nth(1).unwrap_or_default();
            let answer = answers.iter().find(|(known, _)| *known == path);
            let (status, body) = match answer {
                Some((_, body)) => ("200 OK", &body[..]),
                None => ("404 Not Found", &[][..]),
            };
            let length = body.len();
            let head = format!(
                "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
            );
            // A client that disconnects early sends the request again.
            let (Ok(()) | Err(_)) = stream
                .write_all(head.as_bytes())
                .and_then(|()| stream.write_all(body));
        }
    });
    url
}

/// Returns the result of an instant query.
fn query(address: &str, expression: &str) -> Option<Vec<Value>> {
    let mut encoded = String::new();
    for byte in expression.bytes() {
        write!(encoded, "%{byte:02X}").unwrap();
    }
    let mut stream = TcpStream::connect(address).ok()?;
    write!(
        stream,
        "GET /api/v1/query?query={encoded} HTTP/1.0\r\nHost: test\r\n\r\n"
    )
    .ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (_, body) = answer.split_once("\r\n\r\n")?;
    let mut answer: Value = serde_json::from_str(body).ok()?;
    match answer["data"]["result"].take() {
        Value::Array(result) => Some(result),
        other => panic!("{expression}: {other}"),
    }
}

/// How much of a series is compared: nothing, its labels, or its value too.
fn take(series: &mut Series, labels: BTreeMap<String, String>, value: f64) {
    let name = labels.get("__name__").map_or("", String::as_str);
    let is_one_of = |prefixes: &[&str]| prefixes.iter().any(|prefix| name.starts_with(prefix));
    let label = |name: &str| labels.get(name).map_or("", String::as_str);
    // Cgroups of pods that the kubelet has removed are shown by UID after half a minute.
    let is_nameless = label("metrics_path") == "/metrics/cadvisor" && !label("uid").is_empty();
    if !is_nameless && !is_one_of(&OF_THE_MACHINE) {
        // The root file system is that of this machine.
        let is_root = name.starts_with("container_fs_") && label("id") == "/";
        let value = (!is_root && !is_one_of(&OF_THE_MOMENT)).then_some(value);
        series.insert(labels, value);
    }
}

/// Returns the agent's series on the aggregator, without those about the agent.
fn stored(address: &str, node: &str) -> Series {
    let mut series = Series::new();
    let expression = format!("{{node=\"{node}\",job!~\"agent|tidemark-agent|\"}}");
    for one in query(address, &expression).unwrap_or_default() {
        let labels = serde_json::from_value(one["metric"].clone()).unwrap();
        let value = one["value"][1].as_str().unwrap().parse().unwrap();
        take(&mut series, labels, value);
    }
    series
}

/// Returns the same from the collectors' series.
fn collected(snapshot: &Snapshot) -> Series {
    let mut series = Series::new();
    for (labels, value) in snapshot.collect() {
        if labels.get("job") != Some("tidemark-agent") {
            let labels = labels.iter();
            let labels = labels.map(|(name, value)| (name.to_owned(), value.to_owned()));
            take(&mut series, labels.collect(), value);
        }
    }
    series
}

/// Returns the series that only one side has, or with different values.
fn difference(stored: &Series, collected: &Series) -> String {
    let mut text = String::new();
    for (labels, value) in stored {
        if collected.get(labels) != Some(value) {
            let other = collected.get(labels);
            writeln!(
                text,
                "{labels:?} is {value:?} at the aggregator, {other:?} in the collectors"
            )
            .unwrap();
        }
    }
    for labels in collected
        .keys()
        .filter(|labels| !stored.contains_key(*labels))
    {
        writeln!(text, "{labels:?} is not at the aggregator").unwrap();
    }
    text
}

fn check(recording: &Recording) {
    let dir = tempfile::tempdir().unwrap();
    let (data, log) = (dir.path().join("data"), dir.path().join("aggregator.log"));
    let mut command = Command::new(binary("aggregator", "tidemark-aggregator"));
    command
        .args([
            "--dev",
            "--web.listen-address=127.0.0.1:0",
            "--quic.listen-address=127.0.0.1:0",
        ])
        .arg(format!("--storage.path={}", data.display()));
    let _aggregator = start(command, &log);
    let web = address_in(&log, "HTTP is listening");
    let quic = address_in(&log, "QUIC is listening");
    let snapshot = recording.snapshot(1);
    let url = kubelet(snapshot.answers());
    let agent_log = dir.path().join("agent.log");
    let mut command = Command::new(binary("agent", "tidemark-agent"));
    command
        .args(snapshot.flags())
        .args(["--interval=1s", "--web.listen-address=127.0.0.1:0"])
        .arg(format!("--kubelet.url={url}"))
        .arg(format!("--aggregator.address={quic}"))
        .arg(format!(
            "--join.token-file={}",
            data.join("join-token").display()
        ))
        .arg(format!(
            "--spool.path={}",
            dir.path().join("spool").display()
        ))
        .envs(snapshot.pod());
    let _agent = start(command, &agent_log);
    let node = recording.node;
    let wanted = collected(&snapshot);
    assert!(wanted.len() > 1000, "only {} series", wanted.len());
    let begin = Instant::now();
    loop {
        let differences = difference(&stored(&web, node), &wanted);
        if differences.is_empty() {
            break;
        }
        let log = || fs::read_to_string(&agent_log).unwrap_or_default();
        assert!(
            begin.elapsed() < PATIENCE,
            "{node}:\n{differences}\n{}",
            log()
        );
        std::thread::sleep(Duration::from_millis(500));
    }
}

#[test]
fn binaries_bring_what_the_collectors_read() {
    let Some(fixtures) = fixtures() else {
        return;
    };
    let recordings = Recording::all(&fixtures);
    std::thread::scope(|scope| {
        for recording in &recordings {
            scope.spawn(|| check(recording));
        }
    });
}
