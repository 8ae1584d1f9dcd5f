//! What ingest tells about itself.

use std::sync::Arc;

use common::telemetry::{Counter, Gauge, Histogram, Registry};
use common::wire::RefusalCode;
use tidemark_storage::DefineError;

use super::agent_series::SeriesError;

/// Why a connection or request was turned away, as a label value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusalCause {
    /// With a code that the peer is told.
    Code(RefusalCode),
    /// The TLS handshake failed: certificate of another authority or out of date, or no TLS at all.
    Handshake,
    /// A peer that wants to send data and has no certificate.
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

    fn all() -> impl Iterator<Item = Self> {
        let codes = RefusalCode::ALL.into_iter().map(Self::Code);
        codes.chain([Self::Handshake, Self::NoCertificate, Self::Timeout])
    }
}

/// The metrics of ingest.
#[derive(Debug)]
pub struct IngestMetrics {
    refused: Vec<(RefusalCause, Arc<Counter>)>,
    /// `aggregator_ingest_sessions`
    pub sessions: Arc<Gauge>,
    /// `aggregator_ingest_sessions_total`
    pub sessions_opened: Arc<Counter>,
    /// `aggregator_ingest_tcp_connections_total`
    pub tcp_connections: Arc<Counter>,
    /// `aggregator_ingest_received_bytes_total`
    pub bytes: Arc<Counter>,
    /// `aggregator_ingest_ticks_total`
    pub ticks: Arc<Counter>,
    /// `aggregator_ingest_backfilled_ticks_total`
    pub backfilled: Arc<Counter>,
    /// `aggregator_ingest_samples_total{result="stored"}`
    pub stored: Arc<Counter>,
    /// `aggregator_ingest_samples_total{result="duplicate"}`
    pub duplicates: Arc<Counter>,
    /// `aggregator_ingest_samples_total{result="refused"}`
    pub refused_samples: Arc<Counter>,
    refused_series: Vec<(&'static str, Arc<Counter>)>,
    /// `aggregator_ingest_admitted_series_total`
    pub admitted_series: Arc<Counter>,
    /// `aggregator_ingest_stale_markers_total`
    pub stale_markers: Arc<Counter>,
    /// `aggregator_ingest_certificates_total{kind="join"}`
    pub joined: Arc<Counter>,
    /// `aggregator_ingest_certificates_total{kind="renewal"}`
    pub renewed: Arc<Counter>,
    /// `aggregator_ingest_retries_total`
    pub retries: Arc<Counter>,
    /// `aggregator_ingest_ack_seconds`
    pub ack_seconds: Arc<Histogram>,
    /// `aggregator_ingest_socket_receive_buffer_bytes`
    pub receive_buffer: Arc<Gauge>,
}

impl IngestMetrics {
    /// Registers them.
    #[must_use]
    pub fn new(registry: &Registry) -> Self {
        let counter = |name, help| registry.counter(name, help, &[]);
        let gauge = |name, help| registry.gauge(name, help, &[]);
        let samples = |result| {
            let help = "Samples from agents, by what became of them.";
            registry.counter(
                "aggregator_ingest_samples_total",
                help,
                &[("result", result)],
            )
        };
        Self {
            refused: refusals(registry),
            sessions: registry.gauge(
                "aggregator_ingest_sessions",
                "Open sessions of agents.",
                &[],
            ),
            sessions_opened: counter(
                "aggregator_ingest_sessions_total",
                "Sessions opened by agents.",
            ),
            tcp_connections: counter(
                "aggregator_ingest_tcp_connections_total",
                "Connections of agents over TCP, as their network lets no UDP through.",
            ),
            bytes: counter(
                "aggregator_ingest_received_bytes_total",
                "Bytes of frames received from agents.",
            ),
            ticks: counter(
                "aggregator_ingest_ticks_total",
                "Ticks received from agents.",
            ),
            backfilled: counter(
                "aggregator_ingest_backfilled_ticks_total",
                "Ticks received behind newer ones.",
            ),
            stored: samples("stored"),
            duplicates: samples("duplicate"),
            refused_samples: samples("refused"),
            refused_series: refused_series(registry),
            admitted_series: counter(
                "aggregator_ingest_admitted_series_total",
                "Series of agents that were refused at first and taken later.",
            ),
            stale_markers: counter(
                "aggregator_ingest_stale_markers_total",
                "Staleness markers written for series or agents that went away.",
            ),
            joined: certificates(registry, "join"),
            renewed: certificates(registry, "renewal"),
            retries: counter(
                "aggregator_ingest_retries_total",
                "Connection attempts sent back to prove their address, because many were open.",
            ),
            ack_seconds: registry.histogram(
                "aggregator_ingest_ack_seconds",
                "Time from the append of a tick until it was on disk.",
                &[],
                Histogram::SECONDS,
            ),
            receive_buffer: gauge(
                "aggregator_ingest_socket_receive_buffer_bytes",
                "Receive buffer that the kernel granted the QUIC socket.",
            ),
        }
    }

    /// Counts a refusal.
    pub fn refuse(&self, reason: RefusalCause) {
        let counter = self.refused.iter().find(|(one, _)| *one == reason);
        if let Some((_, counter)) = counter {
            counter.inc();
        }
    }

    /// Counts a refused series.
    pub(super) fn refuse_series(&self, error: &SeriesError) {
        let reason = series_reason(error);
        let counter = self.refused_series.iter().find(|(one, _)| *one == reason);
        if let Some((_, counter)) = counter {
            counter.inc();
        }
    }

    /// How many were refused for that reason.
    #[cfg(test)]
    pub(super) fn refused_series(&self, reason: &str) -> u64 {
        let mut counters = self.refused_series.iter();
        counters
            .find(|(one, _)| *one == reason)
            .map_or(0, |(_, counter)| counter.get())
    }
}

const SERIES_REASONS: [&str; 5] = ["per_agent", "per_minute", "in_all", "memory", "labels"];

/// Why a series is refused, as a label value.
const fn series_reason(error: &SeriesError) -> &'static str {
    match error {
        SeriesError::NoName
        | SeriesError::Labels(_)
        | SeriesError::Define(DefineError::Labels(_)) => "labels",
        SeriesError::Define(DefineError::StreamLimit { .. }) => "per_agent",
        SeriesError::Define(DefineError::NotAdmitted) => "per_minute",
        SeriesError::Define(DefineError::SeriesLimit { .. }) => "in_all",
        SeriesError::Define(DefineError::MemoryBudget) => "memory",
    }
}

fn refused_series(registry: &Registry) -> Vec<(&'static str, Arc<Counter>)> {
    let help = "Series of agents that were refused, by reason: over a limit, or with labels that no series may have.";
    let register = |reason| {
        let labels = [("reason", reason)];
        let counter = registry.counter("aggregator_ingest_refused_series_total", help, &labels);
        (reason, counter)
    };
    SERIES_REASONS.map(register).to_vec()
}

fn certificates(registry: &Registry, kind: &str) -> Arc<Counter> {
    let help = "Certificates issued to agents.";
    let labels = [("kind", kind)];
    registry.counter("aggregator_ingest_certificates_total", help, &labels)
}

fn refusals(registry: &Registry) -> Vec<(RefusalCause, Arc<Counter>)> {
    let help = "Connections, sessions and requests of agents that were refused, by reason.";
    let register = |reason: RefusalCause| {
        let labels = [("reason", reason.as_str())];
        let counter = registry.counter("aggregator_ingest_refused_total", help, &labels);
        (reason, counter)
    };
    RefusalCause::all().map(register).collect()
}
