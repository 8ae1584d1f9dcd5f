//! `storage`: the cost of ingesting, keeping and recovering a corpus on each server.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::corpus::{PODS_PER_NODE, SERIES_PER_NODE, Shape};
use crate::disk;
use crate::fleet::Fleet;
use crate::http::Client;
use crate::process::Usage;
use crate::push::{Order, Plan, Pushed, Senders};
use crate::report::{Column, Table, print, progress};
use crate::server::{Server, ServerKind, Stored};

/// Time between two scrapes of a node.
const STEP_MS: i64 = 10_000;
/// Age of the end of the corpus.
const AGE_MS: i64 = 120_000;
/// Scrapes at the end of the corpus that are pushed just before the kill.
const TAIL_SCRAPES: usize = 12;
const MIB: f64 = 1024.0 * 1024.0;

/// Options of the benchmark.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Numbers of nodes, with 3,570 series each.
    #[arg(long, value_delimiter = ',', default_value = "10")]
    nodes: Vec<usize>,
    /// Hours of data, with one sample every 10 s.
    #[arg(long, default_value_t = 1.0)]
    hours: f64,
    /// Orders in which senders list their series.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "steady")]
    order: Vec<Order>,
    /// Servers, and ways to write to ours.
    #[arg(long, value_enum, value_delimiter = ',')]
    servers: Vec<Contender>,
    /// Number of connections.
    #[arg(long, default_value_t = 4)]
    connections: usize,
    /// Makes a short run of about a minute that checks that everything works.
    #[arg(long)]
    quick: bool,
    /// Directory for the servers' data.
    #[arg(long, default_value = "target/bench")]
    work: PathBuf,
}

/// A server and a way to write to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Contender {
    /// Ours, by remote write.
    Tidemark,
    /// Ours, by the agents' wire protocol over QUIC with certificates; every tick is acknowledged when durable.
    TidemarkAgents,
    /// Prometheus, by remote write.
    Prometheus,
    /// `VictoriaMetrics`, by remote write.
    VictoriaMetrics,
}

impl Contender {
    const ALL: [Self; 4] = [
        Self::Tidemark,
        Self::TidemarkAgents,
        Self::Prometheus,
        Self::VictoriaMetrics,
    ];

    const fn kind(self) -> ServerKind {
        match self {
            Self::Tidemark | Self::TidemarkAgents => ServerKind::Tidemark,
            Self::Prometheus => ServerKind::Prometheus,
            Self::VictoriaMetrics => ServerKind::VictoriaMetrics,
        }
    }

    fn column(self) -> Column {
        let is_ours = self.kind() == ServerKind::Tidemark;
        let name = match self {
            Self::TidemarkAgents => "tidemark agents",
            _ => self.kind().name(),
        };
        Column { name, is_ours }
    }
}

impl Options {
    /// Returns the selected contenders, by default all. Agents support one order only.
    fn contenders(&self, order: Order) -> Vec<Contender> {
        let mut contenders = self.servers.clone();
        if contenders.is_empty() {
            contenders = Contender::ALL.to_vec();
        }
        contenders.retain(|c| *c != Contender::TidemarkAgents || order == Order::Steady);
        contenders
    }
}

/// The load generator: senders of remote write, or agents.
enum Load {
    Senders(Senders),
    Fleet(Fleet),
}

impl Load {
    fn new(plan: &Plan, contender: Contender, server: &Server) -> Result<Self> {
        Ok(match contender {
            Contender::TidemarkAgents => Self::Fleet(Fleet::connect(
                &plan.shape,
                server.quic_address,
                &server.data,
            )?),
            _ => Self::Senders(Senders::new(plan)),
        })
    }

    fn push(&mut self, end: usize, server: &Server) -> Result<Pushed> {
        match self {
            Self::Senders(senders) => senders.push(end, server.address),
            Self::Fleet(fleet) => fleet.push(end),
        }
    }

    fn wire_bytes(&self) -> u64 {
        match self {
            Self::Senders(senders) => senders.body_bytes(),
            Self::Fleet(fleet) => fleet.sample_bytes(),
        }
    }
}

/// Returns a corpus that ends now.
///
/// # Errors
/// The clock is before 1970.
pub fn recent_shape(nodes: usize, hours: f64) -> Result<Shape> {
    let scrapes = (hours * 3_600_000.0 / STEP_MS as f64).round().max(2.0) as usize;
    #[expect(
        clippy::disallowed_methods,
        reason = "benchmarks are not part of the product, and every server needs recent data"
    )]
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis();
    let end_ms = (i64::try_from(now)? - AGE_MS) / STEP_MS * STEP_MS;
    Ok(Shape {
        nodes,
        start_ms: end_ms - scrapes as i64 * STEP_MS,
        step_ms: STEP_MS,
        scrapes,
    })
}

/// Runs the benchmark and prints its results.
///
/// # Errors
/// A server can't be started, refuses data, or its usage can't be read.
pub fn run(mut options: Options) -> Result<()> {
    if options.quick {
        options.nodes = vec![2, 6];
        options.hours = 0.25;
        options.order = vec![Order::Steady, Order::Shuffled];
    }
    let mut results = Vec::new();
    for &order in &options.order {
        let contenders = options.contenders(order);
        let mut sizes = Vec::new();
        for &nodes in &options.nodes {
            let plan = Plan {
                shape: recent_shape(nodes, options.hours)?,
                connections: options.connections,
                order,
            };
            let figures = measure_all(&plan, &contenders, &options.work)?;
            let table = table(&plan, &contenders, &figures);
            print(&table.to_markdown())?;
            results.push(table.to_json());
            sizes.push((plan, figures));
        }
        if let [.., (small, before), (large, after)] = sizes.as_slice() {
            let table = growth(&contenders, (small, before), (large, after));
            print(&table.to_markdown())?;
            results.push(table.to_json());
        }
    }
    print(&json!({ "bench": "storage", "results": Value::Array(results) }).to_string())
}

/// Results of one server with one corpus.
#[derive(Debug, Default)]
struct Figures {
    pushed: Pushed,
    /// CPU time of the ingest.
    push_cpu: Duration,
    /// CPU time of the flush.
    flush_cpu: Duration,
    /// After the push, before the kill.
    live: Usage,
    live_disk_bytes: u64,
    /// Size of all request bodies, or of all frames of ticks.
    wire_bytes: u64,
    /// Time from the restart until ready.
    ready: Duration,
    /// Usage of the second process by then.
    restart: Usage,
    lost_samples: i64,
    /// Usage of the second process at the end.
    flushed: Usage,
    stored: Stored,
}

fn measure_all(plan: &Plan, contenders: &[Contender], work: &Path) -> Result<Vec<Figures>> {
    std::fs::create_dir_all(work).with_context(|| format!("make {}", work.display()))?;
    contenders
        .iter()
        .map(|&contender| {
            let directory = tempfile::tempdir_in(work)?;
            let name = contender.column().name;
            progress(&format!("{name}: pushing {} samples", plan.shape.samples()))?;
            measure(plan, contender, directory.path()).with_context(|| name)
        })
        .collect()
}

/// Pushes, kills, restarts, counts and flushes.
///
/// `VictoriaMetrics` keeps the newest samples and series only in memory. The kill would lose all data of a short run, so
/// the server is stopped cleanly before the last scrapes, and the size is measured there.
fn measure(plan: &Plan, contender: Contender, directory: &Path) -> Result<Figures> {
    let kind = contender.kind();
    let mut figures = Figures::default();
    let mut server = Server::start(kind, directory)?;
    server.wait_ready()?;
    let mut load = Load::new(plan, contender, &server)?;
    let tail = plan.shape.scrapes - TAIL_SCRAPES.min(plan.shape.scrapes / 2);
    figures.push(&mut load, tail, &server)?;
    if kind == ServerKind::VictoriaMetrics {
        figures.flush(&server)?;
        figures.live = server.usage()?;
        server.stop()?;
        server = Server::start(kind, directory)?;
        server.wait_ready()?;
        figures.stored = server.stored(&server.data)?;
    }
    figures.push(&mut load, plan.shape.scrapes, &server)?;
    figures.live = figures.live.then(server.usage()?);
    figures.live_disk_bytes = disk_bytes(&server.data)?;
    figures.wire_bytes = load.wire_bytes();

    let data = server.data.clone();
    server.kill()?;
    disk::drop_page_cache(&data)?;
    let mut server = Server::start(kind, directory)?;
    figures.ready = server.wait_ready()?;
    figures.restart = server.usage()?;
    let stored = count(&mut server.client()?, &plan.shape)?;
    figures.lost_samples = plan.shape.samples().cast_signed() - stored.cast_signed();

    if kind != ServerKind::VictoriaMetrics {
        figures.flush(&server)?;
    }
    figures.flushed = server.usage()?;
    Ok(figures)
}

impl Figures {
    fn push(&mut self, load: &mut Load, end: usize, server: &Server) -> Result<()> {
        let before = server.usage()?.cpu;
        let pushed = load.push(end, server)?;
        self.push_cpu += server.usage()?.cpu.saturating_sub(before);
        self.pushed.add(pushed);
        Ok(())
    }

    fn flush(&mut self, server: &Server) -> Result<()> {
        progress(&format!("{}: flushing", server.kind.name()))?;
        let before = server.usage()?.cpu;
        self.stored = server.flush()?;
        self.flush_cpu += server.usage()?.cpu.saturating_sub(before);
        Ok(())
    }
}

/// Size of all files, without the space that ours reserves for a full disk.
fn disk_bytes(directory: &Path) -> Result<u64> {
    let files = disk::files(directory)?;
    let kept = files
        .iter()
        .filter(|entry| !entry.path.ends_with("reserve"));
    Ok(kept.map(|entry| entry.bytes).sum())
}

/// Returns the number of samples on the server, extrapolated from one metric with 60 samples per request.
fn count(client: &mut Client, shape: &Shape) -> Result<u64> {
    let seconds = shape.scrapes as i64 * shape.step_ms / 1000 + 60;
    let query = format!("sum(count_over_time(container_last_seen[{seconds}s]))");
    let time = (shape.end_ms() / 1000).to_string();
    let form = form_urlencoded::Serializer::new(String::new())
        .append_pair("query", &query)
        .append_pair("time", &time)
        .append_pair("nocache", "1")
        .finish();
    let headers = [("Content-Type", "application/x-www-form-urlencoded")];
    let body = client
        .post("/api/v1/query", &headers, form.into())?
        .good()?;
    let answer: Value = serde_json::from_slice(&body)?;
    let count = answer["data"]["result"][0]["value"][1]
        .as_str()
        .unwrap_or("0");
    let count: u64 = count.parse().with_context(|| format!("count {count}"))?;
    Ok(count * SERIES_PER_NODE as u64 / (2 * PODS_PER_NODE as u64))
}

/// A figure: title, key in the JSON, decimals, and its formula.
type Metric = (
    &'static str,
    &'static str,
    usize,
    fn(&Figures, &Shape) -> f64,
);

fn per_sample(bytes: u64, shape: &Shape) -> f64 {
    bytes as f64 / shape.samples() as f64
}

fn cpu_per_million(cpu: Duration, shape: &Shape) -> f64 {
    cpu.as_secs_f64() / shape.samples() as f64 * 1e6
}

const METRICS: [Metric; 17] = [
    ("CPU-s per M samples, pushing", "cpu_push", 3, |f, shape| {
        cpu_per_million(f.push_cpu, shape)
    }),
    (
        "CPU-s per M samples, flush included",
        "cpu",
        3,
        |f, shape| cpu_per_million(f.push_cpu + f.flush_cpu, shape),
    ),
    ("bytes/sample on the wire", "wire_bytes", 2, |f, shape| {
        per_sample(f.wire_bytes, shape)
    }),
    ("wall seconds of the push", "wall_seconds", 1, |f, _| {
        f.pushed.wall.as_secs_f64()
    }),
    ("request p50, ms", "request_p50_ms", 1, |f, _| {
        f.pushed.latency(0.5).as_secs_f64() * 1e3
    }),
    ("request p99, ms", "request_p99_ms", 1, |f, _| {
        f.pushed.latency(0.99).as_secs_f64() * 1e3
    }),
    ("RSS peak, pushing, MiB", "rss_peak_mib", 0, |f, _| {
        f.live.rss_peak_bytes as f64 / MIB
    }),
    (
        "RSS, restarted and flushed, MiB",
        "rss_flushed_mib",
        0,
        |f, _| f.flushed.rss_bytes as f64 / MIB,
    ),
    (
        "bytes/sample, flushed, samples alone",
        "sample_bytes",
        3,
        |f, shape| per_sample(f.stored.samples_bytes, shape),
    ),
    ("bytes/series, index", "index_bytes", 1, |f, shape| {
        f.stored.index_bytes as f64 / shape.series() as f64
    }),
    (
        "bytes/sample, live on disk before flush",
        "live_bytes",
        2,
        |f, shape| per_sample(f.live_disk_bytes, shape),
    ),
    (
        "bytes/sample written, pushing",
        "written_push_bytes",
        2,
        |f, shape| per_sample(f.live.written_bytes, shape),
    ),
    (
        "bytes/sample written in all",
        "written_bytes",
        2,
        |f, shape| per_sample(f.live.written_bytes + f.flushed.written_bytes, shape),
    ),
    ("ready after kill -9, s", "ready_seconds", 2, |f, _| {
        f.ready.as_secs_f64()
    }),
    ("CPU-s until ready", "ready_cpu_seconds", 2, |f, _| {
        f.restart.cpu.as_secs_f64()
    }),
    ("RSS when ready, MiB", "rss_ready_mib", 0, |f, _| {
        f.restart.rss_bytes as f64 / MIB
    }),
    ("acknowledged samples lost", "lost_samples", 0, |f, _| {
        f.lost_samples as f64
    }),
];

fn columns(contenders: &[Contender]) -> Vec<Column> {
    contenders.iter().map(|c| c.column()).collect()
}

fn table(plan: &Plan, contenders: &[Contender], figures: &[Figures]) -> Table {
    let shape = &plan.shape;
    let title = format!(
        "{} series x {} scrapes = {:.1} M samples, {} connections, {:?} order",
        shape.series(),
        shape.scrapes,
        shape.samples() as f64 / 1e6,
        plan.connections,
        plan.order
    );
    let mut table = Table::new(title, &columns(contenders));
    for (name, key, decimals, of) in METRICS {
        let values = figures.iter().map(|figures| Some(of(figures, shape)));
        table.row(name, key, decimals, values.collect());
    }
    table
}

/// Computes the cost of an additional series from two sizes.
fn growth(
    contenders: &[Contender],
    (small, before): (&Plan, &[Figures]),
    (large, after): (&Plan, &[Figures]),
) -> Table {
    let (from, to) = (small.shape.series() as f64, large.shape.series() as f64);
    let title = format!("growth from {from} to {to} series");
    let mut table = Table::new(title, &columns(contenders));
    let pairs = || before.iter().zip(after);
    let rss = pairs().map(|(a, b)| {
        let more = b.live.rss_peak_bytes as f64 - a.live.rss_peak_bytes as f64;
        Some(more / (to - from) / 1024.0)
    });
    table.row(
        "RSS peak, KiB a further series",
        "rss_slope_kib",
        2,
        rss.collect(),
    );
    let cpu = pairs().map(|(a, b)| {
        let per_sample = |f: &Figures, plan: &Plan| {
            (f.push_cpu + f.flush_cpu).as_secs_f64() / plan.shape.samples() as f64
        };
        Some(per_sample(b, large) / per_sample(a, small))
    });
    table.row(
        "CPU per sample, larger/smaller",
        "cpu_growth",
        2,
        cpu.collect(),
    );
    table
}
