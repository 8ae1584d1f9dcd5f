//! The uplink: obtains a certificate, connects to an aggregator, streams the spool to it and frees what is durable there.
//!
//! # Connect
//! Addresses are tried in order, with a jittered backoff of 1 to 60 s between rounds. QUIC comes first; an address where QUIC gets
//! no answer twice is also tried over TCP, and left for QUIC again once that works.
//!
//! # Identity
//! A node without a certificate joins: it shows its token to an aggregator that `--tls.ca-file` or the token itself verifies, and
//! keeps the certificate it receives. The certificate is renewed over the connection after two thirds of its lifetime. When
//! either end rejects the other's certificate, the aggregator's authority has probably been replaced: the uplink reads the CA and
//! token files again and joins once more. The token is never shown to an aggregator that these files do not verify, and the old
//! certificate is kept until a new one has been issued.
//!
//! # Stream
//! The aggregator reports in Welcome the last sequence that it has on disk, and the uplink sends the ticks after it. An aggregator
//! that does not know this spool reports none and receives everything that the spool still holds. Ticks that have waited too long
//! are skipped in favour of new ones and sent later on the backfill lane.
//!
//! **Invariant:** nothing is freed from the spool before an aggregator has reported it durable. The uplink holds at most one batch
//! in memory; what the aggregator does not accept stays on disk.

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
mod trust;
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
use crate::stream::Transport;
use backoff::Backoff;
use dial::Dial;
pub use identity::IdentityFiles;
use identity::NodeCredentials;
use link::Link;
pub use link::LinkError;
pub use metrics::UplinkMetrics;
use session::{Ended, Metrics, SessionError, SharedClock};

/// Configuration of an uplink.
#[derive(Debug, Clone)]
pub struct UplinkConfig {
    /// Addresses of the aggregators, each HOST:PORT, tried in this order.
    pub addresses: Vec<String>,
    /// Name of this node; must match its certificate.
    pub node_name: String,
    /// Interval between ticks. The aggregator derives from it when a node counts as absent.
    pub interval: Duration,
    /// Where certificates come from and are kept.
    pub identity: IdentityFiles,
    /// Ticks that have waited longer are skipped and sent after newer ones.
    pub newest_first_after: Duration,
    /// Interval between attempts to return to QUIC while TCP is in use.
    pub quic_probe_interval: Duration,
    /// Longest time to send the rest of the spool at shutdown.
    pub shutdown_grace_period: Duration,
}

impl UplinkConfig {
    /// Returns the number of waiting ticks above which they are skipped.
    fn waiting_ticks_max(&self) -> u64 {
        let ticks = self.newest_first_after.as_millis() / self.interval.as_millis().max(1);
        // After a skip all labels are sent again, which is not worth it for a few ticks.
        u64::try_from(ticks).unwrap_or(u64::MAX).max(5)
    }
}

/// Why the uplink gave up. Everything that may heal is retried instead.
#[derive(Debug, thiserror::Error)]
pub enum UplinkError {
    /// Neither a certificate nor a join token is configured.
    #[error(
        "no certificate and no join token: give --join.token-file, or --tls.cert-file and --tls.key-file"
    )]
    NoIdentity,
    /// A certificate file cannot be used.
    #[error("certificates")]
    Identity(#[from] IdentityError),
}

/// State shared by the uplink's parts.
struct Uplink {
    config: UplinkConfig,
    spool: SpoolHandle,
    metrics: Metrics,
    clock: SharedClock,
}

/// State kept from one session to the next.
#[derive(Debug, Default)]
struct ConnectionState {
    credentials: Option<NodeCredentials>,
    dial: Dial,
}

/// Why an attempt at one address ended.
#[derive(Debug, thiserror::Error)]
enum AttemptError {
    #[error(transparent)]
    Session(#[from] SessionError),
    #[error(transparent)]
    Link(#[from] LinkError),
    #[error("certificate")]
    Identity(#[from] IdentityError),
    #[error("join")]
    Join(#[source] SessionError),
    #[error("no certificate is valid for this node now, and there is no join token")]
    NoCertificate,
}

impl AttemptError {
    /// Returns whether one end rejected the other's certificate.
    const fn is_untrusted(&self) -> bool {
        match self {
            Self::Session(SessionError::Link(error)) | Self::Link(error) => error.is_untrusted(),
            Self::Session(_) | Self::Identity(_) | Self::Join(_) | Self::NoCertificate => false,
        }
    }

    const fn refusal(&self) -> Option<common::wire::RefusalCode> {
        match self {
            Self::Session(SessionError::Link(LinkError::Refused { code, .. }))
            | Self::Join(SessionError::Link(LinkError::Refused { code, .. }))
            | Self::Link(LinkError::Refused { code, .. }) => Some(*code),
            _ => None,
        }
    }
}

/// Runs until `cancel` fires, then sends the rest of the spool within the grace period and closes.
///
/// # Errors
/// Only what no retry can heal; see [`UplinkError`].
pub async fn run(
    config: UplinkConfig,
    spool: SpoolHandle,
    cancel: CancellationToken,
    registry: &Registry,
) -> Result<(), UplinkError> {
    if !config.identity.can_identify()? {
        return Err(UplinkError::NoIdentity);
    }
    let uplink = Uplink {
        config,
        metrics: Arc::new(UplinkMetrics::register(
            registry,
            spool.receiver().metric_labels(),
        )),
        spool,
        clock: Arc::new(SystemClock),
    };
    let mut backoff = Backoff::default();
    let mut random = SmallRng::from_os_rng();
    let mut state = ConnectionState::default();
    while !cancel.is_cancelled() {
        for address in &uplink.config.addresses {
            let began = uplink.clock.now_ms();
            match uplink.try_address(address, &mut state, &cancel).await {
                Ok(()) => return Ok(()),
                Err(error) => {
                    uplink.report(address, &error);
                    if cancel.is_cancelled() && matches!(error, AttemptError::Session(_)) {
                        uplink.flush_again(address, &mut state, &cancel).await;
                        return Ok(());
                    }
                }
            }
            // It worked for a while: start with the first address and short waits again.
            if uplink.clock.now_ms().saturating_sub(began) > 60_000 {
                backoff.reset();
                break;
            }
            if cancel.is_cancelled() {
                break;
            }
        }
        let wait = backoff.next_wait(&mut random);
        tracing::debug!(?wait, "waiting before the next attempt");
        tokio::select! {
            () = sleep(wait) => {}
            () = cancel.cancelled() => {}
        }
    }
    Ok(())
}

impl Uplink {
    /// Connects to `address` and runs sessions until one fails. Joins again if a certificate is rejected. Returns Ok when the
    /// agent stops.
    async fn try_address(
        &self,
        address: &str,
        state: &mut ConnectionState,
        cancel: &CancellationToken,
    ) -> Result<(), AttemptError> {
        match self.run_sessions(address, state, cancel).await {
            Err(error) if error.is_untrusted() => {
                if !self.config.identity.can_join() {
                    // The files may have changed: read them for the next attempt.
                    state.credentials = None;
                    return Err(error);
                }
                self.report(address, &error);
                let joined = tokio::select! {
                    joined = self.join(address, &mut state.dial) => joined?,
                    () = cancel.cancelled() => return Ok(()),
                };
                state.credentials = Some(joined);
                self.run_sessions(address, state, cancel).await
            }
            other => other,
        }
    }

    /// Connects and runs sessions until one fails.
    async fn run_sessions(
        &self,
        address: &str,
        state: &mut ConnectionState,
        cancel: &CancellationToken,
    ) -> Result<(), AttemptError> {
        loop {
            let (link, tls) = tokio::select! {
                connected = self.connect(address, state) => connected?,
                () = cancel.cancelled() => return Ok(()),
            };
            let Some(credentials) = state.credentials.as_ref() else {
                return Err(AttemptError::NoCertificate);
            };
            let is_tcp = link.transport == Transport::Tcp;
            self.metrics.over_tcp.set(f64::from(u8::from(is_tcp)));
            let session = session::run(self, credentials, link, cancel);
            let interval = self.config.quic_probe_interval;
            let quic_works = dial::wait_for_quic(address, &tls, interval);
            let ended = tokio::select! {
                ended = session => ended,
                () = quic_works, if is_tcp => {
                    tracing::info!(address, "QUIC works again, leaving TCP");
                    state.dial.reset_quic_timeouts(address);
                    self.metrics.connected.set(0.0);
                    continue;
                }
            };
            match ended? {
                Ended::Stopped => return Ok(()),
                Ended::Renewed(renewed) => state.credentials = Some(*renewed),
            }
        }
    }

    async fn connect(
        &self,
        address: &str,
        state: &mut ConnectionState,
    ) -> Result<(Link, Arc<rustls::ClientConfig>), AttemptError> {
        let current = state.credentials.take();
        let credentials = self.credentials(address, current, &mut state.dial).await?;
        let tls = Arc::new(tls::client_config(&credentials.own, &credentials.roots)?);
        state.credentials = Some(credentials);
        let link = state.dial.connect(address, &tls).await?;
        Ok((link, tls))
    }

    /// Connects once more after a session that failed during shutdown, to send what is not acknowledged within another grace
    /// period. That an aggregator has restarted shows only with the first packet sent to it.
    async fn flush_again(
        &self,
        address: &str,
        state: &mut ConnectionState,
        stopped: &CancellationToken,
    ) {
        let flush = async {
            let (link, _) = self.connect(address, state).await?;
            let credentials = state.credentials.as_ref();
            let credentials = credentials.ok_or(AttemptError::NoCertificate)?;
            session::run(self, credentials, link, stopped).await?;
            Ok::<_, AttemptError>(())
        };
        match timeout(self.config.shutdown_grace_period, flush).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => self.report(address, &error),
            Err(_) => tracing::info!("grace period is over; the rest stays in the spool"),
        }
    }

    /// Returns the credentials in use if they are still valid, else those on disk, else joins.
    async fn credentials(
        &self,
        address: &str,
        current: Option<NodeCredentials>,
        dial: &mut Dial,
    ) -> Result<NodeCredentials, AttemptError> {
        let now_ms = self.clock.now_ms();
        let is_valid = |credentials: &NodeCredentials| {
            let validity = credentials.own.validity();
            credentials.renewable && validity.is_ok_and(|validity| validity.contains(now_ms))
        };
        let files = &self.config.identity;
        let credentials = match current.filter(is_valid) {
            Some(credentials) => credentials,
            None => match files.load(&self.config.node_name, now_ms)? {
                Some(credentials) => credentials,
                None => self.join(address, dial).await?,
            },
        };
        if let Ok(validity) = credentials.own.validity() {
            let expiry = validity.not_after_ms as f64 / 1000.0;
            self.metrics.certificate_expiry.set(expiry);
        }
        Ok(credentials)
    }

    async fn join(&self, address: &str, dial: &mut Dial) -> Result<NodeCredentials, AttemptError> {
        let (token, trust) = self
            .config
            .identity
            .token()?
            .ok_or(AttemptError::NoCertificate)?;
        let node = &self.config.node_name;
        let joined = join::join(dial, address, node, &token.text, trust).await;
        let credentials = joined.map_err(AttemptError::Join)?;
        self.metrics.joins.inc();
        tracing::info!(address, token = token.id, "joined");
        self.keep(&credentials);
        Ok(credentials)
    }

    fn keep(&self, credentials: &NodeCredentials) {
        if let Err(error) = self.config.identity.keep(credentials) {
            let error = common::report::chain(&error);
            tracing::warn!(
                error,
                "cannot save the certificate; the next start joins again"
            );
        }
    }

    fn acknowledge(&self, sequence: u64) {
        self.metrics.acked_sequence.set(sequence as f64);
        self.spool.acknowledge(sequence);
    }

    fn report(&self, address: &str, error: &AttemptError) {
        let was_connected = matches!(error, AttemptError::Session(_));
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
