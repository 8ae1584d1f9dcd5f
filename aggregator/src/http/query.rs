//! `/api/v1/query` and `/api/v1/query_range`.

pub mod render;

use std::time::{Duration, Instant};

use axum::extract::State;
use axum::response::Response;
use common::limits::QUERY_STEPS_MAX;
use tidemark_promql::{ErrorKind, QueryError, QueryOptions, QueryResult, RangeParams};

use self::render::{Render, Timings};
use super::error::{ApiError, ErrorType};
use super::inline::RequestKey;
use super::params::Params;
use super::respond::{self, Encoding, ReadOptions, ReadPermit, Sink};
use super::state::{Api, Core};
use super::time::{evaluation_ms, parse_duration_ns, parse_timeout};
use crate::config::Feature;

/// The parameters that both endpoints share.
struct QueryRequest {
    query: String,
    limit: Option<usize>,
    timeout: Option<Duration>,
    lookback_delta: Option<Duration>,
    stats: bool,
    per_step_stats: bool,
}

impl QueryRequest {
    /// Checks parameters in Prometheus' order, so that a request with several faults gets the same answer.
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

/// When to evaluate, in milliseconds.
#[derive(Debug, Clone, Copy)]
enum Times {
    At(i64),
    Range(RangeParams),
}

/// Evaluates a query at one timestamp.
///
/// # Errors
/// A parameter is wrong, or the evaluation failed.
pub async fn instant(
    State(api): State<Api>,
    core: Core,
    encoding: Encoding,
    params: Params,
) -> Result<Response, ApiError> {
    let limit = params.limit()?;
    let at_ms = params.time_or("time", api.clock.now_ms())?;
    let evaluation = Evaluation {
        core,
        request: QueryRequest::parse(&api, &params, limit)?,
        times: Times::At(evaluation_ms(at_ms)),
    };
    evaluation.respond(&api, encoding).await
}

/// Evaluates a query at each step of a range.
///
/// # Errors
/// A parameter is wrong, or the evaluation failed.
pub async fn range(
    State(api): State<Api>,
    core: Core,
    encoding: Encoding,
    params: Params,
) -> Result<Response, ApiError> {
    let limit = params.limit()?;
    let range = range_params(&params)?;
    let evaluation = Evaluation {
        core,
        request: QueryRequest::parse(&api, &params, limit)?,
        times: Times::Range(range),
    };
    evaluation.respond(&api, encoding).await
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

/// One evaluation of a query.
struct Evaluation {
    core: Core,
    request: QueryRequest,
    times: Times,
}

impl Evaluation {
    async fn respond(self, api: &Api, encoding: Encoding) -> Result<Response, ApiError> {
        let timeout = self.request.timeout;
        if timeout.is_some_and(|timeout| timeout.is_zero()) {
            let message = "query timed out in query execution";
            return Err(ApiError::new(ErrorType::Timeout, message));
        }
        let options = ReadOptions {
            timeout,
            ..ReadOptions::json(encoding)
        };
        let key = self.key();
        respond::read_inline(api, options, key, move |sink, permit| {
            self.write(sink, permit)
        })
        .await
    }

    /// Requests that differ only in their start, but not in the magnitude of their steps, share a key.
    fn key(&self) -> RequestKey {
        let (endpoint, steps) = match self.times {
            Times::At(_) => ("query", 1),
            Times::Range(range) => (
                "query_range",
                (range.end_ms - range.start_ms) / range.step_ms,
            ),
        };
        RequestKey::of([endpoint, &self.request.query], steps.unsigned_abs())
    }

    /// Evaluates the query and writes the response.
    fn write(&self, sink: &mut Sink, permit: &ReadPermit) -> Result<(), ApiError> {
        let started = Instant::now();
        let result = self.evaluate(permit).map_err(query_error)?;
        let timings = Timings {
            queued: permit.queued,
            evaluated: started.elapsed(),
        };
        let render = Render {
            result,
            limit: self.request.limit,
            stats: self.request.stats.then_some(timings),
            per_step: self.request.per_step_stats,
        };
        render.write(sink)
    }

    fn evaluate(&self, permit: &ReadPermit) -> Result<QueryResult, QueryError> {
        let Self {
            core,
            request,
            times,
        } = self;
        let options = QueryOptions {
            lookback_delta: request.lookback_delta,
            control: &permit.control,
            deadline: Some(permit.deadline),
            per_step_stats: request.per_step_stats,
        };
        match *times {
            Times::At(at_ms) => core
                .engine
                .instant(&core.store, &request.query, at_ms, &options),
            Times::Range(range) => core
                .engine
                .range(&core.store, &request.query, range, &options),
        }
    }
}

/// The client's view of a failed query.
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
