//! Replays recorded sessions of an agent with protocol version 1: the aggregator must store every sample, and answer as when
//! they were recorded.
//!
//! `UPDATE_RECORDING=1` rewrites the recorded answers.

use std::fs;
use std::path::PathBuf;

use common::wire::Frame;

use super::peer::{self, Peer};
use super::refusals::runtime;
use crate::harness::Aggregator;

const NODE: &str = "recorded";
const START_S: f64 = 1_700_000_000.0;

fn fixture(name: &str) -> PathBuf {
    let fixtures = concat!(env!("CARGO_MANIFEST_DIR"), "/../common/tests/fixtures/wire");
    PathBuf::from(fixtures).join(name)
}

/// Clears the wall clock of Welcome, which differs each time.
fn timeless(frame: Frame<'_>) -> Frame<'_> {
    match frame {
        Frame::Welcome {
            version,
            limits,
            durable_sequence,
            ..
        } => Frame::Welcome {
            version,
            limits,
            durable_sequence,
            now_ms: 0,
        },
        other => other,
    }
}

/// Replays a session. Returns the answers up to the acknowledgement of `last`, without other acknowledgements: how many ticks
/// one covers depends on timing.
async fn replay(peer: &mut Peer, name: &str, last: u64) -> Vec<u8> {
    let bytes = fs::read(fixture(name)).unwrap();
    // Nothing may follow Hello before Welcome.
    let hello = 4 + u32::from_le_bytes(bytes[..4].try_into().unwrap()) as usize;
    peer.send_bytes(&bytes[..hello]).await.unwrap();
    let mut answers = Vec::new();
    loop {
        let answer = peer.receive().await.unwrap();
        let frame = timeless(Frame::decode(&answer).unwrap());
        match frame {
            Frame::Welcome { .. } => {
                frame.encode(&mut answers).unwrap();
                peer.send_bytes(&bytes[hello..]).await.unwrap();
            }
            Frame::Ack { sequence } if sequence < last => {}
            Frame::Ack { sequence } => {
                assert_eq!(sequence, last);
                frame.encode(&mut answers).unwrap();
                return answers;
            }
            other => panic!("version 1 has no such answer: {other:?}"),
        }
    }
}

/// Returns the samples of a series: the time in ticks since the first one, and the value.
fn samples(aggregator: &Aggregator, selector: &str) -> Vec<(u64, String)> {
    let at = START_S + 200.0;
    let result = query_at(aggregator, &format!("{selector}[10m]"), at);
    assert_eq!(result.as_array().unwrap().len(), 1, "{selector}: {result}");
    let values = result[0]["values"].as_array().unwrap();
    let sample = |pair: &serde_json::Value| {
        let tick = (pair[0].as_f64().unwrap() - START_S) / 10.0;
        (tick as u64, pair[1].as_str().unwrap().to_owned())
    };
    values.iter().map(sample).collect()
}

fn query_at(aggregator: &Aggregator, expression: &str, time_s: f64) -> serde_json::Value {
    let expression = crate::http::encode(expression);
    let path = format!("/api/v1/query?query={expression}&time={time_s}");
    aggregator.get(&path).data()["result"].clone()
}

fn check_samples(aggregator: &Aggregator) {
    let want = |ticks: Vec<u64>, value: &dyn Fn(u64) -> String| -> Vec<(u64, String)> {
        ticks.into_iter().map(|tick| (tick, value(tick))).collect()
    };
    let seconds = |tick: u64| (tick as f64 * 9.75).to_string();
    assert_eq!(
        samples(
            aggregator,
            r#"recorded_seconds_total{mode="idle",node="recorded"}"#
        ),
        want((0..20).collect(), &seconds)
    );
    let level = |tick: u64| (4096 * (tick / 4)).to_string();
    assert_eq!(
        samples(
            aggregator,
            r#"recorded_level_bytes{device="a \"quoted\" näme"}"#
        ),
        want((0..20).filter(|tick| tick % 3 != 2).collect(), &level)
    );
    let late = |tick: u64| tick.to_string();
    assert_eq!(
        samples(aggregator, r#"recorded_level_bytes{device="late"}"#),
        want((5..20).collect(), &late)
    );
    let odd = ["0.30000000000000004", "NaN", "-0", "+Inf", "1e-300"];
    assert_eq!(
        samples(aggregator, r#"recorded_odd{kind="odd"}"#),
        want((0..15).collect(), &|tick| odd[tick as usize % odd.len()]
            .to_owned())
    );
}

#[test]
fn sessions_of_version_1_are_taken_to_the_last_sample() {
    // The recording is old.
    let mut aggregator = Aggregator::start_with(&["--storage.retention.time=100y"]);
    let address = super::quic_address(&mut aggregator);
    runtime().block_on(async {
        let token = peer::token(&aggregator);
        let known = peer::join(&address, &token, NODE).await.unwrap();
        let first = 1_u64 << 32;
        for (name, last) in [("v1-agent", 12), ("v1-agent-again", 20)] {
            let mut peer = Peer::with_certificate(&address, &known).await.unwrap();
            let today = replay(&mut peer, &format!("{name}.bin"), first + last).await;
            let recording = fixture(&format!("{name}-answers.bin"));
            if std::env::var_os("UPDATE_RECORDING").is_some() {
                fs::write(&recording, &today).unwrap();
            }
            assert_eq!(today, fs::read(&recording).unwrap(), "{name}");
        }
    });
    check_samples(&aggregator);
    // Its last sample is within the lookback: only the marker of the removed series hides it.
    let ended = query_at(&aggregator, "recorded_odd", START_S + 190.0);
    assert_eq!(ended.as_array().map(Vec::len), Some(0), "{ended}");
}
