//! `--probe`: asks the agent on this machine whether it is healthy or ready.
//!
//! It serves exec probes in an image that contains only the agent and whose port is not reachable from outside the pod.

use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::Duration;

use clap::ValueEnum;

/// Timeout of each of connecting, sending and receiving.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Largest answer; both pages are shorter.
const ANSWER_BYTES_MAX: u64 = 16 << 10;

/// Question of a probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Probe {
    /// Does the process answer (`/-/healthy`)?
    Healthy,
    /// Has it taken a first tick (`/-/ready`)?
    Ready,
}

/// Why a probe failed.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// The agent does not answer.
    #[error("ask {address}")]
    Unreachable {
        /// Address of the agent.
        address: SocketAddr,
        /// Cause.
        source: io::Error,
    },
    /// The agent is not healthy or ready.
    #[error("{address} answers {answer:?}")]
    No {
        /// Address of the agent.
        address: SocketAddr,
        /// First line of the answer.
        answer: String,
    },
}

impl Probe {
    const fn path(self) -> &'static str {
        match self {
            Self::Healthy => "/-/healthy",
            Self::Ready => "/-/ready",
        }
    }

    /// Asks the agent that listens on `address`.
    ///
    /// # Errors
    /// It does not answer with status 200.
    pub fn ask(self, address: SocketAddr) -> Result<(), ProbeError> {
        let address = reachable(address);
        let first = exchange(address, self.path());
        let answer = first.map_err(|source| ProbeError::Unreachable { address, source })?;
        if answer.split(' ').nth(1) == Some("200") {
            Ok(())
        } else {
            Err(ProbeError::No { address, answer })
        }
    }
}

/// Replaces an unspecified address by loopback.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(match address {
            SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
            SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
        });
    }
    address
}

/// Sends the request and returns the first line of the answer.
fn exchange(address: SocketAddr, path: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.take(ANSWER_BYTES_MAX).read_to_string(&mut answer)?;
    Ok(answer.lines().next().unwrap_or_default().to_owned())
}
