//! One session of an agent, from Hello to its end.
//!
//! [`serve`] identifies the peer, [`open`] reads its Hello, ends the agent's previous session and answers Welcome. Then
//! [`Session::run`] reads frames, has them applied on a blocking thread, and acknowledges what is durable. However the
//! session ends, [`Session::park`] keeps its series for the agent's next session, or for `liveness` to end.

use std::sync::Arc;
use std::time::{Duration, Instant};

use common::identity::Identity;
use common::limits::FRAME_BYTES_MAX;
use common::wire::{Frame, FrameBuffer, Limits, RefusalCode, WireError};
use rustls_pki_types::CertificateDer;
use tidemark_link::stream::{ReceiveHalf, SendHalf};
use tidemark_storage::LogPosition;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::Context;
use super::agent_series::AgentSeries;
use super::agents::{Agent, ParkedSession};
use super::connection::{LINGER, PeerConnection};
use super::handshake::{HELLO_BYTES_MAX, HELLO_TIMEOUT, Hello, greet, identify, time_left};
use super::ingestor::{Ingestor, Outcome, Source};
use super::left_open;
use super::metrics::{CertificateRequest, RefusalCause};
use super::new_series::SeriesLimits;
use super::role::SenderPolicy;
use crate::report;

/// How long a write may wait for a peer that does not read.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// How long the agent's previous session may take to end.
const TAKEOVER_TIMEOUT: Duration = Duration::from_secs(30);
/// Most bytes per read.
const CHUNK_BYTES_MAX: usize = 64 << 10;
/// Most certificate requests in one session. An agent renews once.
const RENEWALS_MAX: u32 = 8;

/// Why the aggregator ends a session: what the peer is sent.
#[derive(Debug)]
pub(super) struct SessionRefusal {
    pub(super) code: RefusalCode,
    pub(super) reason: String,
}

impl SessionRefusal {
    pub(super) fn new(code: RefusalCode, reason: impl Into<String>) -> Self {
        let reason = reason.into();
        Self { code, reason }
    }
}

/// Why a session ended.
#[derive(Debug)]
pub(super) enum SessionEnd {
    /// The agent closed the connection, or the network did.
    Disconnected(String),
    /// The aggregator ended it.
    Refused(SessionRefusal),
}

impl From<SessionRefusal> for SessionEnd {
    fn from(refusal: SessionRefusal) -> Self {
        Self::Refused(refusal)
    }
}

pub(super) fn protocol_error(error: &(dyn std::error::Error + 'static)) -> SessionEnd {
    SessionRefusal::new(RefusalCode::Protocol, report::chain(error)).into()
}

pub(super) fn disconnected(error: &(dyn std::error::Error + 'static)) -> SessionEnd {
    SessionEnd::Disconnected(report::chain(error))
}

fn internal(reason: &str) -> SessionEnd {
    SessionRefusal::new(RefusalCode::Internal, reason).into()
}

/// Serves an agent that has shown a certificate.
pub(super) async fn serve(context: Arc<Context>, mut connection: PeerConnection) {
    let address = connection.address();
    let (identity, policy) = match identify(&context, connection.leaf()) {
        Ok(identified) => identified,
        Err((cause, refusal)) => {
            context.metrics.refuse(cause);
            tracing::warn!(%address, reason = refusal.reason, "refuse agent");
            if let Some(send) = connection.streams_at_once() {
                send_refusal(send, &refusal).await;
            }
            return connection.close(&refusal);
        }
    };
    let opened = open(&context, &mut connection, (identity.clone(), policy)).await;
    let (mut session, receive) = match opened {
        Ok(opened) => opened,
        Err(end) => return finish(&context, &connection, &identity, end, None).await,
    };
    let end = session.run(receive).await;
    let send = session.park();
    finish(&context, &connection, &identity, end, Some(send)).await;
}

/// What is durable, as the store's log reports it.
#[derive(Debug, Clone, Copy, Default)]
struct Durable {
    sequence: Option<u64>,
    /// The last tick of the backfill lane, whose sequences may go back.
    backfill: Option<u64>,
    failed: bool,
}

/// A tick that is durable once the log is synced up to its position.
#[derive(Debug, Clone, Copy)]
enum DurableMark {
    Live(u64),
    Backfill(u64),
}

struct Session {
    context: Arc<Context>,
    leaf: Option<CertificateDer<'static>>,
    agent: Arc<Agent>,
    slot: tokio::sync::OwnedMutexGuard<Option<ParkedSession>>,
    cancel: CancellationToken,
    interval_ms: i64,
    send: SendHalf,
    buffer: FrameBuffer,
    /// `None` only while a blocking thread uses it, or if that thread panicked.
    ingestor: Option<Ingestor>,
    durable: Arc<watch::Sender<Durable>>,
    acked: Option<u64>,
    backfill_acked: Option<u64>,
    renewals: u32,
    bye: bool,
}

/// Reads Hello, waits for the agent's previous session to end, and answers Welcome.
async fn open(
    context: &Arc<Context>,
    connection: &mut PeerConnection,
    (identity, policy): (Identity, SenderPolicy),
) -> Result<(Session, ReceiveHalf), SessionEnd> {
    let mut buffer = FrameBuffer::new(HELLO_BYTES_MAX);
    let greeting = timeout(HELLO_TIMEOUT, greet(connection, &mut buffer, &identity));
    let (send, receive, hello) = greeting.await.map_err(|_| {
        context.metrics.refuse(RefusalCause::Timeout);
        SessionEnd::Disconnected(format!("no Hello within {HELLO_TIMEOUT:?}"))
    })??;
    buffer.set_limit(FRAME_BYTES_MAX);
    let address = connection.address();
    let agent = context.agents.of(&identity, context.clock.now_ms());
    let cancel = context.cancel.child_token();
    if agent.open(&cancel, address, &hello.program, hello.interval_ms) {
        tracing::info!(agent = %identity, %address, "newer session takes over");
    }
    let slot = timeout(TAKEOVER_TIMEOUT, Arc::clone(&agent.parked).lock_owned());
    let mut slot = slot.await.map_err(|_| {
        agent.close(&cancel);
        internal("previous session did not end in time")
    })?;
    let source = source(context, &agent, (identity.clone(), policy), &hello);
    let previous = slot.take().map_or_else(Vec::new, |parked| parked.series);
    let ingestor = match start_ingestor(context, source, previous).await {
        Ok(ingestor) => ingestor,
        Err(end) => {
            agent.close(&cancel);
            return Err(end);
        }
    };
    let session = Session {
        acked: ingestor.durable_sequence(),
        context: Arc::clone(context),
        leaf: connection.leaf().cloned(),
        agent,
        slot,
        cancel,
        interval_ms: hello.interval_ms.max(1),
        send,
        buffer,
        ingestor: Some(ingestor),
        durable: Arc::new(watch::Sender::new(Durable::default())),
        backfill_acked: None,
        renewals: 0,
        bye: false,
    };
    let session = session.welcome(hello.version).await?;
    let durable_sequence = session.acked;
    tracing::info!(agent = %identity, %address, version = hello.program, durable_sequence, "agent connected");
    Ok((session, receive))
}

fn source(
    context: &Context,
    agent: &Arc<Agent>,
    (identity, policy): (Identity, SenderPolicy),
    hello: &Hello,
) -> Source {
    Source {
        store: context.store.clone(),
        stream_name: policy.stream_prefix(&identity) + &hello.instance,
        identity,
        policy,
        limits: SeriesLimits {
            series_max: context.config.series_per_agent_max,
            new_per_minute: context.config.new_series_per_minute,
        },
        agent: Arc::clone(agent),
        waiting: Arc::clone(&context.waiting),
        clock: Arc::clone(&context.clock),
        metrics: Arc::clone(&context.metrics),
    }
}

/// Starts the agent's lanes. A new instance after which no session parked anything takes over what the agent's earlier
/// instances left open in the store; its first tick ends what it does not continue.
async fn start_ingestor(
    context: &Context,
    source: Source,
    mut previous: Vec<AgentSeries>,
) -> Result<Ingestor, SessionEnd> {
    let now_ms = context.clock.now_ms();
    let start = move || {
        let is_new = AgentSeries::new(&source.store, &source.stream_name)
            .durable_sequence()
            .is_none();
        if is_new && previous.is_empty() {
            let name = (source.identity.idc(), source.identity.name());
            match left_open::find(&source.store, name, Some(&source.stream_name), now_ms) {
                Ok(found) => previous = found,
                Err(error) => {
                    let error = report::chain(&error);
                    tracing::warn!(agent = %source.identity, error, "look up series of earlier instances");
                }
            }
        }
        Ingestor::new(source, previous)
    };
    let started = tokio::task::spawn_blocking(start).await;
    started.map_err(|error| internal(&report::chain(&error)))
}

impl Session {
    async fn welcome(mut self, version: u16) -> Result<Self, SessionEnd> {
        let welcome = Frame::Welcome {
            version,
            limits: Limits {
                frame_bytes_max: FRAME_BYTES_MAX as u32,
                series_max: self.context.config.series_per_agent_max,
            },
            durable_sequence: self.acked,
            now_ms: self.context.clock.now_ms(),
        };
        if let Err(end) = write(&mut self.send, &welcome).await {
            self.park();
            return Err(end);
        }
        self.agent.seen(self.context.clock.now_ms());
        self.context.metrics.sessions_opened.inc();
        Ok(self)
    }

    async fn run(&mut self, mut receive: ReceiveHalf) -> SessionEnd {
        self.context.metrics.sessions.add(1.0);
        let mut durable = self.durable.subscribe();
        let expiry = sleep(time_left(&self.context, self.leaf.as_ref()));
        tokio::pin!(expiry);
        let end = loop {
            let step = tokio::select! {
                () = self.cancel.cancelled() => Err(self.cancelled().into()),
                () = &mut expiry => {
                    Err(SessionRefusal::new(RefusalCode::Identity, "certificate has expired").into())
                }
                Ok(()) = durable.changed() => {
                    let now = *durable.borrow_and_update();
                    self.acknowledge(now).await
                }
                more = receive.read(&mut self.buffer, CHUNK_BYTES_MAX) => self.on_bytes(more).await,
            };
            if let Err(end) = step {
                break end;
            }
        };
        self.context.metrics.sessions.add(-1.0);
        end
    }

    fn cancelled(&self) -> SessionRefusal {
        if self.context.cancel.is_cancelled() {
            SessionRefusal::new(RefusalCode::ShuttingDown, "aggregator is stopping")
        } else {
            SessionRefusal::new(
                RefusalCode::Replaced,
                "a newer session of this agent took over",
            )
        }
    }

    async fn on_bytes(&mut self, more: std::io::Result<bool>) -> Result<(), SessionEnd> {
        if !more.map_err(|error| disconnected(&error))? {
            return Err(SessionEnd::Disconnected("stream ended".to_owned()));
        }
        self.agent.seen(self.context.clock.now_ms());
        let ready = self.buffer.has_message();
        if !ready.map_err(|error: WireError| protocol_error(&error))? {
            return Ok(());
        }
        let outcome = self.ingest().await?;
        self.bye |= outcome.bye;
        for request in outcome.renewals {
            self.renew(&request).await?;
        }
        Ok(())
    }

    /// Applies the received frames on a blocking thread, as many sessions at a time as there are permits.
    async fn ingest(&mut self) -> Result<Outcome, SessionEnd> {
        let permit = self.context.appends.acquire().await;
        let _permit = permit.map_err(|_| internal("aggregator is stopping"))?;
        let Some(mut ingestor) = self.ingestor.take() else {
            return Err(internal("ingest of this session panicked"));
        };
        let mut buffer = std::mem::replace(&mut self.buffer, FrameBuffer::new(FRAME_BYTES_MAX));
        let work = move || {
            let outcome = ingestor.apply_frames(&mut buffer);
            (ingestor, buffer, outcome)
        };
        let (ingestor, buffer, outcome) = tokio::task::spawn_blocking(work)
            .await
            .map_err(|error| internal(&report::chain(&error)))?;
        self.buffer = buffer;
        self.agent.progress(
            ingestor.last_tick_ms(),
            ingestor.series(),
            ingestor.refused(),
        );
        self.ingestor = Some(ingestor);
        let outcome = outcome.map_err(|error| {
            let protocol = error.is_protocol();
            let code = if protocol {
                RefusalCode::Protocol
            } else {
                RefusalCode::Internal
            };
            SessionEnd::from(SessionRefusal::new(code, report::chain(&error)))
        })?;
        if let Some((sequence, position)) = outcome.appended {
            self.mark_when_durable(DurableMark::Live(sequence), position);
        }
        if let Some((sequence, position)) = outcome.backfilled {
            self.mark_when_durable(DurableMark::Backfill(sequence), position);
        }
        Ok(outcome)
    }

    fn mark_when_durable(&self, mark: DurableMark, position: LogPosition) {
        let (durable, metrics) = (Arc::clone(&self.durable), Arc::clone(&self.context.metrics));
        let appended_at = Instant::now();
        self.context.store.when_durable(position, move |result| {
            metrics.ack_seconds.observe_duration(appended_at.elapsed());
            durable.send_modify(|durable| match (result, mark) {
                (Ok(()), DurableMark::Live(sequence)) => {
                    durable.sequence = durable.sequence.max(Some(sequence));
                }
                (Ok(()), DurableMark::Backfill(sequence)) => durable.backfill = Some(sequence),
                (Err(_), _) => durable.failed = true,
            });
        });
    }

    async fn acknowledge(&mut self, durable: Durable) -> Result<(), SessionEnd> {
        if durable.failed {
            let reason = "write of the write-ahead log failed";
            return Err(SessionRefusal::new(RefusalCode::Internal, reason).into());
        }
        if let Some(sequence) = durable.sequence.filter(|_| durable.sequence > self.acked) {
            self.acked = Some(sequence);
            write(&mut self.send, &Frame::Ack { sequence }).await?;
        }
        if let Some(sequence) = durable.backfill
            && durable.backfill != self.backfill_acked
        {
            self.backfill_acked = Some(sequence);
            write(&mut self.send, &Frame::AckBackfill { sequence }).await?;
        }
        Ok(())
    }

    async fn renew(&mut self, request: &[u8]) -> Result<(), SessionEnd> {
        self.renewals += 1;
        if self.renewals > RENEWALS_MAX {
            let reason = "too many certificate requests";
            return Err(SessionRefusal::new(RefusalCode::Protocol, reason).into());
        }
        let refused = |error: &(dyn std::error::Error + 'static)| {
            SessionEnd::from(SessionRefusal::new(
                RefusalCode::Request,
                report::chain(error),
            ))
        };
        let leaf = self.leaf.as_ref();
        let leaf =
            leaf.ok_or_else(|| SessionRefusal::new(RefusalCode::Identity, "no certificate"))?;
        let identity = Identity::of_certificate(leaf).map_err(|error| refused(&error))?;
        let issued = self.context.config.pki.renew(identity, request);
        let issued = issued.map_err(|error| refused(&error))?;
        let certificates = &self.context.metrics.certificates;
        certificates.of(CertificateRequest::Renewal).inc();
        tracing::info!(agent = %issued.identity, "renew certificate");
        let frame = Frame::Issued {
            chain: issued.chain.iter().map(AsRef::as_ref).collect(),
            roots: issued.roots.iter().map(AsRef::as_ref).collect(),
        };
        write(&mut self.send, &frame).await
    }

    /// Keeps the agent's series for its next session, or for `liveness` to end.
    fn park(self) -> SendHalf {
        let Self {
            context,
            agent,
            mut slot,
            ingestor,
            ..
        } = self;
        // After Bye the agent is probably being replaced: it returns within two ticks or not at all.
        let grace_ms = match self.bye {
            true => 2 * self.interval_ms,
            false => (context.config.absence_grace.as_millis() as i64).max(3 * self.interval_ms),
        };
        let now_ms = context.clock.now_ms();
        let last_tick_ms = ingestor.as_ref().and_then(Ingestor::last_tick_ms);
        let series = ingestor.map_or_else(Vec::new, Ingestor::into_series);
        if !series.is_empty() {
            *slot = Some(ParkedSession {
                series,
                last_tick_ms: last_tick_ms.unwrap_or(now_ms),
                interval_ms: self.interval_ms,
                ends_at_ms: now_ms + grace_ms,
                is_of_previous_run: false,
            });
        }
        drop(slot);
        agent.close(&self.cancel);
        self.send
    }
}

/// Logs and counts why a session ended, and sends the reason if the aggregator ended it.
async fn finish(
    context: &Context,
    connection: &PeerConnection,
    identity: &Identity,
    end: SessionEnd,
    send: Option<SendHalf>,
) {
    let address = connection.address();
    match end {
        SessionEnd::Disconnected(reason) => {
            tracing::info!(agent = %identity, %address, reason, "agent disconnected");
        }
        SessionEnd::Refused(refusal) => {
            context.metrics.refuse(RefusalCause::Code(refusal.code));
            let (reason, code) = (refusal.reason.as_str(), refusal.code.as_str());
            match refusal.code {
                RefusalCode::ShuttingDown | RefusalCode::Replaced => {
                    tracing::info!(agent = %identity, %address, code, reason, "end session");
                }
                _ => tracing::warn!(agent = %identity, %address, code, reason, "refuse agent"),
            }
            if let Some(send) = send {
                send_refusal(send, &refusal).await;
            }
            connection.close(&refusal);
        }
    }
}

/// Sends the reason as a frame and waits briefly until it arrives.
pub(super) async fn send_refusal(mut send: SendHalf, refusal: &SessionRefusal) {
    let frame = Frame::Refused {
        code: refusal.code,
        reason: &refusal.reason,
    };
    if write(&mut send, &frame).await.is_ok() {
        send.finish(LINGER).await;
    }
}

async fn write(send: &mut SendHalf, frame: &Frame<'_>) -> Result<(), SessionEnd> {
    let mut bytes = Vec::new();
    frame
        .encode(&mut bytes)
        .map_err(|error| protocol_error(&error))?;
    match timeout(WRITE_TIMEOUT, send.write_all(&bytes)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(disconnected(&error)),
        Err(_) => Err(SessionEnd::Disconnected(format!(
            "agent read nothing for {WRITE_TIMEOUT:?}"
        ))),
    }
}
