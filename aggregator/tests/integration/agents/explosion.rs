//! Test of an agent that sends far more series than allowed. Number of new series: `TIDEMARK_EXPLOSION` (40,000).

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use common::model::Labels;

use super::peer::{self, Known};
use super::sender::Sender;
use super::{number, query, quic_address, refused_series};
use crate::harness::{Aggregator, eventually};
use crate::http::encode;

/// Agents within their limits, and their series.
const ORDINARY: usize = 10;
const SERIES: u32 = 200;
/// Series of the exploding agent that existed before.
const KNOWN: u32 = 50;
/// Number of waves of new series; each replaces the previous one.
const WAVES: u32 = 4;
const MEMORY_GROWTH_MAX: u64 = 200_000_000;

fn labels(name: &str, number: u32, wave: u32) -> Labels {
    let id = format!("{wave}-{number}-4a7c-9d55-request-id-that-should-be-no-label");
    let pairs = [("__name__", name), ("id", &id), ("namespace", "shop")];
    Labels::from_pairs(pairs).unwrap()
}

/// Returns a memory figure of the process: current or peak.
fn memory_bytes(aggregator: &Aggregator, field: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", aggregator.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with(field)).unwrap();
    let kilobytes = line.split_whitespace().nth(1).unwrap();
    kilobytes.parse::<u64>().unwrap() * 1024
}

/// Sends ticks until stopped. Returns their number, all acknowledged.
async fn behave(address: String, known: Known, node: String, stop: Arc<AtomicBool>) -> u64 {
    let mut sender = Sender::connect(&address, &known, &node, 0).await;
    let series = (0..SERIES).map(|n| (n, labels("load", n, 0)));
    sender.schema(true, 0..0, series).await;
    while !stop.load(Ordering::Relaxed) {
        tick(&mut sender, SERIES).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    sender.sequence
}

/// Sends values of all numbers before `until`.
async fn tick(sender: &mut Sender, until: u32) {
    let value = sender.sequence as f64;
    let values: Vec<_> = (0..until).map(|n| (n, value)).collect();
    sender.tick_now(&values).await;
    sender.acknowledged().await;
}

/// Sends waves of new series, with the known ones in each tick. Returns the number of ticks.
async fn explode(sender: &mut Sender, total: u32) -> u64 {
    let each = total / WAVES;
    let last = KNOWN + each;
    for wave in 1..=WAVES {
        if wave > 1 {
            // A number is free once a tick has ended its series.
            sender.schema(false, KNOWN..last, std::iter::empty()).await;
            tick(sender, KNOWN).await;
        }
        let added = (KNOWN..last).map(|n| (n, labels("boom", n, wave)));
        sender.schema(false, 0..0, added).await;
        for _ in 0..3 {
            tick(sender, last).await;
        }
    }
    sender.sequence
}

/// Returns the second highest duration of a hundred queries.
fn query_p99(aggregator: &Aggregator) -> Duration {
    let path = format!(
        "/api/v1/query?query={}",
        encode("sum by (node) (rate(load[1m]))")
    );
    let mut times: Vec<Duration> = (0..100)
        .map(|_| {
            let asked = Instant::now();
            assert_eq!(aggregator.get(&path).status, 200);
            asked.elapsed()
        })
        .collect();
    times.sort_unstable();
    times[98]
}

fn start(total: u32) -> Aggregator {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("tidemark.yml");
    let text = format!("limits:\n  series_per_agent_max: {}\n", total / 10);
    fs::write(&config, text).unwrap();
    let flag = format!("--config.file={}", config.display());
    Aggregator::start_in(dir, &[&flag])
}

/// T-13.
#[test]
fn series_explosion_of_one_agent_does_not_affect_the_others() {
    let total = std::env::var("TIDEMARK_EXPLOSION");
    let total: u32 = total.map_or(40_000, |text| text.parse().unwrap());
    let mut aggregator = start(total);
    let address = quic_address(&mut aggregator);
    let token = peer::token(&aggregator);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let ordinary: Vec<_> = (0..ORDINARY)
        .map(|index| {
            let node = format!("good-{index}");
            let known = runtime.block_on(peer::join(&address, &token, &node));
            let task = behave(address.clone(), known.unwrap(), node, Arc::clone(&stop));
            runtime.spawn(task)
        })
        .collect();
    let mut bad = runtime.block_on(async {
        let known = peer::join(&address, &token, "boom").await.unwrap();
        let mut sender = Sender::connect(&address, &known, "boom", 0).await;
        let series = (0..KNOWN).map(|n| (n, labels("known", n, 0)));
        sender.schema(true, 0..0, series).await;
        sender.tick_now(&[(0, 1.0)]).await;
        sender.acknowledged().await;
        sender
    });
    let all_good = format!("count(load) == {}", ORDINARY as u32 * SERIES);
    eventually("ticks of all", || number(&aggregator, &all_good));
    let p99_before = query_p99(&aggregator);
    let memory_before = memory_bytes(&aggregator, "VmRSS:");

    let began = Instant::now();
    let exploding = runtime.spawn(async move {
        let ticks = explode(&mut bad, total).await;
        (bad, ticks)
    });
    let mut p99_during = Vec::new();
    while !exploding.is_finished() {
        p99_during.push(query_p99(&aggregator));
    }
    let (_bad, ticks) = runtime.block_on(exploding).unwrap();
    let took = began.elapsed();
    let growth = memory_bytes(&aggregator, "VmHWM:").saturating_sub(memory_before);
    p99_during.sort_unstable();
    let p99_median = p99_during[p99_during.len() / 2];
    println!(
        "{total} new series in {took:?}: memory +{growth} bytes, p99 of a query {p99_before:?} before, \
         {p99_median:?} (median of {}) and {:?} (worst) meanwhile",
        p99_during.len(),
        p99_during[p99_during.len() - 1],
    );
    check_offender_is_named(&aggregator);
    stop.store(true, Ordering::Relaxed);
    let mut written = 0;
    for task in ordinary {
        written += runtime.block_on(task).unwrap() * u64::from(SERIES);
    }
    let stored = number(&aggregator, "sum(count_over_time(load[1h]))");
    assert_eq!(stored, Some(written as f64), "samples of the others");
    let known = number(&aggregator, "sum(count_over_time(known[1h]))");
    let known_written = (ticks - 1) * u64::from(KNOWN) + 1;
    assert_eq!(known, Some(known_written as f64), "its known series");
    // Each series counts once, however often it was retried; the allowance grows during the test.
    let refused = refused_series(&aggregator);
    assert!(refused > f64::from(total) / 2.0, "{refused} refused");
    assert!(growth < MEMORY_GROWTH_MAX, "{growth} bytes more");
}

/// Checks that the status page and the alert's series name this agent only.
#[track_caller]
fn check_offender_is_named(aggregator: &Aggregator) {
    let status = aggregator.get("/api/v1/status/tsdb").data();
    let refused = status["refusedSeriesCountByAgent"].as_array().unwrap();
    assert_eq!(refused.len(), 1, "{status}");
    assert_eq!(refused[0]["name"], "default/boom", "{status}");
    assert!(refused[0]["value"].as_u64().unwrap() > 0, "{status}");
    let source = status["seriesCountBySource"][0]["name"].as_str().unwrap();
    assert!(source.starts_with("agent/default/boom/"), "{status}");
    let alert = eventually("the series for the alert", || {
        let result = query(aggregator, "ingest_refused_series > 0");
        (!result.as_array().unwrap().is_empty()).then_some(result)
    });
    assert_eq!(alert.as_array().unwrap().len(), 1, "{alert}");
    assert_eq!(alert[0]["metric"]["node"], "boom", "{alert}");
}
