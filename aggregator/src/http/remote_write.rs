//! `POST /api/v1/write`: remote write.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use bytes::Bytes;
use common::limits::REMOTE_WRITE_BYTES_MAX;
use common::metric;
use common::telemetry::{Counter, MetricDef, Registry};
use http::StatusCode;

use super::auth::User;
use super::error::ApiError;
use super::params::read_limited;
use super::state::{Api, Core};
use crate::remote_write::{self, RefusedSamples};

const REFUSED_SAMPLES: MetricDef<Counter> = metric!(
    Counter,
    "aggregator_remote_write_refused_samples_total",
    "Samples refused by remote write, by user and by whether they were too old."
);

const REJECTED_REQUESTS: MetricDef<Counter> = metric!(
    Counter,
    "aggregator_remote_write_rejected_requests_total",
    "Remote write requests rejected before their samples were decoded, by reason."
);

/// Stores samples. At most `write_concurrency_max` bodies are read at a time; other senders wait with theirs unread.
/// The limit of connections bounds how many wait.
///
/// # Errors
/// The body can't be read, or the server is shutting down. Senders log these as a line of text.
pub async fn write(
    State(api): State<Api>,
    core: Core,
    request: Request,
) -> Result<Response, ApiError> {
    let Ok(_permit) = api.writes.acquire().await else {
        rejected(&api.registry, "shutting_down").inc();
        return Err(ApiError::unavailable("server is shutting down").into_line());
    };
    let headers = request.headers().clone();
    let user = request.extensions().get::<User>().cloned();
    let body = read_body(&api.registry, request).await?;
    let (response, refused) = remote_write::receive(&core.store, &headers, body).await;
    count_refused(&api.registry, user.as_ref(), refused);
    Ok(response.map(Body::from))
}

async fn read_body(registry: &Registry, request: Request) -> Result<Bytes, ApiError> {
    read_limited(request, REMOTE_WRITE_BYTES_MAX)
        .await
        .map_err(|error| {
            let reason = match error.status {
                Some(StatusCode::PAYLOAD_TOO_LARGE) => "too_large",
                _ => "unreadable",
            };
            rejected(registry, reason).inc();
            error.into_line()
        })
}

/// Requests that ended before their samples were decoded.
fn rejected(registry: &Registry, reason: &str) -> Arc<Counter> {
    REJECTED_REQUESTS.register(registry, &[("reason", reason)])
}

/// Counts refused samples by user. Users come from the configuration, which bounds the series.
fn count_refused(registry: &Registry, user: Option<&User>, refused: RefusedSamples) {
    let user = user.map_or("", |user| &user.0);
    let others = refused.samples - refused.too_old;
    for (reason, samples) in [("too_old", refused.too_old), ("other", others)] {
        if samples == 0 {
            continue;
        }
        let labels = [("user", user), ("reason", reason)];
        REFUSED_SAMPLES.register(registry, &labels).add(samples);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refused_samples_are_counted_by_user_and_reason() {
        let registry = Registry::default();
        let ann = User("ann".into());
        let refused = |samples, too_old| RefusedSamples { samples, too_old };
        count_refused(&registry, Some(&ann), refused(5, 2));
        count_refused(&registry, Some(&ann), refused(1, 1));
        count_refused(&registry, None, refused(4, 0));
        count_refused(&registry, None, refused(0, 0));
        let count = |user, reason| {
            let labels = [("user", user), ("reason", reason)];
            REFUSED_SAMPLES.register(&registry, &labels).get()
        };
        assert_eq!((count("ann", "too_old"), count("ann", "other")), (3, 3));
        assert_eq!((count("", "too_old"), count("", "other")), (0, 4));
    }

    #[tokio::test]
    async fn body_beyond_the_limit_is_counted() {
        let registry = Registry::default();
        let body = Body::from(vec![0; REMOTE_WRITE_BYTES_MAX + 1]);
        let error = read_body(&registry, Request::new(body)).await.unwrap_err();
        assert_eq!(error.status, Some(StatusCode::PAYLOAD_TOO_LARGE));
        assert_eq!(rejected(&registry, "too_large").get(), 1);
        assert_eq!(rejected(&registry, "unreadable").get(), 0);
    }
}
