//! What the uplink tells about itself.

use std::sync::Arc;

use common::telemetry::{Counter, Gauge, Registry};
use common::wire::RefusalCode;

use crate::spool::copy_labels;

/// The uplink's metrics.
#[derive(Debug)]
pub struct UplinkMetrics {
    /// `agent_uplink_connected`
    pub connected: Arc<Gauge>,
    /// `agent_uplink_sessions_total`
    pub sessions: Arc<Counter>,
    /// `agent_uplink_connect_errors_total`
    pub connect_errors: Arc<Counter>,
    /// `agent_uplink_disconnects_total`
    pub disconnects: Arc<Counter>,
    /// `agent_uplink_sent_bytes_total`
    pub sent_bytes: Arc<Counter>,
    /// `agent_uplink_sent_ticks_total`
    pub sent_ticks: Arc<Counter>,
    /// `agent_uplink_over_tcp`
    pub over_tcp: Arc<Gauge>,
    /// `agent_uplink_skips_total`
    pub skips: Arc<Counter>,
    /// `agent_uplink_backfilled_ticks_total`
    pub backfilled_ticks: Arc<Counter>,
    /// `agent_uplink_backfill_pending`
    pub backfill_pending: Arc<Gauge>,
    /// `agent_uplink_acked_sequence`
    pub acked_sequence: Arc<Gauge>,
    /// `agent_uplink_joins_total`
    pub joins: Arc<Counter>,
    /// `agent_uplink_renewals_total`
    pub renewals: Arc<Counter>,
    /// `agent_uplink_certificate_expiry_timestamp_seconds`
    pub certificate_expiry: Arc<Gauge>,
    /// `agent_uplink_clock_offset_seconds`
    pub clock_offset: Arc<Gauge>,
    refused: Vec<(RefusalCode, Arc<Counter>)>,
}

impl UplinkMetrics {
    /// Registers them, for the receiver number `copy`.
    #[must_use]
    pub fn new(registry: &Registry, copy: usize) -> Self {
        let labels = copy_labels(copy);
        let counter = |name, help| registry.counter(name, help, labels);
        let gauge = |name, help| registry.gauge(name, help, labels);
        let refused = |code: RefusalCode| {
            let help = "Sessions and requests that the aggregator refused, by reason.";
            let labels = [labels, &[("reason", code.as_str())]].concat();
            let counter = registry.counter("agent_uplink_refused_total", help, &labels);
            (code, counter)
        };
        Self {
            connected: gauge("agent_uplink_connected", "Whether a session is open."),
            sessions: counter("agent_uplink_sessions_total", "Sessions opened."),
            connect_errors: counter(
                "agent_uplink_connect_errors_total",
                "Attempts that got no session: no answer, refused, or no certificate.",
            ),
            disconnects: counter(
                "agent_uplink_disconnects_total",
                "Sessions that ended before the agent stopped.",
            ),
            sent_bytes: counter("agent_uplink_sent_bytes_total", "Bytes of frames sent."),
            sent_ticks: counter(
                "agent_uplink_sent_ticks_total",
                "Ticks sent, those that were sent again among them.",
            ),
            over_tcp: gauge(
                "agent_uplink_over_tcp",
                "Whether the last session was over TCP, because nobody answered QUIC.",
            ),
            skips: counter(
                "agent_uplink_skips_total",
                "Times that waiting ticks were passed over, to send the newest first.",
            ),
            backfilled_ticks: counter(
                "agent_uplink_backfilled_ticks_total",
                "Ticks sent behind newer ones, those that were sent again among them.",
            ),
            backfill_pending: gauge(
                "agent_uplink_backfill_pending",
                "Whether ticks that were passed over are still to be sent.",
            ),
            acked_sequence: gauge(
                "agent_uplink_acked_sequence",
                "Sequence up to which an aggregator has everything on disk, but for ticks that were passed over.",
            ),
            joins: counter(
                "agent_uplink_joins_total",
                "Certificates got with a join token.",
            ),
            renewals: counter("agent_uplink_renewals_total", "Certificates renewed."),
            certificate_expiry: gauge(
                "agent_uplink_certificate_expiry_timestamp_seconds",
                "When the certificate in use runs out, since the Unix epoch.",
            ),
            clock_offset: gauge(
                "agent_uplink_clock_offset_seconds",
                "The aggregator's clock less ours: what it was when the session began, and how ours was set since.",
            ),
            refused: RefusalCode::ALL.into_iter().map(refused).collect(),
        }
    }

    /// Counts a refusal.
    pub fn refuse(&self, code: RefusalCode) {
        if let Some((_, counter)) = self.refused.iter().find(|(one, _)| *one == code) {
            counter.inc();
        }
    }
}
