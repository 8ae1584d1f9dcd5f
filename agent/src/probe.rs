//! `--probe`: asks the agent that runs here whether it is well. For probes in an image that holds nothing but the agent,
//! whose port nobody outside the pod reaches.

use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::Duration;

use clap::ValueEnum;

/// For connecting, asking and the answer, each.
const TIMEOUT: Duration = Duration::from_secs(5);
/// More than either page says.
const ANSWER_BYTES_MAX: u64 = 16 << 10;

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Probe {
    /// Whether the process answers (`/-/healthy`).
    Healthy,
    /// Whether it has read the machine once (`/-/ready`).
    Ready,
}

/// Why the answer is not yes.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// Nothing answers.
    #[error("ask {address}")]
    Unreachable {
        /// Who was asked.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// It says no.
    #[error("{address} answers {answer:?}")]
    No {
        /// Who was asked.
        address: SocketAddr,
        /// The first line.
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
    /// It does not answer with 200.
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

/// A server on all addresses is also on loopback.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(match address {
            SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
            SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
        });
    }
    address
}

/// The first line of the answer.
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
