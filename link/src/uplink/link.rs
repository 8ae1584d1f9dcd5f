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
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf, split};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::udp;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// A little more than the usual time between ticks, which keep a connection alive themselves.
const QUIC_KEEP_ALIVE: Duration = Duration::from_secs(12);
const IDLE_MS: u32 = 30_000;
/// How long a peer may take to confirm what it was told last.
const LINGER: Duration = Duration::from_secs(2);
/// Bytes that are read from TCP at a time.
const CHUNK_BYTES: usize = 4 << 10;

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

impl LinkError {
    /// Whether nobody answered: then it may be that only UDP does not get through.
    pub(super) const fn is_silence(&self) -> bool {
        matches!(self, Self::Timeout(_) | Self::Connect { .. })
    }
}

/// What carries the frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Carrier {
    /// QUIC over UDP.
    Quic,
    /// TLS over TCP, for networks that let no UDP through.
    Tcp,
}

impl Carrier {
    /// For logs.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Quic => "quic",
            Self::Tcp => "tcp",
        }
    }
}

/// A connection with one stream of frames each way.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) address: SocketAddr,
    pub(super) carrier: Carrier,
    pub(super) send: Sender,
    pub(super) receive: Receiver,
    _endpoint: Option<Endpoint>,
}

#[derive(Debug)]
enum SendHalf {
    Quic(SendStream),
    Tcp(WriteHalf<TlsStream<TcpStream>>),
}

#[derive(Debug)]
enum ReceiveHalf {
    Quic(RecvStream),
    Tcp(ReadHalf<TlsStream<TcpStream>>),
}

/// The sending half.
#[derive(Debug)]
pub(super) struct Sender {
    connection: Option<Connection>,
    stream: SendHalf,
}

/// The receiving half.
#[derive(Debug)]
pub(super) struct Receiver {
    connection: Option<Connection>,
    stream: ReceiveHalf,
    buffer: FrameBuffer,
}

/// Resolves and connects, trying each address that a name has.
pub(super) async fn connect(
    address: &str,
    tls: &Arc<rustls::ClientConfig>,
    carrier: Carrier,
) -> Result<Link, LinkError> {
    let resolve = |source| LinkError::Resolve {
        address: address.to_owned(),
        source,
    };
    let found = tokio::net::lookup_host(address).await.map_err(resolve)?;
    let mut last = resolve(std::io::ErrorKind::NotFound.into());
    for candidate in found {
        let connected = match carrier {
            Carrier::Quic => connect_quic(candidate, address, tls).await,
            Carrier::Tcp => connect_tcp(candidate, address, tls).await,
        };
        match connected {
            Ok(link) => return Ok(link),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// The name to ask for: one in the DNS; a bare address has none.
fn server_name(address: &str) -> &str {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    match ServerName::try_from(host) {
        Ok(ServerName::DnsName(_)) => host,
        _ => ANY_AGGREGATOR,
    }
}

async fn connect_tcp(
    address: SocketAddr,
    name: &str,
    tls: &Arc<rustls::ClientConfig>,
) -> Result<Link, LinkError> {
    let failed = |message: String| LinkError::Connect { address, message };
    let name =
        ServerName::try_from(server_name(name)).map_err(|error| failed(error.to_string()))?;
    let connecting = async {
        let stream = TcpStream::connect(address).await?;
        watch_peer(&stream)?;
        let connector = TlsConnector::from(Arc::clone(tls));
        connector.connect(name.to_owned(), stream).await
    };
    let stream = timeout(CONNECT_TIMEOUT, connecting)
        .await
        .map_err(|_| LinkError::Timeout(CONNECT_TIMEOUT))?
        .map_err(|error| failed(error.to_string()))?;
    let (receive, send) = split(stream);
    Ok(Link {
        address,
        carrier: Carrier::Tcp,
        send: Sender {
            connection: None,
            stream: SendHalf::Tcp(send),
        },
        receive: Receiver {
            connection: None,
            stream: ReceiveHalf::Tcp(receive),
            buffer: FrameBuffer::new(FRAME_BYTES_MAX),
        },
        _endpoint: None,
    })
}

/// As QUIC's idle timeout does: an aggregator that has gone without a word is noticed.
fn watch_peer(stream: &TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    let keep_alive = TcpKeepalive::new()
        .with_time(KEEP_ALIVE)
        .with_interval(KEEP_ALIVE)
        .with_retries(3);
    socket.set_tcp_keepalive(&keep_alive)?;
    socket.set_tcp_user_timeout(Some(Duration::from_millis(u64::from(IDLE_MS))))
}

async fn connect_quic(
    address: SocketAddr,
    name: &str,
    tls: &Arc<rustls::ClientConfig>,
) -> Result<Link, LinkError> {
    let failed = |message: String| LinkError::Connect { address, message };
    let local: SocketAddr = match address {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let endpoint = udp::endpoint(local).map_err(LinkError::Socket)?;
    let config = client_config(tls).map_err(|error| failed(error.to_string()))?;
    let connecting = endpoint
        .connect_with(config, address, server_name(name))
        .map_err(|error| failed(error.to_string()))?;
    let connection = timeout(CONNECT_TIMEOUT, connecting)
        .await
        .map_err(|_| LinkError::Timeout(CONNECT_TIMEOUT))?
        .map_err(|error| failed(error.to_string()))?;
    let (send, stream) = connection
        .open_bi()
        .await
        .map_err(|error| lost(Some(&connection), &error))?;
    Ok(Link {
        address,
        carrier: Carrier::Quic,
        send: Sender {
            connection: Some(connection.clone()),
            stream: SendHalf::Quic(send),
        },
        receive: Receiver {
            connection: Some(connection),
            stream: ReceiveHalf::Quic(stream),
            buffer: FrameBuffer::new(FRAME_BYTES_MAX),
        },
        _endpoint: Some(endpoint),
    })
}

fn client_config(
    tls: &Arc<rustls::ClientConfig>,
) -> Result<ClientConfig, quinn::crypto::rustls::NoInitialCipherSuite> {
    let crypto = QuicClientConfig::try_from(Arc::clone(tls))?;
    let mut config = ClientConfig::new(Arc::new(crypto));
    let mut transport = TransportConfig::default();
    transport
        .keep_alive_interval(Some(QUIC_KEEP_ALIVE))
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
fn lost(connection: Option<&Connection>, error: &dyn std::error::Error) -> LinkError {
    let reason = connection.and_then(Connection::close_reason);
    let Some(ConnectionError::ApplicationClosed(close)) = reason else {
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
        self.send.write_all(&bytes).await
    }

    /// Closes without waiting.
    pub(super) fn close(&self, reason: &'static [u8]) {
        if let Some(connection) = &self.send.connection {
            connection.close(VarInt::from_u32(0), reason);
        }
    }

    /// Ends our half and waits until the aggregator has taken what was sent, for a moment at most.
    pub(super) async fn finish(&mut self) {
        match &mut self.send.stream {
            SendHalf::Quic(stream) => {
                if stream.finish().is_ok() {
                    // Whatever the answer, everything that matters is acknowledged.
                    let _stopped = timeout(LINGER, stream.stopped()).await;
                }
            }
            SendHalf::Tcp(stream) => {
                let _closed = timeout(LINGER, stream.shutdown()).await;
            }
        }
    }
}

impl Sender {
    /// Sends the beginning of `bytes`; returns how much. Cancel safe.
    pub(super) async fn write(&mut self, bytes: &[u8]) -> Result<usize, LinkError> {
        let connection = self.connection.as_ref();
        match &mut self.stream {
            SendHalf::Quic(stream) => {
                let sent = stream.write(bytes).await;
                sent.map_err(|error| lost(connection, &error))
            }
            SendHalf::Tcp(stream) => {
                let sent = stream.write(bytes).await;
                sent.map_err(|error| lost(None, &error))
            }
        }
    }

    /// Sends what was written and is still here. Cancel safe.
    pub(super) async fn flush(&mut self) -> Result<(), LinkError> {
        match &mut self.stream {
            SendHalf::Quic(_) => Ok(()),
            SendHalf::Tcp(stream) => stream.flush().await.map_err(|error| lost(None, &error)),
        }
    }

    async fn write_all(&mut self, mut bytes: &[u8]) -> Result<(), LinkError> {
        while !bytes.is_empty() {
            let sent = self.write(bytes).await?;
            bytes = bytes.get(sent..).unwrap_or_default();
        }
        self.flush().await
    }
}

impl Receiver {
    /// The next frame's bytes. Cancel safe: what was read stays in the buffer.
    pub(super) async fn wait(&mut self) -> Result<(), LinkError> {
        while !self.buffer.has_message()? {
            if !self.read_more().await? {
                let reason = "the aggregator ended the stream".to_owned();
                return Err(LinkError::Lost(reason));
            }
        }
        Ok(())
    }

    /// False at the end of the stream.
    async fn read_more(&mut self) -> Result<bool, LinkError> {
        let connection = self.connection.as_ref();
        match &mut self.stream {
            ReceiveHalf::Quic(stream) => {
                let chunk = stream.read_chunk(FRAME_BYTES_MAX, true).await;
                let chunk = chunk.map_err(|error| lost(connection, &error))?;
                if let Some(chunk) = &chunk {
                    self.buffer.extend(&chunk.bytes);
                }
                Ok(chunk.is_some())
            }
            ReceiveHalf::Tcp(stream) => {
                let mut chunk = [0; CHUNK_BYTES];
                let read = stream.read(&mut chunk).await;
                let count = read.map_err(|error| lost(None, &error))?;
                self.buffer.extend(chunk.get(..count).unwrap_or_default());
                Ok(count > 0)
            }
        }
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
