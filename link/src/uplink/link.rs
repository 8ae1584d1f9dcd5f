//! A connection to an aggregator, and frames over it.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use common::identity::tls::ANY_AGGREGATOR;
use common::limits::FRAME_BYTES_MAX;
use common::wire::{Frame, FrameBuffer, RefusalCode, WireError};
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{
    ClientConfig, Connection, ConnectionError, Endpoint, IdleTimeout, TransportConfig, VarInt,
};
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::trust::is_rejected_certificate;
use super::udp;
use crate::stream::{ReceiveHalf, SendHalf, Transport, set_tcp_options, split_tls};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A little more than the usual interval between ticks, which keep a connection alive themselves.
const QUIC_KEEP_ALIVE: Duration = Duration::from_secs(12);
const IDLE_MS: u32 = 30_000;
/// How long the aggregator may take to receive the last frames.
const LINGER: Duration = Duration::from_secs(2);
/// Bytes read from TCP at a time.
const TCP_READ_BYTES: usize = 4 << 10;

/// Why a connection could not be opened or ended.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The address cannot be resolved.
    #[error("resolve {address}")]
    Resolve {
        /// Address as configured.
        address: String,
        /// Cause.
        source: io::Error,
    },
    /// No socket could be opened.
    #[error("open a socket")]
    Socket(#[source] io::Error),
    /// The TLS configuration lacks what QUIC needs.
    #[error("set up TLS for QUIC")]
    QuicTls(#[source] quinn::crypto::rustls::NoInitialCipherSuite),
    /// The connection could not be opened.
    #[error("connect to {address}")]
    Connect {
        /// Resolved address.
        address: SocketAddr,
        /// Cause.
        source: io::Error,
    },
    /// One end does not accept the other's certificate.
    #[error("certificate rejected")]
    Untrusted(#[source] io::Error),
    /// No answer arrived in time.
    #[error("no answer within {} s", .0.as_secs())]
    Timeout(Duration),
    /// The aggregator refused the session or request.
    #[error("refused ({}): {reason}", code.as_str())]
    Refused {
        /// Reason.
        code: RefusalCode,
        /// Explanation for people.
        reason: String,
    },
    /// The connection broke.
    #[error("connection lost")]
    Lost(#[source] io::Error),
    /// The aggregator ended the stream without a reason.
    #[error("the aggregator ended the stream")]
    Ended,
    /// A frame is malformed.
    #[error("protocol")]
    Wire(#[from] WireError),
    /// A frame arrived that is not allowed here.
    #[error("unexpected {0}")]
    Unexpected(String),
}

impl LinkError {
    /// Returns whether the attempt may have failed only because the network drops UDP.
    pub(super) const fn may_be_blocked_udp(&self) -> bool {
        matches!(self, Self::Timeout(_) | Self::Connect { .. })
    }

    /// Returns whether one end rejected the other's certificate.
    pub(super) const fn is_untrusted(&self) -> bool {
        matches!(self, Self::Untrusted(_))
    }
}

/// A connection with one stream of frames in each direction.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) address: SocketAddr,
    pub(super) transport: Transport,
    pub(super) send: FrameSender,
    pub(super) receive: FrameReceiver,
    _endpoint: Option<Endpoint>,
}

/// Sending half of a link.
#[derive(Debug)]
pub(super) struct FrameSender {
    connection: Option<Connection>,
    stream: SendHalf,
}

/// Receiving half of a link.
#[derive(Debug)]
pub(super) struct FrameReceiver {
    connection: Option<Connection>,
    stream: ReceiveHalf,
    buffer: FrameBuffer,
}

/// Resolves `address` and connects to the first of its addresses that answers.
pub(super) async fn connect(
    address: &str,
    tls: &Arc<rustls::ClientConfig>,
    transport: Transport,
) -> Result<Link, LinkError> {
    let resolve = |source| LinkError::Resolve {
        address: address.to_owned(),
        source,
    };
    let candidates = tokio::net::lookup_host(address).await.map_err(resolve)?;
    let mut last = resolve(io::ErrorKind::NotFound.into());
    for candidate in candidates {
        let connected = match transport {
            Transport::Quic => connect_quic(candidate, address, tls).await,
            Transport::Tcp => connect_tcp(candidate, address, tls).await,
        };
        match connected {
            Ok(link) => return Ok(link),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Returns the name to verify: the host's DNS name; a bare address has none.
fn server_name(address: &str) -> &str {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    match ServerName::try_from(host) {
        Ok(ServerName::DnsName(_)) => host,
        _ => ANY_AGGREGATOR,
    }
}

fn connect_error(address: SocketAddr, source: io::Error) -> LinkError {
    if is_rejected_certificate(&source) {
        LinkError::Untrusted(source)
    } else {
        LinkError::Connect { address, source }
    }
}

async fn connect_tcp(
    address: SocketAddr,
    name: &str,
    tls: &Arc<rustls::ClientConfig>,
) -> Result<Link, LinkError> {
    let failed = |source| connect_error(address, source);
    let name = ServerName::try_from(server_name(name))
        .map_err(|error| failed(io::Error::new(io::ErrorKind::InvalidInput, error)))?;
    let connecting = async {
        let stream = TcpStream::connect(address).await?;
        set_tcp_options(&stream)?;
        let connector = TlsConnector::from(Arc::clone(tls));
        connector.connect(name.to_owned(), stream).await
    };
    let stream = timeout(CONNECT_TIMEOUT, connecting)
        .await
        .map_err(|_| LinkError::Timeout(CONNECT_TIMEOUT))?
        .map_err(failed)?;
    let (send, receive) = split_tls(stream, TCP_READ_BYTES);
    Ok(Link {
        address,
        transport: Transport::Tcp,
        send: FrameSender {
            connection: None,
            stream: send,
        },
        receive: FrameReceiver {
            connection: None,
            stream: receive,
            buffer: FrameBuffer::new(FRAME_BYTES_MAX),
        },
        _endpoint: None,
    })
}

async fn connect_quic(
    address: SocketAddr,
    name: &str,
    tls: &Arc<rustls::ClientConfig>,
) -> Result<Link, LinkError> {
    let local: SocketAddr = match address {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let endpoint = udp::endpoint(local).map_err(LinkError::Socket)?;
    let config = client_config(tls).map_err(LinkError::QuicTls)?;
    let connecting = endpoint
        .connect_with(config, address, server_name(name))
        .map_err(|error| connect_error(address, io::Error::other(error)))?;
    let connection = timeout(CONNECT_TIMEOUT, connecting)
        .await
        .map_err(|_| LinkError::Timeout(CONNECT_TIMEOUT))?
        .map_err(|error| connect_error(address, error.into()))?;
    let (send, receive) = connection
        .open_bi()
        .await
        .map_err(|error| lost(Some(&connection), error.into()))?;
    Ok(Link {
        address,
        transport: Transport::Quic,
        send: FrameSender {
            connection: Some(connection.clone()),
            stream: SendHalf::Quic(send),
        },
        receive: FrameReceiver {
            connection: Some(connection),
            stream: ReceiveHalf::Quic(receive),
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

/// Explains why a stream failed: the aggregator's refusal if it closed with one, a rejected certificate, or the error itself.
///
/// With TLS 1.3 a client finishes its handshake before the server has seen the client's certificate, so a rejection arrives
/// here.
fn lost(connection: Option<&Connection>, error: io::Error) -> LinkError {
    let reason = connection.and_then(Connection::close_reason);
    if let Some(ConnectionError::ApplicationClosed(close)) = &reason {
        let number = usize::try_from(close.error_code.into_inner()).unwrap_or(usize::MAX);
        if let Some(&code) = RefusalCode::ALL.get(number) {
            return LinkError::Refused {
                code,
                reason: String::from_utf8_lossy(&close.reason).into_owned(),
            };
        }
    }
    let error = reason.map_or(error, io::Error::from);
    if is_rejected_certificate(&error) {
        LinkError::Untrusted(error)
    } else {
        LinkError::Lost(error)
    }
}

impl Link {
    /// Sends one frame.
    pub(super) async fn write(&mut self, frame: &Frame<'_>) -> Result<(), LinkError> {
        let mut bytes = Vec::new();
        frame.encode(&mut bytes)?;
        let FrameSender { connection, stream } = &mut self.send;
        let written = stream.write_all(&bytes).await;
        written.map_err(|error| lost(connection.as_ref(), error))
    }

    /// Closes without waiting.
    pub(super) fn close(&self, reason: &'static [u8]) {
        if let Some(connection) = &self.send.connection {
            connection.close(VarInt::from_u32(0), reason);
        }
    }

    /// Ends the sending half and waits for a moment until the aggregator has received everything.
    pub(super) async fn finish(&mut self) {
        self.send.stream.finish(LINGER).await;
    }
}

impl FrameSender {
    /// Sends a prefix of `bytes` and returns its length. Cancel safe.
    pub(super) async fn write(&mut self, bytes: &[u8]) -> Result<usize, LinkError> {
        let written = self.stream.write(bytes).await;
        written.map_err(|error| lost(self.connection.as_ref(), error))
    }

    /// Flushes what was written. Cancel safe.
    pub(super) async fn flush(&mut self) -> Result<(), LinkError> {
        let flushed = self.stream.flush().await;
        flushed.map_err(|error| lost(self.connection.as_ref(), error))
    }
}

impl FrameReceiver {
    /// Waits until a whole frame has arrived. Cancel safe: bytes read stay in the buffer.
    pub(super) async fn wait(&mut self) -> Result<(), LinkError> {
        while !self.buffer.has_message()? {
            let read = self.stream.read(&mut self.buffer, FRAME_BYTES_MAX).await;
            if !read.map_err(|error| lost(self.connection.as_ref(), error))? {
                return Err(LinkError::Ended);
            }
        }
        Ok(())
    }

    /// Waits for a frame and decodes it. A refusal is returned as an error.
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
