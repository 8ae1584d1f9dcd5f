//! Series selectors in `match[]` parameters.

use std::sync::Arc;

use common::model::Matcher;
use tidemark_promql::{matches_everything, parse_selector};
use tidemark_storage::{ReadControl, Readable as _, Selection, SeriesSet, Store};

use super::error::ApiError;
use super::params::Params;
use super::respond::read_error;

/// Matchers of one selector.
pub type Matchers = Vec<Matcher>;

/// Parses all `match[]` parameters.
///
/// # Errors
/// One of them is not a selector, or matches everything.
pub fn parse_all(params: &Params) -> Result<Vec<Matchers>, ApiError> {
    params.all("match[]").map(parse).collect()
}

/// Parses one selector.
///
/// # Errors
/// It is not a selector, or matches everything.
pub fn parse(text: &str) -> Result<Matchers, ApiError> {
    let matchers = parse_any(text)?;
    if matches_everything(&matchers) {
        return Err(ApiError::bad_data(
            "match[] must contain at least one non-empty matcher",
        ));
    }
    Ok(matchers)
}

/// Parses one selector, which may match everything.
///
/// # Errors
/// It is not a selector.
pub fn parse_any(text: &str) -> Result<Matchers, ApiError> {
    parse_selector(text).map_err(|error| ApiError::bad_data(error.to_string()))
}

/// Selects a time range for each set of matchers.
#[must_use]
pub fn selections(sets: Vec<Matchers>, (start_ms, end_ms): (i64, i64)) -> Vec<Selection> {
    sets.into_iter()
        .map(|matchers| Selection {
            matchers,
            start_ms,
            end_ms,
        })
        .collect()
}

/// Resolves a selection to its series.
///
/// # Errors
/// The store's.
pub fn select(
    store: &Store,
    selection: &Selection,
    control: &ReadControl,
) -> Result<Arc<dyn SeriesSet>, ApiError> {
    store
        .select(selection, control)
        .map_err(|error| read_error(&error))
}
