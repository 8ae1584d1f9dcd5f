//! The connection to an aggregator, and frames over it.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use common::identity::tls::ANY_AGGREGATOR;
use common::limits::FRAME_BYTES_MAX;
use common::wire::{Frame, FrameBuffer, RefusalCode, WireError};
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{
    ClientConfig, Connection, ConnectionError, Endpoint, IdleTimeout, RecvStream, SendStream,
    TransportConfig, VarInt,
};
use rustls_pki_types::ServerName;
use tokio::time::timeout;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const KEEP_ALIVE: Duration = Duration::from_secs(10);
const IDLE_MS: u32 = 30_000;

/// Why a connection could not be used, or ended.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The address can't be resolved.
    #[error("resolve {address}")]
    Resolve {
        /// As configured.
        address: String,
        /// Why.
        source: std::io::Error,
    },
    /// No socket.
    #[error("open a socket")]
    Socket(#[source] std::io::Error),
    /// The connection could not be made: no answer, or the aggregator's certificate is not trusted.
    #[error("connect to {address}: {message}")]
    Connect {
        /// Where to.
        address: SocketAddr,
        /// Why.
        message: String,
    },
    /// No answer in time.
    #[error("no answer within {} s", .0.as_secs())]
    Timeout(Duration),
    /// The aggregator sent us away.
    #[error("refused ({}): {reason}", code.as_str())]
    Refused {
        /// Why.
        code: RefusalCode,
        /// In words.
        reason: String,
    },
    /// The connection ended.
    #[error("connection lost: {0}")]
    Lost(String),
    /// The aggregator does not speak our protocol.
    #[error("protocol")]
    Wire(#[from] WireError),
    /// A frame at the wrong time.
    #[error("unexpected {0}")]
    Unexpected(String),
}

/// A connection with one stream of frames each way.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) address: SocketAddr,
    pub(super) connection: Connection,
    pub(super) send: SendStream,
    pub(super) receive: Receiver,
    _endpoint: Endpoint,
}

/// The receiving half.
#[derive(Debug)]
pub(super) struct Receiver {
    connection: Connection,
    stream: RecvStream,
    buffer: FrameBuffer,
}

/// Resolves and connects, trying each address that a name has.
pub(super) async fn connect(
    address: &str,
    tls: &Arc<rustls::ClientConfig>,
) -> Result<Link, LinkError> {
    let resolve = |source| LinkError::Resolve {
        address: address.to_owned(),
        source,
    };
    let found = tokio::net::lookup_host(address).await.map_err(resolve)?;
    let mut last = resolve(std::io::ErrorKind::NotFound.into());
    for candidate in found {
        match connect_to(candidate, address, tls).await {
            Ok(link) => return Ok(link),
            Err(error) => last = error,
        }
    }
    Err(last)
}

async fn connect_to(
    address: SocketAddr,
    name: &str,
    tls: &Arc<rustls::ClientConfig>,
) -> Result<Link, LinkError> {
    let failed = |message: String| LinkError::Connect { address, message };
    let local: SocketAddr = match address {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let endpoint = Endpoint::client(local).map_err(LinkError::Socket)?;
    let config = client_config(tls).map_err(|error| failed(error.to_string()))?;
    let host = name.rsplit_once(':').map_or(name, |(host, _)| host);
    // A name in the DNS is asked for; a bare address has none.
    let is_dns = matches!(ServerName::try_from(host), Ok(ServerName::DnsName(_)));
    let server_name = if is_dns { host } else { ANY_AGGREGATOR };
    let connecting = endpoint
        .connect_with(config, address, server_name)
        .map_err(|error| failed(error.to_string()))?;
    let connection = timeout(CONNECT_TIMEOUT, connecting)
        .await
        .map_err(|_| LinkError::Timeout(CONNECT_TIMEOUT))?
        .map_err(|error| failed(error.to_string()))?;
    let (send, stream) = connection
        .open_bi()
        .await
        .map_err(|error| lost(&connection, &error))?;
    Ok(Link {
        address,
        send,
        receive: Receiver {
            connection: connection.clone(),
            stream,
            buffer: FrameBuffer::new(FRAME_BYTES_MAX),
        },
        connection,
        _endpoint: endpoint,
    })
}

fn client_config(
    tls: &Arc<rustls::ClientConfig>,
) -> Result<ClientConfig, quinn::crypto::rustls::NoInitialCipherSuite> {
    let crypto = QuicClientConfig::try_from(Arc::clone(tls))?;
    let mut config = ClientConfig::new(Arc::new(crypto));
    let mut transport = TransportConfig::default();
    transport
        .keep_alive_interval(Some(KEEP_ALIVE))
        .max_idle_timeout(Some(IdleTimeout::from(VarInt::from_u32(IDLE_MS))))
        .max_concurrent_bidi_streams(VarInt::from_u32(0))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .stream_receive_window(VarInt::from_u32(64 << 10))
        .receive_window(VarInt::from_u32(64 << 10))
        .send_window(1 << 20)
        .datagram_receive_buffer_size(None);
    config.transport_config(Arc::new(transport));
    Ok(config)
}

/// The refusal that the aggregator closed with, if it did; else what went wrong.
pub(super) fn lost(connection: &Connection, error: &dyn std::error::Error) -> LinkError {
    let Some(ConnectionError::ApplicationClosed(close)) = connection.close_reason() else {
        return LinkError::Lost(error.to_string());
    };
    let number = usize::try_from(close.error_code.into_inner()).unwrap_or(usize::MAX);
    match RefusalCode::ALL.get(number) {
        Some(&code) => LinkError::Refused {
            code,
            reason: String::from_utf8_lossy(&close.reason).into_owned(),
        },
        None => LinkError::Lost(error.to_string()),
    }
}

impl Link {
    /// Sends one frame.
    pub(super) async fn write(&mut self, frame: &Frame<'_>) -> Result<(), LinkError> {
        let mut bytes = Vec::new();
        frame.encode(&mut bytes)?;
        self.write_bytes(&bytes).await
    }

    /// Sends frames.
    pub(super) async fn write_bytes(&mut self, bytes: &[u8]) -> Result<(), LinkError> {
        let sent = self.send.write_all(bytes).await;
        sent.map_err(|error| lost(&self.connection, &error))
    }
}

impl Receiver {
    /// The next frame's bytes. Cancel safe: what was read stays in the buffer.
    pub(super) async fn wait(&mut self) -> Result<(), LinkError> {
        while !self.buffer.has_message()? {
            let chunk = self.stream.read_chunk(FRAME_BYTES_MAX, true).await;
            let chunk = chunk.map_err(|error| lost(&self.connection, &error))?;
            let ended = || LinkError::Lost("the aggregator ended the stream".to_owned());
            self.buffer.extend(&chunk.ok_or_else(ended)?.bytes);
        }
        Ok(())
    }

    /// Waits for a frame and reads it; a refusal is an error.
    pub(super) async fn read(&mut self) -> Result<Frame<'_>, LinkError> {
        self.wait().await?;
        let message = self.buffer.next_message()?.unwrap_or_default();
        match Frame::decode(message)? {
            Frame::Refused { code, reason } => Err(LinkError::Refused {
                code,
                reason: reason.to_owned(),
            }),
            frame => Ok(frame),
        }
    }
}
