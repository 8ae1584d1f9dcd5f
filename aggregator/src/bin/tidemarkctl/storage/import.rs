//! `tidemarkctl storage import`: imports JSON lines or OpenMetrics text into an aggregator or VictoriaMetrics.
//!
//! `FILE.import` records up to which byte the file was acknowledged; an interrupted run resumes there. Samples that were
//! sent but not recorded are sent again, and the store drops the duplicates.

use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, Seek as _, SeekFrom};
use std::path::PathBuf;

use aggregator::transfer::{LineSamples, json_line, open_metrics};
use serde::{Deserialize, Serialize};

use super::export::{failed, remove, write_whole};
use super::progress;
use crate::args::Import;
use crate::client::Client;
use crate::output::Failure;

/// Bytes of a request.
const BATCH_BYTES: usize = 4 << 20;
/// Samples of a line that is sent.
const LINE_SAMPLES_MAX: usize = 10_000;

/// Progress of an import.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct ImportState {
    url: String,
    file_bytes: u64,
    /// Bytes of the file that were acknowledged.
    bytes: u64,
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
    let mut import = RunningImport {
        client,
        state_path: path.with_file_name(name),
        state: ImportState {
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
    let mut pending: Option<LineSamples> = None;
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
        if let Some(line_samples) = read {
            match &mut pending {
                // OpenMetrics has a line for each sample.
                Some(open) if open.labels == line_samples.labels && is_short(open) => {
                    open.samples.extend(line_samples.samples);
                }
                _ => {
                    // What is pending ends where this line begins.
                    import.add(pending.replace(line_samples), at)?;
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

const fn is_short(line_samples: &LineSamples) -> bool {
    line_samples.samples.len() < LINE_SAMPLES_MAX
}

fn read_line(line: &str) -> Result<Option<LineSamples>, aggregator::transfer::BadLine> {
    if line.trim_start().starts_with("{\"") && line.trim_end().ends_with('}') {
        return json_line::parse(line).map(Some);
    }
    open_metrics::parse(line)
}

struct RunningImport<'c> {
    client: &'c Client,
    state_path: PathBuf,
    state: ImportState,
    body: Vec<u8>,
    skip_refused: bool,
    refusals: Vec<String>,
}

impl RunningImport<'_> {
    /// Resumes after the last acknowledged byte of an earlier run.
    fn resume(&mut self) -> Result<(), Failure> {
        let bytes = match fs::read(&self.state_path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(failed("read", &self.state_path, &error)),
        };
        let before: ImportState = serde_json::from_slice(&bytes)
            .map_err(|error| failed("read", &self.state_path, &error))?;
        if (&before.url, before.file_bytes) != (&self.state.url, self.state.file_bytes) {
            return Err(Failure::Failed(format!(
                "resume {}: it belongs to another import; remove it to start again",
                self.state_path.display()
            )));
        }
        self.state = before;
        Ok(())
    }

    /// Adds samples that end at byte `at` of the file.
    fn add(&mut self, line_samples: Option<LineSamples>, at: u64) -> Result<(), Failure> {
        let Some(line_samples) = line_samples else {
            return Ok(());
        };
        for samples in line_samples.samples.chunks(LINE_SAMPLES_MAX) {
            let times: Vec<i64> = samples.iter().map(|one| one.timestamp_ms).collect();
            let values: Vec<f64> = samples.iter().map(|one| one.value).collect();
            json_line::write(&mut self.body, &line_samples.labels, &times, &values);
        }
        if self.body.len() >= BATCH_BYTES {
            self.send(at)?;
        }
        Ok(())
    }

    /// Sends the gathered lines and records that the file is acknowledged up to byte `at`.
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
