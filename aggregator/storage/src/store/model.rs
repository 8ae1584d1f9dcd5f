//! Compares the store with a plain map over random steps.

use super::tests::{Content, all, labels, one, open_at};
use super::*;

use common::model::Labels;
use proptest::prelude::*;

/// A step of the comparison against a plain map.
#[derive(Debug, Clone)]
enum Step {
    Append(Vec<(u8, i64, u8)>),
    Row(u64, i64, Vec<(u8, u8)>),
    Restart,
    Flush,
    /// The stream undefines a column, so that its series may leave the head, then defines it again.
    Undefine(u8),
}

fn arbitrary_step() -> impl Strategy<Value = Step> {
    let sample = (0..6_u8, 0..30_i64, 0..3_u8);
    let cell = (0..6_u8, 0..3_u8);
    prop_oneof![
        4 => prop::collection::vec(sample, 1..12).prop_map(Step::Append),
        4 => (0..30_u64, 0..30_i64, prop::collection::vec(cell, 0..6))
            .prop_map(|(sequence, time, cells)| Step::Row(sequence, time, cells)),
        1 => Just(Step::Restart),
        1 => (0..6_u8).prop_map(Step::Undefine),
        1 => Just(Step::Flush),
    ]
}

fn series_number(n: u8) -> Labels {
    if n == u8::MAX {
        return labels("other", "a");
    }
    labels(&format!("m{n}"), if n < 4 { "a" } else { "b" })
}

/// Inserts a sample into the model; returns false if it holds another value there.
fn model_put(model: &mut Content, series: u8, time: i64, bits: u64) -> bool {
    let list = model.entry(series_number(series)).or_default();
    match list.binary_search_by_key(&time, |&(t, _)| t) {
        Ok(at) => list[at].1 == bits,
        Err(at) => {
            list.insert(at, (time, bits));
            true
        }
    }
}

/// Appends a batch, and returns how many samples are refused: those that differ from a value of an earlier batch. Of
/// several values for one timestamp in a batch, the first one counts.
fn model_append(model: &mut Content, samples: &[(u8, i64, u8)]) -> u64 {
    let before = model.clone();
    let mut refused = 0;
    for &(n, t, v) in samples {
        let list = before.get(&series_number(n));
        let is_known = list.is_some_and(|list| list.iter().any(|&(time, _)| time == t));
        let is_stored = model_put(model, n, t, f64::from(v).to_bits());
        refused += u64::from(is_known && !is_stored);
    }
    refused
}

fn open_stream(store: &Store) -> Stream {
    let mut stream = store.stream("s");
    for n in 0..6 {
        stream.define(u32::from(n) * 2, &series_number(n)).unwrap();
    }
    stream
}

fn run_against_model(steps: &[Step]) {
    let directory = tempfile::tempdir().unwrap();
    let mut store = open_at(directory.path());
    let mut stream = open_stream(&store);
    let mut model = Content::new();
    let mut last_sequence = None;
    for step in steps {
        match step {
            Step::Append(samples) => {
                let batch: Vec<_> = samples
                    .iter()
                    .map(|&(n, t, v)| one(&series_number(n), &[(t, f64::from(v))]))
                    .collect();
                let appended = store.append(&batch, AppendMode::Partial).unwrap();
                let refused = model_append(&mut model, samples);
                assert_eq!(appended.refused, refused);
            }
            Step::Row(sequence, time, cells) => {
                let row: Vec<_> = cells
                    .iter()
                    .map(|&(n, v)| (u32::from(n) * 2, f64::from(v)))
                    .collect();
                stream.append_row(*sequence, *time, &row).unwrap();
                if last_sequence.is_none_or(|last| *sequence > last) {
                    last_sequence = Some(*sequence);
                    for &(n, v) in cells {
                        model_put(&mut model, n, *time, f64::from(v).to_bits());
                    }
                }
            }
            Step::Flush => store.flush().unwrap(),
            Step::Undefine(n) => {
                stream.undefine(u32::from(*n) * 2);
                for _ in 0..2 {
                    store
                        .append(
                            &[one(&labels("other", "a"), &[(99, 0.0)])],
                            AppendMode::Partial,
                        )
                        .unwrap();
                    model_put(&mut model, u8::MAX, 99, 0);
                    store.flush().unwrap();
                }
                stream
                    .define(u32::from(*n) * 2, &series_number(*n))
                    .unwrap();
            }
            Step::Restart => {
                store.close().unwrap();
                drop(stream);
                drop(store);
                store = open_at(directory.path());
                stream = open_stream(&store);
                assert_eq!(stream.durable_sequence(), last_sequence);
            }
        }
        assert_eq!(all(&store), model);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn store_equals_a_plain_map(steps in prop::collection::vec(arbitrary_step(), 1..40)) {
        run_against_model(&steps);
    }
}
