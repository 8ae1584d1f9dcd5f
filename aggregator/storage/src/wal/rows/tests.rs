use super::*;

use proptest::prelude::*;

use super::record::{Record, decode};

/// A row as it is written and read back.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Row {
    head: RowHead,
    cells: Vec<(u32, u64)>,
}

/// Writes rows as appends do: the pending copies, then a record of rows.
fn write(records: &[Vec<Row>]) -> Vec<Vec<u8>> {
    let mut coders = vec![RowCoder::default(); 3];
    let mut payloads = Vec::new();
    for rows in records {
        payloads.extend(coders.iter_mut().filter_map(RowCoder::take_copy));
        let mut builder = RowsBuilder::default();
        for row in rows {
            let coder = &mut coders[row.head.group as usize];
            builder.push(row.head, coder, row.cells.iter().copied());
        }
        payloads.push(builder.finish());
    }
    payloads
}

/// Reads the rows of payloads, and counts those that can't be read.
fn read<'p>(payloads: impl Iterator<Item = &'p Vec<u8>>) -> (Vec<Row>, usize) {
    let mut coders = vec![RowCoder::default(); 3];
    let (mut rows, mut lost, mut sections) = (Vec::new(), 0, Vec::new());
    for payload in payloads {
        let Ok(Record::Rows(record)) = decode(payload) else {
            panic!("no rows");
        };
        record.unpack(&mut sections).unwrap();
        let mut reader = Reader::new(&sections);
        while !reader.is_empty() {
            let section = Section::read(&mut reader).unwrap();
            let head = section.head;
            assert!(may_hold(
                record.shard,
                u32::from(shard_of(head.group)) % 2,
                2
            ));
            let mut cells = Cells::default();
            match coders[head.group as usize].decode(&section, &mut cells, |_| true) {
                Ok(Decoded::Row) => rows.push(Row {
                    head,
                    cells: cells.columns.into_iter().zip(cells.values).collect(),
                }),
                Ok(Decoded::Repeated) => {}
                Err(RowError::KeyLost) => lost += 1,
                Err(error) => panic!("{error}"),
            }
        }
    }
    (rows, lost)
}

fn row(group: u32, timestamp_ms: i64, cells: Vec<(u32, u64)>) -> Row {
    let head = RowHead {
        group,
        sequence: Some(timestamp_ms.unsigned_abs()),
        timestamp_ms,
    };
    Row { head, cells }
}

/// Returns rows of a group of counters, gauges, constants and floats, one row per record.
fn usual(rows: u32) -> Vec<Vec<Row>> {
    let value = |tick: u32, column: u32| match column % 5 {
        0 => 7.0,
        1 => f64::from(tick * (column + 3) + tick % 3),
        2 => f64::from(tick * 1_234_567 + column) / 1e6,
        3 => f64::from(tick % 7) * 4096.0,
        _ => f64::from(tick + column).sqrt(),
    };
    let cells = |tick| (0..100).map(move |column| (column, value(tick, column).to_bits()));
    let one = |tick: u32| row(1, i64::from(tick) * 10_000, cells(tick).collect());
    (0..rows).map(|tick| vec![one(tick)]).collect()
}

#[test]
fn damaged_record_costs_its_own_rows_only() {
    let records = usual(100);
    let payloads = write(&records);
    let rows = records.concat();
    assert!(
        payloads.len() > rows.len() + 4,
        "key rows are written twice"
    );
    assert_eq!(read(payloads.iter()), (rows.clone(), 0));
    for damaged in 0..payloads.len() {
        let rest = payloads.iter().enumerate();
        let rest = rest.filter_map(|(at, payload)| (at != damaged).then_some(payload));
        let (got, lost) = read(rest);
        assert_eq!(lost, 0, "record {damaged}");
        assert!(got.len() + 1 >= rows.len(), "record {damaged}");
        assert!(got.iter().all(|one| rows.contains(one)), "record {damaged}");
    }
}

#[test]
fn without_both_copies_of_a_key_row_nothing_is_guessed() {
    let records = usual(100);
    let payloads = write(&records);
    let rows = records.concat();
    for damaged in 0..payloads.len() - 3 {
        let rest = payloads.iter().enumerate();
        let rest = rest.filter_map(|(at, one)| (at != damaged && at != damaged + 1).then_some(one));
        let (got, lost) = read(rest);
        assert!(got.len() + lost + 2 >= rows.len());
        assert!(got.iter().all(|one| rows.contains(one)), "record {damaged}");
    }
}

#[test]
fn usual_rows_are_small() {
    let payloads = write(&usual(100));
    let bytes: usize = payloads.iter().map(Vec::len).sum();
    // A fifth of the columns are random floats of eight bytes.
    assert!(bytes < 100 * 100 * 3, "{bytes} bytes");
}

#[test]
fn log_that_begins_anew_needs_nothing_from_before() {
    let records = usual(40);
    let mut coder = RowCoder::default();
    let mut payloads = Vec::new();
    for (at, record) in records.iter().enumerate() {
        if at == 20 {
            coder.begin();
        }
        payloads.extend(coder.take_copy());
        let mut builder = RowsBuilder::default();
        builder.push(record[0].head, &mut coder, record[0].cells.iter().copied());
        payloads.push(builder.finish());
    }
    let (all, lost) = read(payloads.iter());
    assert_eq!((&all[..], lost), (&records.concat()[..], 0));
    let begin = payloads.len() - 20 - 2;
    let (tail, lost) = read(payloads[begin..].iter());
    assert_eq!(tail[tail.len() - 20..], records.concat()[20..]);
    assert!(lost <= 2);
}

fn arbitrary_bits() -> impl Strategy<Value = u64> {
    prop_oneof![
        any::<u64>(),
        any::<f64>().prop_map(f64::to_bits),
        (-1000_i32..1000).prop_map(|n| f64::from(n).to_bits()),
        any::<i32>().prop_map(|n| (f64::from(n) / 1e3).to_bits()),
        (0..4_u64).prop_map(|n| (f64::NAN.to_bits()) + n),
        Just((-0.0_f64).to_bits()),
        Just(f64::NEG_INFINITY.to_bits()),
        Just(1_u64),
        Just((9_007_199_254_740_993_u64 as f64).to_bits()),
    ]
}

fn arbitrary_row() -> impl Strategy<Value = Row> {
    let cells = prop::collection::btree_map(0..40_u32, arbitrary_bits(), 0..20);
    let time = prop_oneof![0..1_000_000_i64, any::<i64>()];
    let head = (0..3_u32, any::<Option<u64>>(), time);
    (head, cells).prop_map(|((group, sequence, timestamp_ms), cells)| Row {
        head: RowHead {
            group,
            sequence,
            timestamp_ms,
        },
        cells: cells.into_iter().collect(),
    })
}

proptest! {
    #[test]
    fn rows_come_back_to_the_bit(
        records in prop::collection::vec(prop::collection::vec(arbitrary_row(), 1..4), 0..60),
    ) {
        let (got, lost) = read(write(&records).iter());
        prop_assert_eq!((got, lost), (records.concat(), 0));
    }

    #[test]
    fn arbitrary_sections_are_an_error_not_a_panic(bytes: Vec<u8>) {
        let mut coder = RowCoder::default();
        let mut reader = Reader::new(&bytes);
        while let Ok(section) = Section::read(&mut reader) {
            let _unused = coder.decode(&section, &mut Cells::default(), |_| true).is_ok();
        }
    }
}
