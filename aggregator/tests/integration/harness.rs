//! Starts the aggregator on free ports in its own directory.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::http::{self, Answer};

/// How long a start or a stop may take on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A running aggregator; killed when dropped.
pub(crate) struct Aggregator {
    child: Child,
    pub(crate) dir: tempfile::TempDir,
    pub(crate) address: String,
}

impl Aggregator {
    /// Starts an aggregator with default flags and waits until it is ready.
    pub(crate) fn start() -> Self {
        Self::start_with(&[])
    }

    pub(crate) fn start_with(flags: &[&str]) -> Self {
        let mut started = Self::spawn(tempfile::tempdir().unwrap(), flags, &[]);
        started.wait_until_ready();
        started
    }

    /// Starts an aggregator in the directory of an earlier one.
    pub(crate) fn start_in(dir: tempfile::TempDir, flags: &[&str]) -> Self {
        Self::start_in_with_env(dir, flags, &[])
    }

    /// Starts an aggregator with environment variables.
    pub(crate) fn start_in_with_env(
        dir: tempfile::TempDir,
        flags: &[&str],
        env: &[(&str, &Path)],
    ) -> Self {
        let mut started = Self::spawn(dir, flags, env);
        started.wait_until_ready();
        started
    }

    fn spawn(dir: tempfile::TempDir, flags: &[&str], env: &[(&str, &Path)]) -> Self {
        let log = File::create(dir.path().join("log")).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_tidemark-aggregator"))
            .arg("--dev")
            .args(default_address(flags, "--quic.listen-address"))
            .args(default_address(flags, "--web.listen-address"))
            .arg("--storage.path")
            .arg(dir.path().join("data"))
            .args(flags)
            .envs(env.iter().copied())
            .current_dir(dir.path())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        Self {
            child,
            dir,
            address: String::new(),
        }
    }

    fn wait_until_ready(&mut self) {
        self.address = self.wait_for("address of HTTP", |log| {
            let line = log.lines().find(|l| l.contains("HTTP is listening"))?;
            let (_, rest) = line.split_once("address=")?;
            Some(rest.split(' ').next()?.to_owned())
        });
        self.wait_for("ready", |log| log.contains("msg=ready").then_some(()));
    }

    /// Waits until `find` finds something in the log.
    pub(crate) fn wait_for<T>(&mut self, what: &str, find: impl Fn(&str) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let log = self.log();
            if let Some(found) = find(&log) {
                return found;
            }
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("ended with {status} before {what}:\n{log}");
            }
            assert!(Instant::now() < deadline, "no {what} in time:\n{log}");
            thread::sleep(Duration::from_millis(10));
        }
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap()
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        http::request(&self.address, "GET", path, &[], b"")
    }

    pub(crate) fn post_form(&self, path: &str, form: &str) -> Answer {
        let headers = [("content-type", "application/x-www-form-urlencoded")];
        http::request(&self.address, "POST", path, &headers, form.as_bytes())
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let status = Command::new("kill").args(["-s", name, &pid]).status();
        assert!(status.unwrap().success());
    }

    pub(crate) fn wait(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(
                Instant::now() < deadline,
                "does not end in time:\n{}",
                self.log()
            );
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Kills the aggregator with SIGKILL. Returns its directory.
    pub(crate) fn kill(mut self) -> tempfile::TempDir {
        self.signal("KILL");
        self.wait();
        std::mem::replace(&mut self.dir, tempfile::tempdir().unwrap())
    }

    /// Stops the aggregator with SIGTERM, and checks its log and exit code. Returns its directory.
    pub(crate) fn stop(mut self) -> tempfile::TempDir {
        self.signal("TERM");
        let status = self.wait();
        let log = self.log();
        assert!(status.success(), "{status}:\n{log}");
        let loud = |line: &&str| line.contains("level=ERROR") || line.contains("level=WARN");
        assert_eq!(log.lines().find(loud), None);
        std::mem::replace(&mut self.dir, tempfile::tempdir().unwrap())
    }
}

/// Returns a flag for a free port on loopback, unless `flags` has it.
pub(crate) fn default_address(flags: &[&str], flag: &str) -> Option<String> {
    let given = flags.iter().any(|given| given.starts_with(flag));
    (!given).then(|| format!("{flag}=127.0.0.1:0"))
}

impl Drop for Aggregator {
    fn drop(&mut self) {
        // The process may have exited already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Returns the root of the workspace.
pub(crate) fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_owned()
}

/// Returns the current time in milliseconds.
pub(crate) fn now_ms() -> i64 {
    use common::clock::Clock as _;
    common::clock::SystemClock.now_ms()
}

/// Waits until `check` returns something.
pub(crate) fn eventually<T>(what: &str, mut check: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = check() {
            return found;
        }
        assert!(Instant::now() < deadline, "no {what} in time");
        thread::sleep(Duration::from_millis(50));
    }
}
