//! `tidemarkctl storage import`: a file of JSON lines or OpenMetrics text, to our aggregator or to VictoriaMetrics.
//!
//! `FILE.import` says up to which byte it was acknowledged; an interrupted run is gone on with from there. What was sent
//! and not yet noted is sent again, which our store drops as duplicates.

use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use aggregator::transfer::{Stretch, json_line, open_metrics};
use serde::{Deserialize, Serialize};

use super::export::{remove, write_whole};
use super::progress;
use crate::args::Import;
use crate::client::Client;
use crate::output::Failure;

/// Bytes of one request.
const BATCH_BYTES: usize = 4 << 20;
/// Samples of one line that is sent.
const LINE_SAMPLES_MAX: usize = 10_000;

/// How far an import is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct State {
    url: String,
    file_bytes: u64,
    /// Bytes of the file that were acknowledged.
    bytes: u64,
}

fn failed(doing: &str, path: &Path, error: &impl std::fmt::Display) -> Failure {
    Failure::Failed(format!("{doing} {}: {error}", path.display()))
}

pub(crate) fn run(client: &Client, options: &Import) -> Result<(), Failure> {
    let path = &options.file;
    let file = File::open(path).map_err(|error| failed("open", path, &error))?;
    let file_bytes = file
        .metadata()
        .map_err(|error| failed("open", path, &error))?
        .len();
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(".import");
    let mut import = Running {
        client,
        state_path: path.with_file_name(name),
        state: State {
            url: client.url(),
            file_bytes,
            bytes: 0,
        },
        body: Vec::new(),
        skip_refused: options.skip_refused,
        refusals: Vec::new(),
    };
    import.resume()?;
    let mut reader = BufReader::with_capacity(1 << 20, file);
    reader.seek(SeekFrom::Start(import.state.bytes))?;
    let bar = progress::of_bytes(file_bytes);
    let (mut at, mut line) = (import.state.bytes, String::new());
    let mut pending: Option<Stretch> = None;
    loop {
        line.clear();
        let length = reader
            .read_line(&mut line)
            .map_err(|error| failed("read", path, &error))?;
        if length == 0 {
            break;
        }
        let read = read_line(line.trim_end());
        let read = read.map_err(|error| failed(&format!("byte {at} of"), path, &error))?;
        if let Some(stretch) = read {
            match &mut pending {
                // OpenMetrics has a line for each sample.
                Some(open) if open.labels == stretch.labels && is_short(open) => {
                    open.samples.extend(stretch.samples);
                }
                _ => {
                    // What is pending ends where this line begins.
                    import.add(pending.replace(stretch), at)?;
                    bar.set_position(import.state.bytes);
                }
            }
        }
        at += length as u64;
    }
    import.add(pending, at)?;
    import.send(at)?;
    bar.finish_and_clear();
    remove(&import.state_path)?;
    match import.refusals.first() {
        None => Ok(()),
        Some(first) => Err(Failure::Failed(format!(
            "{} requests had samples that were refused; the first: {first}",
            import.refusals.len()
        ))),
    }
}

const fn is_short(stretch: &Stretch) -> bool {
    stretch.samples.len() < LINE_SAMPLES_MAX
}

fn read_line(line: &str) -> Result<Option<Stretch>, aggregator::transfer::BadLine> {
    if line.trim_start().starts_with("{\"") && line.trim_end().ends_with('}') {
        return json_line::parse(line).map(Some);
    }
    open_metrics::parse(line)
}

struct Running<'c> {
    client: &'c Client,
    state_path: PathBuf,
    state: State,
    body: Vec<u8>,
    skip_refused: bool,
    refusals: Vec<String>,
}

impl Running<'_> {
    /// Finds out how far an earlier run came.
    fn resume(&mut self) -> Result<(), Failure> {
        let bytes = match fs::read(&self.state_path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(failed("read", &self.state_path, &error)),
        };
        let before: State = serde_json::from_slice(&bytes)
            .map_err(|error| failed("read", &self.state_path, &error))?;
        if (&before.url, before.file_bytes) != (&self.state.url, self.state.file_bytes) {
            let what = "it belongs to another import; remove it to begin anew";
            return Err(failed("go on with", &self.state_path, &what));
        }
        self.state = before;
        Ok(())
    }

    /// Adds a stretch that ends at byte `at` of the file.
    fn add(&mut self, stretch: Option<Stretch>, at: u64) -> Result<(), Failure> {
        let Some(stretch) = stretch else {
            return Ok(());
        };
        for samples in stretch.samples.chunks(LINE_SAMPLES_MAX) {
            let times: Vec<i64> = samples.iter().map(|one| one.timestamp_ms).collect();
            let values: Vec<f64> = samples.iter().map(|one| one.value).collect();
            json_line::write(&mut self.body, &stretch.labels, &times, &values);
        }
        if self.body.len() >= BATCH_BYTES {
            self.send(at)?;
        }
        Ok(())
    }

    /// Sends what has gathered and notes that the file is acknowledged up to byte `at`.
    fn send(&mut self, at: u64) -> Result<(), Failure> {
        if self.body.is_empty() {
            return Ok(());
        }
        let body = std::mem::take(&mut self.body);
        let (status, text) = self
            .client
            .post("/api/v1/import", "application/json", body)?;
        if !status.is_success() {
            let is_refusal = status.as_u16() == 400 && text.contains("samples refused");
            if !(self.skip_refused && is_refusal) {
                return Err(Failure::Failed(format!("{status}: {text}")));
            }
            self.refusals.push(text);
        }
        self.state.bytes = at;
        write_whole(&self.state_path, &self.state)
    }
}
