//! Measures the store alone: streams of a made-up cluster in, blocks out, restart, a few reads.
//!
//! `cargo run --release -p tidemark-storage --example ingest -- NODES TICKS [DIRECTORY]`
#![expect(clippy::print_stdout, reason = "prints its results")]
#![expect(clippy::unwrap_used, reason = "a measurement that fails may stop")]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use common::clock::ManualClock;
use common::model::{Labels, Matcher};
use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};
use tidemark_storage::{
    Grouping, LogPosition, ReadControl, Readable as _, Selection, Store, StoreOptions, Stream,
    Values,
};

const START_MS: i64 = 1_700_000_000_000;
const TICK_MS: i64 = 10_000;
const PODS: usize = 30;

/// How the values of a series move.
enum Shape {
    Constant,
    Counter,
    Seconds,
    Gauge,
    Bucket,
}

struct Series {
    shape: Shape,
    value: f64,
    rate: f64,
}

struct Node {
    stream: Stream,
    series: Vec<Series>,
    row: Vec<(u32, f64)>,
}

fn shape_of(metric: usize) -> Shape {
    match metric % 100 {
        0..30 => Shape::Constant,
        30..56 => Shape::Counter,
        56..65 => Shape::Seconds,
        65..89 => Shape::Gauge,
        _ => Shape::Bucket,
    }
}

impl Series {
    fn next(&mut self, random: &mut SmallRng) -> f64 {
        let jitter: f64 = random.random_range(0.8..1.2);
        match self.shape {
            Shape::Constant => {}
            Shape::Counter => self.value += (self.rate * jitter).round(),
            Shape::Seconds => {
                self.value = ((self.value + jitter * self.rate / 1e3) * 1e6).round() / 1e6;
            }
            Shape::Gauge if random.random_bool(0.3) => {
                self.value += (jitter - 1.0) * 4096.0 * self.rate;
                self.value = (self.value / 4096.0).round() * 4096.0;
            }
            Shape::Gauge => {}
            Shape::Bucket if random.random_bool(0.4) => {
                self.value += f64::from(random.random_range(0..3));
            }
            Shape::Bucket => {}
        }
        self.value
    }
}

fn labels_of_node(node: usize) -> Vec<(Labels, usize)> {
    let name = format!("node-{node:05}.cluster.local");
    let mut list = Vec::new();
    for metric in 0..120 {
        let pairs = [
            ("__name__", format!("node_metric_{metric:03}_total")),
            ("instance", name.clone()),
            ("job", "node".to_owned()),
        ];
        list.push((Labels::from_pairs(pairs).unwrap(), metric));
    }
    for metric in 0..45_usize + 2 * 35 {
        for pod in 0..PODS {
            let container = metric
                .checked_sub(45)
                .map_or(String::new(), |m| format!("c{}", m % 2));
            let family = if metric < 45 {
                metric
            } else {
                45 + (metric - 45) / 2
            };
            let pairs = [
                ("__name__", format!("container_metric_{family:03}_total")),
                ("container", container),
                (
                    "id",
                    format!("/kubepods/burstable/pod{node:05}-{pod:03}-4c1e-9f6a-1f2e3d4c5b6a"),
                ),
                (
                    "image",
                    format!("registry.example.com/team/app-{}:v1.2.3", pod % 10),
                ),
                ("instance", name.clone()),
                ("job", "kubelet".to_owned()),
                ("metrics_path", "/metrics/cadvisor".to_owned()),
                ("namespace", format!("ns-{}", pod % 5)),
                ("pod", format!("app-{}-{node:05}-{pod:03}", pod % 10)),
            ];
            list.push((Labels::from_pairs(pairs).unwrap(), family));
        }
    }
    list
}

fn open_node(store: &Store, node: usize, random: &mut SmallRng) -> Node {
    let mut stream = store.stream(&format!("agent/a/{node}/1"));
    let mut series = Vec::new();
    for (column, (labels, metric)) in labels_of_node(node).iter().enumerate() {
        stream.define(column as u32, labels).unwrap();
        series.push(Series {
            shape: shape_of(metric * 37),
            value: f64::from(random.random_range(0..1_000_000)),
            rate: f64::from(random.random_range(1..2000)),
        });
    }
    Node {
        stream,
        series,
        row: Vec::new(),
    }
}

/// User and system seconds of this process so far.
fn cpu_seconds() -> f64 {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap();
    let after = text.rsplit(')').next().unwrap();
    let fields: Vec<&str> = after.split_whitespace().collect();
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
}

fn status_mb(key: &str) -> f64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find(|line| line.starts_with(key)).unwrap();
    line.split_whitespace()
        .nth(1)
        .unwrap()
        .parse::<f64>()
        .unwrap()
        / 1024.0
}

fn written_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/self/io").unwrap();
    let line = text
        .lines()
        .find(|line| line.starts_with("write_bytes"))
        .unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn open(path: &Path) -> Store {
    let options = StoreOptions {
        path: path.to_path_buf(),
        retention: None,
        retention_bytes: 0,
        memory_budget_bytes: 8 << 30,
        ..StoreOptions::default()
    };
    let clock = ManualClock::new(START_MS + 24 * 3_600_000);
    Store::open(options, Arc::new(clock)).unwrap()
}

fn directory_bytes(path: &Path) -> u64 {
    let entries = std::fs::read_dir(path).unwrap();
    entries
        .map(|entry| entry.unwrap().metadata().unwrap().len())
        .sum()
}

fn time_query(store: &Store, name: &str, matchers: Vec<Matcher>, range: (i64, i64), by: &[&str]) {
    let before = (Instant::now(), cpu_seconds());
    let rounds = 20;
    let (mut series, mut samples, mut sum) = (0, 0, 0.0);
    for _ in 0..rounds {
        let control = ReadControl::unlimited();
        let selection = Selection {
            matchers: matchers.clone(),
            start_ms: range.0,
            end_ms: range.1,
        };
        let set = store.select(&selection, &control).unwrap();
        let groups = set.group(Grouping::By(by));
        series = set.len();
        set.read(0..set.len(), &control, &mut |_, column| {
            let Values::Floats(values) = column.values;
            sum += values.iter().sum::<f64>() + groups.labels.len() as f64;
            Ok(())
        })
        .unwrap();
        samples = control.samples();
    }
    let wall = before.0.elapsed().as_secs_f64() * 1e3 / f64::from(rounds);
    let cpu = (cpu_seconds() - before.1) * 1e3 / f64::from(rounds);
    println!("{name}: {series} series, {samples} samples, {wall:.2} ms, {cpu:.2} CPU-ms ({sum:e})");
}

/// What the ticks came to.
struct Ingested {
    samples: u64,
    cpu_seconds: f64,
}

fn ingest(store: &Store, sources: &mut [Node], ticks: i64, random: &mut SmallRng) -> Ingested {
    let (mut samples, mut cpu, mut generator) = (0, 0.0, 0.0);
    let wall = Instant::now();
    for tick in 0..ticks {
        let start = cpu_seconds();
        for node in &mut *sources {
            node.row.clear();
            let values = node.series.iter_mut().map(|one| one.next(random));
            node.row.extend((0..).zip(values));
        }
        let filled = cpu_seconds();
        let mut last = LogPosition::default();
        for (number, node) in (0..).zip(&mut *sources) {
            let time = START_MS + tick * TICK_MS + number * 7;
            let row = node.stream.append_row(tick as u64 + 1, time, &node.row);
            let appended = row.unwrap();
            samples += appended.stored;
            last = appended.position;
        }
        store.wait_durable(last).unwrap();
        generator += filled - start;
        cpu += cpu_seconds() - filled;
    }
    let millions = samples as f64 / 1e6;
    println!(
        "{millions:.1} M samples in {:.1} s: {:.4} CPU-s/M (generator {:.4})",
        wall.elapsed().as_secs_f64(),
        cpu / millions,
        generator / millions,
    );
    Ingested {
        samples,
        cpu_seconds: cpu,
    }
}

/// Opens the store and prints what that took.
fn reopen(path: &Path, what: &str) -> Store {
    let start = (Instant::now(), cpu_seconds());
    let store = open(path);
    let (wall, cpu) = (start.0.elapsed().as_secs_f64(), cpu_seconds() - start.1);
    let rss = status_mb("VmRSS");
    println!("{what}: {wall:.2} s, {cpu:.2} CPU-s, RSS {rss:.0} MB");
    store
}

fn queries(store: &Store, end: i64) {
    let metric = || vec![Matcher::equal("__name__", "container_metric_050_total")];
    let kubelet = vec![Matcher::equal("job", "kubelet")];
    let pod = vec![Matcher::equal("pod", "app-3-00001-003")];
    let (minutes, hour) = ((end - 300_000, end), (end - 3_600_000, end));
    time_query(store, "one metric, 5 m", metric(), minutes, &["namespace"]);
    time_query(store, "one metric, 1 h", metric(), hour, &["namespace"]);
    time_query(store, "all kubelet, 5 m", kubelet, minutes, &["__name__"]);
    time_query(store, "one pod, 1 h", pod, hour, &["__name__"]);
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let nodes: usize = arguments.next().map_or(10, |text| text.parse().unwrap());
    let ticks: i64 = arguments.next().map_or(360, |text| text.parse().unwrap());
    let temporary = tempfile::tempdir().unwrap();
    let own = || temporary.path().to_path_buf();
    let path = arguments.next().map_or_else(own, PathBuf::from);
    let mut random = SmallRng::seed_from_u64(1);
    let store = open(&path);
    let (rss_empty, before) = (status_mb("VmRSS"), cpu_seconds());
    let opened = (0..nodes).map(|node| open_node(&store, node, &mut random));
    let mut sources: Vec<Node> = opened.collect();
    let series = sources.iter().map(|node| node.series.len()).sum::<usize>();
    println!(
        "{series} series defined: {:.2} CPU-s",
        cpu_seconds() - before
    );
    let ingested = ingest(&store, &mut sources, ticks, &mut random);
    let samples = ingested.samples as f64;
    println!(
        "peak RSS {:.0} MB, {:.2} KB a series; log {:.2} B/sample",
        status_mb("VmHWM"),
        (status_mb("VmHWM") - rss_empty) * 1024.0 / series as f64,
        directory_bytes(&path.join("wal")) as f64 / samples,
    );
    drop(sources);
    drop(store);
    let store = reopen(&path, "restart from the log");
    let end = START_MS + ticks * TICK_MS;
    queries(&store, end);
    let before = cpu_seconds();
    store.flush().unwrap();
    let in_all = (ingested.cpu_seconds + cpu_seconds() - before) / samples * 1e6;
    println!(
        "flushed: {in_all:.4} CPU-s/M in all; blocks {:.3} B/sample, written {:.2} B/sample",
        directory_bytes(&path.join("blocks")) as f64 / samples,
        written_bytes() as f64 / samples,
    );
    queries(&store, end);
    drop(store);
    drop(reopen(&path, "restart from the checkpoint"));
}
