//! Metrics of the uplink.

use common::metrics;
use common::telemetry::{By, Counter, Gauge};
use common::wire::RefusalCode;

metrics! {
    /// Metrics of the uplink to one receiver.
    #[derive(Debug)]
    pub struct UplinkMetrics {
        pub connected: Gauge = "agent_uplink_connected", "Whether a session is open.";
        pub sessions: Counter = "agent_uplink_sessions_total", "Sessions opened.";
        pub connect_errors: Counter = "agent_uplink_connect_errors_total", "Connection attempts without a session: no answer, refused, or no certificate.";
        pub disconnects: Counter = "agent_uplink_disconnects_total", "Sessions that ended while the agent was running.";
        pub sent_bytes: Counter = "agent_uplink_sent_bytes_total", "Bytes of frames sent.";
        pub sent_ticks: Counter = "agent_uplink_sent_ticks_total", "Ticks sent, including repeated ones.";
        pub over_tcp: Gauge = "agent_uplink_over_tcp", "Whether the last session used TCP because QUIC got no answer.";
        pub skips: Counter = "agent_uplink_skips_total", "Times the uplink skipped waiting ticks to send the newest first.";
        pub backfilled_ticks: Counter = "agent_uplink_backfilled_ticks_total", "Ticks sent after newer ones, including repeated ones.";
        pub backfill_pending: Gauge = "agent_uplink_backfill_pending", "Whether skipped ticks are still to be sent.";
        pub acked_sequence: Gauge = "agent_uplink_acked_sequence", "Sequence number up to which the aggregator has stored every tick durably, skipped ticks excepted.";
        pub joins: Counter = "agent_uplink_joins_total", "Certificates obtained with a join token.";
        pub renewals: Counter = "agent_uplink_renewals_total", "Certificates renewed.";
        pub certificate_expiry: Gauge = "agent_uplink_certificate_expiry_timestamp_seconds", "Expiry of the certificate in use, since the Unix epoch.";
        pub clock_offset: Gauge = "agent_uplink_clock_offset_seconds", "Aggregator clock minus agent clock: measured at session start, adjusted for local clock steps since.";
        refused: By<Counter, RefusalCode> = "agent_uplink_refused_total", "Sessions and requests refused by the aggregator, by reason.";
    }
}

impl UplinkMetrics {
    /// Counts a refusal.
    pub fn refuse(&self, code: RefusalCode) {
        self.refused.of(code).inc();
    }
}
