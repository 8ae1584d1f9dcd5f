//! A peer that sends what a test specifies.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use common::identity::tls::{ANY_AGGREGATOR, JoinTrust, client_config, join_config};
use common::identity::{Authority, Credentials, Identity, JoinToken, LeafRequest, Role};
use common::limits::FRAME_BYTES_MAX;
use common::wire::{Frame, FrameBuffer, VERSION, VERSIONS};
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, Connection, Endpoint, RecvStream, SendStream};
use rustls_pki_types::CertificateDer;
use tokio::time::timeout;

use crate::harness::{Aggregator, now_ms};

const PATIENCE: Duration = Duration::from_secs(30);

/// A connection and its stream.
pub(super) struct Peer {
    pub(super) connection: Connection,
    send: SendStream,
    receive: RecvStream,
    buffer: FrameBuffer,
    _endpoint: Endpoint,
}

/// A certificate and the roots to trust.
pub(super) struct Known {
    pub(super) own: Credentials,
    pub(super) roots: Vec<CertificateDer<'static>>,
}

/// Returns the join token of the aggregator's development mode.
pub(super) fn token(aggregator: &Aggregator) -> JoinToken {
    let path = aggregator.dir.path().join("data/join-token");
    JoinToken::parse(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// Returns certificates of an authority that the aggregator does not trust.
pub(super) fn stranger(node: &str, roots: Vec<CertificateDer<'static>>) -> Known {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::open_or_create(dir.path(), "tidemark.local", now_ms()).unwrap();
    let identity = Identity::new("tidemark.local", "default", Role::Node, node).unwrap();
    let day = Duration::from_secs(24 * 3600);
    let own = authority.credentials(&identity, now_ms(), day).unwrap();
    Known { own, roots }
}

impl Peer {
    /// Connects. The error is the aggregator's, or that of the certificate check.
    pub(super) async fn connect(address: &str, tls: rustls::ClientConfig) -> Result<Self, String> {
        let show = |error: &dyn std::fmt::Display| error.to_string();
        let address: SocketAddr = address.parse().unwrap();
        let endpoint = Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
        let config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()));
        let connecting = endpoint
            .connect_with(config, address, ANY_AGGREGATOR)
            .unwrap();
        let connection = connecting.await.map_err(|error| show(&error))?;
        let (send, receive) = connection.open_bi().await.map_err(|error| show(&error))?;
        Ok(Self {
            connection,
            send,
            receive,
            buffer: FrameBuffer::new(FRAME_BYTES_MAX),
            _endpoint: endpoint,
        })
    }

    pub(super) async fn with_certificate(address: &str, known: &Known) -> Result<Self, String> {
        let tls = client_config(&known.own, &known.roots).unwrap();
        Self::connect(address, tls).await
    }

    /// Sends bytes. The aggregator may have closed already.
    pub(super) async fn send_bytes(&mut self, bytes: &[u8]) -> Result<(), String> {
        let sent = timeout(PATIENCE, self.send.write_all(bytes)).await;
        sent.unwrap().map_err(|error| error.to_string())
    }

    pub(super) async fn send(&mut self, frame: &Frame<'_>) -> Result<(), String> {
        let mut bytes = Vec::new();
        frame.encode(&mut bytes).unwrap();
        self.send_bytes(&bytes).await
    }

    /// Returns the next frame's bytes.
    pub(super) async fn receive(&mut self) -> Result<Vec<u8>, String> {
        loop {
            if let Some(message) = self.buffer.next_message().unwrap() {
                return Ok(message.to_vec());
            }
            let chunk = timeout(PATIENCE, self.receive.read_chunk(FRAME_BYTES_MAX, true)).await;
            let chunk = chunk.unwrap().map_err(|error| error.to_string())?;
            let chunk = chunk.ok_or_else(|| "stream ended".to_owned())?;
            self.buffer.extend(&chunk.bytes);
        }
    }

    /// Sends Hello for a node and waits for Welcome.
    pub(super) async fn hello(&mut self, node: &str) -> Result<(), String> {
        let version = self.hello_with(node, &VERSIONS).await?;
        assert_eq!(version, VERSION);
        Ok(())
    }

    /// Returns the version that the aggregator chooses among these.
    pub(super) async fn hello_with(&mut self, node: &str, versions: &[u16]) -> Result<u16, String> {
        self.send(&hello_frame(node, versions)).await?;
        let answer = self.receive().await?;
        match Frame::decode(&answer).unwrap() {
            Frame::Welcome { version, .. } => Ok(version),
            other => Err(format!("{other:?}")),
        }
    }

    /// Returns how the aggregator closed the connection.
    pub(super) async fn closed(&self) -> String {
        let closed = timeout(PATIENCE, self.connection.closed()).await;
        closed.expect("the aggregator closes").to_string()
    }
}

/// Returns the Hello of a peer.
pub(super) fn hello_frame<'a>(node: &'a str, versions: &[u16]) -> Frame<'a> {
    Frame::Hello {
        versions: versions.to_vec(),
        node,
        instance: *b"0123456789abcdef",
        oldest_sequence: 1,
        interval_ms: 1000,
        program: "test",
    }
}

/// Gets a certificate with a token.
pub(super) async fn join(address: &str, token: &JoinToken, node: &str) -> Result<Known, String> {
    let tls = join_config(JoinTrust::Pin(*token.pin())).unwrap();
    let mut peer = Peer::connect(address, tls).await?;
    let request = LeafRequest::new().unwrap();
    let join = Frame::Join {
        token: &token.credential(),
        node,
        request: request.request(),
    };
    peer.send(&join).await?;
    let answer = peer.receive().await?;
    issued(&Frame::decode(&answer).unwrap(), request)
}

/// Returns the certificate of an answer.
pub(super) fn issued(answer: &Frame<'_>, request: LeafRequest) -> Result<Known, String> {
    let Frame::Issued { chain, roots } = answer else {
        return Err(format!("{answer:?}"));
    };
    let owned = |list: &[&[u8]]| -> Vec<CertificateDer<'static>> {
        list.iter()
            .map(|der| CertificateDer::from(der.to_vec()))
            .collect()
    };
    Ok(Known {
        own: request.with_chain(owned(chain)).unwrap(),
        roots: owned(roots),
    })
}
