//! Ingest: agents connect over QUIC, or over TCP on the same port, with their certificate, stream ticks, and are told what is durable.
//!
//! Path of a tick: QUIC stream (bounded by its window) → [`ingestor`] on a blocking thread (as many at a time as there are
//! permits) → [`tidemark_storage::Stream::append_row`] → log → Ack. No queue of our own stands in between: while the store
//! is slow nothing is read, and the agent's spool fills instead.
//!
//! **Invariant:** an Ack is sent only for what [`Store::when_durable`] has confirmed. `node` and `idc` of every stored series
//! are those of the certificate.

mod agent_series;
mod agents;
mod connection;
mod endpoint;
mod ingestor;
mod joining;
mod liveness;
mod metrics;
mod new_series;
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

/// What ingest needs to know.
#[derive(Debug, Clone)]
pub struct IngestConfig {
    /// `--quic.listen-address`; port 0 = a free one.
    pub listen_address: SocketAddr,
    /// Certificates and join tokens.
    pub pki: Pki,
    /// Who else vouches for nodes: the API server, when there is one.
    pub kubernetes: Option<Admission>,
    /// Sessions at a time; more are refused.
    pub sessions_max: usize,
    /// Series per agent; more are refused and counted.
    pub series_per_agent_max: u32,
    /// Series that an agent may bring a minute and that the store does not know, once it has brought as many as it may have.
    pub new_series_per_minute: u32,
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
    /// The socket could not be opened.
    #[error("listen on udp {address}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The socket beside it could not be opened.
    #[error("listen on tcp {address}")]
    ListenTcp {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The certificates are of no use.
    #[error("certificates")]
    Identity(#[from] IdentityError),
    /// The TLS library lacks the cipher that QUIC begins with.
    #[error("tls has no cipher for QUIC")]
    NoCipher,
}

/// What all tasks of ingest share.
#[derive(Debug)]
struct Context {
    config: IngestConfig,
    store: Store,
    clock: Arc<dyn Clock>,
    cancel: CancellationToken,
    metrics: Arc<IngestMetrics>,
    agents: Agents,
    /// One for each append that may be under way.
    appends: Semaphore,
    /// Memory for series that wait for room.
    waiting: Arc<PendingSeriesBudget>,
}

/// Ingest, running.
#[derive(Debug)]
pub struct Ingest {
    address: SocketAddr,
    tasks: TaskTracker,
    agents: Agents,
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
        self.tasks.wait().await;
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

/// Binds UDP and TCP on one port. A free port that is asked for may be taken for TCP: then it is another one.
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
