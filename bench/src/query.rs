//! `query`: the cost of dashboard queries on each server, and whether the answers agree.

mod answer;
mod catalogue;
mod table;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use serde_json::json;

use crate::corpus::Shape;
use crate::disk;
use crate::http::Client;
use crate::process::cpu_time;
use crate::push::{Order, Plan, Senders};
use crate::report::{print, progress};
use crate::server::{Server, ServerKind};
use crate::storage::recent_shape;

use answer::Answer;
use catalogue::{Question, questions};

/// Scrapes that are pushed after the flush, so that each server answers from blocks and from memory.
const TAIL_SCRAPES: usize = 12;

/// Maximum number of different end times of a question, one step apart; then they repeat.
const ENDS_MAX: i64 = 20;
/// Cheap questions are repeated for this long, because a process' CPU clock is too coarse for a few short requests.
const ASKING_MIN: Duration = Duration::from_millis(400);
/// Maximum number of repetitions.
const ASKED_MAX: usize = 2000;

/// Options of the benchmark.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Number of nodes, with 3,570 series each.
    #[arg(long, default_value_t = 10)]
    nodes: usize,
    /// Hours of data, with one sample every 10 s.
    #[arg(long, default_value_t = 1.0)]
    hours: f64,
    /// Servers to measure.
    #[arg(long, value_enum, value_delimiter = ',')]
    servers: Vec<ServerKind>,
    /// Minimum number of repetitions after the first answer.
    #[arg(long, default_value_t = 20)]
    repeats: u32,
    /// Runs only questions whose name has this prefix.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Makes a short run of about a minute that checks that everything works.
    #[arg(long)]
    quick: bool,
    /// Directory for the servers' data.
    #[arg(long, default_value = "target/bench")]
    work: PathBuf,
}

/// A server with its data, and a connection to it.
struct Subject {
    server: Server,
    client: Client,
    /// Keeps the data while the server runs.
    _directory: tempfile::TempDir,
}

/// Cost of one question on one server.
#[derive(Debug, Default)]
struct Measured {
    /// First answer after a start with a cold page cache.
    cold: Duration,
    /// Durations of the other answers, ascending.
    warm: Vec<Duration>,
    /// CPU time of one answer, warm.
    cpu: Duration,
    /// CPU time of one answer without `VictoriaMetrics`' result cache.
    cpu_nocache: Option<Duration>,
    /// The last answer.
    answer: Answer,
    failure: Option<String>,
}

impl Measured {
    fn warm(&self, quantile: f64) -> Duration {
        let last = self.warm.len().saturating_sub(1);
        let index = (last as f64 * quantile).round() as usize;
        self.warm.get(index).copied().unwrap_or_default()
    }
}

/// Runs the benchmark and prints its results.
///
/// # Errors
/// A server can't be started or refuses data. The table shows questions that fail.
pub fn run(mut options: Options) -> Result<()> {
    if options.quick {
        options.nodes = 4;
        options.hours = 0.25;
        options.repeats = 5;
    }
    let mut kinds = options.servers.clone();
    if kinds.is_empty() {
        kinds = ServerKind::ALL.to_vec();
    }
    let shape = recent_shape(options.nodes, options.hours)?;
    let mut subjects = Vec::new();
    for &kind in &kinds {
        let subject = prepare(kind, &shape, &options.work).with_context(|| kind.name())?;
        subjects.push(subject);
    }
    let mut questions = questions(&shape);
    if !options.only.is_empty() {
        questions.retain(|q| options.only.iter().any(|start| q.name.starts_with(start)));
    }
    let mut rows = Vec::new();
    for question in questions {
        progress(question.name)?;
        let measured = subjects
            .iter_mut()
            .map(|subject| subject.measure(&question, &shape, options.repeats))
            .collect::<Result<Vec<_>>>()?;
        rows.push((question.name, measured));
    }
    let title = format!(
        "{} series x {} scrapes, each question asked {} times or for 0.4 s",
        shape.series(),
        shape.scrapes,
        options.repeats
    );
    print(&table::markdown(&title, &kinds, &rows))?;
    let results = table::json(&kinds, &rows);
    print(&json!({ "bench": "query", "title": title, "results": results }).to_string())
}

/// Fills a server and restarts it with a cold page cache.
fn prepare(kind: ServerKind, shape: &Shape, work: &Path) -> Result<Subject> {
    progress(&format!(
        "{}: pushing {} samples",
        kind.name(),
        shape.samples()
    ))?;
    std::fs::create_dir_all(work).with_context(|| format!("make {}", work.display()))?;
    let directory = tempfile::tempdir_in(work)?;
    let mut senders = Senders::new(&Plan {
        shape: *shape,
        connections: 4,
        order: Order::Steady,
    });
    let mut server = Server::start(kind, directory.path())?;
    server.wait_ready()?;
    senders.push(
        shape.scrapes - TAIL_SCRAPES.min(shape.scrapes / 2),
        server.address,
    )?;
    if kind != ServerKind::Prometheus {
        server.flush()?;
    }
    senders.push(shape.scrapes, server.address)?;
    let data = server.data.clone();
    server.stop()?;
    disk::drop_page_cache(&data)?;
    let mut server = Server::start(kind, directory.path())?;
    server.wait_ready()?;
    let client = server.client()?;
    Ok(Subject {
        server,
        client,
        _directory: directory,
    })
}

/// Returns the number of different end times of a question: those in the newer half of the data.
fn ends(question: &Question, shape: &Shape) -> u32 {
    let data_ms = shape.end_ms() - shape.start_ms;
    let ends = (data_ms / 2 / question.step_ms()).clamp(1, ENDS_MAX);
    u32::try_from(ends).unwrap_or(1)
}

/// Returns the request of a question that ends `back` steps before the end of the data.
fn path(question: &Question, shape: &Shape, back: u32, nocache: bool) -> String {
    let end_ms = shape.end_ms() - i64::from(back) * question.step_ms();
    question.path(end_ms, nocache)
}

impl Subject {
    fn measure(&mut self, question: &Question, shape: &Shape, repeats: u32) -> Result<Measured> {
        let mut measured = Measured::default();
        // A server may close a connection that was idle while others were measured.
        self.client = self.server.client()?;
        let is_victoria = self.server.kind == ServerKind::VictoriaMetrics;
        let first = path(question, shape, ends(question, shape), is_victoria);
        let (cold, _) = self.ask(&first, &mut measured)?;
        measured.cold = cold;

        let (cpu, last) = self.ask_often(question, shape, (repeats, false), &mut measured)?;
        measured.cpu = cpu;
        measured.warm.sort_unstable();
        if measured.failure.is_none() {
            measured.answer = Answer::parse(&last).with_context(|| question.name)?;
        }
        if is_victoria {
            let mut nocache = Measured::default();
            let (cpu, _) = self.ask_often(question, shape, (repeats, true), &mut nocache)?;
            measured.cpu_nocache = Some(cpu);
            measured.failure = measured.failure.or(nocache.failure);
        }
        Ok(measured)
    }

    /// Asks with different end times; returns the CPU time of one answer, and the last answer.
    fn ask_often(
        &mut self,
        question: &Question,
        shape: &Shape,
        (repeats, nocache): (u32, bool),
        measured: &mut Measured,
    ) -> Result<(Duration, Bytes)> {
        let mut last = Bytes::new();
        let before = cpu_time(self.server.pid())?;
        let started = Instant::now();
        while measured.warm.len() < repeats as usize
            || (started.elapsed() < ASKING_MIN && measured.warm.len() < ASKED_MAX)
        {
            for back in (0..ends(question, shape)).rev() {
                let path = path(question, shape, back, nocache);
                let (took, body) = self.ask(&path, measured)?;
                measured.warm.push(took);
                last = body;
            }
        }
        let asked = u32::try_from(measured.warm.len()).unwrap_or(u32::MAX);
        let cpu = cpu_time(self.server.pid())? - before;
        Ok((cpu / asked.max(1), last))
    }

    fn ask(&mut self, path: &str, measured: &mut Measured) -> Result<(Duration, Bytes)> {
        let started = Instant::now();
        let response = self.client.get(path)?;
        let took = started.elapsed();
        match response.good() {
            Ok(body) => Ok((took, body)),
            Err(error) => {
                measured.failure.get_or_insert_with(|| error.to_string());
                Ok((took, Bytes::new()))
            }
        }
    }
}
