//! `/api/v1/query` and `/api/v1/query_range`.

pub mod render;

use std::time::{Duration, Instant};

use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use common::limits::QUERY_STEPS_MAX;
use http::HeaderMap;
use tidemark_promql::{ErrorKind, QueryError, QueryOptions, QueryResult, RangeParams};

use self::render::{Render, Timings};
use super::blocking::{Permitted, respond_cheaply};
use super::error::{ApiError, ErrorType};
use super::inline::RequestKey;
use super::params::Params;
use super::state::{Api, Core};
use super::time::{evaluation_ms, parse_duration_ns, parse_timeout};
use crate::config::Feature;

/// What both kinds of query have.
struct Request {
    query: String,
    limit: Option<usize>,
    timeout: Option<Duration>,
    lookback_delta: Option<Duration>,
    stats: bool,
    per_step_stats: bool,
}

impl Request {
    /// Checks in Prometheus' order, so that a request with several faults gets the same answer.
    fn parse(api: &Api, params: &Params, limit: Option<usize>) -> Result<Self, ApiError> {
        let timeout = match params.get("timeout") {
            "" => None,
            text => {
                Some(parse_timeout(text).map_err(|e| ApiError::invalid_parameter("timeout", e))?)
            }
        };
        let lookback_delta = match params.get("lookback_delta") {
            "" => None,
            text => Some(parse_timeout(text).map_err(|e| {
                ApiError::bad_data(format!("error parsing lookback delta duration: {e}"))
            })?),
        };
        let stats = params.get("stats");
        Ok(Self {
            query: params.get("query").to_owned(),
            limit,
            timeout,
            lookback_delta: lookback_delta.filter(|delta| !delta.is_zero()),
            stats: !stats.is_empty(),
            per_step_stats: stats == "all" && api.settings.has(Feature::PerStepStats),
        })
    }
}

impl Request {
    /// Two requests of one key differ in where their range lies at most.
    fn key(&self, times: Times) -> RequestKey {
        let (kind, steps) = match times {
            Times::At(_) => ("query", 1),
            Times::Range(range) => (
                "query_range",
                (range.end_ms - range.start_ms) / range.step_ms,
            ),
        };
        RequestKey::of([kind, &self.query], steps.unsigned_abs())
    }
}

#[derive(Debug, Clone, Copy)]
enum Times {
    At(i64),
    Range(RangeParams),
}

/// Evaluates at one moment.
pub async fn instant(State(api): State<Api>, headers: HeaderMap, params: Params) -> Response {
    let parsed = || {
        let limit = params.limit()?;
        let at = params.time_or("time", api.clock.now_ms())?;
        let at = Times::At(evaluation_ms(at));
        Ok((Request::parse(&api, &params, limit)?, at))
    };
    answer(&api, &headers, parsed()).await
}

/// Evaluates at each step of a range.
pub async fn range(State(api): State<Api>, headers: HeaderMap, params: Params) -> Response {
    let parsed = || {
        let limit = params.limit()?;
        let range = range_params(&params)?;
        Ok((Request::parse(&api, &params, limit)?, Times::Range(range)))
    };
    answer(&api, &headers, parsed()).await
}

fn range_params(params: &Params) -> Result<RangeParams, ApiError> {
    let start_ms = params.time("start")?;
    let end_ms = params.time("end")?;
    if end_ms < start_ms {
        let reason = "end timestamp must not be before start time";
        return Err(ApiError::invalid_parameter("end", reason));
    }
    let step_ns = parse_duration_ns(params.get("step"))
        .map_err(|reason| ApiError::invalid_parameter("step", reason))?;
    let no_step = || {
        let reason = "zero or negative query resolution step widths are not accepted. \
                      Try a positive integer";
        ApiError::invalid_parameter("step", reason)
    };
    if step_ns <= 0 {
        return Err(no_step());
    }
    let length_ns = end_ms.saturating_sub(start_ms).saturating_mul(1_000_000);
    if length_ns / step_ns > QUERY_STEPS_MAX {
        return Err(ApiError::bad_data(
            "exceeded maximum resolution of 11,000 points per timeseries. \
             Try decreasing the query resolution (?step=XX)",
        ));
    }
    // Steps are whole milliseconds.
    let step_ms = step_ns / 1_000_000;
    if step_ms == 0 {
        return Err(no_step());
    }
    Ok(RangeParams {
        start_ms: evaluation_ms(start_ms),
        end_ms: evaluation_ms(end_ms),
        step_ms,
    })
}

async fn answer(
    api: &Api,
    headers: &HeaderMap,
    parsed: Result<(Request, Times), ApiError>,
) -> Response {
    let prepared = parsed.and_then(|parsed| Ok((parsed, api.core()?)));
    let ((request, times), core) = match prepared {
        Ok(prepared) => prepared,
        Err(error) => return error.into_response(),
    };
    if request.timeout.is_some_and(|timeout| timeout.is_zero()) {
        let message = "query timed out in query execution";
        return ApiError::new(ErrorType::Timeout, message).into_response();
    }
    let key = request.key(times);
    let timeout = request.timeout;
    respond_cheaply(api, headers, key, timeout, move |sink, permitted| {
        let started = Instant::now();
        let result = evaluate(&core, &request, times, permitted).map_err(query_error)?;
        let timings = Timings {
            queued: permitted.queued,
            evaluated: started.elapsed(),
        };
        let render = Render {
            result,
            limit: request.limit,
            stats: request.stats.then_some(timings),
            per_step: request.per_step_stats,
        };
        render.write(sink)
    })
    .await
}

fn evaluate(
    core: &Core,
    request: &Request,
    times: Times,
    permitted: &Permitted,
) -> Result<QueryResult, QueryError> {
    let options = QueryOptions {
        lookback_delta: request.lookback_delta,
        control: &permitted.control,
        deadline: Some(permitted.deadline),
        per_step_stats: request.per_step_stats,
    };
    match times {
        Times::At(at_ms) => core
            .engine
            .instant(&core.store, &request.query, at_ms, &options),
        Times::Range(range) => core
            .engine
            .range(&core.store, &request.query, range, &options),
    }
}

/// What a client is told about a failed query.
pub fn query_error(error: QueryError) -> ApiError {
    let error_type = match error.kind {
        ErrorKind::BadData => return ApiError::invalid_parameter("query", error.message),
        ErrorKind::Execution => ErrorType::Execution,
        ErrorKind::Timeout => ErrorType::Timeout,
        ErrorKind::Canceled => ErrorType::Canceled,
        ErrorKind::Internal => return ApiError::internal("evaluate query", &error),
    };
    ApiError::new(error_type, error.message)
}
