//! Receives ticks from agents, over QUIC or over TCP on the same port, and acknowledges what is durable.
//!
//! Path of a tick: `endpoint` or `tcp` accepts the connection; `handshake` identifies the peer and reads its Hello;
//! `session` reads frames, bounded by the stream's window; `ingestor` applies them on a blocking thread, as many at a
//! time as there are permits; `ingestor/lane.rs` decodes the tick and calls
//! [`tidemark_storage::Stream::append_row`]; when the log is synced, `session` sends Ack. There is no queue in between:
//! while the store is slow nothing is read, and the agent's spool fills instead.
//!
//! A session that ends parks its series (`agents`). The agent's next session ends those that it does not continue, and
//! `liveness` ends all of them if the agent stays away. What an earlier run of the aggregator left open is found in the
//! store (`left_open`).
//!
//! **Invariant:** an Ack is sent only for what [`Store::when_durable`] has confirmed. `node` and `idc` of every stored series
//! are those of the certificate (`role`).

mod agent_series;
mod agents;
mod connection;
mod endpoint;
mod handshake;
mod ingestor;
mod joining;
mod left_open;
mod liveness;
mod metrics;
mod new_series;
mod role;
mod session;
mod tcp;

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::available_parallelism;
use std::time::Duration;

use common::clock::Clock;
use common::identity::{Credentials, IdentityError};
use common::telemetry::Registry;
use quinn::Endpoint;
use tidemark_storage::Store;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use agents::{AgentStatus, Agents};
pub use liveness::AGENT_JOB;
pub use metrics::{IngestMetrics, RefusalCause};

use self::ingestor::PendingSeriesBudget;
use crate::kube::Admission;
use crate::pki::Pki;

/// The configuration of ingest.
#[derive(Debug, Clone)]
pub struct IngestConfig {
    /// `--quic.listen-address`. Port 0 selects a free port.
    pub listen_address: SocketAddr,
    /// Certificates and join tokens.
    pub pki: Pki,
    /// Reviews service-account tokens of nodes, if there is an API server.
    pub kubernetes: Option<Admission>,
    /// Most connections of each kind (QUIC, TCP); further ones are refused.
    pub sessions_max: usize,
    /// Most series per agent; further ones are refused and counted.
    pub series_per_agent_max: u32,
    /// Most series per minute and agent that the store does not know, once the agent has sent `series_per_agent_max` of them.
    pub new_series_per_minute: u32,
    /// How long after its disconnection the series of an agent that sent no Bye end.
    pub absence_grace: Duration,
    /// Time between two values of `up`.
    pub liveness_interval: Duration,
    /// How long the `up` of an absent agent stays 0 before the agent is forgotten.
    pub forget_after: Duration,
}

impl IngestConfig {
    /// Returns the defaults for an address and certificates.
    #[must_use]
    pub const fn new(listen_address: SocketAddr, pki: Pki) -> Self {
        Self {
            listen_address,
            pki,
            kubernetes: None,
            sessions_max: 20_000,
            series_per_agent_max: 100_000,
            new_series_per_minute: 10_000,
            absence_grace: Duration::from_secs(30),
            liveness_interval: Duration::from_secs(10),
            forget_after: Duration::from_secs(24 * 3600),
        }
    }
}

/// Why ingest could not start.
#[derive(Debug, thiserror::Error)]
pub enum IngestError {
    /// The UDP socket could not be opened.
    #[error("listen on udp {address}")]
    Listen {
        /// Its address.
        address: SocketAddr,
        /// The cause.
        source: std::io::Error,
    },
    /// The TCP socket could not be opened.
    #[error("listen on tcp {address}")]
    ListenTcp {
        /// Its address.
        address: SocketAddr,
        /// The cause.
        source: std::io::Error,
    },
    /// The certificates can't be used.
    #[error("certificates")]
    Identity(#[from] IdentityError),
    /// The TLS library lacks the cipher of QUIC's initial packets.
    #[error("TLS library has no cipher for QUIC")]
    NoCipher,
}

/// State shared by all tasks of ingest.
#[derive(Debug)]
struct Context {
    config: IngestConfig,
    store: Store,
    clock: Arc<dyn Clock>,
    cancel: CancellationToken,
    metrics: Arc<IngestMetrics>,
    agents: Agents,
    /// One permit for each concurrent append.
    appends: Semaphore,
    /// Memory for series that wait until a limit has room.
    waiting: Arc<PendingSeriesBudget>,
}

/// A running ingest.
#[derive(Debug)]
pub struct Ingest {
    address: SocketAddr,
    tasks: TaskTracker,
    agents: Agents,
}

impl Ingest {
    /// Returns the bound address.
    #[must_use]
    pub const fn local_address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the known agents.
    #[must_use]
    pub fn agents(&self) -> Agents {
        self.agents.clone()
    }

    /// Returns once the cancelled ingest has closed its sessions and written its last row. Close the store afterwards.
    pub async fn stopped(self) {
        self.tasks.wait().await;
    }
}

/// Binds the sockets and serves agents until `cancel`.
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
    let threads = available_parallelism().map_or(1, usize::from);
    let context = Arc::new(Context {
        config,
        store,
        clock,
        cancel,
        metrics: Arc::new(IngestMetrics::new(registry)),
        agents: Agents::default(),
        appends: Semaphore::new(2 * threads),
        waiting: Arc::default(),
    });
    let own = context.config.pki.own_credentials()?;
    let (endpoint, listener, address) = bind(&context, &own)?;
    let tasks = TaskTracker::new();
    tasks.spawn(endpoint::renew_own(
        Arc::clone(&context),
        endpoint.clone(),
        listener.clone(),
        own,
    ));
    tasks.spawn(tcp::accept(Arc::clone(&context), listener));
    tasks.spawn(liveness::run(Arc::clone(&context)));
    let agents = context.agents.clone();
    tasks.spawn(endpoint::accept(context, endpoint));
    tasks.close();
    Ok(Ingest {
        address,
        tasks,
        agents,
    })
}

/// Binds UDP and TCP on one port. If the kernel picks a UDP port whose TCP port is taken, tries another.
fn bind(
    context: &Context,
    own: &Credentials,
) -> Result<(Endpoint, tcp::Listener, SocketAddr), IngestError> {
    let wanted = context.config.listen_address;
    let mut tries_left = if wanted.port() == 0 { 20 } else { 1 };
    loop {
        let endpoint = endpoint::bind(context, own)?;
        let address = endpoint
            .local_addr()
            .map_err(|source| IngestError::Listen {
                address: wanted,
                source,
            })?;
        tries_left -= 1;
        match tcp::bind(context, own, address) {
            Ok(listener) => return Ok((endpoint, listener, address)),
            Err(IngestError::ListenTcp { .. }) if tries_left > 0 => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests;
