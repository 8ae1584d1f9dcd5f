//! One session: Hello, Welcome, then the spool from behind what the aggregator has.

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

use super::identity::Known;
use super::lanes::{Batch, Lanes};
use super::link::{Link, LinkError};
use super::metrics::UplinkMetrics;
use super::offset::ClockOffset;
use super::{Uplink, UplinkConfig};
use crate::spool::SpoolError;

/// For Welcome, and for a certificate.
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
}

/// How a session ended well.
#[derive(Debug)]
pub(super) enum Ended {
    /// We were told to stop, and everything is acknowledged or the grace period over.
    Stopped,
    /// There is a new certificate: connect again with it.
    Renewed(Box<Known>),
}

/// Runs a session until it breaks, the certificate was renewed, or `cancel`.
pub(super) async fn run(
    uplink: &Uplink,
    known: &Known,
    mut link: Link,
    cancel: &CancellationToken,
) -> Result<Ended, SessionError> {
    let Accepted {
        version,
        durable,
        offset,
    } = hello(uplink, &mut link).await?;
    let metrics = &uplink.metrics;
    metrics.sessions.inc();
    metrics.connected.set(1.0);
    let carrier = link.carrier.as_str();
    tracing::info!(address = %link.address, carrier, version, durable_sequence = durable, "connected to aggregator");
    uplink.spool.resume(durable);
    if let Some(durable) = durable {
        metrics.acked_sequence.set(durable as f64);
    }
    let mut session = Session {
        uplink,
        known,
        link,
        lanes: Some(Lanes::new(
            uplink.spool.clone(),
            durable,
            // An older aggregator knows one lane: it gets all ticks in order, however many wait.
            (version >= VERSION_LANES).then(|| uplink.config.patience_ticks()),
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

/// What the aggregator says at the start.
struct Accepted {
    version: u16,
    /// The last sequence that it has.
    durable: Option<u64>,
    /// How its clock differs.
    offset: ClockOffset,
}

/// Introduces us.
async fn hello(uplink: &Uplink, link: &mut Link) -> Result<Accepted, LinkError> {
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
    Ok(Accepted {
        version,
        durable,
        offset,
    })
}

struct Session<'a> {
    uplink: &'a Uplink,
    known: &'a Known,
    link: Link,
    /// `None` only while they are at work on another thread.
    lanes: Option<Lanes>,
    offset: ClockOffset,
    acked: Option<u64>,
    /// A certificate was asked for.
    requested: Option<LeafRequest>,
    renewed: Option<Box<Known>>,
}

impl Session<'_> {
    async fn stream(&mut self, cancel: &CancellationToken) -> Result<Ended, SessionError> {
        let mut newest = self.uplink.spool.newest_sequence();
        // Kept from one turn to the next: a timer that is made anew wakes the thread once more.
        let mut renewal = pin!(sleep_until(self.renew_at()));
        let mut report = pin!(sleep_until(self.offset.due()));
        loop {
            newest.borrow_and_update();
            if self.send_batch().await? {
                // More may be there; acknowledgements are read on the way.
                self.drain_answers().await?;
                continue;
            }
            if let Some(renewed) = self.renewed.take() {
                return Ok(Ended::Renewed(renewed));
            }
            tokio::select! {
                () = cancel.cancelled() => break,
                changed = newest.changed() => {
                    // Without a writer no more will come; what there is has been sent.
                    if changed.is_err() {
                        cancel.cancelled().await;
                        break;
                    }
                }
                answer = self.link.receive.wait() => {
                    answer?;
                    self.answer().await?;
                }
                () = &mut report => {
                    self.offset.report(self.uplink);
                    report.as_mut().reset(self.offset.due());
                }
                () = &mut renewal, if self.requested.is_none() && self.known.renewable => {
                    self.request_renewal().await?;
                }
            }
        }
        self.flush().await?;
        Ok(Ended::Stopped)
    }

    /// Sends what the spool has next; false when there was nothing.
    async fn send_batch(&mut self) -> Result<bool, SessionError> {
        let Some(mut lanes) = self.lanes.take_if(|lanes| !lanes.is_idle()) else {
            self.uplink.metrics.backfill_pending.set(0.0);
            return Ok(false);
        };
        // Handing one tick to another thread and back costs more than reading and sending it.
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
                .map_err(|error| LinkError::Lost(error.to_string()))?
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
            tracing::info!("many ticks wait: the newest go first, the others behind them");
        }
    }

    /// Sends, and reads answers meanwhile: an aggregator whose answers nobody reads would stop reading too.
    async fn send(&mut self, bytes: &[u8]) -> Result<(), SessionError> {
        let mut rest = bytes;
        while !rest.is_empty() {
            tokio::select! {
                sent = self.link.send.write(rest) => {
                    rest = rest.get(sent?..).unwrap_or_default();
                }
                answer = self.link.receive.wait() => {
                    answer?;
                    self.answer().await?;
                }
            }
        }
        loop {
            tokio::select! {
                flushed = self.link.send.flush() => return Ok(flushed?),
                answer = self.link.receive.wait() => {
                    answer?;
                    self.answer().await?;
                }
            }
        }
    }

    /// Takes the answers that are there already.
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
            self.answer().await?;
        }
    }

    async fn answer(&mut self) -> Result<(), SessionError> {
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
                let known = Known {
                    own: request.with_chain(chain)?,
                    roots,
                    renewable: true,
                };
                self.uplink.keep(&known);
                self.uplink.metrics.renewals.inc();
                tracing::info!("certificate renewed");
                self.renewed = Some(Box::new(known));
                Ok(())
            }
            other => Err(LinkError::Unexpected(other.name().to_owned()).into()),
        }
    }

    /// When to ask for the next certificate: after two thirds of this one's life.
    fn renew_at(&self) -> Instant {
        let due_ms = self
            .known
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

    /// Sends what was written last and waits until all of it is acknowledged, within the grace period.
    async fn flush(&mut self) -> Result<(), SessionError> {
        let grace = self.uplink.config.shutdown_grace_period;
        match timeout(grace, self.flush_all()).await {
            Ok(flushed) => flushed,
            Err(_) => {
                tracing::info!("grace period is over, the rest stays in the spool");
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
            self.answer().await?;
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

/// Shared between the uplink's parts.
pub(super) type Metrics = Arc<UplinkMetrics>;
/// Tells the time.
pub(super) type SharedClock = Arc<dyn Clock>;
