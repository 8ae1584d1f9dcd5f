//! The beginning of a connection: who is the peer, may it send, and what does its Hello say.

use std::time::Duration;

use common::identity::{Identity, Validity};
use common::wire::{Frame, FrameBuffer, RefusalCode, VERSIONS, common_version};
use rustls_pki_types::CertificateDer;
use tidemark_link::stream::{ReceiveHalf, SendHalf};

use super::Context;
use super::connection::PeerConnection;
use super::metrics::RefusalCause;
use super::role::SenderPolicy;
use super::session::{SessionEnd, SessionRefusal, disconnected, protocol_error, send_refusal};
use crate::report;

/// How long the peer may take for its first stream and Hello on it.
pub(super) const HELLO_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest frame before the peer is known to speak the protocol.
pub(super) const HELLO_BYTES_MAX: usize = 16 << 10;

/// Returns who the certificate says the peer is, and what it may send.
pub(super) fn identify(
    context: &Context,
    leaf: Option<&CertificateDer<'static>>,
) -> Result<(Identity, SenderPolicy), (RefusalCause, SessionRefusal)> {
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
    if identity.trust_domain() != own.trust_domain() {
        let own = own.trust_domain();
        return Err(refuse(format!("{identity} is not of trust domain {own}")));
    }
    match SenderPolicy::of(identity.role()) {
        Ok(policy) => Ok((identity, policy)),
        Err(reason) => Err(refuse(format!("{identity}: {reason}"))),
    }
}

/// Returns how long the certificate that the peer showed stays valid.
pub(super) fn time_left(context: &Context, leaf: Option<&CertificateDer<'static>>) -> Duration {
    let validity = leaf.and_then(|leaf| Validity::of_certificate(leaf).ok());
    let left_ms = validity.map_or(0, |validity| {
        validity.not_after_ms.saturating_sub(context.clock.now_ms())
    });
    Duration::from_millis(left_ms.max(0).cast_unsigned())
}

/// What an agent says of itself.
pub(super) struct Hello {
    /// The newest protocol version that both ends speak.
    pub(super) version: u16,
    /// The spool's identity, in hexadecimal digits.
    pub(super) instance: String,
    /// Time between ticks.
    pub(super) interval_ms: i64,
    /// Program and version.
    pub(super) program: String,
}

/// Waits for the stream and Hello on it. Sends the peer the reason if Hello is refused.
pub(super) async fn greet(
    connection: &mut PeerConnection,
    buffer: &mut FrameBuffer,
    identity: &Identity,
) -> Result<(SendHalf, ReceiveHalf, Hello), SessionEnd> {
    let streams = connection.streams().await;
    let (send, mut receive) = streams.map_err(|error| disconnected(&error))?;
    let hello = read_hello(&mut receive, buffer, identity).await;
    match hello.and_then(|hello| only_hello(buffer).map(|()| hello)) {
        Ok(hello) => Ok((send, receive, hello)),
        Err(SessionEnd::Refused(refusal)) => {
            send_refusal(send, &refusal).await;
            Err(SessionEnd::Refused(refusal))
        }
        Err(end @ SessionEnd::Disconnected(_)) => Err(end),
    }
}

/// Reads Hello and checks it against the certificate.
async fn read_hello(
    receive: &mut ReceiveHalf,
    buffer: &mut FrameBuffer,
    identity: &Identity,
) -> Result<Hello, SessionEnd> {
    while !buffer
        .has_message()
        .map_err(|error| protocol_error(&error))?
    {
        let more = receive.read(buffer, HELLO_BYTES_MAX).await;
        if !more.map_err(|error| disconnected(&error))? {
            return Err(SessionEnd::Disconnected(
                "stream ended before Hello".to_owned(),
            ));
        }
    }
    let message = buffer
        .next_message()
        .map_err(|error| protocol_error(&error))?;
    let frame =
        Frame::decode(message.unwrap_or_default()).map_err(|error| protocol_error(&error))?;
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

/// Checks that nothing follows Hello before the answer: what the agent sends depends on it.
fn only_hello(buffer: &FrameBuffer) -> Result<(), SessionEnd> {
    if buffer.is_empty() {
        return Ok(());
    }
    let reason = "bytes after Hello, before Welcome";
    Err(SessionRefusal::new(RefusalCode::Protocol, reason).into())
}
