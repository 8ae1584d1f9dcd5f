//! Tests of failing disks and power loss: acknowledged samples must survive, whatever else is lost.
//!
//! `TIDEMARK_CRASHES` (default 150 crash points; the full run uses 5,000) and `TIDEMARK_WRITE_FAULTS` (default 25
//! calls; the full run uses 400) set the number of attempts.

use super::*;

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use common::clock::ManualClock;
use common::model::{Labels, Matcher, Sample};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use crate::disk::model::{Disk, Fault, Luck};
use crate::read::Values;

const NOW: i64 = 1_700_000_000_000;
const COLUMNS: u32 = 6;
const STREAMS: u64 = 3;

fn count_from(variable: &str, default: usize) -> usize {
    std::env::var(variable).map_or(default, |text| text.parse().unwrap())
}

fn open(path: &Path) -> Result<Store, OpenError> {
    let options = StoreOptions {
        path: path.to_path_buf(),
        retention: None,
        retention_bytes: 0,
        memory_budget_bytes: 1 << 30,
        ..StoreOptions::default()
    };
    Store::open(options, Arc::new(ManualClock::new(NOW)))
}

fn series(stream: u64, column: u32) -> Labels {
    let pairs = [
        ("__name__", format!("m{column}")),
        ("job", "j".to_owned()),
        ("instance", format!("i{stream}")),
    ];
    Labels::from_pairs(pairs).unwrap()
}

/// A sample passed to the store, and when it was acknowledged.
#[derive(Debug)]
struct Sent {
    labels: Labels,
    time: i64,
    bits: u64,
    acknowledged: Option<usize>,
    /// When its deletion was requested, and when it completed.
    deleted: Option<(usize, Option<usize>)>,
}

/// A writer that resends unacknowledged samples, as an agent does.
struct Writer {
    disk: Arc<Disk>,
    random: StdRng,
    sent: Vec<Sent>,
    sequences: Vec<u64>,
    clock: i64,
}

impl Writer {
    fn new(disk: &Arc<Disk>, seed: u64) -> Self {
        Self {
            disk: Arc::clone(disk),
            random: StdRng::seed_from_u64(seed),
            sent: Vec::new(),
            sequences: vec![0; STREAMS as usize],
            clock: NOW - 10_000_000,
        }
    }

    fn note(&mut self, labels: Labels, time: i64, value: f64) {
        self.sent.push(Sent {
            labels,
            time,
            bits: value.to_bits(),
            acknowledged: None,
            deleted: None,
        });
    }

    fn acknowledge(&mut self, from: usize) {
        let now = self.disk.now();
        for one in &mut self.sent[from..] {
            one.acknowledged = Some(now);
        }
    }

    /// Sends one acknowledged tick of an agent, or a few that are not acknowledged yet.
    fn tick(&mut self, store: &Store) {
        let which = self.random.random_range(0..STREAMS);
        let mut stream = store.stream(&format!("agent/{which}"));
        for column in 0..COLUMNS {
            stream.define(column, &series(which, column)).unwrap();
        }
        let first = self.sent.len();
        let mut last = None;
        for _ in 0..self.random.random_range(1..4) {
            self.clock += 1000;
            let sequence = &mut self.sequences[which as usize];
            *sequence += 1;
            let sequence = *sequence;
            let time = self.clock;
            let row: Vec<(u32, f64)> = (0..COLUMNS)
                .map(|column| (column, self.random.random_range(0..1000_i32).into()))
                .collect();
            for &(column, value) in &row {
                self.note(series(which, column), time, value);
            }
            last = Some(until_taken(|| stream.append_row(sequence, time, &row)));
        }
        if self.random.random_bool(0.7) {
            let position = last.unwrap().position;
            while store.wait_durable(position).is_err() {
                std::thread::yield_now();
            }
            self.acknowledge(first);
        }
    }

    /// Sends a remote-write request.
    fn request(&mut self, store: &Store) {
        let first = self.sent.len();
        self.clock += 1000;
        let mut batch = Vec::new();
        for column in 0..self.random.random_range(1..COLUMNS) {
            let labels = series(100 + u64::from(column % 2), column);
            // Some samples are late.
            let late = self.random.random_range(0..3_i64) * 1_000_000;
            let sample = Sample {
                timestamp_ms: self.clock - late,
                value: self.random.random(),
            };
            self.note(labels.clone(), sample.timestamp_ms, sample.value);
            batch.push(SeriesSamples {
                labels,
                samples: vec![sample],
            });
        }
        let appended = until_taken(|| store.append(&batch, AppendMode::Partial));
        while store.wait_durable(appended.position).is_err() {
            std::thread::yield_now();
        }
        self.acknowledge(first);
    }

    fn delete(&mut self, store: &Store) {
        let column = self.random.random_range(0..COLUMNS);
        let (start, end) = (self.clock - 100_000, self.clock);
        let name = format!("m{column}");
        let begun = self.disk.now();
        while store
            .delete_series(&[Matcher::equal("__name__", &name)], start, end)
            .is_err()
        {}
        let done = self.disk.now();
        for one in &mut self.sent {
            let is_meant = one.labels.metric_name() == Some(&name);
            if is_meant && (start..=end).contains(&one.time) && one.deleted.is_none() {
                one.deleted = Some((begun, Some(done)));
            }
        }
    }

    fn run(&mut self, path: &Path, steps: usize) {
        let mut store = until_open(path);
        for step in 0..steps {
            match self.random.random_range(0..20) {
                0..10 => self.tick(&store),
                10..16 => self.request(&store),
                16..18 => while store.flush().is_err() {},
                18 if step > steps / 2 => self.delete(&store),
                _ => {
                    // As after a process exit: the store is dropped without a call to `close`.
                    drop(store);
                    store = until_open(path);
                }
            }
        }
    }
}

fn until_open(path: &Path) -> Store {
    for _ in 0..1000 {
        match open(path) {
            Ok(store) => return store,
            Err(OpenError::Io { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
    panic!("does not open");
}

fn until_taken(mut append: impl FnMut() -> Result<Appended, AppendError>) -> Appended {
    loop {
        match append() {
            Ok(appended) => return appended,
            Err(AppendError::Log(_) | AppendError::DiskFull { .. }) => std::thread::yield_now(),
            Err(error) => panic!("{error}"),
        }
    }
}

fn content(store: &Store) -> HashMap<(Labels, i64), u64> {
    let control = ReadControl::unlimited();
    let selection = Selection {
        matchers: vec![],
        start_ms: i64::MIN,
        end_ms: i64::MAX,
    };
    let set = store.select(&selection, &control).unwrap();
    assert_eq!(set.warnings(), Vec::<String>::new(), "nothing is damaged");
    let mut content = HashMap::new();
    set.read(0..set.len(), &control, &mut |index, column| {
        let Values::Floats(values) = column.values;
        for (&time, value) in column.timestamps_ms.iter().zip(values) {
            let before = content.insert((set.labels(index), time), value.to_bits());
            assert_eq!(before, None, "a sample comes twice");
        }
        Ok(())
    })
    .unwrap();
    content
}

/// Checks the content of a store against what was acknowledged up to `moment`.
#[track_caller]
fn check(content: &HashMap<(Labels, i64), u64>, sent: &[Sent], moment: usize, what: &str) {
    let mut known: HashMap<(&Labels, i64), u64> = HashMap::new();
    for one in sent {
        known.insert((&one.labels, one.time), one.bits);
        let got = content.get(&(one.labels.clone(), one.time));
        let is_acknowledged = one.acknowledged.is_some_and(|at| at <= moment);
        match one.deleted {
            Some((_, Some(done))) if done <= moment => {
                assert_eq!(got, None, "{what}: deleted {one:?} is back");
            }
            Some((begun, _)) if begun <= moment => {}
            _ if is_acknowledged => assert_eq!(got, Some(&one.bits), "{what}: {one:?}"),
            _ => {}
        }
    }
    for ((labels, time), bits) in content {
        let want = known.get(&(labels, *time));
        assert_eq!(want, Some(bits), "{what}: {labels} at {time}");
    }
}

#[test]
fn loss_of_power_at_any_sync_loses_nothing_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Disk::install(folder.path());
    let mut writer = Writer::new(&disk, 11);
    writer.run(&folder.path().join("data"), 120);
    let points = disk.sync_points();
    assert!(points.len() > 200, "{}", points.len());
    let crashes = count_from("TIDEMARK_CRASHES", 150);
    let mut random = StdRng::seed_from_u64(5);
    for round in 0..crashes {
        let moment = if round % 4 == 3 {
            random.random_range(0..disk.now())
        } else {
            points[random.random_range(0..points.len())]
        };
        let seed = random.random();
        let mut luck = match round % 2 {
            0 => Luck::None,
            _ => Luck::Any(Box::new(StdRng::seed_from_u64(seed))),
        };
        let what = format!("round {round}, moment {moment}, {luck:?}");
        let left = tempfile::tempdir().unwrap();
        disk.lay_out(moment, &mut luck, left.path());
        let store =
            open(&left.path().join("data")).unwrap_or_else(|error| panic!("{what}: {error}"));
        check(&content(&store), &writer.sent, moment, &what);
        assert_eq!(store.stats().blocks_quarantined, 0, "{what}");
    }
}

/// Runs a workload while some calls fail, then simulates a power loss.
fn run_with_fault(fault: Fault, steps: usize) -> u64 {
    let folder = tempfile::tempdir().unwrap();
    let disk = Disk::install(folder.path());
    disk.fail(Some(fault));
    let path = folder.path().join("data");
    let mut writer = Writer::new(&disk, 23);
    writer.run(&path, steps);
    let what = format!("{fault:?}");
    for moment in [disk.now(), disk.now() * 2 / 3] {
        let left = tempfile::tempdir().unwrap();
        disk.lay_out(moment, &mut Luck::None, left.path());
        let store =
            open(&left.path().join("data")).unwrap_or_else(|error| panic!("{what}: {error}"));
        check(&content(&store), &writer.sent, moment, &what);
    }
    // Also check without a power loss: everything the kernel holds.
    check(
        &content(&until_open(&path)),
        &writer.sent,
        disk.now(),
        &what,
    );
    disk.calls()
}

#[test]
fn failed_call_anywhere_is_never_followed_by_a_false_acknowledgement() {
    let never = Fault {
        first: u64::MAX,
        calls: 0,
        errno: libc::EIO,
    };
    let calls = run_with_fault(never, 25);
    let faults = count_from("TIDEMARK_WRITE_FAULTS", 25) as u64;
    for number in 0..faults {
        let first = number * calls / faults;
        let (calls, errno) = match number % 3 {
            0 => (1, libc::EIO),
            1 => (3, libc::EIO),
            _ => (6, libc::ENOSPC),
        };
        run_with_fault(
            Fault {
                first,
                calls,
                errno,
            },
            25,
        );
    }
}

#[test]
fn model_of_the_disk_forgets_what_was_not_synced() {
    use std::io::Write as _;
    let folder = tempfile::tempdir().unwrap();
    let disk = Disk::install(folder.path());
    let (a, b) = (folder.path().join("a"), folder.path().join("b"));
    let mut file = crate::disk::File::create(&a).unwrap();
    file.write_all(b"synced").unwrap();
    file.sync_all().unwrap();
    crate::files::sync_directory(folder.path()).unwrap();
    file.write_all(b", not synced").unwrap();
    crate::disk::rename(&a, &b).unwrap();
    let left = tempfile::tempdir().unwrap();
    disk.lay_out(disk.now(), &mut Luck::None, left.path());
    assert_eq!(fs::read(left.path().join("a")).unwrap(), b"synced");
    assert!(!left.path().join("b").try_exists().unwrap());
    disk.fail(Some(Fault {
        first: disk.calls(),
        calls: 1,
        errno: libc::EIO,
    }));
    assert!(file.sync_all().is_err());
    file.sync_all().unwrap();
    crate::files::sync_directory(folder.path()).unwrap();
    let left = tempfile::tempdir().unwrap();
    disk.lay_out(disk.now(), &mut Luck::None, left.path());
    assert_eq!(
        fs::read(left.path().join("b")).unwrap(),
        b"synced",
        "a sync that failed is not made good by the next one"
    );
}

#[test]
fn interval_mode_loses_the_end_only_and_only_without_power() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Disk::install(folder.path());
    let path = folder.path().join("data");
    let options = |path: &Path| StoreOptions {
        path: path.to_path_buf(),
        wal_sync: WalSync::Interval(Duration::from_millis(5)),
        ..StoreOptions::default()
    };
    let open = |path: &Path| Store::open(options(path), Arc::new(ManualClock::new(NOW))).unwrap();
    let store = open(&path);
    let mut stream = store.stream("agent/1");
    stream.define(0, &series(1, 0)).unwrap();
    let mut acknowledged = Vec::new();
    for sequence in 1..=200_u64 {
        let row = [(0, sequence as f64)];
        let appended = stream
            .append_row(sequence, NOW - 1000 + sequence as i64, &row)
            .unwrap();
        store.wait_durable(appended.position).unwrap();
        acknowledged.push(disk.now());
        if sequence % 50 == 0 {
            store.flush().unwrap();
        }
    }
    let rows = |path: &Path| {
        let store = open(path);
        assert_eq!(store.stats().blocks_quarantined, 0);
        let count = content(&store).len() as u64;
        // Rows of a block whose checkpoint was not written yet are sent again and dropped as duplicates.
        assert!(store.stream("agent/1").durable_sequence().unwrap_or(0) <= count);
        let held = content(&store);
        let time = |sequence: u64| NOW - 1000 + sequence as i64;
        assert!((1..=count).all(|sequence| held.contains_key(&(series(1, 0), time(sequence)))));
        count
    };
    // After a kill, everything the kernel holds is there.
    let copy = tempfile::tempdir().unwrap();
    disk.lay_out_all(copy.path());
    assert_eq!(rows(&copy.path().join("data")), 200);
    // After a power loss, a gapless prefix of the acknowledged rows is there.
    let mut random = StdRng::seed_from_u64(3);
    let mut lost_most = 0;
    for _ in 0..20 {
        let moment = random.random_range(acknowledged[20]..disk.now());
        let left = tempfile::tempdir().unwrap();
        disk.lay_out(moment, &mut Luck::None, left.path());
        let told = acknowledged.iter().filter(|&&at| at <= moment).count() as u64;
        lost_most = lost_most.max(told.saturating_sub(rows(&left.path().join("data"))));
    }
    assert!(lost_most < 150, "{lost_most}: a sync every 5 ms");
    store.close().unwrap();
    let left = tempfile::tempdir().unwrap();
    disk.lay_out(disk.now(), &mut Luck::None, left.path());
    assert_eq!(rows(&left.path().join("data")), 200, "an orderly end syncs");
}
