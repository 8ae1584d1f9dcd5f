use super::*;
use proptest::prelude::*;

/// Columns of a chunk: for each row a value or none.
type Table = Vec<Vec<Option<u64>>>;

fn encode(times: &[i64], table: &Table) -> Vec<u8> {
    let mut builder = ChunkBuilder::default();
    builder.begin(times);
    for column in table {
        let present = (0..)
            .zip(column)
            .filter_map(|(row, value)| Some((row, (*value)?)));
        let (rows, values): (Vec<u32>, Vec<u64>) = present.unzip();
        builder.push_sparse(&rows, &values);
    }
    let mut bytes = Vec::new();
    builder.finish(&mut bytes);
    bytes
}

#[track_caller]
fn check(times: &[i64], table: &Table) -> usize {
    let bytes = encode(times, table);
    let chunk = Chunk::decode(&bytes).unwrap();
    assert_eq!(chunk.times_ms(), times);
    assert_eq!(chunk.columns_len(), table.len());
    let mut scratch = Vec::new();
    for (index, column) in table.iter().enumerate() {
        let (mut got_times, mut got) = (Vec::new(), Vec::new());
        chunk.samples(index, &mut scratch, &mut got_times, &mut got);
        let got: Vec<_> = got_times
            .into_iter()
            .zip(got.iter().map(|v| v.to_bits()))
            .collect();
        let want = times
            .iter()
            .zip(column)
            .filter_map(|(&t, value)| Some((t, (*value)?)));
        assert_eq!(got, want.collect::<Vec<_>>(), "column {index}");
    }
    bytes.len()
}

fn arbitrary_value() -> impl Strategy<Value = u64> {
    prop_oneof![
        4 => (-50..50_i32).prop_map(|n| f64::from(n).to_bits()),
        3 => (0..100_000_i32).prop_map(|n| (f64::from(n) / 1000.0).to_bits()),
        2 => any::<u64>(),
        1 => any::<f64>().prop_map(f64::to_bits),
        1 => prop::sample::select(vec![
            0x7ff0_0000_0000_0002,
            0x8000_0000_0000_0000,
            f64::INFINITY.to_bits(),
            f64::NEG_INFINITY.to_bits(),
            1,
            9_007_199_254_740_993.0_f64.to_bits(),
            u64::MAX,
        ]),
    ]
}

fn arbitrary_table() -> impl Strategy<Value = (Vec<i64>, Table)> {
    prop::collection::btree_set(any::<i64>(), 1..60).prop_flat_map(|times| {
        let times: Vec<i64> = times.into_iter().collect();
        let rows = times.len();
        let cell = prop_oneof![4 => arbitrary_value().prop_map(Some), 1 => Just(None)];
        let mixed = prop::collection::vec(cell, rows);
        let full = prop::collection::vec(arbitrary_value().prop_map(Some), rows);
        let counter = prop::collection::vec(0..1000_i32, rows).prop_map(|steps| {
            let mut sum = 0.0;
            let step = |step: i32| {
                sum += f64::from(step) / 100.0;
                Some(f64::to_bits(sum))
            };
            steps.into_iter().map(step).collect()
        });
        let column = prop_oneof![mixed, full, counter];
        (Just(times), prop::collection::vec(column, 0..10))
    })
}

proptest! {
    #[test]
    fn every_column_comes_back_to_the_bit((times, table) in arbitrary_table()) {
        check(&times, &table);
    }

    #[test]
    fn damaged_chunk_is_an_error_or_a_chunk_but_no_panic(
        (times, table) in arbitrary_table(),
        flips in prop::collection::vec(any::<(prop::sample::Index, u8)>(), 1..4),
        cut: prop::sample::Index,
    ) {
        let mut bytes = encode(&times, &table);
        for (at, mask) in flips {
            let at = at.index(bytes.len());
            bytes[at] ^= mask;
        }
        bytes.truncate(cut.index(bytes.len() + 1));
        if let Ok(chunk) = Chunk::decode(&bytes) {
            let (mut scratch, mut times, mut values) = (Vec::new(), Vec::new(), Vec::new());
            for column in 0..chunk.columns_len() {
                chunk.samples(column, &mut scratch, &mut times, &mut values);
            }
        }
    }
}

#[test]
fn usual_columns_are_small() {
    let times: Vec<i64> = (0..720).map(|n| 1_700_000_000_000 + n * 10_000).collect();
    let constant = vec![Some(42.5_f64.to_bits()); 720];
    let counter = (0..720)
        .map(|n| Some(f64::from(n * 1000 + n % 7).to_bits()))
        .collect();
    let bytes = check(&times, &vec![constant.clone(), constant, counter]);
    assert!(bytes < 800, "{bytes} bytes for 2160 samples");
}
