//! Test of the process's memory against `--storage.memory-budget` under more load than it can hold.

use std::fs;

use crate::harness::{Aggregator, now_ms};
use crate::http::encode;
use crate::remote::{TimeSeries, series, write};

const MIB: u64 = 1 << 20;
const REQUESTS: u64 = 480;
/// From then on only samples of the first series are sent, which are known.
const NEW_SERIES_UNTIL: u64 = 200;
const KNOWN: u64 = 20;
const SERIES: u64 = 400;
const SAMPLES: i64 = 20;

/// Returns the peak memory of the process.
fn peak_bytes(aggregator: &Aggregator) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", aggregator.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    let kilobytes = line.unwrap().split_whitespace().nth(1).unwrap();
    kilobytes.parse::<u64>().unwrap() * 1024
}

/// Returns a request with later samples than the previous one, at first of new series, with incompressible values.
fn request(number: u64, now: i64) -> Vec<TimeSeries> {
    let mut noise = number + 1;
    let mut value = || {
        noise = noise
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        f64::from_bits(noise >> 2)
    };
    let start = now - 5_400_000 + number as i64 * SAMPLES * 1000;
    let source = match number < NEW_SERIES_UNTIL {
        true => number,
        false => number % KNOWN,
    };
    let one = |index: u64| {
        let name = format!("series-{source}-{index}-with-a-value-as-long-as-the-name-of-a-pod");
        let samples: Vec<_> = (0..SAMPLES).map(|n| (start + n * 1000, value())).collect();
        series(&[("__name__", "load"), ("pod", &name)], &samples)
    };
    (0..SERIES).map(one).collect()
}

/// T-7: the whole process stays within the budget plus 10 %.
#[test]
fn memory_stays_within_the_budget() {
    let budget = 128 * MIB;
    let flag = format!("--storage.memory-budget={budget}");
    let aggregator = Aggregator::start_with(&[&flag]);
    let now = now_ms();
    let queries = [
        "count(load)",
        "sum by (pod) (rate(load[90m]))",
        "count_over_time(load[90m])",
    ];
    let (mut taken, mut refused) = (0_u64, 0_u64);
    for number in 0..REQUESTS {
        match write(&aggregator, request(number, now)).status {
            204 => taken += 1,
            400 | 429 | 503 => refused += 1,
            other => panic!("{other}: {}", aggregator.log()),
        }
        if number % 8 == 0 {
            let query = queries[number as usize / 8 % queries.len()];
            let answer = aggregator.get(&format!("/api/v1/query?query={}", encode(query)));
            assert!(
                [200, 422, 503].contains(&answer.status),
                "{}",
                answer.text()
            );
        }
    }
    let peak = peak_bytes(&aggregator);
    println!("peak {} MiB, {taken} taken, {refused} refused", peak / MIB);
    assert!(taken > 0, "{}", aggregator.log());
    assert!(refused > 0, "all of it fits, so nothing was tried");
    assert!(peak <= budget + budget / 10, "{} MiB", peak / MIB);
}
