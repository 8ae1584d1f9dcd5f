//! The servers that are compared: how each is started, when it is ready, how it is brought to write everything down.

use std::fs::{self, File};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::disk::{self, Entry};
use crate::http::Client;
use crate::process::Usage;

/// How long a server may take to become ready, or to flush.
const PATIENCE: Duration = Duration::from_secs(600);

/// A kind of server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, clap::ValueEnum)]
pub enum Kind {
    /// Ours.
    Tidemark,
    /// Prometheus with its remote-write receiver.
    Prometheus,
    /// Single-node VictoriaMetrics.
    VictoriaMetrics,
}

impl Kind {
    /// All of them, ours first.
    pub const ALL: [Self; 3] = [Self::Tidemark, Self::Prometheus, Self::VictoriaMetrics];

    /// Its name in tables and JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tidemark => "tidemark",
            Self::Prometheus => "prometheus",
            Self::VictoriaMetrics => "victoria-metrics",
        }
    }

    /// The program: named by the environment (`scripts/peers` prints the lines), ours beside this one.
    ///
    /// # Errors
    /// It is not there.
    pub fn program(self) -> Result<PathBuf> {
        let variable = match self {
            Self::Tidemark => "TIDEMARK_AGGREGATOR",
            Self::Prometheus => "PEER_PROMETHEUS",
            Self::VictoriaMetrics => "PEER_VICTORIA_METRICS",
        };
        let path = match std::env::var_os(variable) {
            Some(path) => PathBuf::from(path),
            None if self == Self::Tidemark => {
                std::env::current_exe()?.with_file_name("tidemark-aggregator")
            }
            None => bail!("{}: {variable} is not set", self.name()),
        };
        if !path.is_file() {
            bail!("{}: no program {}", self.name(), path.display());
        }
        Ok(path)
    }

    const fn ready_path(self) -> &'static str {
        match self {
            Self::Tidemark | Self::Prometheus => "/-/ready",
            Self::VictoriaMetrics => "/health",
        }
    }
}

/// Bytes on disk by what they are for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stored {
    /// Values and timestamps.
    pub samples_bytes: u64,
    /// Labels and postings.
    pub index_bytes: u64,
    /// Logs, caches, manifests.
    pub other_bytes: u64,
}

/// A running server. Killed when dropped.
#[derive(Debug)]
pub struct Server {
    /// What it is.
    pub kind: Kind,
    /// Where it answers HTTP.
    pub address: SocketAddr,
    /// Where it takes agents, if it is ours.
    pub quic_address: SocketAddr,
    /// Its data directory.
    pub data: PathBuf,
    child: Child,
    log: PathBuf,
    started: Instant,
}

impl Server {
    /// Starts a server on `directory`, which holds its data from an earlier start or is empty.
    ///
    /// # Errors
    /// The program is not there or can't be started.
    pub fn start(kind: Kind, directory: &Path) -> Result<Self> {
        let data = directory.join("data");
        fs::create_dir_all(&data)?;
        let log = directory.join("log");
        let (address, quic_address) = (free_address()?, free_address()?);
        let mut command = Command::new(kind.program()?);
        match kind {
            Kind::Tidemark => tidemark(&mut command, &data, address, quic_address),
            Kind::Prometheus => prometheus(&mut command, directory, address)?,
            Kind::VictoriaMetrics => victoria_metrics(&mut command, &data, address),
        }
        let output = File::options().create(true).append(true).open(&log)?;
        let child = command
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .with_context(|| format!("start {}", kind.name()))?;
        Ok(Self {
            kind,
            address,
            quic_address,
            data,
            child,
            log,
            started: Instant::now(),
        })
    }

    /// Waits until it takes requests; returns how long that took from the start.
    ///
    /// # Errors
    /// It ended or was not ready in ten minutes; the message has the end of its log.
    pub fn wait_ready(&mut self) -> Result<Duration> {
        while self.started.elapsed() < PATIENCE {
            let answer =
                Client::connect(self.address).and_then(|mut c| c.get(self.kind.ready_path()));
            if answer.is_ok_and(|answer| answer.status == 200) {
                return Ok(self.started.elapsed());
            }
            if let Some(status) = self.child.try_wait()? {
                bail!("{} ended, {status}: {}", self.kind.name(), self.log_end());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        bail!("{} is not ready: {}", self.kind.name(), self.log_end())
    }

    fn log_end(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(5)..].join("\n")
    }

    /// A new connection to it.
    ///
    /// # Errors
    /// It does not listen.
    pub fn client(&self) -> Result<Client> {
        Client::connect(self.address)
    }

    /// What it has used since it was started.
    ///
    /// # Errors
    /// It has ended.
    pub fn usage(&self) -> Result<Usage> {
        Usage::of(self.child.id())
            .with_context(|| format!("{}: {}", self.kind.name(), self.log_end()))
    }

    /// Its process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Kills it as a power cut would, without a moment to write anything.
    ///
    /// # Errors
    /// It had ended before.
    pub fn kill(mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Asks it to end, and waits.
    ///
    /// # Errors
    /// It had ended before.
    pub fn stop(mut self) -> Result<()> {
        kill(
            Pid::from_raw(self.child.id().cast_signed()),
            Signal::SIGTERM,
        )?;
        self.child.wait()?;
        Ok(())
    }

    /// Brings it to write all samples into their final form and says how large they are there.
    ///
    /// # Errors
    /// It refuses, or takes longer than ten minutes.
    pub fn flush(&self) -> Result<Stored> {
        let mut client = self.client()?;
        match self.kind {
            Kind::Tidemark => {
                let path = "/api/v1/admin/tsdb/flush";
                client.post(path, &[], Bytes::new())?.good()?;
                self.stored(&self.data)
            }
            Kind::Prometheus => {
                let path = "/api/v1/admin/tsdb/snapshot";
                let body = client.post(path, &[], Bytes::new())?.good()?;
                let answer: serde_json::Value = serde_json::from_slice(&body)?;
                let name = answer["data"]["name"]
                    .as_str()
                    .context("snapshot without a name")?;
                self.stored(&self.data.join("snapshots").join(name))
            }
            Kind::VictoriaMetrics => {
                client.get("/internal/force_flush")?.good()?;
                client.get("/internal/force_merge")?.good()?;
                self.wait_merged(&mut client)?;
                self.stored(&self.data)
            }
        }
    }

    /// The forced merge of VictoriaMetrics goes on behind its answer.
    fn wait_merged(&self, client: &mut Client) -> Result<()> {
        let started = Instant::now();
        while started.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(200));
            let metrics = client.get("/metrics")?.good()?;
            let metrics = String::from_utf8_lossy(&metrics).into_owned();
            let active: f64 = metrics
                .lines()
                .filter(|line| {
                    line.starts_with("vm_active_force_merges")
                        || line.starts_with("vm_active_merges")
                })
                .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
                .sum();
            if active == 0.0 {
                return Ok(());
            }
        }
        bail!("{} does not end its merges", self.kind.name())
    }

    /// Bytes on disk in `directory`, which is its data directory or a snapshot of it.
    ///
    /// # Errors
    /// The directory can't be read.
    pub fn stored(&self, directory: &Path) -> Result<Stored> {
        let mut stored = Stored::default();
        for Entry { path, bytes } in disk::files(directory)? {
            let name = path.to_string_lossy();
            if self.kind == Kind::Tidemark && name.ends_with(".blk") {
                let samples = samples_of_block(&directory.join(&path))?.min(bytes);
                stored.samples_bytes += samples;
                stored.index_bytes += bytes - samples;
                continue;
            }
            *match part(self.kind, &name) {
                Part::Samples => &mut stored.samples_bytes,
                Part::Index => &mut stored.index_bytes,
                Part::Other => &mut stored.other_bytes,
            } += bytes;
        }
        Ok(stored)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Fails only where it has ended already.
        if self.child.kill().is_ok() {
            self.child.wait().ok();
        }
    }
}

enum Part {
    Samples,
    Index,
    Other,
}

/// What a file of a server, by its path in the data directory (of Prometheus: in a snapshot), is for.
fn part(kind: Kind, path: &str) -> Part {
    let (samples, index) = match kind {
        // Both are in its blocks.
        Kind::Tidemark => (false, false),
        Kind::Prometheus => (path.contains("/chunks/"), path.ends_with("/index")),
        Kind::VictoriaMetrics => {
            let index = path.contains("indexdb");
            (path.starts_with("data/") && !index, index)
        }
    };
    match (samples, index) {
        (true, _) => Part::Samples,
        (_, true) => Part::Index,
        _ => Part::Other,
    }
}

/// Bytes of a block of ours before its index: chunks and their directory. The footer has one entry a section; the
/// second one is where the series begin.
fn samples_of_block(path: &Path) -> Result<u64> {
    const FOOTER_BYTES: i64 = 140;
    const SERIES_OFFSET_AT: usize = 68;
    let mut file = File::open(path).with_context(|| format!("open {}", path.display()))?;
    file.seek(SeekFrom::End(-FOOTER_BYTES))?;
    let mut footer = Vec::new();
    file.read_to_end(&mut footer)?;
    let offset = footer.get(SERIES_OFFSET_AT..SERIES_OFFSET_AT + 8);
    let offset = offset.and_then(|bytes| bytes.try_into().ok());
    let offset = offset.with_context(|| format!("no footer in {}", path.display()))?;
    Ok(u64::from_le_bytes(offset))
}

fn tidemark(command: &mut Command, data: &Path, address: SocketAddr, quic: SocketAddr) {
    command
        .arg("--dev")
        .args(["--storage.retention.time", "30d"])
        .args(["--web.enable-admin-api", "--log.level", "warn"])
        .args(["--kubernetes.kubeconfig", "none"])
        .arg("--storage.path")
        .arg(data)
        .args(["--web.listen-address", &address.to_string()])
        .args(["--quic.listen-address", &quic.to_string()]);
}

fn prometheus(command: &mut Command, directory: &Path, address: SocketAddr) -> Result<()> {
    let config = directory.join("prometheus.yml");
    // The window costs nothing while samples come in order; it keeps senders apart in time from being refused.
    fs::write(
        &config,
        "storage:\n  tsdb:\n    out_of_order_time_window: 6h\n",
    )?;
    command
        .arg(format!("--config.file={}", config.display()))
        .arg(format!(
            "--storage.tsdb.path={}",
            directory.join("data").display()
        ))
        .arg(format!("--web.listen-address={address}"))
        .args(["--storage.tsdb.retention.time=30d", "--log.level=warn"])
        .args([
            "--web.enable-remote-write-receiver",
            "--web.enable-admin-api",
        ]);
    Ok(())
}

fn victoria_metrics(command: &mut Command, data: &Path, address: SocketAddr) {
    command
        .arg(format!("-storageDataPath={}", data.display()))
        .arg(format!("-httpListenAddr={address}"))
        // By default its queries leave out the last 30 seconds.
        .args([
            "-retentionPeriod=30d",
            "-loggerLevel=WARN",
            "-search.latencyOffset=1ms",
        ]);
}

/// An address on loopback that nobody listens at.
pub(crate) fn free_address() -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("find a free port")?;
    Ok(listener.local_addr()?)
}
