//! What carries a session: QUIC, or TLS over TCP where a network lets no UDP through. The frames are the same.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use common::wire::FrameBuffer;
use quinn::{Connection, RecvStream, SendStream, VarInt};
use rustls_pki_types::CertificateDer;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf, split};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::server::TlsStream;

use super::session::SessionRefusal;

/// How long a peer may take to confirm what it was told last.
const LINGER: Duration = Duration::from_millis(500);
/// Bytes that are read from TCP at a time.
const CHUNK_BYTES: usize = 16 << 10;

/// A connection whose handshake is done.
pub(super) struct PeerConnection {
    address: SocketAddr,
    leaf: Option<CertificateDer<'static>>,
    quic: Option<Connection>,
    /// Until its halves are taken.
    tcp: Option<Box<TlsStream<TcpStream>>>,
}

/// The half that frames are written to.
pub(super) enum SendHalf {
    Quic(SendStream),
    Tcp(WriteHalf<TlsStream<TcpStream>>),
}

/// The half that frames come from.
pub(super) enum ReceiveHalf {
    Quic(RecvStream),
    /// And what is read into.
    Tcp(ReadHalf<TlsStream<TcpStream>>, Box<[u8]>),
}

impl PeerConnection {
    /// A QUIC connection.
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

    /// A TCP connection with TLS.
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

    /// Where the peer is.
    pub(super) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// The certificate that the peer has shown.
    pub(super) const fn leaf(&self) -> Option<&CertificateDer<'static>> {
        self.leaf.as_ref()
    }

    /// The session's stream: on QUIC the one that the peer opens.
    pub(super) async fn streams(&mut self) -> io::Result<(SendHalf, ReceiveHalf)> {
        if let Some(connection) = &self.quic {
            let (send, receive) = connection.accept_bi().await?;
            return Ok((SendHalf::Quic(send), ReceiveHalf::Quic(receive)));
        }
        let stream = self.tcp.take().ok_or(io::ErrorKind::NotConnected)?;
        let (receive, send) = split(*stream);
        let chunk = vec![0; CHUNK_BYTES].into_boxed_slice();
        Ok((SendHalf::Tcp(send), ReceiveHalf::Tcp(receive, chunk)))
    }

    /// The stream, if it is there without waiting for the peer: on TCP.
    pub(super) fn streams_at_once(&mut self) -> Option<SendHalf> {
        let (_, send) = split(*self.tcp.take()?);
        Some(SendHalf::Tcp(send))
    }

    /// Closes with a code and a reason that the peer can log; on TCP the frame `Refused` says it, and dropping the halves closes.
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

impl SendHalf {
    /// Writes all of it.
    pub(super) async fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Quic(stream) => Ok(stream.write_all(bytes).await?),
            Self::Tcp(stream) => {
                stream.write_all(bytes).await?;
                stream.flush().await
            }
        }
    }

    /// Ends the stream and gives the peer a moment to take what was written.
    pub(super) async fn finish(mut self) {
        match &mut self {
            Self::Quic(stream) => {
                if stream.finish().is_ok() {
                    // Whether it arrived or not, the connection is closed next, with the same reason.
                    let _arrived = timeout(LINGER, stream.stopped()).await;
                }
            }
            Self::Tcp(stream) => {
                let _closed = timeout(LINGER, stream.shutdown()).await;
            }
        }
    }
}

impl ReceiveHalf {
    /// Adds what comes next to `buffer`, at most `bytes_max`; false at the end. Cancel safe.
    pub(super) async fn read(
        &mut self,
        buffer: &mut FrameBuffer,
        bytes_max: usize,
    ) -> io::Result<bool> {
        match self {
            Self::Quic(stream) => {
                let chunk = stream.read_chunk(bytes_max, true).await?;
                if let Some(chunk) = &chunk {
                    buffer.extend(&chunk.bytes);
                }
                Ok(chunk.is_some())
            }
            Self::Tcp(stream, chunk) => {
                let part = chunk
                    .get_mut(..bytes_max.min(CHUNK_BYTES))
                    .unwrap_or_default();
                let count = stream.read(part).await?;
                buffer.extend(part.get(..count).unwrap_or_default());
                Ok(count > 0)
            }
        }
    }
}
