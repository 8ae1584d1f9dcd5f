//! Metrics of remote write: what was refused, and why.
//!
//! The handler in `http/remote_write.rs` counts, because it also knows the user and the requests that never get here.

use common::telemetry::{Counter, LabelValue as _, MetricDef, Registry};
use common::{closed_labels, metric};

use super::RefusedWriteSamples;

const REFUSED_SAMPLES: MetricDef<Counter> = metric!(
    Counter,
    "aggregator_remote_write_refused_samples_total",
    "Samples refused by remote write, by user and by whether they were too old."
);

const REFUSED_REQUESTS: MetricDef<Counter> = metric!(
    Counter,
    "aggregator_remote_write_refused_requests_total",
    "Remote write requests answered with an error, by reason."
);

closed_labels! {
    /// Why a request was answered with an error.
    pub RequestRefusal as "reason" {
        /// The store is not open yet, or the server is stopping.
        NotReady = "not_ready",
        /// The body, or what it decompresses to, is too large.
        TooLarge = "too_large",
        /// The body could not be read from the connection.
        Body = "body",
        /// Content type or encoding are not supported.
        MediaType = "media_type",
        /// The body is not valid snappy or protobuf.
        Malformed = "malformed",
        /// Samples or series were refused: too old, clashing with a stored sample, native histograms, invalid labels.
        Samples = "samples",
        /// No disk space or no memory.
        Full = "full",
        /// The log could not be written.
        Internal = "internal",
    }
}

/// Registers the counters of refused requests, so that each reason is there from the start.
pub fn register(registry: &Registry) {
    for reason in RequestRefusal::all() {
        refused_requests(registry, reason);
    }
}

/// Counts a refused request.
pub fn count_request(registry: &Registry, reason: RequestRefusal) {
    refused_requests(registry, reason).inc();
}

fn refused_requests(registry: &Registry, reason: RequestRefusal) -> std::sync::Arc<Counter> {
    REFUSED_REQUESTS.register(registry, &[(RequestRefusal::LABEL, reason.as_label())])
}

/// Counts refused samples by user. Users come from the configuration, so they are few.
pub fn count_samples(registry: &Registry, user: &str, refused: RefusedWriteSamples) {
    let others = refused.samples - refused.too_old;
    for (reason, samples) in [("too_old", refused.too_old), ("other", others)] {
        if samples > 0 {
            let labels = [("user", user), ("reason", reason)];
            REFUSED_SAMPLES.register(registry, &labels).add(samples);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refused_samples_are_counted_by_user_and_reason() {
        let registry = Registry::default();
        let refused = |samples, too_old| RefusedWriteSamples { samples, too_old };
        count_samples(&registry, "ann", refused(5, 2));
        count_samples(&registry, "ann", refused(1, 1));
        count_samples(&registry, "", refused(4, 0));
        count_samples(&registry, "", refused(0, 0));
        let count = |user, reason| {
            let labels = [("user", user), ("reason", reason)];
            REFUSED_SAMPLES.register(&registry, &labels).get()
        };
        assert_eq!((count("ann", "too_old"), count("ann", "other")), (3, 3));
        assert_eq!((count("", "too_old"), count("", "other")), (0, 4));
    }
}
