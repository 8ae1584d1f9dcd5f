//! `/api/v1/series`, `/api/v1/labels` and `/api/v1/label/<name>/values`.

use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use common::model::Labels;
use http::{HeaderMap, Uri};
use tidemark_storage::{ReadControl, ReadError, Readable as _, Selection};

use super::blocking::{read_error, respond_cheaply};
use super::error::{ApiError, ErrorType};
use super::inline::RequestKey;
use super::json;
use super::label_name::unescape;
use super::params::{Params, decode};
use super::query::render::{TRUNCATED, annotations};
use super::reply::Sink;
use super::selectors::{self, select};
use super::state::{Api, Core};

/// What the three endpoints have in common.
struct Request {
    limit: Option<usize>,
    selections: Vec<Selection>,
    core: Core,
}

impl Request {
    fn parse(api: &Api, params: &Params) -> Result<Self, ApiError> {
        let limit = params.limit()?;
        let range = params.range()?;
        let sets = selectors::parse_all(params)?;
        Ok(Self {
            limit,
            selections: selectors::selections(sets, range),
            core: api.core()?,
        })
    }

    /// All series when no selector was given.
    fn selections_or_all(&mut self, params: &Params) -> Result<(), ApiError> {
        if self.selections.is_empty() {
            self.selections = selectors::selections(vec![Vec::new()], params.range()?);
        }
        Ok(())
    }
}

/// Label sets of the series that match.
pub async fn series(State(api): State<Api>, headers: HeaderMap, params: Params) -> Response {
    if let Err(error) = params.well_formed() {
        return error.into_response();
    }
    if params.all("match[]").next().is_none() {
        return ApiError::bad_data("no match[] parameter provided").into_response();
    }
    let request = match Request::parse(&api, &params) {
        Ok(request) => request,
        Err(error) => return error.about_selectors().into_response(),
    };
    let key = key("series", &params);
    respond_cheaply(&api, &headers, key, None, move |sink, permitted| {
        let mut found = Vec::new();
        let mut warnings = Vec::new();
        for selection in &request.selections {
            let set = select(&request.core.store, selection, &permitted.control)?;
            warnings.extend(set.warnings());
            found.extend((0..set.len()).map(|index| set.labels(index)));
        }
        found.sort_unstable();
        found.dedup();
        write_list(
            sink,
            &found,
            request.limit,
            &mut warnings,
            |text, one: &Labels| {
                json::labels(text, one);
            },
        )
    })
    .await
}

/// Names of labels.
pub async fn labels(State(api): State<Api>, headers: HeaderMap, params: Params) -> Response {
    let asked = (&params, key("labels", &params));
    list(&api, &headers, asked, |core, selection, control| {
        core.store.label_names(selection, control)
    })
    .await
}

/// Values of one label.
pub async fn values(
    State(api): State<Api>,
    uri: Uri,
    headers: HeaderMap,
    params: Params,
) -> Response {
    let name = match label_name(uri.path()) {
        Ok(name) => name,
        Err(error) => return error.into_response(),
    };
    let asked = (&params, key(uri.path(), &params));
    list(&api, &headers, asked, move |core, selection, control| {
        core.store.label_values(&name, selection, control)
    })
    .await
}

/// The name in `…/label/<name>/values`, whose bytes may be any.
fn label_name(path: &str) -> Result<String, ApiError> {
    let path = path.strip_suffix("/values").unwrap_or(path);
    let (_, name) = path.rsplit_once("/label/").unwrap_or_default();
    // A plus is itself in a path.
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

/// The same question about another time has the same key.
fn key(what: &str, params: &Params) -> RequestKey {
    RequestKey::of([what].into_iter().chain(params.all("match[]")), 1)
}

async fn list(
    api: &Api,
    headers: &HeaderMap,
    (params, key): (&Params, RequestKey),
    read: impl Fn(&Core, &Selection, &ReadControl) -> Result<Vec<String>, ReadError> + Send + 'static,
) -> Response {
    let parsed = Request::parse(api, params).and_then(|mut request| {
        request.selections_or_all(params)?;
        Ok(request)
    });
    let request = match parsed {
        Ok(request) => request,
        Err(error) => return error.into_response(),
    };
    respond_cheaply(api, headers, key, None, move |sink, permitted| {
        let mut found = Vec::new();
        for selection in &request.selections {
            let part = read(&request.core, selection, &permitted.control);
            found.extend(part.map_err(|error| read_error(&error))?);
        }
        if request.selections.len() > 1 {
            found.sort_unstable();
            found.dedup();
        }
        write_list(
            sink,
            &found,
            request.limit,
            &mut Vec::new(),
            |text, one: &String| {
                json::string(text, one);
            },
        )
    })
    .await
}

/// Writes `{"status":"success","data":[…]}`, cut at `limit` with a warning.
fn write_list<T>(
    sink: &mut Sink,
    list: &[T],
    limit: Option<usize>,
    warnings: &mut Vec<String>,
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
    annotations(&mut sink.text, "warnings", warnings);
    sink.text.push(b'}');
    sink.flush_chunk()
}

/// `DELETE /api/v1/series`, which Prometheus answers like this too.
pub async fn drop_series() -> ApiError {
    ApiError::new(ErrorType::Internal, "not implemented")
}
