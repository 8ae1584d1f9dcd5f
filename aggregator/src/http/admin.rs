//! `/api/v1/admin/tsdb/*`, behind `--web.enable-admin-api`.

use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::{HeaderMap, StatusCode};
use tidemark_storage::{AdminError, Store};

use super::error::{ApiError, ErrorType};
use super::params::Params;
use super::state::{Api, Core};
use super::targets::small;
use super::{json, selectors};

fn enabled(api: &Api) -> Result<Core, ApiError> {
    if !api.flags.enable_admin_api {
        // Prometheus answers this one with 500, not 503.
        return Err(ApiError::unavailable("admin APIs disabled")
            .with_status(StatusCode::INTERNAL_SERVER_ERROR));
    }
    api.core()
}

/// Runs work on the whole store, which may take long, on a thread of its own. It goes on when the client goes away.
async fn run<T: Send + 'static>(
    core: Core,
    work: impl FnOnce(&Store) -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    tokio::task::spawn_blocking(move || work(&core.store))
        .await
        .unwrap_or_else(|error| Err(ApiError::internal("work on the store", &error)))
}

fn done(result: Result<(), ApiError>) -> Response {
    match result {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(error) => error.into_response(),
    }
}

/// Seals and merges everything that was acknowledged into blocks; answers when they are on disk.
pub async fn flush(State(api): State<Api>) -> Response {
    let core = match enabled(&api) {
        Ok(core) => core,
        Err(error) => return error.into_response(),
    };
    let flush = |store: &Store| {
        let result = store.flush();
        result.map_err(|error| ApiError::internal("flush the store", &error))
    };
    done(run(core, flush).await)
}

/// Deletes samples of the series that match. They are gone from disk when this answers.
pub async fn delete_series(State(api): State<Api>, params: Params) -> Response {
    let checked = || {
        let core = enabled(&api)?;
        if params.all("match[]").next().is_none() {
            return Err(ApiError::bad_data("no match[] parameter provided"));
        }
        let range = params.range()?;
        let sets = selectors::parse_all(&params).map_err(ApiError::about_selectors)?;
        Ok((core, sets, range))
    };
    let (core, sets, (start_ms, end_ms)) = match checked() {
        Ok(checked) => checked,
        Err(error) => return error.into_response(),
    };
    let delete = move |store: &Store| {
        for matchers in &sets {
            store
                .delete_series(matchers, start_ms, end_ms)
                .map_err(|error| ApiError::internal("delete series", &error))?;
        }
        Ok(())
    };
    done(run(core, delete).await)
}

/// Deletion leaves no tombstones behind, so there is nothing to clean.
pub async fn clean_tombstones(State(api): State<Api>) -> Response {
    done(enabled(&api).map(drop))
}

/// Makes a copy of the store beside it, of hard links; answers with its name.
pub async fn snapshot(State(api): State<Api>, headers: HeaderMap, params: Params) -> Response {
    let checked = || {
        let core = enabled(&api)?;
        match params.get("skip_head") {
            "" | "0" | "f" | "F" | "false" | "False" | "FALSE" => Ok((core, false)),
            "1" | "t" | "T" | "true" | "True" | "TRUE" => Ok((core, true)),
            other => {
                let reason = format!(
                    "unable to parse boolean \"skip_head\" argument: \
                     strconv.ParseBool: parsing {other:?}: invalid syntax"
                );
                Err(ApiError::invalid_parameter("skip_head", reason))
            }
        }
    };
    let core = match checked() {
        // The head is sealed into a block first, so there is never one to skip.
        Ok((core, _skip_head)) => core,
        Err(error) => return error.into_response(),
    };
    let name = snapshot_name(api.clock.now_ms());
    let target = name.clone();
    let made = run(core, move |store| {
        store.snapshot(&target).map_err(|error| match error {
            AdminError::BadName(_) => ApiError::new(ErrorType::Internal, error.to_string()),
            error => ApiError::internal("make snapshot", &error),
        })
    });
    match made.await {
        Ok(_path) => {
            let mut data = br#"{"name":"#.to_vec();
            json::string(&mut data, &name);
            data.push(b'}');
            small(&api, &headers, data).await
        }
        Err(error) => error.into_response(),
    }
}

/// `20171210T211224Z-2be650b6d019eb54`, as Prometheus names them.
fn snapshot_name(now_ms: i64) -> String {
    let time: String = super::time::rfc3339::show_ms(now_ms / 1000 * 1000)
        .chars()
        .filter(|c| !matches!(c, '-' | ':'))
        .collect();
    format!("{time}-{:016x}", rand::random::<u64>())
}
