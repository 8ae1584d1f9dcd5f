//! The agent's binary under test, and helpers.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::exposition::{self, ExpositionLine};

/// Labels of a series as text, including the metric name.
pub(crate) type Scrape = BTreeMap<String, f64>;

/// A running agent. Killed on drop.
pub(crate) struct Agent {
    child: Child,
    pub(crate) address: String,
    pub(crate) log: std::sync::Arc<std::sync::Mutex<String>>,
}

impl Agent {
    /// Starts the agent with a spool in `dir`, a free port and `args`, optionally as user `uid`.
    pub(crate) fn start(dir: &Path, args: &[&str], uid: Option<u32>) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidemark-agent"));
        command
            .arg(format!("--spool.path={}", dir.join("spool").display()))
            .args(["--web.listen-address=127.0.0.1:0", "--node.name=test-node"])
            .args(args)
            .stderr(Stdio::piped());
        if let Some(uid) = uid {
            command.uid(uid).gid(uid);
        }
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let log = std::sync::Arc::<std::sync::Mutex<String>>::default();
        let address = loop {
            let line = lines
                .next()
                .expect("the agent ended before it listened")
                .unwrap();
            log.lock().unwrap().push_str(&format!("{line}\n"));
            if line.contains("serving /metrics") {
                break line.rsplit("address=").next().unwrap().trim().to_owned();
            }
        };
        let sink = std::sync::Arc::clone(&log);
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                sink.lock().unwrap().push_str(&format!("{line}\n"));
            }
        });
        Self {
            child,
            address,
            log,
        }
    }

    pub(crate) fn scrape(&self) -> Scrape {
        scrape(&self.address)
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: nix::sys::signal::Signal) {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.child.id()).unwrap());
        nix::sys::signal::kill(pid, signal).unwrap();
    }

    /// Waits for the exit.
    pub(crate) fn wait(&mut self) -> std::process::ExitStatus {
        self.child.wait().unwrap()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let (Ok(()) | Err(_)) = self.child.kill();
        let (Ok(_) | Err(_)) = self.child.wait();
    }
}

/// A child process. Killed on drop.
pub(crate) struct Killed(pub Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let (Ok(()) | Err(_)) = self.0.kill();
        let (Ok(_) | Err(_)) = self.0.wait();
    }
}

/// Status code and body of a GET.
pub(crate) fn get(address: &str, path: &str) -> std::io::Result<(u16, String)> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    write!(
        stream,
        "GET {path} HTTP/1.0\r\nHost: test\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let code = head
        .split(' ')
        .nth(1)
        .and_then(|code| code.parse().ok())
        .unwrap_or(0);
    Ok((code, body.to_owned()))
}

/// All samples of a target.
pub(crate) fn scrape(address: &str) -> Scrape {
    let (code, body) = get(address, "/metrics").unwrap();
    assert_eq!(code, 200, "{body}");
    parse(&body)
}

/// Samples of a text, by labels.
pub(crate) fn parse(text: &str) -> Scrape {
    let mut samples = Scrape::new();
    for entry in exposition::Parser::new(text) {
        if let ExpositionLine::Sample { labels, value, .. } = entry.unwrap() {
            let before = samples.insert(labels.to_string(), value);
            assert!(before.is_none(), "{labels} comes twice");
        }
    }
    samples
}

/// The metric name in a series' labels as text.
pub(crate) fn name_of(series: &str) -> &str {
    series
        .split("__name__=\"")
        .nth(1)
        .unwrap()
        .split('"')
        .next()
        .unwrap()
}

/// Calls `check` until it returns a value.
#[track_caller]
pub(crate) fn eventually<T>(what: &str, mut check: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(value) = check() {
            return value;
        }
        assert!(Instant::now() < deadline, "{what} did not come");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Prints that a test was skipped.
pub(crate) fn skip(what: &str, why: &str) {
    eprintln!("SKIPPED {what}: {why}");
}

pub(crate) fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}
