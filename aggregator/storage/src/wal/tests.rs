use super::*;

use std::fs;
use std::path::Path;

use proptest::prelude::*;

use super::record::decode;

const SEED: u32 = 77;

fn options(directory: &Path) -> WalOptions {
    WalOptions {
        directory: directory.to_path_buf(),
        seed: SEED,
        linger: Duration::ZERO,
        segment_bytes: 4096,
        sync: WalSync::EveryCommit,
    }
}

/// Writes `count` records into several segments; returns the payloads.
fn write_log(directory: &Path, count: u64) -> Vec<Vec<u8>> {
    write_log_with(options(directory), count)
}

fn write_log_with(options: WalOptions, count: u64) -> Vec<Vec<u8>> {
    let wal = Wal::start(options, 1).unwrap();
    let payloads: Vec<Vec<u8>> = (0..count)
        .map(|n| (0..(n * 37 % 300)).map(|b| (b ^ n) as u8).collect())
        .collect();
    for payload in &payloads {
        let position = wal.push(payload);
        if position.0.is_multiple_of(5) {
            wal.wait_durable(position).unwrap();
        }
    }
    wal.close().unwrap();
    payloads
}

fn read_log(directory: &Path) -> (Vec<(u64, Vec<u8>)>, ReplayReport) {
    let mut records = Vec::new();
    let format = RecordFormat {
        seed: SEED,
        check: |_| Ok(()),
    };
    let quarantine = directory.join("corrupt");
    let report = replay(directory, &quarantine, format, &mut |list| {
        records.extend(list.iter().map(|&(n, p)| (n, p.to_vec())));
    })
    .unwrap();
    (records, report)
}

fn numbered(payloads: &[Vec<u8>]) -> Vec<(u64, Vec<u8>)> {
    (1..).zip(payloads.iter().cloned()).collect()
}

#[test]
fn log_comes_back_in_order() {
    let directory = tempfile::tempdir().unwrap();
    let payloads = write_log(directory.path(), 200);
    let (records, report) = read_log(directory.path());
    assert_eq!(records, numbered(&payloads));
    assert_eq!((report.last, report.lost, report.torn_bytes), (200, 0, 0));
    assert!(segment::list(directory.path()).unwrap().len() > 3);
}

/// Cuts the last segment at each of its bytes. `TIDEMARK_TORN_BYTES` is its approximate size (default 2,000; the full
/// run uses 65,536).
#[test]
fn log_torn_at_any_byte_keeps_what_was_whole() {
    let source = tempfile::tempdir().unwrap();
    let torn_bytes =
        std::env::var("TIDEMARK_TORN_BYTES").map_or(2_000, |text| text.parse().unwrap());
    let mut one_segment = options(source.path());
    one_segment.segment_bytes = torn_bytes;
    // A record has a header of 24 bytes and a payload of 150 bytes on average.
    let payloads = numbered(&write_log_with(one_segment, torn_bytes / 174 + 3));
    let segments = segment::list(source.path()).unwrap();
    let last = segments.last().unwrap();
    let bytes = fs::read(&last.path).unwrap();
    for cut in 0..bytes.len() {
        let directory = tempfile::tempdir().unwrap();
        for one in &segments {
            let to = directory.path().join(one.path.file_name().unwrap());
            fs::copy(&one.path, &to).unwrap();
        }
        let torn = directory.path().join(last.path.file_name().unwrap());
        fs::write(&torn, &bytes[..cut]).unwrap();
        let (records, report) = read_log(directory.path());
        assert_eq!(records, payloads[..records.len()], "cut at {cut}");
        assert!(records.len() as u64 >= last.first - 1, "cut at {cut}");
        assert_eq!(report.lost, 0);
        let (again, second) = read_log(directory.path());
        assert_eq!((again, second.torn_bytes), (records, 0), "cut at {cut}");
    }
}

#[test]
fn flipped_bit_costs_at_most_one_record() {
    let source = tempfile::tempdir().unwrap();
    let payloads = numbered(&write_log(source.path(), 60));
    let segments = segment::list(source.path()).unwrap();
    let mut random = 12_345_u64;
    for round in 0..1500 {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        let victim = &segments[(random >> 33) as usize % segments.len()];
        let sound = fs::read(&victim.path).unwrap();
        let mut bytes = sound.clone();
        let bit = (random >> 20) as usize % (bytes.len() * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        fs::write(&victim.path, &bytes).unwrap();
        let (records, report) = read_log(source.path());
        assert!(
            records.len() + 1 >= payloads.len(),
            "round {round} bit {bit}"
        );
        assert!(records.iter().all(|one| payloads.contains(one)));
        if records.len() < payloads.len() {
            assert!(
                report.lost == 1 || report.torn_bytes > 0,
                "round {round}: reported"
            );
        }
        fs::write(&victim.path, &sound).unwrap();
    }
}

#[test]
fn record_inside_a_damaged_record_is_not_taken_for_one() {
    let directory = tempfile::tempdir().unwrap();
    let wal = Wal::start(options(directory.path()), 1).unwrap();
    let mut forged = Vec::new();
    frame::put(&mut forged, 0, 2, crc32c::crc32c(b"evil"), b"evil");
    wal.push(&forged);
    wal.push(b"good");
    wal.close().unwrap();
    let path = segment::list(directory.path()).unwrap()[0].path.clone();
    let mut bytes = fs::read(&path).unwrap();
    bytes[segment::MAGIC.len() + 4] ^= 0x10;
    fs::write(&path, bytes).unwrap();
    let (records, report) = read_log(directory.path());
    assert_eq!(records, [(2, b"good".to_vec())]);
    assert_eq!(report.lost, 1);
}

#[test]
fn failed_write_is_told_and_repeated_before_anything_else() {
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("log");
    fs::create_dir(&log).unwrap();
    let mut small = options(&log);
    small.segment_bytes = 1;
    let wal = Wal::start(small, 1).unwrap();
    wal.wait_durable(wal.push(b"one")).unwrap();
    // The next segment can't be created, because its directory is gone.
    fs::rename(&log, directory.path().join("away")).unwrap();
    let two = wal.push(b"two");
    assert!(wal.wait_durable(two).is_err());
    assert!(
        wal.admit().is_err(),
        "nothing is accepted while the log fails"
    );
    fs::rename(directory.path().join("away"), &log).unwrap();
    while wal.wait_durable(two).is_err() {
        std::thread::yield_now();
    }
    wal.admit().unwrap();
    wal.push(b"three");
    wal.close().unwrap();
    let (records, report) = read_log(&log);
    let want: Vec<Vec<u8>> = [&b"one"[..], b"two", b"three"].map(Vec::from).to_vec();
    assert_eq!(records, numbered(&want));
    assert_eq!(report.lost, 0);
}

#[test]
fn callbacks_run_once_durable() {
    let directory = tempfile::tempdir().unwrap();
    let wal = Wal::start(options(directory.path()), 1).unwrap();
    let (send, receive) = std::sync::mpsc::channel();
    let position = wal.push(b"x");
    wal.when_durable(
        position,
        Box::new(move |result| send.send(result.is_ok()).unwrap()),
    );
    assert!(receive.recv().unwrap());
    assert!(wal.durable() >= position);
}

proptest! {
    #[test]
    fn arbitrary_payload_is_an_error_not_a_panic(bytes: Vec<u8>, kind in 0..5_u8, packed in 0..2_u8) {
        let mut payload = vec![kind, packed];
        payload.extend(bytes);
        let _unused = decode(&payload).is_ok();
    }
}
