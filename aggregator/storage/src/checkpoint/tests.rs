use super::*;

use common::model::Labels;

use crate::value_kind::ValueKind;

const SEED: u32 = 5;

fn write(directory: &Path, from: u64, base: Option<u64>, names: &[&str]) {
    let mut writer = CheckpointWriter::new(SEED, from, base);
    let define = |(column, name): (u32, &&str)| Definition {
        column,
        kind: ValueKind::Float,
        labels: Labels::from_pairs([("__name__", *name)]).unwrap(),
    };
    writer.group(&GroupState {
        number: 0,
        key: "g".to_owned(),
        sequence: Some(from),
        definitions: (0..).zip(names).map(define).collect(),
    });
    writer.finish(directory).unwrap();
}

/// Returns the names of all definitions in order, and the number of the first log record that they do not cover.
fn read_names(directory: &Path) -> (Vec<String>, u64) {
    let mut names = Vec::new();
    let from = read(directory, SEED, &mut |payload| {
        if let Ok(Record::Define { definitions, .. }) = record::decode(payload) {
            let name = |one: &Definition| one.labels.metric_name().unwrap().to_owned();
            names.extend(definitions.iter().map(name));
        }
    });
    (names, from.unwrap())
}

#[track_caller]
fn check(directory: &Path, names: &[&str], from: u64) {
    let (got, got_from) = read_names(directory);
    assert_eq!(
        (got.iter().map(String::as_str).collect::<Vec<_>>(), got_from),
        (names.to_vec(), from)
    );
}

#[test]
fn addition_counts_only_with_its_base() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    check(path, &[], 0);
    write(path, 10, None, &["a", "b"]);
    check(path, &["a", "b"], 10);
    write(path, 20, Some(10), &["c"]);
    check(path, &["a", "b", "c"], 20);
    write(path, 30, Some(10), &["c", "d"]);
    check(path, &["a", "b", "c", "d"], 30);
    let kept = ADDITION.map(|name| fs::read(path.join(name)).unwrap());
    write(path, 40, None, &["e"]);
    check(path, &["e"], 40);
    // As after a crash between the new base and the removal of the addition.
    for (name, bytes) in ADDITION.iter().zip(kept) {
        fs::write(path.join(name), bytes).unwrap();
    }
    check(path, &["e"], 40);
}

#[test]
fn any_flipped_bit_of_any_file_costs_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    write(path, 10, None, &["a", "b"]);
    write(path, 20, Some(10), &["c"]);
    for name in BASE.iter().chain(&ADDITION) {
        let file = path.join(name);
        let sound = fs::read(&file).unwrap();
        for bit in 0..sound.len() * 8 {
            let mut bytes = sound.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            fs::write(&file, &bytes).unwrap();
            let (mut names, from) = read_names(path);
            names.dedup();
            assert!(
                names.ends_with(&["c".to_owned()]) && from == 20,
                "{name} bit {bit}: {names:?} {from}"
            );
            assert!(
                names.starts_with(&["a".to_owned(), "b".to_owned()]),
                "{name} bit {bit}"
            );
        }
        fs::write(&file, &sound).unwrap();
    }
}
