//! `/api/v1/export` and `/api/v1/import`: raw samples as VictoriaMetrics' JSON lines.

use std::ops::Range;
use std::str::Utf8Error;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::Response;
use common::limits::REMOTE_WRITE_BYTES_MAX;
use common::model::{Labels, Matcher};
use common::report::chain;
use tidemark_storage::{
    AppendError, AppendMode, LogPosition, Selection, SeriesSamples, SeriesSet, Store, Values,
};

use super::error::ApiError;
use super::params::{Params, read_limited};
use super::respond::{self, Encoding, ReadOptions, ReadPermit, Sink, read_error};
use super::selectors::{self, Matchers, select};
use super::state::{Api, Core};
use crate::transfer::{BadLine, json_line};

/// VictoriaMetrics' content type of JSON lines.
const LINES: &str = "application/stream+json; charset=utf-8";
/// Maximum samples of a line.
const LINE_SAMPLES_MAX: usize = 10_000;
/// Series read at a time.
const SERIES_AT_ONCE: usize = 256;

/// Exports every sample of the series that match, including staleness markers.
///
/// # Errors
/// A parameter is wrong, or the read failed.
pub async fn export(
    State(api): State<Api>,
    core: Core,
    encoding: Encoding,
    params: Params,
) -> Result<Response, ApiError> {
    if params.all("match[]").next().is_none() {
        return Err(ApiError::bad_data("no match[] parameter provided"));
    }
    let sets = selectors::parse_all(&params)?;
    let selections = selectors::selections(sets.clone(), params.range()?);
    let options = ReadOptions {
        content_type: LINES,
        ..ReadOptions::json(encoding)
    };
    respond::read(&api, options, move |sink, permit| {
        for (index, selection) in selections.iter().enumerate() {
            let earlier = sets.get(..index).unwrap_or_default();
            write_selection(&core.store, selection, earlier, sink, permit)?;
        }
        sink.flush_chunk()
    })
    .await
}

fn matches(matchers: &[Matcher], labels: &Labels) -> bool {
    let holds = |one: &Matcher| one.matches(labels.get(one.name()).unwrap_or(""));
    matchers.iter().all(holds)
}

/// Writes the series of a selection, except those that an `earlier` selector matched.
fn write_selection(
    store: &Store,
    selection: &Selection,
    earlier: &[Matchers],
    sink: &mut Sink,
    permit: &ReadPermit,
) -> Result<(), ApiError> {
    let set = select(store, selection, &permit.control)?;
    if let Some(warning) = set.warnings().first() {
        // An incomplete export must not look complete.
        return Err(ApiError::unavailable(warning.clone()));
    }
    let ranges = (0..set.len()).step_by(SERIES_AT_ONCE);
    for range in ranges.map(|first| first..set.len().min(first + SERIES_AT_ONCE)) {
        write_range(&set, range, earlier, sink, permit)?;
        sink.flush_chunk()?;
    }
    match set.warnings().first() {
        Some(warning) => Err(ApiError::unavailable(warning.clone())),
        None => Ok(()),
    }
}

fn write_range(
    set: &Arc<dyn SeriesSet>,
    range: Range<usize>,
    earlier: &[Matchers],
    sink: &mut Sink,
    permit: &ReadPermit,
) -> Result<(), ApiError> {
    let text = &mut sink.text;
    set.read(range, &permit.control, &mut |index, column| {
        let Values::Floats(values) = column.values;
        let labels = set.labels(index);
        if earlier.iter().any(|matchers| matches(matchers, &labels)) {
            return Ok(());
        }
        let times = column.timestamps_ms.chunks(LINE_SAMPLES_MAX);
        for (times, values) in times.zip(values.chunks(LINE_SAMPLES_MAX)) {
            json_line::write(text, &labels, times, values);
        }
        Ok(())
    })
    .map_err(|error| read_error(&error))
}

/// Why an import failed.
#[derive(Debug, thiserror::Error)]
enum ImportError {
    #[error("body is not UTF-8")]
    NotUtf8(#[from] Utf8Error),
    #[error("line {line}")]
    Line { line: usize, source: BadLine },
    #[error("store samples")]
    Append(#[from] AppendError),
}

/// Imports JSON lines. Answers 204 once all samples are on disk. A body with a malformed line stores nothing; refused
/// samples do not keep the others from being stored.
///
/// # Errors
/// The body is malformed, samples were refused, or the store failed.
pub async fn import(
    State(api): State<Api>,
    core: Core,
    request: Request,
) -> Result<Response, ApiError> {
    let Ok(_permit) = api.writes.acquire().await else {
        return Err(ApiError::unavailable("server is shutting down"));
    };
    let body = read_limited(request, REMOTE_WRITE_BYTES_MAX).await?;
    let refused = tokio::task::spawn_blocking(move || import_lines(&core.store, &body))
        .await
        .map_err(|error| ApiError::internal("import", &error))?
        .map_err(|error| import_failed(&error))?;
    match refused {
        None => Ok(respond::no_content()),
        Some(refused) => Err(ApiError::bad_data(refused)),
    }
}

fn import_failed(error: &ImportError) -> ApiError {
    match error {
        ImportError::NotUtf8(_) | ImportError::Line { .. } => ApiError::bad_data(chain(error)),
        ImportError::Append(
            AppendError::DiskFull { .. } | AppendError::OverBudget { .. } | AppendError::Closed,
        ) => ApiError::unavailable(chain(error)),
        ImportError::Append(_) => ApiError::internal("import", error),
    }
}

/// Stores the lines. Describes the samples that were refused.
fn import_lines(store: &Store, body: &[u8]) -> Result<Option<String>, ImportError> {
    let text = std::str::from_utf8(body)?;
    let mut batch = Vec::new();
    for (line, text) in (1..).zip(text.lines()) {
        if text.trim().is_empty() {
            continue;
        }
        let series = parse_line(text).map_err(|source| ImportError::Line { line, source })?;
        batch.push(series);
    }
    if batch.is_empty() {
        return Ok(None);
    }
    let appended = store.append(&batch, AppendMode::Partial)?;
    if appended.position > LogPosition::default() {
        store.wait_durable(appended.position)?;
    }
    let refused = appended.refused;
    Ok((refused > 0).then(|| crate::remote_write::refusal_text(&appended)))
}

fn parse_line(text: &str) -> Result<SeriesSamples, BadLine> {
    let line = json_line::parse(text)?;
    if line.labels.metric_name().is_none() {
        return Err(BadLine::NoMetricName);
    }
    line.labels.check_limits().map_err(BadLine::Labels)?;
    Ok(SeriesSamples {
        labels: line.labels,
        samples: line.samples,
    })
}
