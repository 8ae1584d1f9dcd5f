//! The uplink: joins, connects to an aggregator, streams the spool to it and frees what is durable there.
//!
//! **Invariant:** nothing is freed from the spool before an aggregator has said that it is on disk. The uplink holds at
//! most one batch of the spool in memory; what the aggregator does not take stays on disk.

pub mod backoff;
mod dial;
mod identity;
mod join;
mod lanes;
mod link;
mod metrics;
mod offset;
#[cfg(test)]
mod recorded;
mod session;
mod udp;

use std::sync::Arc;
use std::time::Duration;

use common::clock::SystemClock;
use common::identity::{IdentityError, tls};
use common::telemetry::Registry;
use rand::SeedableRng as _;
use rand::rngs::SmallRng;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::spool::SpoolHandle;
use backoff::Backoff;
use dial::Dial;
pub use identity::IdentityFiles;
use identity::Known;
pub use link::LinkError;
use link::{Carrier, Link};
pub use metrics::UplinkMetrics;
use session::{Ended, Metrics, SessionError, SharedClock};

/// What the uplink needs to know.
#[derive(Debug, Clone)]
pub struct UplinkConfig {
    /// `--aggregator.address`, HOST:PORT each, tried in this order.
    pub addresses: Vec<String>,
    /// `--node.name`.
    pub node_name: String,
    /// `--interval`: how far ticks lie apart, for the aggregator to judge absence by.
    pub interval: Duration,
    /// Certificates.
    pub identity: IdentityFiles,
    /// Ticks that have waited longer are passed over, and sent behind newer ones.
    pub newest_first_after: Duration,
    /// How often QUIC is tried while frames go over TCP.
    pub quic_probe_interval: Duration,
    /// How long a shutdown may take to send what the spool still holds.
    pub shutdown_grace_period: Duration,
}

impl UplinkConfig {
    /// How many ticks may wait before they are passed over.
    fn patience_ticks(&self) -> u64 {
        let ticks = self.newest_first_after.as_millis() / self.interval.as_millis().max(1);
        // Passing over costs all names of series anew: not worth it for a few ticks.
        u64::try_from(ticks).unwrap_or(u64::MAX).max(5)
    }
}

/// Why the uplink gave up; everything that may pass is retried instead.
#[derive(Debug, thiserror::Error)]
pub enum UplinkError {
    /// There is neither a certificate nor a join token.
    #[error(
        "no certificate and no join token: give --join.token-file, or --tls.cert-file and --tls.key-file"
    )]
    NoIdentity,
    /// A file of certificates can't be used.
    #[error("certificates")]
    Identity(#[from] IdentityError),
}

/// What the uplink's parts share.
struct Uplink {
    config: UplinkConfig,
    spool: SpoolHandle,
    metrics: Metrics,
    clock: SharedClock,
}

/// What is kept from one session to the next.
#[derive(Debug, Default)]
struct Way {
    /// The certificate in use.
    known: Option<Known>,
    dial: Dial,
}

/// Why a try to get a session going failed.
#[derive(Debug, thiserror::Error)]
enum TryError {
    #[error(transparent)]
    Session(#[from] SessionError),
    #[error(transparent)]
    Link(#[from] LinkError),
    #[error("certificate")]
    Identity(#[from] IdentityError),
    #[error("join")]
    Join(#[source] SessionError),
    #[error("no certificate that is good for this node now, and no join token")]
    NoCertificate,
}

impl TryError {
    const fn refusal(&self) -> Option<common::wire::RefusalCode> {
        match self {
            Self::Session(SessionError::Link(LinkError::Refused { code, .. }))
            | Self::Join(SessionError::Link(LinkError::Refused { code, .. }))
            | Self::Link(LinkError::Refused { code, .. }) => Some(*code),
            _ => None,
        }
    }
}

/// Runs until `cancel`; then sends the rest of the spool within the grace period and says goodbye.
///
/// Connects with a decorrelated jittered backoff of 1 to 60 s, and fails over through `config.addresses`.
///
/// # Errors
/// Only what no retry can mend; see [`UplinkError`].
pub async fn run(
    config: UplinkConfig,
    spool: SpoolHandle,
    cancel: CancellationToken,
    registry: &Registry,
) -> Result<(), UplinkError> {
    if !config.identity.is_possible()? {
        return Err(UplinkError::NoIdentity);
    }
    let uplink = Uplink {
        config,
        metrics: Arc::new(UplinkMetrics::register(
            registry,
            crate::spool::copy_labels(spool.copy()),
        )),
        spool,
        clock: Arc::new(SystemClock),
    };
    let mut backoff = Backoff::default();
    let mut random = SmallRng::from_os_rng();
    let mut way = Way::default();
    while !cancel.is_cancelled() {
        for address in &uplink.config.addresses {
            let began = uplink.clock.now_ms();
            match uplink.try_address(address, &mut way, &cancel).await {
                Ok(()) => return Ok(()),
                Err(error) => {
                    uplink.report(address, &error);
                    if cancel.is_cancelled() && matches!(error, TryError::Session(_)) {
                        uplink.flush_again(address, &mut way, &cancel).await;
                        return Ok(());
                    }
                }
            }
            // It had worked for a while: begin with the first address and short waits again.
            if uplink.clock.now_ms().saturating_sub(began) > 60_000 {
                backoff.reset();
                break;
            }
            if cancel.is_cancelled() {
                break;
            }
        }
        let wait = backoff.next_wait(&mut random);
        tracing::debug!(?wait, "wait before the next try");
        tokio::select! {
            () = sleep(wait) => {}
            () = cancel.cancelled() => {}
        }
    }
    Ok(())
}

impl Uplink {
    /// Gets a certificate if need be, connects, and runs sessions until one breaks. Ok: told to stop.
    async fn try_address(
        &self,
        address: &str,
        way: &mut Way,
        cancel: &CancellationToken,
    ) -> Result<(), TryError> {
        loop {
            let (link, tls) = tokio::select! {
                connected = self.connect(address, way) => connected?,
                () = cancel.cancelled() => return Ok(()),
            };
            let Some(current) = way.known.as_ref() else {
                return Err(TryError::NoCertificate);
            };
            let is_tcp = link.carrier == Carrier::Tcp;
            self.metrics.over_tcp.set(f64::from(u8::from(is_tcp)));
            let session = session::run(self, current, link, cancel);
            let interval = self.config.quic_probe_interval;
            let quic_is_back = dial::quic_gets_through(address, &tls, interval);
            let ended = tokio::select! {
                ended = session => ended,
                () = quic_is_back, if is_tcp => {
                    tracing::info!(address, "QUIC gets through: back to it");
                    way.dial.forget_silence(address);
                    self.metrics.connected.set(0.0);
                    continue;
                }
            };
            match ended? {
                Ended::Stopped => return Ok(()),
                Ended::Renewed(renewed) => way.known = Some(*renewed),
            }
        }
    }

    async fn connect(
        &self,
        address: &str,
        way: &mut Way,
    ) -> Result<(Link, Arc<rustls::ClientConfig>), TryError> {
        let known = way.known.take();
        let current = self.certificate(address, known, &mut way.dial).await?;
        let tls = Arc::new(tls::client_config(&current.own, &current.roots)?);
        way.known = Some(current);
        let link = way.dial.connect(address, &tls).await?;
        Ok((link, tls))
    }

    /// For a session that broke while it was told to stop: connects once more for what is not acknowledged, within another
    /// grace period. An aggregator that restarted a moment ago is found out only by the first packet sent to it.
    async fn flush_again(&self, address: &str, way: &mut Way, stopped: &CancellationToken) {
        let flush = async {
            let (link, _) = self.connect(address, way).await?;
            let current = way.known.as_ref().ok_or(TryError::NoCertificate)?;
            session::run(self, current, link, stopped).await?;
            Ok::<_, TryError>(())
        };
        match timeout(self.config.shutdown_grace_period, flush).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => self.report(address, &error),
            Err(_) => tracing::info!("grace period is over, the rest stays in the spool"),
        }
    }

    /// The certificate in use, if it is still good; else the one on disk; else a new one.
    async fn certificate(
        &self,
        address: &str,
        current: Option<Known>,
        dial: &mut Dial,
    ) -> Result<Known, TryError> {
        let now_ms = self.clock.now_ms();
        let is_good = |known: &Known| {
            known.renewable && known.own.validity().is_ok_and(|v| v.contains(now_ms))
        };
        let files = &self.config.identity;
        let known = match current.filter(is_good) {
            Some(known) => known,
            None => match files.load(&self.config.node_name, now_ms)? {
                Some(known) => known,
                None => self.join(address, dial).await?,
            },
        };
        if let Ok(validity) = known.own.validity() {
            let expiry = validity.not_after_ms as f64 / 1000.0;
            self.metrics.certificate_expiry.set(expiry);
        }
        Ok(known)
    }

    async fn join(&self, address: &str, dial: &mut Dial) -> Result<Known, TryError> {
        let (token, trust) = self
            .config
            .identity
            .token()?
            .ok_or(TryError::NoCertificate)?;
        let node = &self.config.node_name;
        let joined = join::join(dial, address, node, &token.text, trust).await;
        let known = joined.map_err(TryError::Join)?;
        self.metrics.joins.inc();
        tracing::info!(address, token = token.id, "joined");
        self.keep(&known);
        Ok(known)
    }

    fn keep(&self, known: &Known) {
        // Without, the next start joins again.
        if let Err(error) = self.config.identity.keep(known) {
            tracing::warn!(error = %common::report::chain(&error), "certificate not kept");
        }
    }

    fn acknowledge(&self, sequence: u64) {
        self.metrics.acked_sequence.set(sequence as f64);
        self.spool.acknowledge(sequence);
    }

    fn report(&self, address: &str, error: &TryError) {
        let was_connected = matches!(error, TryError::Session(_));
        if was_connected {
            self.metrics.disconnects.inc();
        } else {
            self.metrics.connect_errors.inc();
        }
        if let Some(code) = error.refusal() {
            self.metrics.refuse(code);
        }
        let error = common::report::chain(error);
        tracing::warn!(address, error, "no session with the aggregator");
    }
}
