//! The measured servers: our notifier, fed by our rules or by its API, and Alertmanager.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use serde_json::{Value, json};

use super::webhook::{Webhook, now};
use crate::corpus::Label;
use crate::http::Client;
use crate::process::Usage;
use crate::remote_write::Sender;
use crate::report::Column;
use crate::server::{ServerKind, free_address};

/// Time limit for a server to become ready.
const PATIENCE: Duration = Duration::from_secs(60);
/// Placeholder for the time of sending.
const STARTED: &str = "TIME-OF-SENDING";
const SUMMARY: &str = "Something is as it should not be for some time.";

/// A notifier and the way alerts reach it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// Ours, by an alerting rule over one series per alert.
    OwnRules,
    /// Ours, by `POST /api/v2/alerts`.
    OwnApi,
    /// Alertmanager, by `POST /api/v2/alerts`.
    Alertmanager,
}

impl Way {
    /// All subjects, ours first.
    pub(super) const ALL: [Self; 3] = [Self::OwnRules, Self::OwnApi, Self::Alertmanager];

    /// Returns the table column.
    #[must_use]
    pub(super) const fn column(self) -> Column {
        let (name, is_ours) = match self {
            Self::OwnRules => ("tidemark-rules", true),
            Self::OwnApi => ("tidemark-api", true),
            Self::Alertmanager => ("alertmanager", false),
        };
        Column { name, is_ours }
    }
}

/// A running server. Killed when dropped.
#[derive(Debug)]
pub(super) struct Subject {
    way: Way,
    address: SocketAddr,
    child: Child,
    log: PathBuf,
}

impl Drop for Subject {
    fn drop(&mut self) {
        // Fails only if the process has ended.
        if self.child.kill().is_ok() {
            self.child.wait().ok();
        }
    }
}

impl Subject {
    /// Starts a server in an empty `directory` with two receivers at `webhook`, and waits until it is ready.
    ///
    /// # Errors
    /// The program is missing, ends, or is not ready within a minute.
    pub(super) fn start(
        way: Way,
        directory: &Path,
        webhook: &Webhook,
        group_wait: Duration,
    ) -> Result<Self> {
        let directory = fs::canonicalize(directory)?;
        let receivers: Vec<Value> = ["a", "b"]
            .map(|path| json!({ "url": format!("http://{}/{path}", webhook.address) }))
            .into();
        let routes = json!({
            "route": { "receiver": "both", "group_by": ["group"], "group_wait": format!("{}ms", group_wait.as_millis()) },
            "receivers": [{ "name": "both", "webhook_configs": receivers }],
        });
        fs::write(directory.join("alertmanager.yml"), routes.to_string())?;
        let address = free_address()?;
        let mut command = match way {
            Way::OwnRules | Way::OwnApi => tidemark(&directory, address, way)?,
            Way::Alertmanager => alertmanager(&directory, address)?,
        };
        let log = directory.join("log");
        let output = File::create(&log)?;
        let child = command
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .with_context(|| format!("start {}", way.column().name))?;
        let mut subject = Self {
            way,
            address,
            child,
            log,
        };
        subject.wait_ready()?;
        Ok(subject)
    }

    fn wait_ready(&mut self) -> Result<()> {
        let name = self.way.column().name;
        let started = Instant::now();
        while started.elapsed() < PATIENCE {
            let answer = Client::connect(self.address).and_then(|mut c| c.get("/-/ready"));
            if answer.is_ok_and(|answer| answer.status == 200) {
                return Ok(());
            }
            if let Some(status) = self.child.try_wait()? {
                let log = fs::read_to_string(&self.log)?;
                bail!("{name} ended, {status}: {log}");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        bail!("{name} is not ready, see {}", self.log.display())
    }

    /// Returns the resource usage since the start.
    ///
    /// # Errors
    /// The process has ended.
    pub(super) fn usage(&self) -> Result<Usage> {
        Usage::of(self.child.id()).with_context(|| self.way.column().name)
    }

    /// Makes `alerts` alerts fire at the same time, spread over `groups` groups. `phase` distinguishes them from others.
    ///
    /// # Errors
    /// The server refuses them.
    pub(super) fn fire(&self, phase: &str, alerts: usize, groups: usize) -> Result<()> {
        let labels = (0..alerts).map(|n| labels(phase, n, n * groups / alerts));
        match self.way {
            Way::OwnRules => self.write_samples(phase, labels.collect()),
            Way::OwnApi | Way::Alertmanager => self.post(labels),
        }
    }

    fn post(&self, labels: impl Iterator<Item = Vec<Label>>) -> Result<()> {
        let headers = [("Content-Type", "application/json")];
        let mut client = Client::connect(self.address)?;
        let alert = |labels: Vec<Label>| {
            let mut all = json!({ "alertname": "NotifyBench", "severity": "warning" });
            for (name, value) in labels {
                all[name] = Value::from(value);
            }
            json!({ "labels": all, "annotations": { "started": STARTED, "summary": SUMMARY } })
        };
        let body = Value::Array(labels.map(alert).collect()).to_string();
        // The time is inserted last, so that building the body is not measured.
        let body = body.replace(STARTED, &format!("{:.3}", now()));
        client
            .post("/api/v2/alerts", &headers, Bytes::from(body))?
            .good()?;
        Ok(())
    }

    /// The rule joins with a series that is written last, so that a single evaluation sees all samples.
    fn write_samples(&self, phase: &str, mut series: Vec<Vec<Label>>) -> Result<()> {
        for labels in &mut series {
            labels.push(("__name__", "notify_bench".to_owned()));
            labels.sort_unstable();
        }
        let go = vec![
            ("__name__", "notify_go".to_owned()),
            ("phase", phase.to_owned()),
        ];
        let headers = [
            ("Content-Encoding", "snappy"),
            ("Content-Type", "application/x-protobuf"),
            ("X-Prometheus-Remote-Write-Version", "0.1.0"),
        ];
        let mut client = Client::connect(self.address)?;
        for series in [series, vec![go]] {
            let values = vec![1.0; series.len()];
            let at_ms = (now() * 1000.0) as i64;
            let body = Sender::new(&series).request(at_ms, &values)?;
            client
                .post("/api/v1/write", &headers, Bytes::from(body))?
                .good()?;
        }
        Ok(())
    }
}

fn labels(phase: &str, alert: usize, group: usize) -> Vec<Label> {
    vec![
        ("alert", format!("{phase}-{alert}")),
        ("group", format!("{phase}-{group}")),
        (
            "instance",
            format!("10.0.{}.{}:9100", group % 256, alert % 256),
        ),
        ("job", "kubelet".to_owned()),
        ("namespace", format!("team-{}", group % 40)),
        ("phase", phase.to_owned()),
        ("pod", format!("web-6d4b75cb6d-{alert:05}")),
    ]
}

fn tidemark(directory: &Path, address: SocketAddr, way: Way) -> Result<Command> {
    let started = "{{ $value | printf \"%.3f\" }}";
    let rule = json!({
        "alert": "NotifyBench",
        // The value is the time of the evaluation, which the annotation contains.
        "expr": "(notify_bench and on (phase) notify_go) * 0 + time()",
        "labels": { "severity": "warning" },
        "annotations": { "started": started, "summary": SUMMARY },
    });
    let rules = json!({ "groups": [{ "name": "bench", "interval": "2s", "rules": [rule] }] });
    fs::write(directory.join("rules.yml"), rules.to_string())?;
    let mut config = json!({ "alertmanager": "alertmanager.yml" });
    if way == Way::OwnRules {
        config["rule_files"] = json!(["rules.yml"]);
    }
    fs::write(directory.join("config.yml"), config.to_string())?;
    let mut command = Command::new(ServerKind::Tidemark.program()?);
    command
        .args(["--dev", "--log.level", "warn"])
        .args(["--kubernetes.kubeconfig", "none"])
        .args(["--quic.listen-address", "127.0.0.1:0"])
        .args(["--web.listen-address", &address.to_string()])
        .arg("--storage.path")
        .arg(directory.join("data"))
        .arg("--config.file")
        .arg(directory.join("config.yml"));
    Ok(command)
}

fn alertmanager(directory: &Path, address: SocketAddr) -> Result<Command> {
    let program = std::env::var_os("PEER_ALERTMANAGER").context("PEER_ALERTMANAGER is not set")?;
    let mut command = Command::new(program);
    let path = |name| directory.join(name).display().to_string();
    command
        .arg(format!("--config.file={}", path("alertmanager.yml")))
        .arg(format!("--storage.path={}", path("data")))
        .arg(format!("--web.listen-address={address}"))
        .args(["--cluster.listen-address=", "--log.level=warn"]);
    Ok(command)
}
