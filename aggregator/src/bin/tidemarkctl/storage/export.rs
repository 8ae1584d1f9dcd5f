//! `tidemarkctl storage export`: exports from an aggregator or VictoriaMetrics, one metric name at a time.
//!
//! The file grows as `FILE.part`. `FILE.part.state` records up to which name and byte it is complete; an interrupted
//! run resumes there. The file gets its name when it is complete.

use std::error::Error;
use std::fs::{self, File};
use std::io::{self, BufWriter, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use aggregator::transfer::{json_line, open_metrics};
use common::model::Matcher;
use common::report::chain;
use http::Method;
use serde::{Deserialize, Serialize};
use tidemark_promql::parse_selector;

use super::progress;
use crate::args::{Export, Form};
use crate::client::Client;
use crate::output::Failure;

/// Time between two saves of the state.
const SAVE_INTERVAL: Duration = Duration::from_secs(1);

/// Progress of an export.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct ExportState {
    /// Selectors, format and range. A state is valid only for the same request.
    #[serde(rename = "question")]
    request: Vec<String>,
    /// The last metric name in the file.
    name: String,
    /// Bytes of the file up to the end of that name.
    bytes: u64,
}

/// Describes a failure on a file.
pub(super) fn failed(doing: &str, path: &Path, error: &(dyn Error + 'static)) -> Failure {
    Failure::Failed(format!("{doing} {}: {}", path.display(), chain(error)))
}

fn beside(file: &Path, suffix: &str) -> PathBuf {
    let mut name = file.file_name().unwrap_or_default().to_os_string();
    name.push(suffix);
    file.with_file_name(name)
}

/// Quotes a string for PromQL.
fn quoted(text: &str) -> String {
    let escaped = text
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n");
    format!("\"{escaped}\"")
}

/// The selector of `matchers` for one metric.
fn selector(name: &str, matchers: &[Matcher]) -> String {
    let mut parts = vec![format!("__name__={}", quoted(name))];
    parts.extend(matchers.iter().map(|one| {
        let plain = one
            .name()
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || c == '_');
        let label = if plain {
            one.name().to_owned()
        } else {
            quoted(one.name())
        };
        format!("{label}{}{}", one.op().as_str(), quoted(one.value()))
    }));
    format!("{{{}}}", parts.join(","))
}

pub(crate) fn run(client: &Client, options: &Export) -> Result<(), Failure> {
    let mut selectors = Vec::new();
    for text in &options.matches {
        let matchers = parse_selector(text)
            .map_err(|error| Failure::Failed(format!("--match {text:?}: {error}")))?;
        selectors.push(matchers);
    }
    if options.file.try_exists()? {
        let file = options.file.display();
        return Err(Failure::Failed(format!("{file} already exists")));
    }
    let time = range(options);
    let names = metric_names(client, options, &time)?;
    let mut output = ExportFile::open(options)?;
    let bar = progress::of_items(names.len() as u64);
    for name in &names {
        bar.set_message(name.clone());
        if *name > output.state.name {
            let selectors: Vec<String> = selectors.iter().map(|one| selector(name, one)).collect();
            let mut parameters = time.clone();
            parameters.extend(selectors.iter().map(|text| ("match[]", text.as_str())));
            client.lines("/api/v1/export", &parameters, |line| {
                output.write_line(line)
            })?;
            output.complete_name(name)?;
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    output.finish(&options.file)
}

fn range(options: &Export) -> Vec<(&str, &str)> {
    let start = options.start.as_deref().map(|time| ("start", time));
    let end = options.end.as_deref().map(|time| ("end", time));
    // When listing names, VictoriaMetrics replaces a missing start, and 0, by the start of the current day (UTC).
    start
        .or(Some(("start", "0.001")))
        .into_iter()
        .chain(end)
        .collect()
}

fn metric_names(
    client: &Client,
    options: &Export,
    time: &[(&str, &str)],
) -> Result<Vec<String>, Failure> {
    let mut parameters = time.to_vec();
    parameters.extend(
        options
            .matches
            .iter()
            .map(|text| ("match[]", text.as_str())),
    );
    let data = client.api(Method::GET, "label/__name__/values", &parameters)?;
    let names = data.as_array().into_iter().flatten();
    let mut names: Vec<String> = names
        .filter_map(|name| name.as_str().map(str::to_owned))
        .collect();
    names.sort();
    Ok(names)
}

/// The file being written.
struct ExportFile {
    form: Form,
    part: PathBuf,
    state_path: PathBuf,
    state: ExportState,
    file: BufWriter<File>,
    text: String,
    saved: Instant,
}

impl ExportFile {
    fn open(options: &Export) -> Result<Self, Failure> {
        let part = beside(&options.file, ".part");
        let state_path = beside(&options.file, ".part.state");
        let mut request = options.matches.clone();
        request.extend([
            format!("{:?}", options.form),
            format!("{:?} {:?}", options.start, options.end),
        ]);
        let state = match fs::read(&state_path) {
            Ok(bytes) => {
                let state: ExportState = serde_json::from_slice(&bytes)
                    .map_err(|error| failed("read", &state_path, &error))?;
                if state.request != request {
                    return Err(Failure::Failed(format!(
                        "resume {}: it belongs to another export; remove it to start again",
                        part.display()
                    )));
                }
                state
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => ExportState {
                request,
                name: String::new(),
                bytes: 0,
            },
            Err(error) => return Err(failed("read", &state_path, &error)),
        };
        let file = File::options()
            .create(true)
            .write(true)
            .truncate(false)
            .open(&part);
        let mut file = file.map_err(|error| failed("open", &part, &error))?;
        // Bytes after the last complete name belong to an interrupted one.
        file.set_len(state.bytes)
            .and_then(|()| file.seek(SeekFrom::End(0)))
            .map_err(|error| failed("open", &part, &error))?;
        Ok(Self {
            form: options.form,
            part,
            state_path,
            state,
            file: BufWriter::with_capacity(1 << 20, file),
            text: String::new(),
            saved: Instant::now(),
        })
    }

    fn write_line(&mut self, line: &str) -> Result<(), Failure> {
        self.text.clear();
        match self.form {
            Form::JsonLines => {
                self.text.push_str(line);
                self.text.push('\n');
            }
            Form::Openmetrics => {
                let samples = json_line::parse(line).map_err(|error| {
                    Failure::Failed(format!("read the response: {}", chain(&error)))
                })?;
                open_metrics::write(&mut self.text, &samples);
            }
        }
        self.write()
    }

    fn write(&mut self) -> Result<(), Failure> {
        let written = self.file.write_all(self.text.as_bytes());
        written.map_err(|error| failed("write", &self.part, &error))
    }

    /// Records that the file contains a name completely.
    fn complete_name(&mut self, name: &str) -> Result<(), Failure> {
        name.clone_into(&mut self.state.name);
        if self.saved.elapsed() >= SAVE_INTERVAL {
            self.save()?;
        }
        Ok(())
    }

    fn save(&mut self) -> Result<(), Failure> {
        let synced = self
            .file
            .flush()
            .and_then(|()| self.file.get_ref().sync_data())
            .and_then(|()| self.file.stream_position());
        self.state.bytes = synced.map_err(|error| failed("write", &self.part, &error))?;
        write_whole(&self.state_path, &self.state)?;
        self.saved = Instant::now();
        Ok(())
    }

    fn finish(mut self, file: &Path) -> Result<(), Failure> {
        if self.form == Form::Openmetrics {
            self.text = format!("{}\n", open_metrics::END);
            self.write()?;
        }
        let finished = self
            .file
            .flush()
            .and_then(|()| self.file.get_ref().sync_all())
            .and_then(|()| fs::rename(&self.part, file));
        finished.map_err(|error| failed("finish", file, &error))?;
        remove(&self.state_path)
    }
}

/// Replaces a file atomically.
pub(super) fn write_whole(path: &Path, value: &impl Serialize) -> Result<(), Failure> {
    let temporary = beside(path, ".tmp");
    let text = serde_json::to_vec(value).map_err(|error| failed("write", path, &error))?;
    fs::write(&temporary, text)
        .and_then(|()| fs::rename(&temporary, path))
        .map_err(|error| failed("write", path, &error))
}

/// Removes a file if it exists.
pub(super) fn remove(path: &Path) -> Result<(), Failure> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(failed("remove", path, &error))
        }
        _ => Ok(()),
    }
}
