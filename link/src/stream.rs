//! The two halves of a session's byte stream: a QUIC stream, or TLS over TCP where the network drops UDP.
//!
//! Both ends of a session use these halves, and the frames on them are the same for either transport. What QUIC does by itself is
//! set here for TCP: probes of a silent peer and a limit on unacknowledged data.

use std::io;
use std::time::Duration;

use common::wire::FrameBuffer;
use quinn::{RecvStream, SendStream};
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf, split};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsStream;

/// Silence after which a TCP peer is probed.
const TCP_KEEP_ALIVE: Duration = Duration::from_secs(10);
/// How long data sent over TCP may stay unacknowledged.
const TCP_UNACKNOWLEDGED_MAX: Duration = Duration::from_secs(30);

/// Protocol below the frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// QUIC over UDP.
    Quic,
    /// TLS over TCP.
    Tcp,
}

impl Transport {
    /// Returns the name for logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Quic => "quic",
            Self::Tcp => "tcp",
        }
    }
}

/// The half that frames are written to.
#[derive(Debug)]
pub enum SendHalf {
    /// A QUIC stream.
    Quic(SendStream),
    /// TLS over TCP.
    Tcp(WriteHalf<TlsStream<TcpStream>>),
}

/// The half that frames are read from.
#[derive(Debug)]
pub enum ReceiveHalf {
    /// A QUIC stream.
    Quic(RecvStream),
    /// TLS over TCP, and the buffer for one read.
    Tcp(ReadHalf<TlsStream<TcpStream>>, Box<[u8]>),
}

/// Splits a TLS connection. Each read from it returns at most `read_bytes_max`.
pub fn split_tls(
    stream: impl Into<TlsStream<TcpStream>>,
    read_bytes_max: usize,
) -> (SendHalf, ReceiveHalf) {
    let (receive, send) = split(stream.into());
    let buffer = vec![0; read_bytes_max].into_boxed_slice();
    (SendHalf::Tcp(send), ReceiveHalf::Tcp(receive, buffer))
}

/// Sets the options of a TCP connection so that a vanished peer is noticed within a minute, as QUIC's idle timeout does.
///
/// # Errors
/// The kernel refuses an option.
pub fn set_tcp_options(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    let keep_alive = TcpKeepalive::new()
        .with_time(TCP_KEEP_ALIVE)
        .with_interval(TCP_KEEP_ALIVE)
        .with_retries(3);
    socket.set_tcp_keepalive(&keep_alive)?;
    socket.set_tcp_user_timeout(Some(TCP_UNACKNOWLEDGED_MAX))
}

impl SendHalf {
    /// Writes a prefix of `bytes` and returns its length. Cancel safe.
    ///
    /// # Errors
    /// The connection is lost or the peer stopped the stream.
    pub async fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Quic(stream) => Ok(stream.write(bytes).await?),
            Self::Tcp(stream) => stream.write(bytes).await,
        }
    }

    /// Hands everything written to the kernel. Cancel safe.
    ///
    /// # Errors
    /// The connection is lost.
    pub async fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Quic(_) => Ok(()),
            Self::Tcp(stream) => stream.flush().await,
        }
    }

    /// Writes all of `bytes` and flushes. Not cancel safe: a prefix may have been written.
    ///
    /// # Errors
    /// See [`Self::write`].
    pub async fn write_all(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let written = self.write(bytes).await?;
            bytes = bytes.get(written..).unwrap_or_default();
        }
        self.flush().await
    }

    /// Ends the stream and waits at most `linger` until the peer has received everything.
    pub async fn finish(&mut self, linger: Duration) {
        match self {
            Self::Quic(stream) => {
                if stream.finish().is_ok() {
                    // Whatever the outcome, the caller closes the connection next.
                    let _received = timeout(linger, stream.stopped()).await;
                }
            }
            Self::Tcp(stream) => {
                let _closed = timeout(linger, stream.shutdown()).await;
            }
        }
    }
}

impl ReceiveHalf {
    /// Appends the next bytes to `buffer`, at most `bytes_max`. Returns false at the end of the stream. Cancel safe.
    ///
    /// # Errors
    /// The connection is lost or the peer reset the stream.
    pub async fn read(&mut self, buffer: &mut FrameBuffer, bytes_max: usize) -> io::Result<bool> {
        match self {
            Self::Quic(stream) => {
                let chunk = stream.read_chunk(bytes_max, true).await?;
                if let Some(chunk) = &chunk {
                    buffer.extend(&chunk.bytes);
                }
                Ok(chunk.is_some())
            }
            Self::Tcp(stream, bytes) => {
                let len = bytes_max.min(bytes.len());
                let part = bytes.get_mut(..len).unwrap_or_default();
                let count = stream.read(part).await?;
                buffer.extend(part.get(..count).unwrap_or_default());
                Ok(count > 0)
            }
        }
    }
}
