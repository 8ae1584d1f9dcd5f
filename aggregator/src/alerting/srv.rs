//! SRV records: the hosts and ports of a service (RFC 1035, RFC 2782).
//!
//! The system's resolver has no call for them. One question goes over UDP to each name server of `resolv.conf` in turn;
//! an answer that does not fit a datagram is asked for again over TCP.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};

/// How long one name server may take.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes of an answer by UDP.
const DATAGRAM_BYTES: usize = 4096;
const SRV: u16 = 33;
const INTERNET: u16 = 1;
const HEADER_BYTES: usize = 12;
/// Names of one answer that may be followed on pointers.
const POINTERS_MAX: usize = 32;

/// The hosts and ports of `name`, in the order of the answer; a name that does not exist has none.
///
/// # Errors
/// No name server gives a usable answer; the message is the last one's.
pub(super) async fn look_up(name: &str, resolv_conf: &Path) -> Result<Vec<(String, u16)>, String> {
    let text = tokio::fs::read_to_string(resolv_conf)
        .await
        .map_err(|error| format!("read {}: {error}", resolv_conf.display()))?;
    let id = rand::random();
    let question = question(id, name)?;
    let mut last = "resolv.conf names no name server".to_owned();
    for server in name_servers(&text) {
        match tokio::time::timeout(TIMEOUT, ask(server, id, &question)).await {
            Ok(Ok(targets)) => return Ok(targets),
            Ok(Err(error)) => last = format!("name server {server}: {error}"),
            Err(_) => last = format!("name server {server}: no answer in time"),
        }
    }
    Err(last)
}

/// Addresses of the lines `nameserver`; with a port for tests, as in `127.0.0.1:5353`.
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

fn question(id: u16, name: &str) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::with_capacity(64);
    bytes.extend_from_slice(&id.to_be_bytes());
    // Recursion is wanted; one question.
    bytes.extend_from_slice(&[1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.trim_end_matches('.').split('.') {
        match u8::try_from(label.len()) {
            Ok(length @ 1..=63) => bytes.push(length),
            _ => return Err(format!("{name:?} is no DNS name")),
        }
        bytes.extend_from_slice(label.as_bytes());
    }
    bytes.push(0);
    bytes.extend_from_slice(&SRV.to_be_bytes());
    bytes.extend_from_slice(&INTERNET.to_be_bytes());
    Ok(bytes)
}

async fn ask(server: SocketAddr, id: u16, question: &[u8]) -> Result<Vec<(String, u16)>, String> {
    let text = |error: std::io::Error| error.to_string();
    let local = if server.is_ipv4() {
        "0.0.0.0:0"
    } else {
        "[::]:0"
    };
    let socket = UdpSocket::bind(local).await.map_err(text)?;
    socket.connect(server).await.map_err(text)?;
    socket.send(question).await.map_err(text)?;
    let mut buffer = vec![0; DATAGRAM_BYTES];
    loop {
        let length = socket.recv(&mut buffer).await.map_err(text)?;
        let answer = buffer.get(..length).unwrap_or_default();
        if number(answer, 0) != Some(id) {
            // An answer to somebody else's question.
            continue;
        }
        if answer.get(2).is_some_and(|flags| flags & 2 != 0) {
            break;
        }
        return read(answer).ok_or_else(|| "the answer can't be read".to_owned())?;
    }
    let mut stream = TcpStream::connect(server).await.map_err(text)?;
    let length = u16::try_from(question.len()).map_err(|error| error.to_string())?;
    stream.write_u16(length).await.map_err(text)?;
    stream.write_all(question).await.map_err(text)?;
    let length = stream.read_u16().await.map_err(text)?;
    let mut answer = vec![0; usize::from(length)];
    stream.read_exact(&mut answer).await.map_err(text)?;
    read(&answer).ok_or_else(|| "the answer can't be read".to_owned())?
}

/// The targets of an answer. `None`: it is cut off or malformed; an inner error is the server's refusal.
fn read(answer: &[u8]) -> Option<Result<Vec<(String, u16)>, String>> {
    match answer.get(3)? & 15 {
        0 => {}
        // The name does not exist.
        3 => return Some(Ok(Vec::new())),
        code => return Some(Err(format!("code {code}"))),
    }
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
            // A lone dot says that the service is not there.
            if !host.is_empty() {
                targets.push((host, port));
            }
        }
        at = data + length;
    }
    Some(Ok(targets))
}

fn number(bytes: &[u8], at: usize) -> Option<u16> {
    let pair: [u8; 2] = bytes.get(at..at + 2)?.try_into().ok()?;
    Some(u16::from_be_bytes(pair))
}

/// The name at a place, and where what follows it begins.
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

    /// An answer of two records, the second's name a pointer to the first's end.
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
            // What answers another question is passed over.
            server.send_to(&[0; 12], from).await.unwrap();
            server.send_to(&sent, from).await.unwrap();
        });
        let targets = look_up("_am._tcp.example.", &path).await.unwrap();
        let want = [("am.example", 9093), ("b.example", 9094)];
        assert_eq!(targets, want.map(|(host, port)| (host.to_owned(), port)));
    }

    #[test]
    fn any_prefix_and_any_flipped_bit_is_refused_or_read_but_no_panic() {
        let whole = answer(&question(1, "_a._tcp.b").unwrap());
        assert!(matches!(read(&whole), Some(Ok(targets)) if targets.len() == 2));
        for cut in 0..whole.len() {
            assert!(read(&whole[..cut]).is_none(), "cut at {cut}");
        }
        for bit in 0..whole.len() * 8 {
            let mut bytes = whole.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            drop(read(&bytes));
        }
        assert!(question(1, "a..b").is_err());
        assert!(question(1, &"x".repeat(64)).is_err());
    }
}
