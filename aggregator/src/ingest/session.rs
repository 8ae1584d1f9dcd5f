//! One connection of an agent: who is it, what may it send, and what has become of it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use common::identity::{Identity, Role, Validity};
use common::limits::FRAME_BYTES_MAX;
use common::wire::{Frame, FrameBuffer, Limits, RefusalCode, VERSIONS, WireError, common_version};
use rustls_pki_types::CertificateDer;
use tidemark_link::stream::{ReceiveHalf, SendHalf};
use tidemark_storage::LogPosition;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::Context;
use super::agents::{Agent, ParkedSession};
use super::connection::{LINGER, PeerConnection};
use super::ingestor::{Ingestor, Outcome, Source};
use super::metrics::{CertificateRequest, RefusalCause};
use super::new_series::SeriesLimits;
use crate::report;

/// For the first stream and the first frame on it.
const HELLO_TIMEOUT: Duration = Duration::from_secs(10);
/// For a peer that does not read what it is told.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// For the session before to end.
const TAKEOVER_TIMEOUT: Duration = Duration::from_secs(30);
/// Before the peer is known to speak the protocol.
pub(super) const HELLO_BYTES_MAX: usize = 16 << 10;
/// Bytes that are read at a time.
const CHUNK_BYTES_MAX: usize = 64 << 10;
/// An agent renews its certificate once a session.
const RENEWALS_MAX: u32 = 8;

/// Why a connection ends at our wish.
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
enum SessionEnd {
    /// The agent closed, or its network did.
    Disconnected(String),
    /// We did.
    Refused(SessionRefusal),
}

impl From<SessionRefusal> for SessionEnd {
    fn from(refusal: SessionRefusal) -> Self {
        Self::Refused(refusal)
    }
}

fn protocol(error: &(dyn std::error::Error + 'static)) -> SessionEnd {
    SessionRefusal::new(RefusalCode::Protocol, report::chain(error)).into()
}

fn lost(error: &(dyn std::error::Error + 'static)) -> SessionEnd {
    SessionEnd::Disconnected(report::chain(error))
}

/// Serves an agent that has shown a certificate.
pub(super) async fn serve(context: Arc<Context>, mut connection: PeerConnection) {
    let address = connection.address();
    let identity = match identify(&context, connection.leaf()) {
        Ok(identity) => identity,
        Err((refused, refusal)) => {
            context.metrics.refuse(refused);
            tracing::warn!(%address, reason = refusal.reason, "refuse agent");
            if let Some(send) = connection.streams_at_once() {
                tell(send, &refusal).await;
            }
            return connection.close(&refusal);
        }
    };
    let (mut session, receive) = match open(&context, &mut connection, identity.clone()).await {
        Ok(opened) => opened,
        Err(end) => return finish(&context, &connection, &identity, end, None).await,
    };
    let end = session.run(receive).await;
    let send = session.park();
    finish(&context, &connection, &identity, end, Some(send)).await;
}

/// Who the certificate says it is.
fn identify(
    context: &Context,
    leaf: Option<&CertificateDer<'static>>,
) -> Result<Identity, (RefusalCause, SessionRefusal)> {
    let leaf = leaf.ok_or_else(|| {
        let refusal = SessionRefusal::new(RefusalCode::Identity, "no certificate");
        (RefusalCause::NoCertificate, refusal)
    })?;
    let refuse = |reason: String| {
        let refusal = SessionRefusal::new(RefusalCode::Identity, reason);
        (RefusalCause::Code(RefusalCode::Identity), refusal)
    };
    let identity = Identity::of_certificate(leaf).map_err(|error| refuse(report::chain(&error)))?;
    let own = context.config.pki.identity();
    if identity.role() != Role::Node || identity.trust_domain() != own.trust_domain() {
        return Err(refuse(format!("{identity} may not send as a node")));
    }
    Ok(identity)
}

/// How long the certificate that was shown is still good.
fn time_left(context: &Context, leaf: Option<&CertificateDer<'static>>) -> Duration {
    let validity = leaf.and_then(|leaf| Validity::of_certificate(leaf).ok());
    let left_ms = validity.map_or(0, |validity| {
        validity.not_after_ms.saturating_sub(context.clock.now_ms())
    });
    Duration::from_millis(left_ms.max(0).cast_unsigned())
}

struct Hello {
    /// The newest protocol version that both ends speak.
    version: u16,
    instance: String,
    interval_ms: i64,
    program: String,
}

/// Reads Hello and checks it against the certificate.
async fn read_hello(
    receive: &mut ReceiveHalf,
    buffer: &mut FrameBuffer,
    identity: &Identity,
) -> Result<Hello, SessionEnd> {
    while !buffer.has_message().map_err(|error| protocol(&error))? {
        let more = receive.read(buffer, HELLO_BYTES_MAX).await;
        if !more.map_err(|error| lost(&error))? {
            return Err(SessionEnd::Disconnected(
                "stream ended before Hello".to_owned(),
            ));
        }
    }
    let message = buffer.next_message().map_err(|error| protocol(&error))?;
    let frame = Frame::decode(message.unwrap_or_default()).map_err(|error| protocol(&error))?;
    let Frame::Hello {
        versions,
        node,
        instance,
        interval_ms,
        program,
        ..
    } = frame
    else {
        let reason = format!("{} in place of Hello", frame.name());
        return Err(SessionRefusal::new(RefusalCode::Protocol, reason).into());
    };
    let Some(version) = common_version(&versions) else {
        let reason =
            format!("this aggregator speaks versions {VERSIONS:?}, the agent {versions:?}");
        return Err(SessionRefusal::new(RefusalCode::Version, reason).into());
    };
    if node != identity.name() {
        let node: String = node.chars().take(253).collect();
        let reason = format!(
            "node {node:?} with the certificate of {:?}",
            identity.name()
        );
        return Err(SessionRefusal::new(RefusalCode::OtherNode, reason).into());
    }
    Ok(Hello {
        version,
        instance: instance.iter().map(|byte| format!("{byte:02x}")).collect(),
        interval_ms: i64::from(interval_ms),
        program: program.chars().take(100).collect(),
    })
}

/// Nothing may follow Hello before the answer: what the agent sends depends on it.
fn only_hello(buffer: &FrameBuffer) -> Result<(), SessionEnd> {
    if buffer.is_empty() {
        return Ok(());
    }
    let reason = "bytes behind Hello, before Welcome";
    Err(SessionRefusal::new(RefusalCode::Protocol, reason).into())
}

/// What is on disk, as the store's log reports it.
#[derive(Debug, Clone, Copy, Default)]
struct Durable {
    sequence: Option<u64>,
    /// Of the backfill lane, where sequences may go back: the last one told.
    backfill: Option<u64>,
    failed: bool,
}

/// What is on disk when the log's writer has come to a place.
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
    /// `None` only while it is at work on another thread, or lost with one.
    ingestor: Option<Ingestor>,
    durable: Arc<watch::Sender<Durable>>,
    acked: Option<u64>,
    backfill_acked: Option<u64>,
    renewals: u32,
    bye: bool,
}

/// Waits for the stream and Hello on it; tells the agent when that is refused.
async fn greet(
    connection: &mut PeerConnection,
    buffer: &mut FrameBuffer,
    identity: &Identity,
) -> Result<(SendHalf, ReceiveHalf, Hello), SessionEnd> {
    let (send, mut receive) = connection.streams().await.map_err(|error| lost(&error))?;
    let hello = read_hello(&mut receive, buffer, identity).await;
    match hello.and_then(|hello| only_hello(buffer).map(|()| hello)) {
        Ok(hello) => Ok((send, receive, hello)),
        Err(SessionEnd::Refused(refusal)) => {
            tell(send, &refusal).await;
            Err(SessionEnd::Refused(refusal))
        }
        Err(end) => Err(end),
    }
}

/// Takes Hello, sees the session before off, and answers Welcome.
async fn open(
    context: &Arc<Context>,
    connection: &mut PeerConnection,
    identity: Identity,
) -> Result<(Session, ReceiveHalf), SessionEnd> {
    let mut buffer = FrameBuffer::new(HELLO_BYTES_MAX);
    let greeting = timeout(HELLO_TIMEOUT, greet(connection, &mut buffer, &identity));
    let (send, receive, hello) = greeting.await.map_err(|_| {
        context.metrics.refuse(RefusalCause::Timeout);
        SessionEnd::Disconnected("no Hello in time".to_owned())
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
        SessionRefusal::new(RefusalCode::Internal, "the session before does not end")
    })?;
    let before = slot.take().map(|left| left.columns);
    let (idc, node) = (identity.idc(), identity.name());
    let source = Source {
        store: context.store.clone(),
        stream_name: format!("agent/{idc}/{node}/{}", hello.instance),
        identity: identity.clone(),
        limits: SeriesLimits {
            series_max: context.config.series_per_agent_max,
            new_per_minute: context.config.new_series_per_minute,
        },
        agent: Arc::clone(&agent),
        waiting: Arc::clone(&context.waiting),
        clock: Arc::clone(&context.clock),
        metrics: Arc::clone(&context.metrics),
    };
    let ingestor = Ingestor::new(source, before);
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
            SessionRefusal::new(RefusalCode::ShuttingDown, "aggregator stops")
        } else {
            SessionRefusal::new(
                RefusalCode::Replaced,
                "a newer session of this agent took over",
            )
        }
    }

    async fn on_bytes(&mut self, more: std::io::Result<bool>) -> Result<(), SessionEnd> {
        if !more.map_err(|error| lost(&error))? {
            return Err(SessionEnd::Disconnected("stream ended".to_owned()));
        }
        self.agent.seen(self.context.clock.now_ms());
        let ready = self.buffer.has_message();
        if !ready.map_err(|error: WireError| protocol(&error))? {
            return Ok(());
        }
        let outcome = self.ingest().await?;
        self.bye |= outcome.bye;
        for request in outcome.renewals {
            self.renew(&request).await?;
        }
        Ok(())
    }

    /// Lets another thread take the frames into the store; as many at a time as there are permits.
    async fn ingest(&mut self) -> Result<Outcome, SessionEnd> {
        let internal =
            |what: &str| SessionEnd::from(SessionRefusal::new(RefusalCode::Internal, what));
        let permit = self.context.appends.acquire().await;
        let _permit = permit.map_err(|_| internal("aggregator stops"))?;
        let Some(mut ingestor) = self.ingestor.take() else {
            return Err(internal("session is lost"));
        };
        let mut buffer = std::mem::replace(&mut self.buffer, FrameBuffer::new(FRAME_BYTES_MAX));
        let work = move || {
            let outcome = ingestor.apply_frames(&mut buffer);
            (ingestor, buffer, outcome)
        };
        let (ingestor, buffer, outcome) = tokio::task::spawn_blocking(work)
            .await
            .map_err(|_| internal("ingest failed"))?;
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
            self.tell_when_durable(DurableMark::Live(sequence), position);
        }
        if let Some((sequence, position)) = outcome.backfilled {
            self.tell_when_durable(DurableMark::Backfill(sequence), position);
        }
        Ok(outcome)
    }

    fn tell_when_durable(&self, reached: DurableMark, position: LogPosition) {
        let (durable, metrics) = (Arc::clone(&self.durable), Arc::clone(&self.context.metrics));
        let appended_at = Instant::now();
        self.context.store.when_durable(position, move |result| {
            metrics.ack_seconds.observe_duration(appended_at.elapsed());
            durable.send_modify(|durable| match (result, reached) {
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
            let reason = "write-ahead log could not be written";
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

    /// Leaves the agent's series to whoever comes next.
    fn park(self) -> SendHalf {
        let Self {
            context,
            agent,
            mut slot,
            ingestor,
            ..
        } = self;
        // After a goodbye the agent is probably being replaced: two ticks are enough to notice.
        let grace_ms = match self.bye {
            true => 2 * self.interval_ms,
            false => (context.config.absence_grace.as_millis() as i64).max(3 * self.interval_ms),
        };
        let now_ms = context.clock.now_ms();
        let last_tick_ms = ingestor.as_ref().and_then(Ingestor::last_tick_ms);
        if let Some(columns) = ingestor.and_then(Ingestor::into_series) {
            *slot = Some(ParkedSession {
                columns,
                last_tick_ms: last_tick_ms.unwrap_or(now_ms),
                interval_ms: self.interval_ms,
                ends_at_ms: now_ms + grace_ms,
            });
        }
        drop(slot);
        agent.close(&self.cancel);
        self.send
    }
}

/// Says and counts why a session ended.
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
            tracing::info!(agent = %identity, %address, reason, "agent left")
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
                tell(send, &refusal).await;
            }
            connection.close(&refusal);
        }
    }
}

/// Sends the reason as a frame and waits a moment for it to arrive.
pub(super) async fn tell(mut send: SendHalf, refusal: &SessionRefusal) {
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
    frame.encode(&mut bytes).map_err(|error| protocol(&error))?;
    match timeout(WRITE_TIMEOUT, send.write_all(&bytes)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(lost(&error)),
        Err(_) => Err(SessionEnd::Disconnected("agent reads nothing".to_owned())),
    }
}
