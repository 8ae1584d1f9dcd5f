//! The TCP socket on QUIC's port, for agents whose network blocks UDP.
//!
//! TLS, certificates and frames are the same. What QUIC provides by itself is added here: probes for dead peers, and a limit
//! on open handshakes.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use common::identity::{Credentials, tls};
use common::wire::RefusalCode;
use tidemark_link::stream::set_tcp_options;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::task::TaskTracker;

use super::connection::PeerConnection;
use super::endpoint::{HANDSHAKE_TIMEOUT, dispatch};
use super::metrics::RefusalCause;
use super::{Context, IngestError};
use crate::report::chain;

/// Most concurrent handshakes; further connections wait in the kernel's queue.
const HANDSHAKES_MAX: usize = 128;

/// The listening socket. Clones share it.
#[derive(Debug, Clone)]
pub(super) struct Listener {
    socket: Arc<TcpListener>,
    tls: watch::Sender<Arc<rustls::ServerConfig>>,
}

/// Binds `address`, which has QUIC's port.
pub(super) fn bind(
    context: &Context,
    own: &Credentials,
    address: SocketAddr,
) -> Result<Listener, IngestError> {
    let listen = |source| IngestError::ListenTcp { address, source };
    let socket = std::net::TcpListener::bind(address).map_err(listen)?;
    socket.set_nonblocking(true).map_err(listen)?;
    let socket = TcpListener::from_std(socket).map_err(listen)?;
    let tls = tls::server_config(own, &context.config.pki.roots())?;
    Ok(Listener {
        socket: Arc::new(socket),
        tls: watch::Sender::new(Arc::new(tls)),
    })
}

impl Listener {
    /// Uses another certificate from the next handshake on.
    pub(super) fn set_tls(&self, tls: rustls::ServerConfig) {
        self.tls.send_replace(Arc::new(tls));
    }
}

/// Accepts connections until the aggregator stops, then waits for their sessions to end.
pub(super) async fn accept(context: Arc<Context>, listener: Listener) {
    let sessions = TaskTracker::new();
    let handshakes = Arc::new(Semaphore::new(HANDSHAKES_MAX));
    let open = Arc::new(AtomicUsize::new(0));
    loop {
        let next = async {
            let permit = Arc::clone(&handshakes).acquire_owned().await;
            (permit, listener.socket.accept().await)
        };
        let (permit, accepted) = tokio::select! {
            () = context.cancel.cancelled() => break,
            next = next => next,
        };
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(error = chain(&error), "accept TCP connection");
                // Out of file descriptors: retrying at once would spin.
                sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        if open.load(Ordering::Relaxed) >= context.config.sessions_max {
            context
                .metrics
                .refuse(RefusalCause::Code(RefusalCode::Overloaded));
            tracing::warn!(%address, "too many TCP connections");
            continue;
        }
        let (context, open) = (Arc::clone(&context), Arc::clone(&open));
        let acceptor = TlsAcceptor::from(Arc::clone(&listener.tls.borrow()));
        open.fetch_add(1, Ordering::Relaxed);
        sessions.spawn(async move {
            let connection = handshake(&context, acceptor, stream, address).await;
            drop(permit);
            if let Some((connection, protocol)) = connection {
                dispatch(context, connection, protocol.as_deref()).await;
            }
            open.fetch_sub(1, Ordering::Relaxed);
        });
    }
    sessions.close();
    sessions.wait().await;
}

async fn handshake(
    context: &Context,
    acceptor: TlsAcceptor,
    stream: TcpStream,
    address: SocketAddr,
) -> Option<(PeerConnection, Option<Vec<u8>>)> {
    if let Err(error) = set_tcp_options(&stream) {
        tracing::debug!(%address, error = chain(&error), "set options of a TCP connection");
    }
    match timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => {
            let protocol = stream.get_ref().1.alpn_protocol().map(<[u8]>::to_vec);
            context.metrics.tcp_connections.inc();
            Some((PeerConnection::tcp(address, stream), protocol))
        }
        Ok(Err(error)) => {
            context.metrics.refuse(RefusalCause::Handshake);
            tracing::warn!(%address, error = chain(&error), "handshake failed");
            None
        }
        Err(_) => {
            context.metrics.refuse(RefusalCause::Timeout);
            tracing::warn!(%address, "handshake timed out");
            None
        }
    }
}
