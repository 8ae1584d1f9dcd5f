//! Name resolution: addresses of a host, and SRV records (RFC 1035, RFC 2782).
//!
//! The system's resolver has no call for SRV records. One question goes over UDP to each name server of `resolv.conf` in
//! turn; an answer that does not fit into a datagram is requested again over TCP.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};

/// The system's list of name servers.
pub const RESOLV_CONF: &str = "/etc/resolv.conf";
/// How long one name server may take.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Longest answer over UDP.
const DATAGRAM_BYTES: usize = 4096;
const SRV: u16 = 33;
const INTERNET: u16 = 1;
const HEADER_BYTES: usize = 12;
/// Most compression pointers that are followed in one name.
const POINTERS_MAX: usize = 32;

/// Why a name could not be resolved.
#[derive(Debug, thiserror::Error)]
pub enum DnsError {
    /// The list of name servers can't be read.
    #[error("read {}", .0.display())]
    ResolvConf(PathBuf, #[source] io::Error),
    /// The list names no name server.
    #[error("{} names no name server", .0.display())]
    NoServer(PathBuf),
    /// The name is not a DNS name.
    #[error("{0:?} is not a DNS name")]
    Name(String),
    /// No name server gave a usable answer; this is the last one's failure.
    #[error("name server {0}")]
    Server(SocketAddr, #[source] ServerError),
    /// The system's resolver failed.
    #[error("resolve {0}")]
    Host(String, #[source] io::Error),
}

/// Why a name server gave no usable answer.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The question could not be sent, or the answer not received.
    #[error("exchange messages")]
    Io(#[from] io::Error),
    /// Nothing arrived in time.
    #[error("no answer within {TIMEOUT:?}")]
    Timeout,
    /// The answer is malformed.
    #[error("malformed answer")]
    Malformed,
    /// The server refused (RFC 1035, 4.1.1).
    #[error("response code {0}")]
    Code(u8),
}

/// Returns the addresses of a host (records A and AAAA, and `/etc/hosts`), each with `port`.
///
/// # Errors
/// The system's resolver knows none.
pub async fn resolve_host(host: &str, port: u16) -> Result<Vec<SocketAddr>, DnsError> {
    match tokio::net::lookup_host((host, port)).await {
        Ok(addresses) => Ok(addresses.collect()),
        Err(error) => Err(DnsError::Host(host.to_owned(), error)),
    }
}

/// Returns the hosts and ports of a service (records SRV), in the order of the answer. A name that does not exist has
/// none.
///
/// # Errors
/// No name server gives a usable answer.
pub async fn resolve_service(
    name: &str,
    resolv_conf: &Path,
) -> Result<Vec<(String, u16)>, DnsError> {
    let text = tokio::fs::read_to_string(resolv_conf)
        .await
        .map_err(|error| DnsError::ResolvConf(resolv_conf.to_owned(), error))?;
    let id = rand::random();
    let question = question(id, name)?;
    let mut last = DnsError::NoServer(resolv_conf.to_owned());
    for server in name_servers(&text) {
        let answer = tokio::time::timeout(TIMEOUT, ask(server, id, &question)).await;
        match answer.unwrap_or(Err(ServerError::Timeout)) {
            Ok(targets) => return Ok(targets),
            Err(error) => last = DnsError::Server(server, error),
        }
    }
    Err(last)
}

/// Returns the addresses of the `nameserver` lines. An address may have a port, as in `127.0.0.1:5353`: tests use it.
fn name_servers(text: &str) -> Vec<SocketAddr> {
    let addresses = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        (words.next()? == "nameserver").then(|| words.next())?
    });
    let address = |text: &str| {
        let with_port = text.parse::<SocketAddr>().ok();
        with_port.or_else(|| Some(SocketAddr::new(text.parse::<IpAddr>().ok()?, 53)))
    };
    addresses.filter_map(address).collect()
}

fn question(id: u16, name: &str) -> Result<Vec<u8>, DnsError> {
    let mut bytes = Vec::with_capacity(64);
    bytes.extend_from_slice(&id.to_be_bytes());
    // Recursion desired; one question.
    bytes.extend_from_slice(&[1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.trim_end_matches('.').split('.') {
        match u8::try_from(label.len()) {
            Ok(length @ 1..=63) => bytes.push(length),
            _ => return Err(DnsError::Name(name.to_owned())),
        }
        bytes.extend_from_slice(label.as_bytes());
    }
    bytes.push(0);
    bytes.extend_from_slice(&SRV.to_be_bytes());
    bytes.extend_from_slice(&INTERNET.to_be_bytes());
    Ok(bytes)
}

async fn ask(
    server: SocketAddr,
    id: u16,
    question: &[u8],
) -> Result<Vec<(String, u16)>, ServerError> {
    let local = if server.is_ipv4() {
        "0.0.0.0:0"
    } else {
        "[::]:0"
    };
    let socket = UdpSocket::bind(local).await?;
    socket.connect(server).await?;
    socket.send(question).await?;
    let mut buffer = vec![0; DATAGRAM_BYTES];
    loop {
        let length = socket.recv(&mut buffer).await?;
        let answer = buffer.get(..length).unwrap_or_default();
        if number(answer, 0) != Some(id) {
            // The answer to another question.
            continue;
        }
        if answer.get(2).is_some_and(|flags| flags & 2 != 0) {
            break;
        }
        return parse_answer(answer);
    }
    let mut stream = TcpStream::connect(server).await?;
    let length = u16::try_from(question.len()).map_err(io::Error::other)?;
    stream.write_u16(length).await?;
    stream.write_all(question).await?;
    let length = stream.read_u16().await?;
    let mut answer = vec![0; usize::from(length)];
    stream.read_exact(&mut answer).await?;
    parse_answer(&answer)
}

fn parse_answer(answer: &[u8]) -> Result<Vec<(String, u16)>, ServerError> {
    // The response code stands in the low half of the fourth byte.
    match answer.get(3).map(|byte| byte & 15) {
        Some(0) => parse_targets(answer).ok_or(ServerError::Malformed),
        // The name does not exist.
        Some(3) => Ok(Vec::new()),
        Some(code) => Err(ServerError::Code(code)),
        None => Err(ServerError::Malformed),
    }
}

/// Returns the targets of an answer, or `None` if it is truncated or malformed.
fn parse_targets(answer: &[u8]) -> Option<Vec<(String, u16)>> {
    let (questions, records) = (number(answer, 4)?, number(answer, 6)?);
    let mut at = HEADER_BYTES;
    for _ in 0..questions {
        at = name(answer, at)?.1 + 4;
    }
    let mut targets = Vec::new();
    for _ in 0..records {
        let fixed = name(answer, at)?.1;
        let kind = number(answer, fixed)?;
        let length = usize::from(number(answer, fixed + 8)?);
        let data = fixed + 10;
        if kind == SRV {
            let port = number(answer, data + 4)?;
            let (host, _) = name(answer, data + 6)?;
            // The root as target: the service is not available (RFC 2782).
            if !host.is_empty() {
                targets.push((host, port));
            }
        }
        at = data + length;
    }
    Some(targets)
}

fn number(bytes: &[u8], at: usize) -> Option<u16> {
    let pair: [u8; 2] = bytes.get(at..at + 2)?.try_into().ok()?;
    Some(u16::from_be_bytes(pair))
}

/// Returns the name at `start`, and where the next field begins.
fn name(bytes: &[u8], start: usize) -> Option<(String, usize)> {
    let mut labels: Vec<String> = Vec::new();
    let (mut at, mut end, mut pointers) = (start, None, 0);
    loop {
        let length = usize::from(*bytes.get(at)?);
        if length >= 0xc0 {
            pointers += 1;
            if pointers > POINTERS_MAX {
                return None;
            }
            end = end.or(Some(at + 2));
            at = usize::from(number(bytes, at)? & 0x3fff);
            continue;
        }
        at += 1;
        if length == 0 {
            return Some((labels.join("."), end.unwrap_or(at)));
        }
        let label = bytes.get(at..at + length)?;
        labels.push(String::from_utf8(label.to_vec()).ok()?);
        at += length;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An answer with two records. The target of the second ends in a pointer into the first.
    fn answer(question: &[u8]) -> Vec<u8> {
        let mut bytes = question.to_vec();
        bytes[2] = 0x81;
        bytes[7] = 2;
        let record = |bytes: &mut Vec<u8>, port: u16, target: &[u8]| {
            bytes.extend_from_slice(&[0xc0, 12, 0, 33, 0, 1, 0, 0, 0, 60]);
            bytes.extend_from_slice(&(6 + target.len() as u16).to_be_bytes());
            bytes.extend_from_slice(&[0, 1, 0, 2]);
            bytes.extend_from_slice(&port.to_be_bytes());
            bytes.extend_from_slice(target);
        };
        let at = bytes.len() as u16 + 18;
        record(&mut bytes, 9093, b"\x02am\x07example\x00");
        let pointer = [1, b'b', 0xc0 | (at >> 8) as u8, at as u8 + 3];
        record(&mut bytes, 9094, &pointer);
        bytes
    }

    #[tokio::test]
    async fn targets_come_from_a_name_server() {
        let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("resolv.conf");
        let text = format!(
            "# c\nsearch x\nnameserver {}\n",
            server.local_addr().unwrap()
        );
        std::fs::write(&path, text).unwrap();
        tokio::spawn(async move {
            let mut buffer = [0; 512];
            let (length, from) = server.recv_from(&mut buffer).await.unwrap();
            let sent = answer(&buffer[..length]);
            // The answer to another question is skipped.
            server.send_to(&[0; 12], from).await.unwrap();
            server.send_to(&sent, from).await.unwrap();
        });
        let targets = resolve_service("_am._tcp.example.", &path).await.unwrap();
        let want = [("am.example", 9093), ("b.example", 9094)];
        assert_eq!(targets, want.map(|(host, port)| (host.to_owned(), port)));
    }

    #[test]
    fn truncated_or_damaged_answers_never_panic() {
        let whole = answer(&question(1, "_a._tcp.b").unwrap());
        assert!(matches!(parse_answer(&whole), Ok(targets) if targets.len() == 2));
        for cut in 0..whole.len() {
            assert!(parse_answer(&whole[..cut]).is_err(), "cut at {cut}");
        }
        for bit in 0..whole.len() * 8 {
            let mut bytes = whole.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            drop(parse_answer(&bytes));
        }
        assert!(question(1, "a..b").is_err());
        assert!(question(1, &"x".repeat(64)).is_err());
    }
}
