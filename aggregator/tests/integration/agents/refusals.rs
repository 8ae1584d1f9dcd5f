//! Tests of refused peers: the reason they get, and the cost.

use common::identity::tls::{client_config, join_config};
use common::identity::{JoinToken, LeafRequest, tls::JoinTrust};
use common::wire::{ALPN, Compressor, Frame, SchemaWriter};

use super::peer::{self, Peer};
use super::{metric, quic_address};
use crate::harness::{Aggregator, eventually};

pub(super) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

fn start() -> (Aggregator, String) {
    let mut aggregator = Aggregator::start();
    let address = quic_address(&mut aggregator);
    (aggregator, address)
}

/// Waits until the refusal is in the log with its reason, and in the counter.
#[track_caller]
fn check_refused(aggregator: &mut Aggregator, label: &str, reason: &str) {
    aggregator.wait_for(reason, |log| {
        let warning = |line: &str| line.contains("level=WARN") && line.contains(reason);
        log.lines().any(warning).then_some(())
    });
    let series = format!(r#"aggregator_ingest_refused_total{{reason="{label}"}}"#);
    eventually("count of the refusal", || {
        (metric(aggregator, &series) >= 1.0).then_some(())
    });
    assert_eq!(
        metric(
            aggregator,
            "aggregator_ingest_samples_total{result=\"stored\"}"
        ),
        0.0
    );
}

#[test]
fn certificate_of_another_authority_is_refused() {
    let (mut aggregator, address) = start();
    runtime().block_on(async {
        let token = peer::token(&aggregator);
        let good = peer::join(&address, &token, "n1").await.unwrap();
        let stranger = peer::stranger("n1", good.roots);
        // A TLS 1.3 client learns of it only with its next operation.
        let refused = match Peer::with_certificate(&address, &stranger).await {
            Err(error) => error,
            Ok(mut peer) => peer.hello("n1").await.unwrap_err(),
        };
        assert!(!refused.contains("Welcome"), "{refused}");
    });
    check_refused(&mut aggregator, "handshake", "invalid peer certificate");
}

#[test]
fn peer_without_certificate_is_refused() {
    let (mut aggregator, address) = start();
    runtime().block_on(async {
        let token = peer::token(&aggregator);
        let mut tls = join_config(JoinTrust::Pin(*token.pin())).unwrap();
        tls.alpn_protocols = vec![ALPN.to_vec()];
        let peer = Peer::connect(&address, tls).await.unwrap();
        let closed = peer.closed().await;
        assert!(closed.contains("no certificate"), "{closed}");
    });
    check_refused(&mut aggregator, "no_certificate", "no certificate");
}

#[test]
fn agents_of_other_versions_are_accepted_if_one_is_common() {
    let (mut aggregator, address) = start();
    runtime().block_on(async {
        let token = peer::token(&aggregator);
        let known = peer::join(&address, &token, "n1").await.unwrap();
        for (speaks, chosen) in [(&[1][..], 1), (&[1, 2], 2), (&[3, 2, 1], 2)] {
            let mut peer = Peer::with_certificate(&address, &known).await.unwrap();
            assert_eq!(
                peer.hello_with("n1", speaks).await,
                Ok(chosen),
                "{speaks:?}"
            );
        }
        let mut peer = Peer::with_certificate(&address, &known).await.unwrap();
        let refused = peer.hello_with("n1", &[3]).await;
        assert!(refused.is_err(), "{refused:?}");
    });
    check_refused(
        &mut aggregator,
        "version",
        "speaks versions [2, 1], the agent [3]",
    );
}

#[test]
fn name_of_another_node_is_refused() {
    let (mut aggregator, address) = start();
    runtime().block_on(async {
        let token = peer::token(&aggregator);
        let known = peer::join(&address, &token, "n1").await.unwrap();
        let mut peer = Peer::with_certificate(&address, &known).await.unwrap();
        let refused = peer.hello("n2").await.unwrap_err();
        assert!(refused.contains("OtherNode"), "{refused}");
    });
    check_refused(&mut aggregator, "other_node", "certificate of");
}

#[test]
fn peer_that_does_not_wait_for_welcome_is_refused() {
    let (mut aggregator, address) = start();
    runtime().block_on(async {
        let token = peer::token(&aggregator);
        let known = peer::join(&address, &token, "n1").await.unwrap();
        let mut peer = Peer::with_certificate(&address, &known).await.unwrap();
        let hello = peer::hello_frame("n1", &[1]);
        let mut bytes = Vec::new();
        for _ in 0..2 {
            hello.encode(&mut bytes).unwrap();
        }
        peer.send_bytes(&bytes).await.unwrap();
        let closed = peer.closed().await;
        assert!(closed.contains("before Welcome"), "{closed}");
    });
    check_refused(&mut aggregator, "protocol", "bytes after Hello");
}

#[test]
fn unknown_token_is_refused() {
    let (mut aggregator, address) = start();
    runtime().block_on(async {
        let good = peer::token(&aggregator);
        let forged = JoinToken::generate(*good.pin()).unwrap();
        let refused = peer::join(&address, &forged, "n1").await.err().unwrap();
        assert!(refused.contains("Token"), "{refused}");
        // A token that names another authority is not even sent.
        let elsewhere = JoinToken::generate([7; 32]).unwrap();
        peer::join(&address, &elsewhere, "n1").await.err().unwrap();
    });
    check_refused(&mut aggregator, "token", "unknown join token");
    let log = aggregator.log();
    assert!(!log.contains(&peer::token(&aggregator).credential()));
}

#[test]
fn certificate_is_renewed_over_the_connection_for_the_same_node_only() {
    let (aggregator, address) = start();
    runtime().block_on(async {
        let token = peer::token(&aggregator);
        let known = peer::join(&address, &token, "n1").await.unwrap();
        let mut peer = Peer::with_certificate(&address, &known).await.unwrap();
        peer.hello("n1").await.unwrap();
        let request = LeafRequest::new().unwrap();
        let renew = Frame::Renew {
            request: request.request(),
        };
        peer.send(&renew).await.unwrap();
        let answer = peer.receive().await.unwrap();
        let renewed = peer::issued(&Frame::decode(&answer).unwrap(), request).unwrap();
        assert_ne!(renewed.own.chain[0], known.own.chain[0]);
        assert_eq!(
            renewed.own.identity().unwrap(),
            known.own.identity().unwrap()
        );
        let mut peer = Peer::with_certificate(&address, &renewed).await.unwrap();
        peer.hello("n1").await.unwrap();
    });
}

#[test]
fn newer_session_of_an_agent_takes_over() {
    let (aggregator, address) = start();
    runtime().block_on(async {
        let token = peer::token(&aggregator);
        let known = peer::join(&address, &token, "n1").await.unwrap();
        let mut first = Peer::with_certificate(&address, &known).await.unwrap();
        first.hello("n1").await.unwrap();
        let mut second = Peer::with_certificate(&address, &known).await.unwrap();
        second.hello("n1").await.unwrap();
        let closed = first.closed().await;
        assert!(closed.contains("took over"), "{closed}");
    });
    check_sessions(&aggregator, 1.0);
}

/// Waits for the count, which follows the end of a connection.
#[track_caller]
fn check_sessions(aggregator: &Aggregator, count: f64) {
    eventually(&format!("{count} sessions"), || {
        (metric(aggregator, "aggregator_ingest_sessions") == count).then_some(())
    });
}

/// Returns streams that break the protocol in different ways.
fn bad_streams() -> Vec<(&'static str, Vec<u8>)> {
    let frame = |frame: &Frame<'_>| {
        let mut bytes = Vec::new();
        frame.encode(&mut bytes).unwrap();
        bytes
    };
    let with_len = |message: &[u8]| {
        let mut bytes = (message.len() as u32).to_le_bytes().to_vec();
        bytes.extend_from_slice(message);
        bytes
    };
    let mut schema = Vec::new();
    SchemaWriter::default().finish(&mut Compressor::default(), &mut schema);
    // 64 MiB of zeros after a length of 4 MiB, and after the true one.
    let zeros = zstd::bulk::compress(&vec![0; 64 << 20], 1).unwrap();
    let bomb = |claim: &[u8]| {
        let mut payload = vec![1];
        payload.extend_from_slice(claim);
        payload.extend_from_slice(&zeros);
        let payload = &payload;
        let reset = true;
        frame(&Frame::Schema { reset, payload })
    };
    vec![
        ("garbage", with_len(&[0xa5; 300])),
        ("oversized", u32::MAX.to_le_bytes().to_vec()),
        ("claimed list", with_len(&[9, 253, 0, 0, 0, 0, 0, 0, 0, 4])),
        ("trailing", with_len(&[10, 0])),
        ("bomb within the limit", bomb(&[0x80, 0x80, 0x80, 0x02])),
        ("bomb beyond the limit", bomb(&[0x80, 0x80, 0x80, 0x20])),
        ("wrong time", frame(&Frame::Ack { sequence: 1 })),
        (
            "values of nothing",
            frame(&Frame::Samples {
                sequence: 1,
                timestamp_ms: 1,
                payload: &[0, 2, 1, 0],
            }),
        ),
    ]
}

#[test]
fn garbage_closes_the_connection_and_memory_stays_flat() {
    let (mut aggregator, address) = start();
    let memory = |aggregator: &Aggregator| metric(aggregator, "process_resident_memory_bytes");
    let mut after_first_round = 0.0;
    for round in 0..6 {
        runtime().block_on(async {
            let token = peer::token(&aggregator);
            let known = peer::join(&address, &token, "n1").await.unwrap();
            for (what, bytes) in bad_streams() {
                let mut peer = Peer::with_certificate(&address, &known).await.unwrap();
                peer.hello("n1").await.unwrap();
                // The aggregator may close before everything is written.
                let _written = peer.send_bytes(&bytes).await;
                let closed = peer.closed().await;
                assert!(closed.contains("closed by peer"), "{what}: {closed}");
            }
            // The same in place of Hello, and of Join.
            for (what, bytes) in bad_streams() {
                let tls = client_config(&known.own, &known.roots).unwrap();
                let mut peer = Peer::connect(&address, tls).await.unwrap();
                let _written = peer.send_bytes(&bytes).await;
                let closed = peer.closed().await;
                assert!(closed.contains("closed by peer"), "{what}: {closed}");
                let tls = join_config(JoinTrust::Pin(*token.pin())).unwrap();
                let mut peer = Peer::connect(&address, tls).await.unwrap();
                let _written = peer.send_bytes(&bytes).await;
                let closed = peer.closed().await;
                assert!(closed.contains("closed by peer"), "{what}: {closed}");
            }
        });
        if round == 0 {
            after_first_round = memory(&aggregator);
        }
    }
    check_refused(&mut aggregator, "protocol", "at most 4194304 allowed");
    let grown = memory(&aggregator) - after_first_round;
    assert!(grown < 32e6, "{grown} bytes more after five more rounds");
    check_sessions(&aggregator, 0.0);
    // Other peers are still served.
    runtime().block_on(async {
        let token = peer::token(&aggregator);
        let known = peer::join(&address, &token, "n1").await.unwrap();
        let mut peer = Peer::with_certificate(&address, &known).await.unwrap();
        peer.hello("n1").await.unwrap();
    });
}
