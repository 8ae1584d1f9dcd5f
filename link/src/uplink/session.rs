//! One session: Hello, Welcome, then the spool after the last sequence that the aggregator has.

use std::future::ready;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use common::clock::Clock;
use common::identity::LeafRequest;
use common::wire::{Frame, VERSION_LANES, VERSIONS};
use rustls_pki_types::CertificateDer;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::identity::NodeCredentials;
use super::lanes::{Batch, Lanes};
use super::link::{Link, LinkError};
use super::metrics::UplinkMetrics;
use super::offset::ClockOffset;
use super::{Uplink, UplinkConfig};
use crate::spool::SpoolError;

/// Longest wait for Welcome.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(40);

/// Why a session ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum SessionError {
    #[error(transparent)]
    Link(#[from] LinkError),
    #[error("read the spool")]
    Spool(#[from] SpoolError),
    #[error("certificate")]
    Identity(#[from] common::identity::IdentityError),
    #[error("read the spool on another thread")]
    Thread(#[source] tokio::task::JoinError),
}

/// Why a session ended without an error.
#[derive(Debug)]
pub(super) enum Ended {
    /// The agent stops; everything is acknowledged or the grace period is over.
    Stopped,
    /// The certificate was renewed; the next session uses the new one.
    Renewed(Box<NodeCredentials>),
}

/// Runs a session until it fails, the certificate is renewed, or `cancel` fires.
pub(super) async fn run(
    uplink: &Uplink,
    credentials: &NodeCredentials,
    mut link: Link,
    cancel: &CancellationToken,
) -> Result<Ended, SessionError> {
    let Welcome {
        version,
        durable,
        offset,
    } = hello(uplink, &mut link).await?;
    let metrics = &uplink.metrics;
    metrics.sessions.inc();
    metrics.connected.set(1.0);
    let transport = link.transport.as_str();
    tracing::info!(address = %link.address, transport, version, durable_sequence = durable, "connected to aggregator");
    uplink.spool.resume(durable);
    if let Some(durable) = durable {
        metrics.acked_sequence.set(durable as f64);
    }
    let mut session = Session {
        uplink,
        credentials,
        link,
        lanes: Some(Lanes::new(
            uplink.spool.clone(),
            durable,
            // An older aggregator knows only the live lane and receives all ticks in order.
            (version >= VERSION_LANES).then(|| uplink.config.waiting_ticks_max()),
        )),
        offset,
        acked: durable,
        requested: None,
        renewed: None,
    };
    let ended = session.stream(cancel).await;
    metrics.connected.set(0.0);
    ended
}

/// What the aggregator reports in Welcome.
struct Welcome {
    version: u16,
    /// Sequence up to which it has everything outside the gaps.
    durable: Option<u64>,
    /// Offset of its clock.
    offset: ClockOffset,
}

/// Sends Hello and waits for Welcome.
async fn hello(uplink: &Uplink, link: &mut Link) -> Result<Welcome, LinkError> {
    let UplinkConfig {
        node_name,
        interval,
        ..
    } = &uplink.config;
    let hello = Frame::Hello {
        versions: VERSIONS.to_vec(),
        node: node_name,
        instance: uplink.spool.instance(),
        oldest_sequence: uplink.spool.oldest_sequence(),
        interval_ms: u32::try_from(interval.as_millis()).unwrap_or(u32::MAX),
        program: env!("CARGO_PKG_VERSION"),
    };
    link.write(&hello).await?;
    let answer = timeout(ANSWER_TIMEOUT, link.receive.read()).await;
    let answer = answer.map_err(|_| LinkError::Timeout(ANSWER_TIMEOUT))??;
    let Frame::Welcome {
        version,
        durable_sequence: durable,
        now_ms,
        ..
    } = answer
    else {
        return Err(LinkError::Unexpected(answer.name().to_owned()));
    };
    if !VERSIONS.contains(&version) {
        return Err(LinkError::Unexpected(format!("version {version}")));
    }
    let mut offset = ClockOffset::new(now_ms);
    offset.report(uplink);
    Ok(Welcome {
        version,
        durable,
        offset,
    })
}

struct Session<'a> {
    uplink: &'a Uplink,
    credentials: &'a NodeCredentials,
    link: Link,
    /// `None` only while another thread reads from them.
    lanes: Option<Lanes>,
    offset: ClockOffset,
    acked: Option<u64>,
    /// Certificate request that is not answered yet.
    requested: Option<LeafRequest>,
    renewed: Option<Box<NodeCredentials>>,
}

impl Session<'_> {
    async fn stream(&mut self, cancel: &CancellationToken) -> Result<Ended, SessionError> {
        let mut newest = self.uplink.spool.newest_sequence();
        // Kept across iterations, because creating a timer wakes the thread once more.
        let mut renewal = pin!(sleep_until(self.renew_at()));
        let mut report = pin!(sleep_until(self.offset.due()));
        loop {
            newest.borrow_and_update();
            if self.send_batch().await? {
                // There may be more. Acknowledgements are read in between.
                self.drain_answers().await?;
                continue;
            }
            if let Some(renewed) = self.renewed.take() {
                return Ok(Ended::Renewed(renewed));
            }
            tokio::select! {
                () = cancel.cancelled() => break,
                changed = newest.changed() => {
                    // Without a writer there will be no more ticks, and all existing ones are sent.
                    if changed.is_err() {
                        cancel.cancelled().await;
                        break;
                    }
                }
                answer = self.link.receive.wait() => {
                    answer?;
                    self.handle_answer().await?;
                }
                () = &mut report => {
                    self.offset.report(self.uplink);
                    report.as_mut().reset(self.offset.due());
                }
                () = &mut renewal, if self.requested.is_none() && self.credentials.renewable => {
                    self.request_renewal().await?;
                }
            }
        }
        self.flush().await?;
        Ok(Ended::Stopped)
    }

    /// Sends the next batch from the spool. Returns false when there is none.
    async fn send_batch(&mut self) -> Result<bool, SessionError> {
        let Some(mut lanes) = self.lanes.take_if(|lanes| !lanes.is_idle()) else {
            self.uplink.metrics.backfill_pending.set(0.0);
            return Ok(false);
        };
        // Passing one tick to another thread and back costs more than reading and sending it.
        let (lanes, batch) = if lanes.is_fresh() {
            let batch = lanes.read();
            (lanes, batch)
        } else {
            let read = move || {
                let batch = lanes.read();
                (lanes, batch)
            };
            tokio::task::spawn_blocking(read)
                .await
                .map_err(SessionError::Thread)?
        };
        let has_gap = lanes.has_gap();
        self.lanes = Some(lanes);
        let batch = batch?;
        self.count(&batch, has_gap);
        if batch.bytes.is_empty() {
            return Ok(false);
        }
        self.send(&batch.bytes).await?;
        Ok(true)
    }

    fn count(&self, batch: &Batch, has_gap: bool) {
        let metrics = &self.uplink.metrics;
        metrics.backfill_pending.set(f64::from(u8::from(has_gap)));
        metrics.sent_ticks.add(batch.ticks);
        metrics.sent_bytes.add(batch.bytes.len() as u64);
        if batch.is_backfill {
            metrics.backfilled_ticks.add(batch.ticks);
        }
        if batch.has_skipped {
            metrics.skips.inc();
            tracing::info!(
                "too many ticks are waiting; sending the newest first and the others afterwards"
            );
        }
    }

    /// Sends bytes and reads answers meanwhile: an aggregator whose answers are not read would stop reading, too.
    async fn send(&mut self, bytes: &[u8]) -> Result<(), SessionError> {
        let mut rest = bytes;
        while !rest.is_empty() {
            tokio::select! {
                sent = self.link.send.write(rest) => {
                    rest = rest.get(sent?..).unwrap_or_default();
                }
                answer = self.link.receive.wait() => {
                    answer?;
                    self.handle_answer().await?;
                }
            }
        }
        loop {
            tokio::select! {
                flushed = self.link.send.flush() => return Ok(flushed?),
                answer = self.link.receive.wait() => {
                    answer?;
                    self.handle_answer().await?;
                }
            }
        }
    }

    /// Handles the answers that have already arrived.
    async fn drain_answers(&mut self) -> Result<(), SessionError> {
        loop {
            let arrived = tokio::select! {
                biased;
                answer = self.link.receive.wait() => answer.map(|()| true)?,
                () = ready(()) => false,
            };
            if !arrived {
                return Ok(());
            }
            self.handle_answer().await?;
        }
    }

    async fn handle_answer(&mut self) -> Result<(), SessionError> {
        match self.link.receive.read().await? {
            Frame::Ack { sequence } => {
                self.acked = self.acked.max(Some(sequence));
                self.uplink.acknowledge(sequence);
                Ok(())
            }
            Frame::AckBackfill { sequence } => {
                if let Some(lanes) = &mut self.lanes {
                    lanes.acknowledge_backfill(sequence);
                }
                Ok(())
            }
            Frame::Issued { chain, roots } => {
                let owned = |list: Vec<&[u8]>| -> Vec<CertificateDer<'static>> {
                    list.into_iter()
                        .map(|der| CertificateDer::from(der.to_vec()))
                        .collect()
                };
                let (chain, roots) = (owned(chain), owned(roots));
                let request = self.requested.take();
                let request = request.ok_or_else(|| LinkError::Unexpected("Issued".to_owned()))?;
                let credentials = NodeCredentials {
                    own: request.with_chain(chain)?,
                    roots,
                    renewable: true,
                };
                self.uplink.keep(&credentials);
                self.uplink.metrics.renewals.inc();
                tracing::info!("certificate renewed");
                self.renewed = Some(Box::new(credentials));
                Ok(())
            }
            other => Err(LinkError::Unexpected(other.name().to_owned()).into()),
        }
    }

    /// Returns when to request the next certificate: after two thirds of this one's lifetime.
    fn renew_at(&self) -> Instant {
        let due_ms = self
            .credentials
            .own
            .validity()
            .map_or(0, |validity| validity.renew_at_ms());
        let wait_ms = due_ms.saturating_sub(self.uplink.clock.now_ms()).max(0);
        Instant::now() + Duration::from_millis(wait_ms.cast_unsigned())
    }

    async fn request_renewal(&mut self) -> Result<(), SessionError> {
        let request = LeafRequest::new()?;
        let frame = Frame::Renew {
            request: request.request(),
        };
        self.link.write(&frame).await?;
        self.requested = Some(request);
        Ok(())
    }

    /// Sends the rest of the spool and waits until all of it is acknowledged, at most for the grace period.
    async fn flush(&mut self) -> Result<(), SessionError> {
        let grace = self.uplink.config.shutdown_grace_period;
        match timeout(grace, self.flush_all()).await {
            Ok(flushed) => flushed,
            Err(_) => {
                tracing::info!("grace period is over; the rest stays in the spool");
                Ok(())
            }
        }
    }

    async fn flush_all(&mut self) -> Result<(), SessionError> {
        loop {
            while self.send_batch().await? {
                self.drain_answers().await?;
            }
            let lanes = self.lanes.as_ref();
            let last = lanes.and_then(Lanes::live_position);
            if self.acked >= last && !lanes.is_some_and(Lanes::has_gap) {
                break;
            }
            self.link.receive.wait().await?;
            self.handle_answer().await?;
        }
        self.link.write(&Frame::Bye).await?;
        self.link.finish().await;
        let (ticks, samples) = self.uplink.spool.written();
        tracing::info!(
            acked_sequence = self.acked,
            ticks,
            samples,
            "everything is acknowledged"
        );
        Ok(())
    }
}

/// Metrics, shared by the uplink's parts.
pub(super) type Metrics = Arc<UplinkMetrics>;
/// Wall clock.
pub(super) type SharedClock = Arc<dyn Clock>;
