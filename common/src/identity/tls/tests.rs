//! Handshakes in memory: which peers are accepted and which are refused.

use rustls::{ClientConnection, Connection, ServerConnection};

use super::*;
use crate::clock::{Clock as _, SystemClock};
use crate::identity::Authority;
use crate::identity::authority::LEAF_LIFETIME;

struct Side {
    authority: Authority,
    _dir: tempfile::TempDir,
}

impl Side {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::open_or_create(dir.path(), "t", SystemClock.now_ms()).unwrap();
        Self {
            authority,
            _dir: dir,
        }
    }

    fn leaf(&self, role: Role, domain: &str, issued_ms_ago: i64) -> Credentials {
        let identity = Identity::new(domain, "a", role, "x").unwrap();
        let now_ms = SystemClock.now_ms() - issued_ms_ago;
        self.authority
            .credentials(&identity, now_ms, LEAF_LIFETIME)
            .unwrap()
    }

    fn roots(&self) -> Vec<CertificateDer<'static>> {
        vec![self.authority.root().clone()]
    }
}

/// Runs a handshake until both ends have verified the other.
fn handshake(client: ClientConfig, server: ServerConfig) -> Result<Connection, Error> {
    let name = ServerName::try_from(ANY_AGGREGATOR).unwrap();
    let mut client = Connection::from(ClientConnection::new(Arc::new(client), name).unwrap());
    let mut server = Connection::from(ServerConnection::new(Arc::new(server)).unwrap());
    for _ in 0..4 {
        pump(&mut client, &mut server)?;
        pump(&mut server, &mut client)?;
    }
    assert!(!client.is_handshaking() && !server.is_handshaking());
    Ok(server)
}

fn pump(from: &mut Connection, to: &mut Connection) -> Result<(), Error> {
    let mut bytes = Vec::new();
    while from.wants_write() {
        from.write_tls(&mut bytes).unwrap();
    }
    let mut rest = bytes.as_slice();
    while !rest.is_empty() {
        to.read_tls(&mut rest).unwrap();
        to.process_new_packets()?;
    }
    Ok(())
}

fn server(side: &Side, own: &Credentials) -> ServerConfig {
    server_config(own, &side.roots()).unwrap()
}

#[test]
fn node_and_aggregator_of_one_authority_accept_each_other() {
    let side = Side::new();
    let own = side.leaf(Role::Aggregator, "t", 0);
    let client = client_config(&side.leaf(Role::Node, "t", 0), &side.roots()).unwrap();
    let server = handshake(client, server(&side, &own)).unwrap();
    assert_eq!(server.alpn_protocol(), Some(ALPN));
    let chain = server.peer_certificates().unwrap();
    let identity = Identity::of_certificate(&chain[0]).unwrap();
    assert_eq!(identity.to_string(), "spiffe://t/idc/a/node/x");
}

#[test]
fn join_succeeds_only_with_the_pinned_authority() {
    let (side, other) = (Side::new(), Side::new());
    let own = side.leaf(Role::Aggregator, "t", 0);
    let pin = |side: &Side| JoinTrust::Pin(side.authority.pin().unwrap());
    let good = join_config(pin(&side)).unwrap();
    let server_end = handshake(good, server(&side, &own)).unwrap();
    assert_eq!(server_end.alpn_protocol(), Some(ALPN_JOIN));
    assert!(server_end.peer_certificates().is_none());
    let wrong = join_config(pin(&other)).unwrap();
    handshake(wrong, server(&side, &own)).unwrap_err();
    let roots = join_config(JoinTrust::Roots(other.roots())).unwrap();
    handshake(roots, server(&side, &own)).unwrap_err();
}

#[test]
fn pinned_root_that_did_not_sign_the_leaf_is_refused() {
    let (side, other) = (Side::new(), Side::new());
    let mut own = other.leaf(Role::Aggregator, "t", 0);
    own.chain[1] = side.authority.root().clone();
    let trust = JoinTrust::Pin(side.authority.pin().unwrap());
    handshake(join_config(trust).unwrap(), server(&other, &own)).unwrap_err();
}

#[test]
fn foreign_and_expired_certificates_are_refused() {
    let (side, other) = (Side::new(), Side::new());
    let own = side.leaf(Role::Aggregator, "t", 0);
    let node = side.leaf(Role::Node, "t", 0);
    let refused = |client: &Credentials, server_own: &Credentials| {
        let client = client_config(client, &side.roots()).unwrap();
        handshake(client, server(&side, server_own)).unwrap_err()
    };
    // A client of another authority, and one with an expired certificate.
    refused(&other.leaf(Role::Node, "t", 0), &own);
    refused(&side.leaf(Role::Node, "t", 86_401_000), &own);
    // A server that is a node, of another trust domain, expired, or of another authority.
    refused(&node, &node);
    refused(&node, &side.leaf(Role::Aggregator, "u", 0));
    refused(&node, &side.leaf(Role::Aggregator, "t", 86_401_000));
    refused(&node, &other.leaf(Role::Aggregator, "t", 0));
}
