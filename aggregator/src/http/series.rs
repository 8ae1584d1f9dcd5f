//! `/api/v1/series`, `/api/v1/labels` and `/api/v1/label/<name>/values`.

use axum::extract::State;
use axum::response::Response;
use common::model::Labels;
use http::Uri;
use tidemark_storage::{ReadControl, ReadError, Readable as _, Selection};

use super::error::{ApiError, ErrorType};
use super::inline::RequestKey;
use super::json;
use super::label_name::unescape;
use super::params::{Params, decode};
use super::query::render::{TRUNCATED, annotations};
use super::respond::{self, Encoding, ReadOptions, ReadPermit, Sink, read_error};
use super::selectors::{self, select};
use super::state::{Api, Core};

/// A request of any of the three endpoints.
struct SeriesRequest {
    core: Core,
    selections: Vec<Selection>,
    limit: Option<usize>,
}

impl SeriesRequest {
    fn parse(core: Core, params: &Params) -> Result<Self, ApiError> {
        let limit = params.limit()?;
        let range = params.range()?;
        let sets = selectors::parse_all(params)?;
        Ok(Self {
            core,
            selections: selectors::selections(sets, range),
            limit,
        })
    }

    /// Parses a request that means all series if it has no selector.
    fn parse_or_all(core: Core, params: &Params) -> Result<Self, ApiError> {
        let mut request = Self::parse(core, params)?;
        if request.selections.is_empty() {
            request.selections = selectors::selections(vec![Vec::new()], params.range()?);
        }
        Ok(request)
    }

    fn write_series(&self, sink: &mut Sink, permit: &ReadPermit) -> Result<(), ApiError> {
        let mut found = Vec::new();
        let mut warnings = Vec::new();
        for selection in &self.selections {
            let set = select(&self.core.store, selection, &permit.control)?;
            warnings.extend(set.warnings());
            found.extend((0..set.len()).map(|index| set.labels(index)));
        }
        found.sort_unstable();
        found.dedup();
        let write = |text: &mut Vec<u8>, one: &Labels| json::labels(text, one);
        write_list(sink, &found, self.limit, warnings, write)
    }

    /// Writes the strings that `read` finds for the selections.
    fn write_strings(
        &self,
        sink: &mut Sink,
        permit: &ReadPermit,
        read: impl Fn(&Core, &Selection, &ReadControl) -> Result<Vec<String>, ReadError>,
    ) -> Result<(), ApiError> {
        let mut found = Vec::new();
        for selection in &self.selections {
            let part = read(&self.core, selection, &permit.control);
            found.extend(part.map_err(|error| read_error(&error))?);
        }
        if self.selections.len() > 1 {
            found.sort_unstable();
            found.dedup();
        }
        let write = |text: &mut Vec<u8>, one: &String| json::string(text, one);
        write_list(sink, &found, self.limit, Vec::new(), write)
    }
}

/// Lists the label sets of the series that match.
///
/// # Errors
/// A parameter is wrong, or the read failed.
pub async fn series(
    State(api): State<Api>,
    core: Core,
    encoding: Encoding,
    params: Params,
) -> Result<Response, ApiError> {
    params.well_formed()?;
    if params.all("match[]").next().is_none() {
        return Err(ApiError::bad_data("no match[] parameter provided"));
    }
    let request = SeriesRequest::parse(core, &params).map_err(ApiError::about_selectors)?;
    let (options, key) = (ReadOptions::json(encoding), key("series", &params));
    respond::read_inline(&api, options, key, move |sink, permit| {
        request.write_series(sink, permit)
    })
    .await
}

/// Lists label names.
///
/// # Errors
/// A parameter is wrong, or the read failed.
pub async fn labels(
    State(api): State<Api>,
    core: Core,
    encoding: Encoding,
    params: Params,
) -> Result<Response, ApiError> {
    let request = SeriesRequest::parse_or_all(core, &params)?;
    let (options, key) = (ReadOptions::json(encoding), key("labels", &params));
    respond::read_inline(&api, options, key, move |sink, permit| {
        request.write_strings(sink, permit, |core, selection, control| {
            core.store.label_names(selection, control)
        })
    })
    .await
}

/// Lists the values of a label.
///
/// # Errors
/// A parameter is wrong, or the read failed.
pub async fn values(
    State(api): State<Api>,
    core: Core,
    uri: Uri,
    encoding: Encoding,
    params: Params,
) -> Result<Response, ApiError> {
    let name = label_name(uri.path())?;
    let request = SeriesRequest::parse_or_all(core, &params)?;
    let (options, key) = (ReadOptions::json(encoding), key(uri.path(), &params));
    respond::read_inline(&api, options, key, move |sink, permit| {
        request.write_strings(sink, permit, |core, selection, control| {
            core.store.label_values(&name, selection, control)
        })
    })
    .await
}

/// Decodes the name in `…/label/<name>/values`.
fn label_name(path: &str) -> Result<String, ApiError> {
    let path = path.strip_suffix("/values").unwrap_or(path);
    let (_, name) = path.rsplit_once("/label/").unwrap_or_default();
    // In a path `+` is not a space.
    let bytes = decode(name.replace('+', "%2B").as_bytes()).map_err(ApiError::bad_data)?;
    match String::from_utf8(bytes) {
        Ok(name) if !name.is_empty() => Ok(unescape(&name)),
        invalid => {
            let bytes = invalid.map_or_else(|error| error.into_bytes(), String::into_bytes);
            let shown = tidemark_promql::parser::quote::go_quote_bytes(&bytes);
            Err(ApiError::bad_data(format!("invalid label name: {shown}")))
        }
    }
}

/// Requests that differ only in their time range share a key.
fn key(what: &str, params: &Params) -> RequestKey {
    RequestKey::of([what].into_iter().chain(params.all("match[]")), 1)
}

/// Writes `{"status":"success","data":[…]}`. Warns if `limit` truncates the list.
fn write_list<T>(
    sink: &mut Sink,
    list: &[T],
    limit: Option<usize>,
    mut warnings: Vec<String>,
    write: impl Fn(&mut Vec<u8>, &T),
) -> Result<(), ApiError> {
    let shown = limit.map_or(list.len(), |limit| limit.min(list.len()));
    if shown < list.len() {
        warnings.push(TRUNCATED.to_owned());
    }
    sink.text
        .extend_from_slice(br#"{"status":"success","data":["#);
    for (index, one) in list.iter().take(shown).enumerate() {
        if index > 0 {
            sink.text.push(b',');
        }
        write(&mut sink.text, one);
        sink.flush_chunk()?;
    }
    sink.text.push(b']');
    annotations(&mut sink.text, "warnings", &warnings);
    sink.text.push(b'}');
    sink.flush_chunk()
}

/// `DELETE /api/v1/series`, which Prometheus does not implement either.
///
/// # Errors
/// Always.
pub async fn drop_series() -> Result<Response, ApiError> {
    Err(ApiError::new(ErrorType::Internal, "not implemented"))
}
