//! `/api/v1/admin/tsdb/*`. The route table requires `--web.enable-admin-api`.

use axum::extract::State;
use axum::response::Response;
use serde_json::json;
use tidemark_storage::{AdminError, Store};

use super::error::{ApiError, ErrorType};
use super::params::Params;
use super::respond::{self, Encoding};
use super::selectors;
use super::state::{Api, Core};

/// Runs `work`, which may take long, on a blocking thread. It continues if the client goes away.
async fn run<T: Send + 'static>(
    core: Core,
    work: impl FnOnce(&Store) -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    tokio::task::spawn_blocking(move || work(&core.store))
        .await
        .unwrap_or_else(|error| Err(ApiError::internal("run on a blocking thread", &error)))
}

/// Seals and merges everything acknowledged into blocks. Answers when they are on disk.
///
/// # Errors
/// The blocks can't be written.
pub async fn flush(core: Core) -> Result<Response, ApiError> {
    run(core, |store| {
        store
            .flush()
            .map_err(|error| ApiError::internal("flush the store", &error))
    })
    .await?;
    Ok(respond::no_content())
}

/// Deletes samples of the series that match. Answers when they are gone from disk.
///
/// # Errors
/// A parameter is wrong, or the blocks can't be rewritten.
pub async fn delete_series(core: Core, params: Params) -> Result<Response, ApiError> {
    if params.all("match[]").next().is_none() {
        return Err(ApiError::bad_data("no match[] parameter provided"));
    }
    let (start_ms, end_ms) = params.range()?;
    let sets = selectors::parse_all(&params).map_err(ApiError::about_selectors)?;
    run(core, move |store| {
        for matchers in &sets {
            store
                .delete_series(matchers, start_ms, end_ms)
                .map_err(|error| ApiError::internal("delete series", &error))?;
        }
        Ok(())
    })
    .await?;
    Ok(respond::no_content())
}

/// Does nothing: deletion leaves no tombstones.
///
/// # Errors
/// Never.
pub async fn clean_tombstones() -> Result<Response, ApiError> {
    Ok(respond::no_content())
}

/// Creates a snapshot of the store from hard links and answers with its name.
///
/// # Errors
/// A parameter is wrong, or the snapshot can't be written.
pub async fn snapshot(
    State(api): State<Api>,
    core: Core,
    encoding: Encoding,
    params: Params,
) -> Result<Response, ApiError> {
    check_skip_head(&params)?;
    let name = snapshot_name(api.clock.now_ms());
    let target = name.clone();
    run(core, move |store| {
        store.snapshot(&target).map_err(|error| match error {
            AdminError::BadName(_) => ApiError::new(ErrorType::Internal, error.to_string()),
            error => ApiError::internal("make snapshot", &error),
        })
    })
    .await?;
    respond::json(&api, encoding, &json!({ "name": name })).await
}

/// Checks `skip_head`, which has no effect: a snapshot first seals the head into a block.
fn check_skip_head(params: &Params) -> Result<(), ApiError> {
    let text = params.get("skip_head");
    if text.is_empty() || super::params::parse_bool(text).is_some() {
        return Ok(());
    }
    let reason = format!(
        "unable to parse boolean \"skip_head\" argument: \
         strconv.ParseBool: parsing {text:?}: invalid syntax"
    );
    Err(ApiError::invalid_parameter("skip_head", reason))
}

/// A name as Prometheus gives: `20171210T211224Z-2be650b6d019eb54`.
fn snapshot_name(now_ms: i64) -> String {
    let time: String = super::time::rfc3339::show_ms(now_ms / 1000 * 1000)
        .chars()
        .filter(|c| !matches!(c, '-' | ':'))
        .collect();
    format!("{time}-{:016x}", rand::random::<u64>())
}
