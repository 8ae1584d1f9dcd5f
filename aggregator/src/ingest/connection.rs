//! A connection of an agent: QUIC, or TLS over TCP where the network drops UDP.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use quinn::{Connection, VarInt};
use rustls_pki_types::CertificateDer;
use tidemark_link::stream::{ReceiveHalf, SendHalf, split_tls};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use super::session::SessionRefusal;

/// How long a peer may take to receive the last frames.
pub(super) const LINGER: Duration = Duration::from_millis(500);
/// Bytes read from TCP at a time.
const TCP_READ_BYTES: usize = 16 << 10;

/// A connection after its handshake.
pub(super) struct PeerConnection {
    address: SocketAddr,
    leaf: Option<CertificateDer<'static>>,
    quic: Option<Connection>,
    /// Until it is split.
    tcp: Option<Box<TlsStream<TcpStream>>>,
}

impl PeerConnection {
    /// Wraps a QUIC connection.
    pub(super) fn quic(connection: Connection) -> Self {
        let chain = connection.peer_identity();
        let chain = chain.and_then(|chain| chain.downcast::<Vec<CertificateDer<'static>>>().ok());
        Self {
            address: connection.remote_address(),
            leaf: chain.and_then(|chain| chain.into_iter().next()),
            quic: Some(connection),
            tcp: None,
        }
    }

    /// Wraps a TCP connection with TLS.
    pub(super) fn tcp(address: SocketAddr, stream: TlsStream<TcpStream>) -> Self {
        let chain = stream.get_ref().1.peer_certificates();
        Self {
            address,
            leaf: chain
                .and_then(|chain| chain.first())
                .map(|leaf| leaf.clone().into_owned()),
            quic: None,
            tcp: Some(Box::new(stream)),
        }
    }

    /// Returns the peer's address.
    pub(super) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the peer's certificate.
    pub(super) const fn leaf(&self) -> Option<&CertificateDer<'static>> {
        self.leaf.as_ref()
    }

    /// Returns the session's stream: on QUIC, the one that the peer opens.
    pub(super) async fn streams(&mut self) -> io::Result<(SendHalf, ReceiveHalf)> {
        if let Some(connection) = &self.quic {
            let (send, receive) = connection.accept_bi().await?;
            return Ok((SendHalf::Quic(send), ReceiveHalf::Quic(receive)));
        }
        let stream = self.tcp.take().ok_or(io::ErrorKind::NotConnected)?;
        Ok(split_tls(*stream, TCP_READ_BYTES))
    }

    /// Returns the sending half if that needs no waiting for the peer: on TCP.
    pub(super) fn streams_at_once(&mut self) -> Option<SendHalf> {
        let (send, _) = split_tls(*self.tcp.take()?, 0);
        Some(send)
    }

    /// Closes with a code and a reason for the peer's log. On TCP the frame `Refused` carries them, and dropping the halves
    /// closes.
    pub(super) fn close(&self, refusal: &SessionRefusal) {
        if let Some(connection) = &self.quic {
            let code = VarInt::from_u32(refusal.code as u32);
            let reason: String = refusal.reason.chars().take(200).collect();
            connection.close(code, reason.as_bytes());
        }
    }

    /// Returns when the peer has closed.
    pub(super) async fn closed(&self, receive: &mut ReceiveHalf) {
        match (&self.quic, receive) {
            (Some(connection), _) => drop(connection.closed().await),
            (None, ReceiveHalf::Tcp(stream, _)) => {
                let mut rest = [0; 64];
                while matches!(stream.read(&mut rest).await, Ok(1..)) {}
            }
            (None, ReceiveHalf::Quic(_)) => {}
        }
    }
}
