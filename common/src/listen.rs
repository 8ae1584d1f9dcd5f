//! Addresses to listen on.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs as _};

/// An address that is not valid.
#[derive(Debug, thiserror::Error)]
#[error("{text:?} is not an address to listen on: {reason}")]
pub struct ListenError {
    text: String,
    reason: String,
}

/// Parses `HOST:PORT`; an empty host (`:9090`) means all IPv4 addresses of this machine.
///
/// # Errors
/// The port is missing, or the host name does not resolve.
pub fn parse(text: &str) -> Result<SocketAddr, ListenError> {
    let error = |reason: &dyn ToString| ListenError {
        text: text.to_owned(),
        reason: reason.to_string(),
    };
    if let Some(port) = text.strip_prefix(':') {
        let port = port.parse().map_err(|e| error(&e))?;
        return Ok(SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port));
    }
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    text.to_socket_addrs()
        .map_err(|e| error(&e))?
        .next()
        .ok_or_else(|| error(&"the host name has no address"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_accepted_by_prometheus_are_accepted() {
        assert_eq!(parse(":9090").unwrap().to_string(), "0.0.0.0:9090");
        assert_eq!(parse("127.0.0.1:0").unwrap().to_string(), "127.0.0.1:0");
        assert_eq!(parse("[::1]:9090").unwrap().to_string(), "[::1]:9090");
        assert!(parse("localhost:9090").unwrap().ip().is_loopback());
        for bad in ["", "9090", "127.0.0.1", ":x", "127.0.0.1:70000"] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
    }
}
