//! Test of `kill -9` during deletions, seals and merges. Rounds: `TIDEMARK_KILL_ROUNDS` (6).

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use rand::{Rng as _, SeedableRng as _};

use crate::harness::{Aggregator, now_ms};
use crate::http::encode;
use crate::remote::{TimeSeries, series, write};

const SAMPLES: i64 = 100;
/// All samples of all rounds are within the two hours of the queries, however long the rounds take.
const ROUND_MS: i64 = 10_000;

/// Samples by metric and round.
type Counts = BTreeMap<(String, String), u64>;

/// Posts without a body. Returns whether the answer was 204. The server may die meanwhile.
fn post(address: &str, path: &str) -> bool {
    let ask = || {
        let mut stream = TcpStream::connect(address)?;
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: {address}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
        );
        stream.write_all(head.as_bytes())?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        Ok::<_, std::io::Error>(answer)
    };
    ask().is_ok_and(|answer| answer.starts_with(b"HTTP/1.1 204"))
}

fn delete(round: u32) -> String {
    let matcher = encode(&format!("victim{{round=\"{round}\"}}"));
    format!("/api/v1/admin/tsdb/delete_series?match[]={matcher}")
}

fn counts(aggregator: &Aggregator) -> Counts {
    let query = encode("count_over_time({__name__=~\"kept|victim|all\"}[2h])");
    let data = aggregator
        .get(&format!("/api/v1/query?query={query}"))
        .data();
    let list = data["result"].as_array().unwrap().clone();
    let row = |one: &serde_json::Value| {
        let label = |name: &str| one["metric"][name].as_str().unwrap_or("").to_owned();
        let count = one["value"][1].as_str().unwrap().parse().unwrap();
        ((label("what"), label("round")), count)
    };
    list.iter().map(row).collect()
}

fn batch(round: u32, first_ms: i64) -> Vec<TimeSeries> {
    let start = first_ms + i64::from(round) * ROUND_MS;
    let samples: Vec<_> = (0..SAMPLES)
        .map(|n| (start + n * 100, f64::from(round) * 1e3 + n as f64))
        .collect();
    let number = round.to_string();
    let one = |name: &str, round: &str| {
        series(
            &[("__name__", name), ("what", name), ("round", round)],
            &samples,
        )
    };
    vec![
        one("kept", &number),
        one("victim", &number),
        one("all", "every"),
    ]
}

#[test]
fn kill_during_deletions_and_merges_loses_nothing_and_restores_nothing() {
    let rounds = std::env::var("TIDEMARK_KILL_ROUNDS");
    let rounds: u32 = rounds.map_or(6, |text| text.parse().unwrap());
    let flags = ["--web.enable-admin-api"];
    let mut random = rand::rngs::StdRng::seed_from_u64(7);
    let first_ms = now_ms() - 3_000_000;
    let mut aggregator = Aggregator::start_with(&flags);
    let mut want = Counts::new();
    let mut answers = 0;
    for round in 0..rounds {
        assert_eq!(write(&aggregator, batch(round, first_ms)).status, 204);
        for name in ["kept", "victim"] {
            want.insert((name.to_owned(), round.to_string()), SAMPLES as u64);
        }
        *want
            .entry(("all".to_owned(), "every".to_owned()))
            .or_default() += SAMPLES as u64;
        let deletes = round % 3 != 2;
        let path = match deletes {
            true => delete(round),
            false => "/api/v1/admin/tsdb/flush".to_owned(),
        };
        let address = aggregator.address.clone();
        let request = std::thread::spawn(move || post(&address, &path));
        // Any time from before its first byte to after its answer.
        std::thread::sleep(Duration::from_micros(random.random_range(0..60_000)));
        let dir = aggregator.kill();
        let answered = request.join().unwrap();
        answers += u32::from(answered);
        aggregator = Aggregator::start_in(dir, &flags);
        let mut got = counts(&aggregator);
        if deletes {
            let victim = ("victim".to_owned(), round.to_string());
            want.remove(&victim);
            // Without an answer the deletion may have happened or not; repeated, it has.
            if !answered {
                got.remove(&victim);
                assert!(post(&aggregator.address, &delete(round)), "round {round}");
                let after = counts(&aggregator);
                assert_eq!(after.get(&victim), None, "round {round}");
            }
        }
        assert_eq!(got, want, "round {round}, answered: {answered}");
    }
    // A merge of all blocks does not read deleted samples either.
    assert!(post(&aggregator.address, "/api/v1/admin/tsdb/flush"));
    assert_eq!(counts(&aggregator), want);
    println!("{answers} of {rounds} requests were answered before the kill");
}
