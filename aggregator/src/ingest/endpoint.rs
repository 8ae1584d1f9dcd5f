//! The QUIC socket: limits for peers, and dispatch by protocol.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use common::identity::{Credentials, tls};
use common::wire::{ALPN, ALPN_JOIN, RefusalCode};
use quinn::crypto::rustls::{HandshakeData, QuicServerConfig};
use quinn::{
    Connection, ConnectionId, ConnectionIdGenerator, Endpoint, EndpointConfig, IdleTimeout,
    Incoming, ServerConfig, TokioRuntime, TransportConfig, VarInt,
};
use ring::hmac;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::time::{sleep, timeout};
use tokio_util::task::TaskTracker;

use super::connection::PeerConnection;
use super::metrics::RefusalCause;
use super::session::SessionRefusal;
use super::tcp::Listener;
use super::{Context, IngestError, joining, session};
use crate::pki::Pki;
use crate::report::chain;

/// Requested socket buffers. The kernel grants up to `net.core.rmem_max`.
const SOCKET_BYTES: usize = 8 << 20;
pub(super) const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// Open handshakes above which a peer must first prove its address.
const HANDSHAKES_UNPROVEN_MAX: usize = 100;
const IDLE_MS: u32 = 30_000;
/// Most bytes in flight from an agent.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;

pub(super) fn bind(context: &Context, own: &Credentials) -> Result<Endpoint, IngestError> {
    let address = context.config.listen_address;
    let listen = |source| IngestError::Listen { address, source };
    let socket = bind_socket(address).map_err(listen)?;
    let granted = socket2::SockRef::from(&socket)
        .recv_buffer_size()
        .map_err(listen)?;
    context.metrics.receive_buffer.set(granted as f64);
    tracing::info!(
        receive_buffer_bytes = granted,
        wanted_bytes = SOCKET_BYTES,
        "QUIC socket"
    );
    let config = server_config(&context.config.pki, own)?;
    let endpoint = endpoint_config(context.config.pki.reset_key());
    let runtime = Arc::new(TokioRuntime);
    Endpoint::new(endpoint, Some(config), socket, runtime).map_err(listen)
}

/// After a restart, packets of earlier connections are answered with a reset that agents can verify. Otherwise agents would
/// continue until their idle timeout.
fn endpoint_config(reset_key: &[u8]) -> EndpointConfig {
    let mut config = EndpointConfig::new(Arc::new(hmac::Key::new(hmac::HMAC_SHA256, reset_key)));
    config.cid_generator(|| Box::new(RandomIds));
    config
}

/// Eight random bytes per connection. Quinn's default ids depend on a key of the process: after a restart it would ignore
/// packets with earlier ids instead of answering with a reset.
struct RandomIds;

impl ConnectionIdGenerator for RandomIds {
    fn generate_cid(&mut self) -> ConnectionId {
        ConnectionId::new(&rand::random::<[u8; 8]>())
    }

    fn cid_len(&self) -> usize {
        8
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

fn bind_socket(address: SocketAddr) -> std::io::Result<UdpSocket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::DGRAM,
        Some(Protocol::UDP),
    )?;
    socket.set_recv_buffer_size(SOCKET_BYTES)?;
    socket.set_send_buffer_size(SOCKET_BYTES)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket.into())
}

fn server_config(pki: &Pki, own: &Credentials) -> Result<ServerConfig, IngestError> {
    let tls = tls::server_config(own, &pki.roots())?;
    let crypto = QuicServerConfig::try_from(tls).map_err(|_| IngestError::NoCipher)?;
    let mut transport = TransportConfig::default();
    transport
        .max_concurrent_bidi_streams(VarInt::from_u32(1))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW_BYTES))
        .receive_window(VarInt::from_u32(STREAM_WINDOW_BYTES))
        .send_window(256 << 10)
        .datagram_receive_buffer_size(None)
        .max_idle_timeout(Some(IdleTimeout::from(VarInt::from_u32(IDLE_MS))));
    let mut config = ServerConfig::with_crypto(Arc::new(crypto));
    config
        .transport_config(Arc::new(transport))
        .max_incoming(4096)
        .incoming_buffer_size(64 << 10)
        .incoming_buffer_size_total(16 << 20);
    Ok(config)
}

/// Accepts connections until the aggregator stops, then waits for the sessions to end and closes the endpoint.
pub(super) async fn accept(context: Arc<Context>, endpoint: Endpoint) {
    let sessions = TaskTracker::new();
    let handshakes = Arc::new(());
    loop {
        let incoming = tokio::select! {
            () = context.cancel.cancelled() => break,
            incoming = endpoint.accept() => incoming,
        };
        let Some(incoming) = incoming else {
            break;
        };
        if endpoint.open_connections() > context.config.sessions_max {
            let code = RefusalCode::Overloaded;
            context.metrics.refuse(RefusalCause::Code(code));
            tracing::warn!(address = %incoming.remote_address(), "too many connections");
            incoming.refuse();
            continue;
        }
        let open = Arc::strong_count(&handshakes) - 1;
        if open > HANDSHAKES_UNPROVEN_MAX && !incoming.remote_address_validated() {
            context.metrics.retries.inc();
            // Fails only for a peer whose address is validated already.
            if let Err(error) = incoming.retry() {
                tracing::debug!(error = chain(&error), "send Retry");
            }
            continue;
        }
        sessions.spawn(serve(
            Arc::clone(&context),
            incoming,
            Arc::clone(&handshakes),
        ));
    }
    sessions.close();
    sessions.wait().await;
    endpoint.close(
        VarInt::from_u32(RefusalCode::ShuttingDown as u32),
        b"aggregator is stopping",
    );
    if timeout(Duration::from_secs(3), endpoint.wait_idle())
        .await
        .is_err()
    {
        tracing::info!("some agents did not confirm the close");
    }
}

async fn serve(context: Arc<Context>, incoming: Incoming, handshake: Arc<()>) {
    let address = incoming.remote_address();
    let connected = async { incoming.accept()?.await };
    let connection = match timeout(HANDSHAKE_TIMEOUT, connected).await {
        Ok(Ok(connection)) => connection,
        Ok(Err(error)) => {
            context.metrics.refuse(RefusalCause::Handshake);
            return tracing::warn!(%address, error = chain(&error), "handshake failed");
        }
        Err(_) => {
            context.metrics.refuse(RefusalCause::Timeout);
            return tracing::warn!(%address, "handshake timed out");
        }
    };
    drop(handshake);
    let protocol = protocol(&connection);
    dispatch(
        context,
        PeerConnection::quic(connection),
        protocol.as_deref(),
    )
    .await;
}

/// Serves a connection by the protocol that its handshake negotiated.
pub(super) async fn dispatch(
    context: Arc<Context>,
    connection: PeerConnection,
    protocol: Option<&[u8]>,
) {
    match protocol {
        Some(ALPN) => session::serve(context, connection).await,
        Some(ALPN_JOIN) => joining::serve(context, connection).await,
        _ => {
            let refusal = SessionRefusal::new(RefusalCode::Version, "unknown protocol");
            context.metrics.refuse(RefusalCause::Code(refusal.code));
            tracing::warn!(address = %connection.address(), "unknown protocol");
            connection.close(&refusal);
        }
    }
}

fn protocol(connection: &Connection) -> Option<Vec<u8>> {
    let data = connection.handshake_data()?;
    data.downcast::<HandshakeData>().ok()?.protocol
}

/// Replaces the aggregator's certificate after two thirds of its lifetime.
pub(super) async fn renew_own(
    context: Arc<Context>,
    endpoint: Endpoint,
    listener: Listener,
    mut own: Credentials,
) {
    loop {
        let due_ms = own.validity().map_or(0, |validity| validity.renew_at_ms());
        let wait_ms = due_ms.saturating_sub(context.clock.now_ms()).max(0);
        // A minute at most, because the clock may be set.
        let wait = Duration::from_millis(wait_ms.cast_unsigned()).min(Duration::from_secs(60));
        tokio::select! {
            () = context.cancel.cancelled() => return,
            () = sleep(wait.max(Duration::from_secs(1))) => {}
        }
        if context.clock.now_ms() < due_ms {
            continue;
        }
        match fresh(&context.config.pki) {
            Ok((fresh, config, tls)) => {
                endpoint.set_server_config(Some(config));
                listener.set_tls(tls);
                tracing::info!("renewed own certificate");
                own = fresh;
            }
            Err(error) => {
                let error = chain(&error);
                tracing::error!(error, "renew own certificate");
                sleep(Duration::from_secs(60)).await;
            }
        }
    }
}

fn fresh(pki: &Pki) -> Result<(Credentials, ServerConfig, rustls::ServerConfig), IngestError> {
    let own = pki.own_credentials()?;
    let config = server_config(pki, &own)?;
    let tls = tls::server_config(&own, &pki.roots())?;
    Ok((own, config, tls))
}
