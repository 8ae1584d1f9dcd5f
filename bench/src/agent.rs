//! `agent`: the cost of collection on a node, compared with `node_exporter`.

mod cgroups;

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde_json::json;

use crate::http::Client;
use crate::process::Usage;
use crate::report::{Column, Table, print, progress};
use crate::server::{Server, ServerKind};
use cgroups::{Cgroups, MemoryCgroup};

const MIB: f64 = 1024.0 * 1024.0;
/// Time limit for the first answer to a scrape.
const PATIENCE: Duration = Duration::from_secs(20);

/// Options of the benchmark.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Number of pods.
    #[arg(long, default_value_t = 110)]
    pods: usize,
    /// Number of containers.
    #[arg(long, default_value_t = 250)]
    containers: usize,
    /// Seconds between two ticks, and between two scrapes of `node_exporter`.
    #[arg(long, default_value_t = 10)]
    interval: u64,
    /// Number of measured ticks, after two warm-up ticks.
    #[arg(long, default_value_t = 12)]
    ticks: u32,
    /// Makes every container work, instead of one in ten.
    #[arg(long)]
    busy: bool,
    /// Makes a short run of half a minute that checks that everything works.
    #[arg(long)]
    quick: bool,
    /// Directory for the programs' data.
    #[arg(long, default_value = "target/bench")]
    work: PathBuf,
}

/// A measured program.
struct Subject {
    column: Column,
    child: Child,
    address: SocketAddr,
    memory: MemoryCgroup,
    /// Whether it only reads when it is scraped.
    is_scraped: bool,
}

impl Drop for Subject {
    fn drop(&mut self) {
        // Fails only if the process has ended.
        if self.child.kill().is_ok() {
            self.child.wait().ok();
        }
    }
}

/// Resource usage of a subject at one time.
struct Moment {
    usage: Usage,
    metrics: Metrics,
}

/// Returns the text of `/metrics`.
struct Metrics(String);

impl Metrics {
    fn value(&self, name: &str) -> Option<f64> {
        let mut lines = self.0.lines();
        let rest = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
        rest.split(' ').next()?.parse().ok()
    }

    fn samples(&self) -> usize {
        let lines = self.0.lines();
        lines
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
            .count()
    }
}

/// Results of one subject.
#[derive(Debug, Default)]
struct Figures {
    cpu_ms_per_tick: f64,
    cpu_ms_dearest: f64,
    rss_mib: f64,
    kernel_mib: Option<f64>,
    samples_per_tick: Option<f64>,
    bytes_per_sample: Option<f64>,
}

/// Runs the benchmark and prints its results.
///
/// # Errors
/// Not root, or a program can't be started.
pub fn run(mut options: Options) -> Result<()> {
    if options.quick {
        (options.pods, options.containers) = (20, 50);
        (options.interval, options.ticks) = (2, 6);
    }
    std::fs::create_dir_all(&options.work)?;
    let directory = tempfile::tempdir_in(&options.work)?;
    progress("making cgroups")?;
    let _cgroups = Cgroups::new(options.pods, options.containers, options.busy)?;
    let mut aggregator = Server::start(ServerKind::Tidemark, &directory.path().join("aggregator"))?;
    aggregator.wait_ready()?;
    let mut subjects = vec![
        agent(
            "tidemark-agent",
            &options,
            &aggregator,
            directory.path(),
            &[],
        )?,
        agent(
            "its node part alone",
            &options,
            &aggregator,
            directory.path(),
            &["--no-collector.cgroup"],
        )?,
        node_exporter(directory.path())?,
    ];
    let figures = measure(&mut subjects, &options)?;
    let title = format!(
        "{} containers{} in {} pods, {} ticks of {} s",
        options.containers,
        if options.busy { ", all at work," } else { "" },
        options.pods,
        options.ticks,
        options.interval
    );
    let table = table(&title, &subjects, &figures);
    print(&table.to_markdown())?;
    print(&json!({ "bench": "agent", "results": [table.to_json()] }).to_string())
}

fn agent(
    name: &'static str,
    options: &Options,
    aggregator: &Server,
    directory: &Path,
    more: &[&str],
) -> Result<Subject> {
    let program = std::env::var_os("TIDEMARK_AGENT").map_or_else(
        || Ok(std::env::current_exe()?.with_file_name("tidemark-agent")),
        |path| anyhow::Ok(PathBuf::from(path)),
    )?;
    let node = name.replace(' ', "-");
    let address = free_address()?;
    let interval = format!("{}s", options.interval);
    let memory = MemoryCgroup::new(&node)?;
    let mut command = memory.command(&program);
    command
        .args(["--node.name", &node, "--interval", &interval])
        .args(["--aggregator.address", &aggregator.quic_address.to_string()])
        .args(["--web.listen-address", &address.to_string()])
        .args(["--log.level", "warn"])
        .arg("--spool.path")
        .arg(directory.join(&node))
        .arg("--join.token-file")
        .arg(aggregator.data.join("join-token"))
        .args(more);
    let log = File::create(directory.join(format!("{node}.log")))?;
    let child = command.stdin(Stdio::null()).stderr(log).spawn();
    Ok(Subject {
        column: Column {
            name,
            is_ours: true,
        },
        child: child.with_context(|| format!("start {}", program.display()))?,
        address,
        memory,
        is_scraped: false,
    })
}

fn node_exporter(directory: &Path) -> Result<Subject> {
    let program =
        std::env::var_os("PEER_NODE_EXPORTER").context("PEER_NODE_EXPORTER is not set")?;
    let address = free_address()?;
    let memory = MemoryCgroup::new("node-exporter")?;
    let log = File::create(directory.join("node-exporter.log"))?;
    let child = memory
        .command(Path::new(&program))
        .arg(format!("--web.listen-address={address}"))
        .arg("--log.level=warn")
        .stdin(Stdio::null())
        .stderr(log)
        .spawn()?;
    let name = "node_exporter";
    Ok(Subject {
        column: Column {
            name,
            is_ours: false,
        },
        child,
        address,
        memory,
        is_scraped: true,
    })
}

fn measure(subjects: &mut [Subject], options: &Options) -> Result<Vec<Figures>> {
    let interval = Duration::from_secs(options.interval);
    for subject in &mut *subjects {
        subject.metrics()?;
    }
    scrape_all(subjects, 2, interval)?;
    progress(&format!(
        "measuring for {} s",
        options.interval * u64::from(options.ticks)
    ))?;
    // Answering costs our own programs CPU time, so they are scraped outside the measurement.
    let mut before = Vec::new();
    for subject in &mut *subjects {
        let metrics = subject.metrics()?;
        before.push(Moment {
            usage: subject.usage()?,
            metrics,
        });
    }
    let dearest = scrape_all(subjects, options.ticks, interval)?;
    let mut figures = Vec::new();
    for ((subject, before), dearest) in subjects.iter_mut().zip(&before).zip(dearest) {
        let usage = subject.usage()?;
        let metrics = subject.metrics()?;
        let after = Moment { usage, metrics };
        figures.push(subject.figures(before, &after, dearest, options.ticks)?);
    }
    Ok(figures)
}

/// Waits for `ticks` intervals and scrapes each subject that needs it. Returns the CPU time of each subject's most expensive
/// interval: in one of the agent's, all tiers are read.
fn scrape_all(subjects: &mut [Subject], ticks: u32, interval: Duration) -> Result<Vec<Duration>> {
    let mut dearest = vec![Duration::ZERO; subjects.len()];
    let mut last = cpu_of(subjects)?;
    for _ in 0..ticks {
        let started = Instant::now();
        for subject in subjects.iter_mut().filter(|subject| subject.is_scraped) {
            subject.metrics()?;
        }
        thread::sleep(interval.saturating_sub(started.elapsed()));
        let now = cpu_of(subjects)?;
        for (dearest, (now, last)) in dearest.iter_mut().zip(now.iter().zip(&last)) {
            *dearest = (*dearest).max(now.saturating_sub(*last));
        }
        last = now;
    }
    Ok(dearest)
}

fn cpu_of(subjects: &[Subject]) -> Result<Vec<Duration>> {
    let usages = subjects.iter().map(Subject::usage);
    usages.map(|usage| Ok(usage?.cpu)).collect()
}

impl Subject {
    fn usage(&self) -> Result<Usage> {
        Usage::of(self.child.id()).with_context(|| self.column.name)
    }

    /// Scrapes the program, and waits while it starts.
    fn metrics(&mut self) -> Result<Metrics> {
        let started = Instant::now();
        loop {
            let answer = Client::connect(self.address).and_then(|mut c| c.get("/metrics"));
            match answer {
                Ok(answer) => {
                    let text = answer.good()?;
                    return Ok(Metrics(String::from_utf8_lossy(&text).into_owned()));
                }
                Err(error) if started.elapsed() > PATIENCE => {
                    return Err(error.context(self.column.name));
                }
                Err(_) => thread::sleep(Duration::from_millis(20)),
            }
            if let Some(status) = self.child.try_wait()? {
                bail!("{} ended, {status}", self.column.name);
            }
        }
    }

    fn figures(
        &self,
        before: &Moment,
        after: &Moment,
        dearest: Duration,
        scrapes: u32,
    ) -> Result<Figures> {
        let delta = |name| Some(after.metrics.value(name)? - before.metrics.value(name)?);
        let cpu = after.usage.cpu.saturating_sub(before.usage.cpu);
        let ticks = delta("agent_sampler_ticks_total").unwrap_or_else(|| f64::from(scrapes));
        let samples = delta("agent_spool_samples_total");
        let sent = delta("agent_uplink_sent_bytes_total");
        let bytes = sent.or_else(|| delta("agent_spool_written_bytes_total"));
        let scraped = self.is_scraped.then(|| after.metrics.samples() as f64);
        let text_bytes = self.is_scraped.then_some(after.metrics.0.len() as f64);
        let per_sample = |bytes: Option<f64>, samples: Option<f64>| Some(bytes? / samples?);
        Ok(Figures {
            cpu_ms_per_tick: cpu.as_secs_f64() * 1e3 / ticks,
            cpu_ms_dearest: dearest.as_secs_f64() * 1e3,
            rss_mib: after.usage.rss_bytes as f64 / MIB,
            kernel_mib: Some(self.memory.kernel_bytes()? as f64 / MIB),
            samples_per_tick: samples.map(|samples| samples / ticks).or(scraped),
            bytes_per_sample: per_sample(bytes, samples).or(per_sample(text_bytes, scraped)),
        })
    }
}

fn table(title: &str, subjects: &[Subject], figures: &[Figures]) -> Table {
    let columns: Vec<Column> = subjects.iter().map(|subject| subject.column).collect();
    let mut table = Table::new(title, &columns);
    let mut row = |name: &str, key: &str, decimals, of: fn(&Figures) -> Option<f64>| {
        table.row(name, key, decimals, figures.iter().map(of).collect());
    };
    row("CPU-ms per tick or scrape", "cpu_ms", 2, |f| {
        Some(f.cpu_ms_per_tick)
    });
    row("CPU-ms of the dearest", "cpu_ms_dearest", 2, |f| {
        Some(f.cpu_ms_dearest)
    });
    row("CPU-us per sample", "cpu_us_per_sample", 2, |f| {
        Some(f.cpu_ms_per_tick * 1e3 / f.samples_per_tick?)
    });
    row("samples per tick or scrape", "samples", 0, |f| {
        f.samples_per_tick
    });
    row("bytes per sample, sent", "bytes_per_sample", 2, |f| {
        f.bytes_per_sample
    });
    row("RSS, MiB", "rss_mib", 1, |f| Some(f.rss_mib));
    row("kernel memory charged, MiB", "kernel_mib", 1, |f| {
        f.kernel_mib
    });
    table
}

fn free_address() -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("find a free port")?;
    Ok(listener.local_addr()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn value_is_that_of_the_whole_name() {
        let text = "# HELP a_total A.\na_total_more 7\na_total 3\nb{x=\"y\"} 1\n";
        let metrics = Metrics(text.to_owned());
        assert_eq!(metrics.value("a_total"), Some(3.0));
        assert_eq!(metrics.value("a"), None);
        assert_eq!(metrics.samples(), 3);
    }
}
