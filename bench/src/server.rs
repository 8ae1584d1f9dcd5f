//! The compared servers: how to start each, when it is ready, and how to flush it.

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

use crate::disk::{self, DiskFile};
use crate::http::Client;
use crate::process::Usage;

/// Time limit for a server to become ready or to flush.
const PATIENCE: Duration = Duration::from_secs(600);

/// A product.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, clap::ValueEnum)]
pub enum ServerKind {
    /// Tidemark.
    Tidemark,
    /// Prometheus with its remote-write receiver.
    Prometheus,
    /// Single-node VictoriaMetrics.
    VictoriaMetrics,
}

impl ServerKind {
    /// All servers, ours first.
    pub const ALL: [Self; 3] = [Self::Tidemark, Self::Prometheus, Self::VictoriaMetrics];

    /// Returns the name in tables and JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tidemark => "tidemark",
            Self::Prometheus => "prometheus",
            Self::VictoriaMetrics => "victoria-metrics",
        }
    }

    /// Returns the program: from the environment (`scripts/peers` prints the lines), or ours next to this one.
    ///
    /// # Errors
    /// The program is missing.
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

/// Size on disk by purpose.
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
    /// The product.
    pub kind: ServerKind,
    /// HTTP address.
    pub address: SocketAddr,
    /// Address for agents, if it is ours.
    pub quic_address: SocketAddr,
    /// Data directory.
    pub data: PathBuf,
    child: Child,
    log: PathBuf,
    started: Instant,
}

impl Server {
    /// Starts a server in `directory`, which is empty or has data of an earlier run.
    ///
    /// # Errors
    /// The program is missing or can't be started.
    pub fn start(kind: ServerKind, directory: &Path) -> Result<Self> {
        let data = directory.join("data");
        fs::create_dir_all(&data)?;
        let log = directory.join("log");
        let (address, quic_address) = (free_address()?, free_address()?);
        let mut command = Command::new(kind.program()?);
        match kind {
            ServerKind::Tidemark => tidemark(&mut command, &data, address, quic_address),
            ServerKind::Prometheus => prometheus(&mut command, directory, address)?,
            ServerKind::VictoriaMetrics => victoria_metrics(&mut command, &data, address),
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

    /// Waits until the server is ready; returns the time since its start.
    ///
    /// # Errors
    /// The server ended or was not ready within ten minutes; the message contains the end of its log.
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

    /// Opens a new connection.
    ///
    /// # Errors
    /// The connection is refused.
    pub fn client(&self) -> Result<Client> {
        Client::connect(self.address)
    }

    /// Returns the resource usage since the start.
    ///
    /// # Errors
    /// The process has ended.
    pub fn usage(&self) -> Result<Usage> {
        Usage::of(self.child.id())
            .with_context(|| format!("{}: {}", self.kind.name(), self.log_end()))
    }

    /// Returns the process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Kills the server with SIGKILL.
    ///
    /// # Errors
    /// The process had already ended.
    pub fn kill(mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Stops the server with SIGTERM and waits.
    ///
    /// # Errors
    /// The process had already ended.
    pub fn stop(mut self) -> Result<()> {
        kill(
            Pid::from_raw(self.child.id().cast_signed()),
            Signal::SIGTERM,
        )?;
        self.child.wait()?;
        Ok(())
    }

    /// Makes the server write all samples in their final form, and returns their size.
    ///
    /// # Errors
    /// The server refuses, or takes longer than ten minutes.
    pub fn flush(&self) -> Result<Stored> {
        let mut client = self.client()?;
        match self.kind {
            ServerKind::Tidemark => {
                let path = "/api/v1/admin/tsdb/flush";
                client.post(path, &[], Bytes::new())?.good()?;
                self.stored(&self.data)
            }
            ServerKind::Prometheus => {
                let path = "/api/v1/admin/tsdb/snapshot";
                let body = client.post(path, &[], Bytes::new())?.good()?;
                let answer: serde_json::Value = serde_json::from_slice(&body)?;
                let name = answer["data"]["name"]
                    .as_str()
                    .context("snapshot without a name")?;
                self.stored(&self.data.join("snapshots").join(name))
            }
            ServerKind::VictoriaMetrics => {
                client.get("/internal/force_flush")?.good()?;
                client.get("/internal/force_merge")?.good()?;
                self.wait_merged(&mut client)?;
                self.stored(&self.data)
            }
        }
    }

    /// VictoriaMetrics' forced merge continues after the response.
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

    /// Measures `directory`, the data directory or a snapshot of it.
    ///
    /// # Errors
    /// The directory can't be read.
    pub fn stored(&self, directory: &Path) -> Result<Stored> {
        let mut stored = Stored::default();
        for DiskFile { path, bytes } in disk::files(directory)? {
            let name = path.to_string_lossy();
            if self.kind == ServerKind::Tidemark && name.ends_with(".blk") {
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
        // Fails only if the process has ended.
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

/// Returns the purpose of a file by its path in the data directory (for Prometheus, in a snapshot).
fn part(kind: ServerKind, path: &str) -> Part {
    let (samples, index) = match kind {
        // Blocks contain both.
        ServerKind::Tidemark => (false, false),
        ServerKind::Prometheus => (path.contains("/chunks/"), path.ends_with("/index")),
        ServerKind::VictoriaMetrics => {
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

/// Returns the size of our block before its index: chunks and their directory. The footer has an entry per section; the
/// second is the start of the series.
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
    // The window is free while samples arrive in order, and accepts senders that are not in step.
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
        // By default its queries omit the last 30 seconds.
        .args([
            "-retentionPeriod=30d",
            "-loggerLevel=WARN",
            "-search.latencyOffset=1ms",
        ]);
}

/// Returns an unused loopback address.
pub(crate) fn free_address() -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("find a free port")?;
    Ok(listener.local_addr()?)
}
