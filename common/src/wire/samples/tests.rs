//! Round trips, golden bytes and malformed bytes of the sample codec.

use proptest::prelude::*;

use super::*;
use crate::model::STALE_NAN;

/// A sender's and a receiver's state, which must stay equal.
#[derive(Default)]
struct Pair {
    sender: TickState,
    receiver: TickState,
    compressor: Compressor,
}

impl Pair {
    fn define(&mut self, number: u32) {
        self.sender.define(number);
        self.receiver.define(number);
    }

    #[track_caller]
    fn send(&mut self, tick: &[(u32, f64)]) -> usize {
        let mut payload = Vec::new();
        let values = tick.iter().copied();
        self.sender
            .encode(values, &mut self.compressor, &mut payload);
        let mut back = Vec::new();
        self.receiver.decode(&payload, &mut back).unwrap();
        assert_eq!(bits(&back), bits(tick));
        assert!(self.sender == self.receiver, "states differ");
        payload.len()
    }

    /// Replaces the receiver by one that only has the base.
    #[track_caller]
    fn restart_receiver(&mut self) {
        let mut base = Vec::new();
        self.sender.encode_base(&mut self.compressor, &mut base);
        self.receiver = TickState::default();
        let capacity = self.sender.capacity();
        // The higher `series_ref`s are unused: no schema defines them.
        (0..capacity as u32 / 2).for_each(|number| self.receiver.define(number));
        if capacity > 0 {
            let refused = self.receiver.clone().decode_base(&base, capacity - 1);
            assert!(refused.is_err(), "more series than allowed");
        }
        self.receiver.decode_base(&base, capacity).unwrap();
        assert!(self.sender == self.receiver, "states differ");
    }
}

fn bits(tick: &[(u32, f64)]) -> Vec<(u32, u64)> {
    tick.iter().map(|&(n, v)| (n, v.to_bits())).collect()
}

fn value() -> impl Strategy<Value = f64> {
    prop_oneof![
        4 => (0u64..1 << 20).prop_map(|n| n as f64),
        4 => (0u64..1 << 40).prop_map(|n| n as f64 / 1e9),
        2 => (-10_000i64..10_000).prop_map(|n| n as f64 / 100.0),
        2 => any::<f64>(),
        1 => any::<u64>().prop_map(f64::from_bits),
        1 => prop_oneof![
            Just(STALE_NAN),
            Just(f64::NAN),
            Just(-0.0),
            Just(0.0),
            Just(f64::INFINITY),
            Just(f64::MIN_POSITIVE / 4.0),
            Just(f64::MAX),
            Just(9_223_372_036_854_775_807.0),
            Just(-9_223_372_036_854_775_808.0),
        ],
    ]
}

#[derive(Debug, Clone)]
enum Step {
    Tick(Vec<(u32, f64)>),
    Define(u32),
    Restart,
    Forget,
}

fn step() -> impl Strategy<Value = Step> {
    let tick = proptest::collection::btree_map(0u32..20, value(), 0..20)
        .prop_map(|map| Step::Tick(map.into_iter().collect()));
    prop_oneof![8 => tick, 1 => (0u32..20).prop_map(Step::Define), 1 => Just(Step::Restart), 1 => Just(Step::Forget)]
}

proptest! {
    #[test]
    fn ticks_come_back_to_the_bit(steps in proptest::collection::vec(step(), 1..40)) {
        let mut pair = Pair::default();
        for step in steps {
            match step {
                Step::Tick(mut tick) => {
                    tick.retain(|&(number, _)| (number as usize) < pair.sender.capacity());
                    pair.send(&tick);
                }
                Step::Define(number) => pair.define(number),
                Step::Restart => pair.restart_receiver(),
                Step::Forget => pair.sender.forget_dictionary(),
            }
        }
    }

    #[test]
    fn hostile_payload_is_an_error_or_a_tick(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let mut state = TickState::default();
        (0..40).for_each(|number| state.define(number));
        let mut tick = Vec::new();
        let mut stored = vec![0, bytes.len() as u8 | 0x80, (bytes.len() >> 7) as u8];
        stored.extend_from_slice(&bytes);
        let mut with_head = vec![0, (bytes.len() + 2) as u8 | 0x80, ((bytes.len() + 2) >> 7) as u8];
        with_head.extend_from_slice(&[LAYOUT, 40]);
        with_head.extend_from_slice(&bytes);
        for payload in [&bytes, &stored, &with_head] {
            if state.clone().decode(payload, &mut tick).is_ok() {
                prop_assert!(tick.len() <= 40);
            }
            let mut base = state.clone();
            if base.decode_base(payload, 50).is_ok() {
                prop_assert!((40..=50).contains(&base.capacity()));
            }
        }
    }
}

#[test]
fn golden_payloads() {
    let mut pair = Pair::default();
    (0..5).for_each(|number| pair.define(number));
    let mut golden = |tick: &[(u32, f64)], want: &[u8]| {
        pair.sender
            .encode(tick.iter().copied(), &mut pair.compressor, &mut Vec::new());
        // Checks the bytes before compression, because zstd's output may change between versions.
        assert_eq!(pair.sender.previous, want);
    };
    // Integer, decimals, absent, float, unchanged zero.
    golden(
        &[(0, 100.0), (1, 12.34), (3, std::f64::consts::PI), (4, 0.0)],
        &[
            1,
            5,
            0b1100_1110,
            0b01,
            200,
            1,
            2,
            164,
            19,
            0xff,
            0x08,
            0x18,
            0x2d,
            0x44,
            0x54,
            0xfb,
            0x21,
            0x09,
            0x40,
        ],
    );
    // A difference, a difference at the known scale, a whole number again, the others unchanged.
    golden(
        &[(0, 99.0), (1, 12.35), (3, 7.0), (4, 0.0)],
        &[1, 5, 0b0000_0100, 0b00, 1, 2, 0, 14],
    );
}

#[test]
fn payload_of_undefined_series_is_refused() {
    let mut sender = TickState::default();
    (0..3).for_each(|number| sender.define(number));
    let mut payload = Vec::new();
    sender.encode([(2, 1.0)], &mut Compressor::default(), &mut payload);
    let mut receiver = TickState::default();
    (0..2).for_each(|number| receiver.define(number));
    let error = receiver.decode(&payload, &mut Vec::new()).unwrap_err();
    assert!(matches!(error, WireError::Bad { .. }), "{error}");
}

#[test]
fn steady_node_costs_less_than_a_byte_and_a_half_per_sample() {
    // Of ten series, six do not change, two count hundredths, one bytes, and one nanoseconds with noise.
    let mut pair = Pair::default();
    (0..5000).for_each(|number| pair.define(number));
    let mut seed = 1u64;
    let mut noise = |below: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (seed >> 33) % below
    };
    let mut counters = vec![1_000_000u64; 5000];
    let mut bytes = 0;
    for round in 0..50 {
        let tick: Vec<(u32, f64)> = (0..5000)
            .map(|number| {
                let counter = &mut counters[number as usize];
                match number % 10 {
                    0 | 1 => {
                        *counter += noise(1000);
                        (number, *counter as f64 / 100.0)
                    }
                    2 => {
                        *counter += noise(1 << 20);
                        (number, *counter as f64)
                    }
                    3 => {
                        *counter += noise(1 << 30);
                        (number, *counter as f64 / 1e9)
                    }
                    _ => (number, f64::from(number)),
                }
            })
            .collect();
        let len = pair.send(&tick);
        if round >= 10 {
            bytes += len;
        }
    }
    let per_sample = bytes as f64 / (40.0 * 5000.0);
    assert!(per_sample < 1.5, "{per_sample} bytes per sample");
}
