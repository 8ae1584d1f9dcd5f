//! Metrics of ingest.

use common::telemetry::{By, Counter, Gauge, Histogram, LabelValue, Registry};
use common::wire::RefusalCode;
use common::{closed_labels, metrics};
use tidemark_storage::DefineError;

use super::agent_series::SeriesError;

/// Why a connection or request was refused, as a label value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusalCause {
    /// With a code that is sent to the peer.
    Code(RefusalCode),
    /// The TLS handshake failed: wrong authority, expired certificate, or not TLS.
    Handshake,
    /// The peer wants to send data without a certificate.
    NoCertificate,
    /// The peer took too long.
    Timeout,
}

impl RefusalCause {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Code(code) => code.as_str(),
            Self::Handshake => "handshake",
            Self::NoCertificate => "no_certificate",
            Self::Timeout => "timeout",
        }
    }
}

impl LabelValue for RefusalCause {
    const LABEL: &'static str = "reason";

    fn all() -> Vec<Self> {
        let codes = RefusalCode::ALL.into_iter().map(Self::Code);
        let others = [Self::Handshake, Self::NoCertificate, Self::Timeout];
        codes.chain(others).collect()
    }

    fn as_label(self) -> &'static str {
        self.as_str()
    }
}

closed_labels! {
    /// The result for a sample.
    pub SampleResult as "result" {
        /// It is stored.
        Stored = "stored",
        /// The store has a sample with this timestamp already.
        Duplicate = "duplicate",
        /// The store refused it.
        Refused = "refused",
    }
}

closed_labels! {
    /// How an agent asked for a certificate.
    pub CertificateRequest as "kind" {
        /// With a join token.
        Join = "join",
        /// With the certificate in use.
        Renewal = "renewal",
    }
}

closed_labels! {
    /// Why a series was refused.
    pub SeriesRefusal as "reason" {
        /// The agent has too many series.
        PerAgent = "per_agent",
        /// Too many new series in a minute.
        PerMinute = "per_minute",
        /// The store has too many series.
        InAll = "in_all",
        /// Memory is short.
        Memory = "memory",
        /// Its labels are not valid.
        Labels = "labels",
    }
}

metrics! {
    /// Metrics of ingest.
    #[derive(Debug)]
    pub struct IngestMetrics {
        refused: By<Counter, RefusalCause> = "aggregator_ingest_refused_total", "Connections, sessions and requests of agents that were refused, by reason.";
        pub sessions: Gauge = "aggregator_ingest_sessions", "Open sessions of agents.";
        pub sessions_opened: Counter = "aggregator_ingest_sessions_total", "Sessions opened by agents.";
        pub tcp_connections: Counter = "aggregator_ingest_tcp_connections_total", "Agent connections over TCP, made because the network blocks UDP.";
        pub bytes: Counter = "aggregator_ingest_received_bytes_total", "Bytes of frames received from agents.";
        pub ticks: Counter = "aggregator_ingest_ticks_total", "Ticks received from agents.";
        pub backfilled: Counter = "aggregator_ingest_backfilled_ticks_total", "Ticks received after newer ones.";
        pub samples: By<Counter, SampleResult> = "aggregator_ingest_samples_total", "Samples from agents, by result.";
        refused_series: By<Counter, SeriesRefusal> = "aggregator_ingest_refused_series_total", "Series of agents that were refused, by reason: a limit, or labels that are not valid.";
        pub admitted_series: Counter = "aggregator_ingest_admitted_series_total", "Series of agents that were first refused and later accepted.";
        pub stale_markers: Counter = "aggregator_ingest_stale_markers_total", "Staleness markers written for series and agents that disappeared.";
        pub certificates: By<Counter, CertificateRequest> = "aggregator_ingest_certificates_total", "Certificates issued to agents.";
        pub retries: Counter = "aggregator_ingest_retries_total", "Connection attempts sent back to prove their address, because many were open.";
        pub ack_seconds: Histogram = "aggregator_ingest_ack_seconds", "Time from appending a tick until it was durable.";
        pub receive_buffer: Gauge = "aggregator_ingest_socket_receive_buffer_bytes", "Receive buffer that the kernel granted the QUIC socket.";
    }
}

impl IngestMetrics {
    /// Registers the metrics.
    #[must_use]
    pub fn new(registry: &Registry) -> Self {
        Self::register(registry, &[])
    }

    /// Counts a refusal.
    pub fn refuse(&self, reason: RefusalCause) {
        self.refused.of(reason).inc();
    }

    /// Counts a refused series.
    pub(super) fn refuse_series(&self, error: &SeriesError) {
        self.refused_series.of(series_refusal(error)).inc();
    }

    /// Returns how many series were refused for a reason.
    #[cfg(test)]
    pub(super) fn refused_series(&self, reason: SeriesRefusal) -> u64 {
        self.refused_series.of(reason).get()
    }
}

/// Classifies why a series was refused.
const fn series_refusal(error: &SeriesError) -> SeriesRefusal {
    match error {
        SeriesError::NoName
        | SeriesError::Labels(_)
        | SeriesError::Define(DefineError::Labels(_)) => SeriesRefusal::Labels,
        SeriesError::Define(DefineError::StreamLimit { .. }) => SeriesRefusal::PerAgent,
        SeriesError::Define(DefineError::NotAdmitted) => SeriesRefusal::PerMinute,
        SeriesError::Define(DefineError::SeriesLimit { .. }) => SeriesRefusal::InAll,
        SeriesError::Define(DefineError::MemoryBudget) => SeriesRefusal::Memory,
    }
}
