//! Answers nodes that have no certificate yet.

use std::sync::Arc;
use std::time::Duration;

use common::wire::{Frame, FrameBuffer, RefusalCode};
use tokio::time::timeout;

use super::Context;
use super::connection::PeerConnection;
use super::handshake::HELLO_BYTES_MAX;
use super::metrics::{CertificateRequest, RefusalCause};
use super::session::{SessionRefusal, send_refusal};
use crate::kube::{self, Admission};
use crate::pki::{Issued, JoinError};
use crate::report;

const TIMEOUT: Duration = Duration::from_secs(10);

/// Answers the only request that such a connection may make.
pub(super) async fn serve(context: Arc<Context>, mut connection: PeerConnection) {
    let address = connection.address();
    match timeout(TIMEOUT, answer(&context, &mut connection)).await {
        Ok(Ok(issued)) => {
            context
                .metrics
                .certificates
                .of(CertificateRequest::Join)
                .inc();
            tracing::info!(%address, agent = %issued.identity, "node joined");
        }
        Ok(Err(refusal)) => {
            context.metrics.refuse(RefusalCause::Code(refusal.code));
            let (code, reason) = (refusal.code.as_str(), refusal.reason.as_str());
            tracing::warn!(%address, code, reason, "refuse to issue a certificate");
            connection.close(&refusal);
        }
        Err(_) => {
            context.metrics.refuse(RefusalCause::Timeout);
            tracing::warn!(%address, "join request did not arrive in time");
        }
    }
}

async fn answer(
    context: &Context,
    connection: &mut PeerConnection,
) -> Result<Issued, SessionRefusal> {
    let protocol = |error: &(dyn std::error::Error + 'static)| {
        SessionRefusal::new(RefusalCode::Protocol, report::chain(error))
    };
    let (mut send, mut receive) = connection
        .streams()
        .await
        .map_err(|error| protocol(&error))?;
    let mut buffer = FrameBuffer::new(HELLO_BYTES_MAX);
    while !buffer.has_message().map_err(|error| protocol(&error))? {
        let more = receive.read(&mut buffer, HELLO_BYTES_MAX).await;
        if !more.map_err(|error| protocol(&error))? {
            return Err(SessionRefusal::new(
                RefusalCode::Protocol,
                "stream ended before Join",
            ));
        }
    }
    let message = buffer.next_message().map_err(|error| protocol(&error))?;
    let frame = Frame::decode(message.unwrap_or_default()).map_err(|error| protocol(&error))?;
    let issued = match frame {
        Frame::Join {
            token,
            node,
            request,
        } => grant(context, token, node, request).await,
        other => {
            let reason = format!("{} in place of Join", other.name());
            Err(SessionRefusal::new(RefusalCode::Protocol, reason))
        }
    };
    let issued = match issued {
        Ok(issued) => issued,
        Err(refusal) => {
            send_refusal(send, &refusal).await;
            return Err(refusal);
        }
    };
    let frame = Frame::Issued {
        chain: issued.chain.iter().map(AsRef::as_ref).collect(),
        roots: issued.roots.iter().map(AsRef::as_ref).collect(),
    };
    let mut bytes = Vec::new();
    frame.encode(&mut bytes).map_err(|error| protocol(&error))?;
    send.write_all(&bytes)
        .await
        .map_err(|error| protocol(&error))?;
    // The peer closes once it has read the answer. Closing first could overtake it.
    connection.closed(&mut receive).await;
    Ok(issued)
}

async fn grant(
    context: &Context,
    token: &str,
    node: &str,
    request: &[u8],
) -> Result<Issued, SessionRefusal> {
    if let Some(admission) = &context.config.kubernetes
        && kube::join::is_service_account_token(token)
    {
        return grant_by_kubernetes(context, admission, token, (node, request)).await;
    }
    let pki = context.config.pki.clone();
    let (token, node, request) = (token.to_owned(), node.to_owned(), request.to_vec());
    let joined = tokio::task::spawn_blocking(move || pki.join(&token, &node, &request));
    match joined.await {
        Ok(Ok(issued)) => Ok(issued),
        Ok(Err(error)) => {
            let code = match &error {
                JoinError::Token(_) => RefusalCode::Token,
                JoinError::Identity(_) => RefusalCode::Request,
                JoinError::Tokens(_) => RefusalCode::Internal,
            };
            Err(SessionRefusal::new(code, report::chain(&error)))
        }
        Err(error) => Err(SessionRefusal::new(
            RefusalCode::Internal,
            report::chain(&error),
        )),
    }
}

/// Issues a certificate for the node that the token's pod runs on, as the API server reports it.
async fn grant_by_kubernetes(
    context: &Context,
    admission: &Admission,
    token: &str,
    (node, request): (&str, &[u8]),
) -> Result<Issued, SessionRefusal> {
    let admitted = admission.admit(token, node).await.map_err(|error| {
        let code = if error.is_retryable() {
            RefusalCode::Internal
        } else {
            RefusalCode::Token
        };
        SessionRefusal::new(code, report::chain(&error))
    })?;
    tracing::info!(
        node = admitted.node,
        pod = admitted.pod,
        "API server confirmed the node of a token"
    );
    let granted = context.config.pki.admit(&admitted.node, request);
    granted.map_err(|error| SessionRefusal::new(RefusalCode::Request, report::chain(&error)))
}
