//! `POST /api/v1/write`: remote write.

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse as _, Response};
use common::limits::REMOTE_WRITE_BYTES_MAX;
use common::metric;
use common::telemetry::{Counter, MetricDef, Registry};

use super::auth::User;
use super::params::read_limited;
use super::state::Api;
use crate::remote_write::{self, RefusedSamples};

const REFUSED_SAMPLES: MetricDef<Counter> = metric!(
    Counter,
    "aggregator_remote_write_refused_samples_total",
    "Samples refused by remote write, by user and by whether they were too old."
);

/// Takes samples. Only so many bodies are read at one time; further senders wait with theirs unread, and the bound on
/// connections bounds how many.
pub async fn write(State(api): State<Api>, request: Request) -> Response {
    let core = match api.core() {
        Ok(core) => core,
        Err(error) => return error.into_response(),
    };
    let Ok(_permit) = api.writes.acquire().await else {
        return super::error::ApiError::unavailable("server is shutting down").into_response();
    };
    let headers = request.headers().clone();
    let user = request.extensions().get::<User>().cloned();
    let body = match read_limited(request, REMOTE_WRITE_BYTES_MAX).await {
        Ok(body) => body,
        // Senders log this text; they expect no JSON.
        Err(error) => {
            let status = error.status.unwrap_or(http::StatusCode::BAD_REQUEST);
            return (status, error.message + "\n").into_response();
        }
    };
    let (response, refused) = remote_write::receive(&core.store, &headers, body).await;
    count_refused(&api.registry, user.as_ref(), refused);
    response.map(Body::from)
}

/// Counts by user. Users come from the configuration, so that there are only so many.
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
}
