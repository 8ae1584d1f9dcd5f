//! The one system call that no safe crate wraps. The only module here with `unsafe`.
#![expect(
    unsafe_code,
    reason = "a registration without a safe wrapper; the block says why it is sound"
)]

use std::io;
use std::net::UdpSocket;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Watches `socket` for arriving datagrams only, within an async runtime.
///
/// A socket watched for writability too wakes the thread once more for every datagram that leaves.
///
/// # Errors
/// The runtime cannot watch the socket.
pub(crate) fn watch_arrivals(socket: UdpSocket) -> io::Result<AsyncFd<UdpSocket>> {
    // SAFETY: the standard library's socket owns one descriptor, names the same one while it lives, and is moved in here.
    let watched = unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE) };
    Ok(watched?)
}
