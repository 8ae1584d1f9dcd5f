//! `/api/v1/export` and `/api/v1/import`: raw samples as VictoriaMetrics' JSON lines, to move them between stores.

use std::ops::Range;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::{IntoResponse as _, Response};
use common::limits::REMOTE_WRITE_BYTES_MAX;
use common::model::{Labels, Matcher};
use http::{HeaderMap, StatusCode};
use tidemark_storage::{
    AppendError, AppendMode, LogPosition, Selection, SeriesSamples, SeriesSet, Store, Values,
};

use super::blocking::{Permitted, read_error, respond};
use super::error::ApiError;
use super::params::{Params, read_limited};
use super::reply::Sink;
use super::selectors::{self, Matchers, select};
use super::state::Api;
use crate::transfer::{BadLine, json_line};

/// VictoriaMetrics' name of JSON lines.
const LINES: &str = "application/stream+json; charset=utf-8";
/// Samples of one line at most.
const LINE_SAMPLES_MAX: usize = 10_000;
/// Series that are read at once.
const SERIES_AT_ONCE: usize = 256;

/// Answers with every sample of the series that match, staleness markers included.
pub async fn export(State(api): State<Api>, headers: HeaderMap, params: Params) -> Response {
    let parsed = || {
        if params.all("match[]").next().is_none() {
            return Err(ApiError::bad_data("no match[] parameter provided"));
        }
        let sets = selectors::parse_all(&params)?;
        Ok((api.core()?, sets, params.range()?))
    };
    let (core, sets, range) = match parsed() {
        Ok(parsed) => parsed,
        Err(error) => return error.into_response(),
    };
    respond(&api, &headers, LINES, None, move |sink, permitted| {
        for (number, selection) in selectors::selections(sets.clone(), range)
            .iter()
            .enumerate()
        {
            write_selection(&core.store, selection, &sets[..number], sink, permitted)?;
        }
        sink.flush_chunk()
    })
    .await
}

fn matches(matchers: &[Matcher], labels: &Labels) -> bool {
    let holds = |one: &Matcher| one.matches(labels.get(one.name()).unwrap_or(""));
    matchers.iter().all(holds)
}

/// Writes the series of a selection that none of the selectors `before` has.
fn write_selection(
    store: &Store,
    selection: &Selection,
    before: &[Matchers],
    sink: &mut Sink,
    permitted: &Permitted,
) -> Result<(), ApiError> {
    let set = select(store, selection, &permitted.control)?;
    if let Some(warning) = set.warnings().first() {
        // A copy that lacks something must not pass for a whole one.
        return Err(ApiError::unavailable(warning.clone()));
    }
    let ranges = (0..set.len()).step_by(SERIES_AT_ONCE);
    for range in ranges.map(|first| first..set.len().min(first + SERIES_AT_ONCE)) {
        write_range(&set, range, before, sink, permitted)?;
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
    before: &[Matchers],
    sink: &mut Sink,
    permitted: &Permitted,
) -> Result<(), ApiError> {
    let text = &mut sink.text;
    set.read(range, &permitted.control, &mut |index, column| {
        let Values::Floats(values) = column.values;
        let labels = set.labels(index);
        if before.iter().any(|matchers| matches(matchers, &labels)) {
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
    #[error("body is no UTF-8")]
    NotText,
    #[error("line {line}: {reason}")]
    Line { line: usize, reason: BadLine },
    #[error(transparent)]
    Append(#[from] AppendError),
    #[error("import was abandoned")]
    Abandoned,
}

/// Takes JSON lines. Answered with 204 once all samples are on disk; nothing is stored of a body with a bad line, and of
/// one with refused samples the rest.
pub async fn import(State(api): State<Api>, request: Request) -> Response {
    let core = match api.core() {
        Ok(core) => core,
        Err(error) => return error.into_response(),
    };
    let Ok(_permit) = api.writes.acquire().await else {
        return ApiError::unavailable("server is shutting down").into_response();
    };
    let body = match read_limited(request, REMOTE_WRITE_BYTES_MAX).await {
        Ok(body) => body,
        Err(error) => return error.into_response(),
    };
    let work = tokio::task::spawn_blocking(move || take(&core.store, &body));
    match work.await.unwrap_or(Err(ImportError::Abandoned)) {
        Ok(None) => StatusCode::NO_CONTENT.into_response(),
        Ok(Some(refused)) => ApiError::bad_data(refused).into_response(),
        Err(error) => failure(&error).into_response(),
    }
}

fn failure(error: &ImportError) -> ApiError {
    match error {
        ImportError::NotText | ImportError::Line { .. } => ApiError::bad_data(error.to_string()),
        ImportError::Append(
            AppendError::DiskFull { .. } | AppendError::OverBudget { .. } | AppendError::Closed,
        ) => ApiError::unavailable(error.to_string()),
        ImportError::Append(_) | ImportError::Abandoned => ApiError::internal("import", error),
    }
}

/// Stores the lines; returns what was refused, in words.
fn take(store: &Store, body: &[u8]) -> Result<Option<String>, ImportError> {
    let text = std::str::from_utf8(body).map_err(|_| ImportError::NotText)?;
    let mut batch = Vec::new();
    for (line, text) in (1..).zip(text.lines()) {
        if text.trim().is_empty() {
            continue;
        }
        let stretch = json_line::parse(text).and_then(|stretch| {
            let named = stretch.labels.metric_name().is_some();
            let checked = stretch.labels.check_limits();
            match (named, checked) {
                (false, _) => Err(BadLine("no metric name".to_owned())),
                (true, Err(error)) => Err(BadLine(error.to_string())),
                (true, Ok(())) => Ok(stretch),
            }
        });
        let stretch = stretch.map_err(|reason| ImportError::Line { line, reason })?;
        batch.push(SeriesSamples {
            labels: stretch.labels,
            samples: stretch.samples,
        });
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
