//! The UDP socket below QUIC.
//!
//! Quinn's own socket is registered for writability too, so the kernel wakes the thread after every datagram that leaves. This
//! socket is registered only for arriving datagrams. A full socket, which at a few hundred bytes per second means a stuck device,
//! is retried after a short wait.

use std::future::Future as _;
use std::io::{self, IoSliceMut};
use std::net::{SocketAddr, UdpSocket};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use quinn::udp::{RecvMeta, Transmit, UdpSocketState};
use quinn::{AsyncUdpSocket, Endpoint, EndpointConfig, TokioRuntime, UdpPoller};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::unix::AsyncFd;
use tokio::time::{Sleep, sleep};

use crate::sys::watch_arrivals;

/// Wait before a full socket is tried again.
const FULL_WAIT: Duration = Duration::from_millis(5);

/// Creates an endpoint for outgoing connections on a free port.
pub(super) fn endpoint(local: SocketAddr) -> io::Result<Endpoint> {
    let socket = Arc::new(ReadSocket::bind(local)?);
    let config = EndpointConfig::default();
    Endpoint::new_with_abstract_socket(config, None, socket, Arc::new(TokioRuntime))
}

#[derive(Debug)]
struct ReadSocket {
    io: AsyncFd<UdpSocket>,
    state: UdpSocketState,
    /// The socket's buffer had no room for the last datagram.
    is_full: AtomicBool,
}

impl ReadSocket {
    fn bind(local: SocketAddr) -> io::Result<Self> {
        let domain = Domain::for_address(local);
        let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
        socket.set_nonblocking(true)?;
        socket.bind(&local.into())?;
        let socket = UdpSocket::from(socket);
        Ok(Self {
            state: UdpSocketState::new((&socket).into())?,
            io: watch_arrivals(socket)?,
            is_full: AtomicBool::new(false),
        })
    }
}

impl AsyncUdpSocket for ReadSocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(Writable {
            socket: self,
            wait: None,
        })
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let sent = self.state.send(self.io.get_ref().into(), transmit);
        let is_full = matches!(&sent, Err(error) if error.kind() == io::ErrorKind::WouldBlock);
        self.is_full.store(is_full, Ordering::Relaxed);
        sent
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        loop {
            let mut guard = ready!(self.io.poll_read_ready(cx))?;
            let received = guard.try_io(|io| self.state.recv(io.get_ref().into(), bufs, meta));
            if let Ok(received) = received {
                return Poll::Ready(received);
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.io.get_ref().local_addr()
    }

    fn may_fragment(&self) -> bool {
        self.state.may_fragment()
    }

    fn max_transmit_segments(&self) -> usize {
        self.state.max_gso_segments()
    }

    fn max_receive_segments(&self) -> usize {
        self.state.gro_segments()
    }
}

/// Reports the socket as writable: at once, or [`FULL_WAIT`] after it was full.
#[derive(Debug)]
struct Writable {
    socket: Arc<ReadSocket>,
    wait: Option<Pin<Box<Sleep>>>,
}

impl UdpPoller for Writable {
    fn poll_writable(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.socket.is_full.load(Ordering::Relaxed) {
            let wait = self.wait.get_or_insert_with(|| Box::pin(sleep(FULL_WAIT)));
            ready!(wait.as_mut().poll(cx));
            self.wait = None;
            self.socket.is_full.store(false, Ordering::Relaxed);
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn full_socket_is_tried_again() {
        let any: SocketAddr = (std::net::Ipv4Addr::LOCALHOST, 0).into();
        let socket = Arc::new(ReadSocket::bind(any).unwrap());
        let mut poller = Arc::clone(&socket).create_io_poller();
        let writable = |poller: &mut Pin<Box<dyn UdpPoller>>, cx: &mut Context<'_>| {
            poller.as_mut().poll_writable(cx).map(Result::unwrap)
        };
        std::future::poll_fn(|cx| writable(&mut poller, cx)).await;
        socket.is_full.store(true, Ordering::Relaxed);
        let mut polls = 0;
        std::future::poll_fn(|cx| {
            polls += 1;
            writable(&mut poller, cx)
        })
        .await;
        assert!(polls > 1, "it waits and is woken");
        assert!(!socket.is_full.load(Ordering::Relaxed));
    }
}
