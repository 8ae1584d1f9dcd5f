//! Checks the spool against a model: every tick is read once and in order, across restarts, crashes and damage.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use common::model::{Labels, Metadata};
use common::telemetry::Registry;
use common::wire::{Frame, FrameBuffer, SchemaEntry, SchemaReader, TickState};
use proptest::prelude::*;

use super::*;
use crate::TickSource as _;
use crate::testing::TestTable;

type Values = BTreeMap<String, u64>;

/// Decodes frames as an aggregator does.
#[derive(Default)]
struct Peer {
    state: TickState,
    series: BTreeMap<u32, Labels>,
    ticks: BTreeMap<u64, (i64, Values)>,
    resets: usize,
    families: usize,
}

impl Peer {
    #[track_caller]
    fn take(&mut self, bytes: &[u8]) {
        let mut buffer = FrameBuffer::new(common::limits::FRAME_BYTES_MAX);
        buffer.extend(bytes);
        while let Some(message) = buffer.next_message().unwrap() {
            self.take_frame(&Frame::decode(message).unwrap());
        }
        assert!(buffer.is_empty());
    }

    #[track_caller]
    fn take_frame(&mut self, frame: &Frame<'_>) {
        match frame {
            Frame::Schema { reset, payload } => {
                if *reset {
                    self.state.clear();
                    self.series.clear();
                    self.resets += 1;
                }
                let mut entries = SchemaReader::new(payload).unwrap();
                while let Some(entry) = entries.next_entry().unwrap() {
                    match entry {
                        SchemaEntry::Added {
                            series_ref: number,
                            labels,
                        } => {
                            self.state.define(number);
                            assert!(
                                self.series.insert(number, labels).is_none(),
                                "number in use"
                            );
                        }
                        SchemaEntry::Removed(number) => {
                            assert!(self.series.remove(&number).is_some(), "number not in use");
                        }
                        SchemaEntry::Family { .. } => self.families += 1,
                    }
                }
            }
            Frame::Base { payload } => self.state.decode_base(payload, 1000).unwrap(),
            Frame::Samples {
                sequence,
                timestamp_ms,
                payload,
            } => {
                let mut values = Vec::new();
                self.state.decode(payload, &mut values).unwrap();
                let values = values
                    .iter()
                    .map(|&(number, value)| (self.series[&number].to_string(), value.to_bits()));
                let last = self.ticks.last_key_value().map(|(&last, _)| last);
                assert!(last < Some(*sequence), "out of order");
                self.ticks
                    .insert(*sequence, (*timestamp_ms, values.collect()));
            }
            other => panic!("unexpected {}", other.name()),
        }
    }

    #[track_caller]
    fn read(&mut self, reader: &mut SpoolReader) {
        loop {
            let mut out = Vec::new();
            reader.read(&mut out, 1000).unwrap();
            if out.is_empty() {
                return;
            }
            self.take(&out);
        }
    }
}

/// A table with a few series.
struct Source {
    table: TestTable,
    live: Vec<u32>,
    made: u32,
    now_ms: i64,
}

impl Source {
    fn new() -> Self {
        let mut table = TestTable::default();
        table.add_family("m", Metadata::default());
        Self {
            table,
            live: Vec::new(),
            made: 0,
            now_ms: 1000,
        }
    }

    fn add(&mut self) {
        self.made += 1;
        let labels = [("__name__", "m".to_owned()), ("n", self.made.to_string())];
        let labels = Labels::from_pairs(labels).unwrap();
        self.live.push(self.table.add(labels));
    }

    fn remove(&mut self, which: usize) {
        if !self.live.is_empty() {
            let id = self.live.swap_remove(which % self.live.len());
            self.table.remove(id);
        }
    }

    /// Begins a tick and returns its contents.
    fn tick(&mut self, seed: u64) -> (i64, Values) {
        self.now_ms += 10;
        self.table.begin_tick(self.now_ms);
        let mut values = Values::new();
        for (index, &id) in self.live.iter().enumerate() {
            let noise = seed.rotate_left(index as u32 * 7);
            if noise.is_multiple_of(5) {
                continue;
            }
            let value = match noise % 3 {
                0 => 7.0,
                1 => (noise % 100_000) as f64 / 100.0,
                _ => f64::from_bits(noise),
            };
            self.table.set(id, value);
            let labels = self.table.labels(id).unwrap().to_string();
            values.insert(labels, value.to_bits());
        }
        (self.now_ms, values)
    }
}

fn options(path: &Path, bytes_max: u64) -> SpoolOptions {
    SpoolOptions {
        path: path.to_owned(),
        bytes_max,
        receivers: &[Receiver::Primary],
        sync_each_tick: false,
    }
}

fn newest_segment(path: &Path) -> PathBuf {
    segments(path).pop().unwrap()
}

fn segments(path: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(path)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut paths: Vec<_> = entries
        .filter(|path| path.extension().is_some_and(|e| e == "seg"))
        .collect();
    paths.sort();
    paths
}

#[derive(Debug, Clone)]
enum Op {
    Tick(u64),
    Add,
    Remove(usize),
    /// The peer continues to read.
    Read,
    /// The peer opens a new session after its last tick.
    Reconnect,
    /// The peer acknowledges everything it has.
    Acknowledge,
    /// The producer restarts.
    Restart,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        8 => any::<u64>().prop_map(Op::Tick),
        2 => Just(Op::Add),
        1 => any::<usize>().prop_map(Op::Remove),
        3 => Just(Op::Read),
        1 => Just(Op::Reconnect),
        1 => Just(Op::Acknowledge),
        1 => Just(Op::Restart),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn every_tick_is_read_once_in_order_and_bit_for_bit(ops in proptest::collection::vec(op(), 1..120)) {
        let dir = tempfile::tempdir().unwrap();
        let registry = Registry::default();
        // Large enough that nothing is dropped, small enough for many segments.
        let options = SpoolOptions { bytes_max: 16_000, ..options(dir.path(), 0) };
        let (mut writer, mut handle) = open(options.clone(), &registry).unwrap();
        let mut source = Source::new();
        let (mut model, mut peer) = (BTreeMap::new(), Peer::default());
        let mut reader = handle.read_after(None);
        for op in ops {
            match op {
                Op::Tick(seed) => {
                    let want = source.tick(seed);
                    model.insert(writer.append(&mut source.table).unwrap(), want);
                    // As an aggregator would soon do, so that the spool does not fill up.
                    if model.len().is_multiple_of(50) {
                        peer.read(&mut reader);
                        handle.acknowledge(reader.position().unwrap());
                    }
                }
                Op::Add => source.add(),
                Op::Remove(which) => source.remove(which),
                Op::Read => peer.read(&mut reader),
                Op::Reconnect => {
                    peer.state = TickState::default();
                    peer.series.clear();
                    reader = handle.read_after(reader.position());
                }
                Op::Acknowledge => {
                    if let Some(position) = reader.position() {
                        handle.acknowledge(position);
                    }
                }
                Op::Restart => {
                    let position = reader.position();
                    let instance = handle.instance();
                    drop(writer);
                    (writer, handle) = open(options.clone(), &registry).unwrap();
                    prop_assert_eq!(handle.instance(), instance);
                    let made = source.made;
                    source = Source { made, now_ms: source.now_ms, ..Source::new() };
                    reader = handle.read_after(position);
                }
            }
        }
        peer.read(&mut reader);
        let metrics = SpoolMetrics::new(&registry, &[Receiver::Primary]);
        prop_assert_eq!(metrics.dropped_ticks[0].get(), 0);
        prop_assert_eq!(metrics.corrupt_records.get(), 0);
        prop_assert_eq!(&peer.ticks, &model);
    }

    #[test]
    fn damage_loses_ticks_but_never_invents_one(
        ticks in proptest::collection::vec(any::<u64>(), 20..80),
        damage in proptest::collection::vec((any::<usize>(), any::<usize>(), 1u8..), 1..4),
        cut in 0u64..200,
    ) {
        let dir = tempfile::tempdir().unwrap();
        let registry = Registry::default();
        let options = options(dir.path(), 1 << 20);
        let (mut writer, handle) = open(options.clone(), &registry).unwrap();
        let mut source = Source::new();
        let mut model = BTreeMap::new();
        for (index, &seed) in ticks.iter().enumerate() {
            if index % 4 == 0 {
                source.add();
            }
            let want = source.tick(seed);
            model.insert(writer.append(&mut source.table).unwrap(), want);
        }
        drop((writer, handle));
        let path = newest_segment(dir.path());
        let mut bytes = fs::read(&path).unwrap();
        for (_, at, flip) in damage {
            let at = at % bytes.len();
            bytes[at] ^= flip;
        }
        bytes.truncate(bytes.len() - (cut as usize).min(bytes.len()));
        fs::write(&path, &bytes).unwrap();

        let (mut writer, handle) = open(options, &registry).unwrap();
        let mut source = Source { made: 1000, ..Source::new() };
        source.add();
        let want = source.tick(1);
        let sequence = writer.append(&mut source.table).unwrap();
        prop_assert!(model.keys().all(|&old| old < sequence));
        model.insert(sequence, want);
        let mut peer = Peer::default();
        peer.read(&mut handle.read_after(None));
        for (sequence, tick) in &peer.ticks {
            prop_assert_eq!(model.get(sequence), Some(tick));
        }
        prop_assert!(peer.ticks.contains_key(&sequence), "ticks after the damage are readable");
    }
}

#[test]
fn oldest_segments_are_dropped_first_and_counted() {
    let dir = tempfile::tempdir().unwrap();
    let registry = Registry::default();
    let (mut writer, handle) = open(options(dir.path(), 20_000), &registry).unwrap();
    let mut source = Source::new();
    (0..30).for_each(|_| source.add());
    let mut model = BTreeMap::new();
    let mut seed = 1u64;
    for _ in 0..400 {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let want = source.tick(seed);
        model.insert(writer.append(&mut source.table).unwrap(), want);
    }
    let on_disk: u64 = segments(dir.path())
        .iter()
        .map(|path| fs::metadata(path).unwrap().len())
        .sum();
    assert!(on_disk <= 20_000, "{on_disk}");
    let mut peer = Peer::default();
    peer.read(&mut handle.read_after(None));
    let metrics = SpoolMetrics::new(&registry, &[Receiver::Primary]);
    let dropped = metrics.dropped_ticks[0].get();
    assert!(dropped > 0 && metrics.dropped_segments.get() > 0);
    assert_eq!(peer.ticks.len() as u64, 400 - dropped);
    let want: BTreeMap<_, _> = model.into_iter().skip(dropped as usize).collect();
    assert_eq!(peer.ticks, want);
}

#[test]
fn only_ticks_that_the_receiver_lacks_count_as_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let registry = Registry::default();
    let (mut writer, handle) = open(options(dir.path(), 20_000), &registry).unwrap();
    let mut source = Source::new();
    (0..30).for_each(|_| source.add());
    let dropped = || SpoolMetrics::new(&registry, &[Receiver::Primary]).dropped_ticks[0].get();
    // The receiver leaves with part of the first segment.
    let sequences = write(&mut writer, &mut source, 10);
    handle.acknowledge(sequences[4]);
    write(&mut writer, &mut source, 390);
    let mut peer = Peer::default();
    peer.read(&mut handle.read_after(None));
    assert_eq!(peer.ticks.len() as u64 + dropped() + 5, 400);
    assert!(dropped() > 0);
    // It returns and lacks the 20 ticks before the newest.
    handle.acknowledge(handle.newest());
    let before = dropped();
    let sequences = write(&mut writer, &mut source, 21);
    handle.skip_to_newest(Some(sequences[0] - 1)).unwrap();
    handle.acknowledge(sequences[20]);
    let later = write(&mut writer, &mut source, 400);
    let mut peer = Peer::default();
    peer.read(&mut handle.read_after(None));
    assert!(!peer.ticks.contains_key(&sequences[20]), "dropped");
    let kept = later.iter().filter(|one| peer.ticks.contains_key(one));
    assert_eq!(dropped() - before, 20 + 400 - kept.count() as u64);
}

#[test]
fn acknowledged_segments_are_freed_and_the_rest_stays() {
    let dir = tempfile::tempdir().unwrap();
    let registry = Registry::default();
    let (mut writer, handle) = open(options(dir.path(), 40_000), &registry).unwrap();
    let mut source = Source::new();
    (0..20).for_each(|_| source.add());
    let mut sequences = Vec::new();
    for seed in 0..200 {
        source.tick(seed * 1_234_567_891_234_567);
        sequences.push(writer.append(&mut source.table).unwrap());
    }
    let before = segments(dir.path()).len();
    assert!(before > 2, "{before}");
    handle.acknowledge(sequences[100]);
    let after = segments(dir.path()).len();
    assert!(after < before, "{after}");
    let mut peer = Peer::default();
    peer.read(&mut handle.read_after(Some(sequences[100])));
    let want: Vec<_> = sequences[101..].to_vec();
    assert_eq!(peer.ticks.keys().copied().collect::<Vec<_>>(), want);
    assert_eq!(peer.resets, 1, "one snapshot, then the records as they are");
    handle.acknowledge(sequences[199]);
    assert_eq!(segments(dir.path()).len(), 1, "the open one");
}

#[test]
fn damage_while_running_costs_the_rest_of_the_segment_only() {
    let dir = tempfile::tempdir().unwrap();
    let registry = Registry::default();
    let (mut writer, handle) = open(options(dir.path(), 1 << 20), &registry).unwrap();
    let mut source = Source::new();
    source.add();
    for seed in 0..10 {
        source.tick(seed);
        writer.append(&mut source.table).unwrap();
    }
    let path = newest_segment(dir.path());
    let mut bytes = fs::read(&path).unwrap();
    let at = bytes.len() - 40;
    bytes[at] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let mut reader = handle.read_after(None);
    let mut peer = Peer::default();
    peer.read(&mut reader);
    let before = peer.ticks.len();
    assert!((5..10).contains(&before), "{before}");
    // The next tick closes the segment; the one after it starts a new segment.
    for seed in 10..12 {
        source.tick(seed);
        writer.append(&mut source.table).unwrap();
    }
    peer.read(&mut reader);
    assert_eq!(peer.ticks.len(), before + 1);
    assert_eq!(
        SpoolMetrics::new(&registry, &[Receiver::Primary])
            .corrupt_records
            .get(),
        1
    );
}

#[test]
fn spool_belongs_to_one_process() {
    let dir = tempfile::tempdir().unwrap();
    let registry = Registry::default();
    let first = open(options(dir.path(), 1000), &registry).unwrap();
    let second = open(options(dir.path(), 1000), &registry);
    assert!(matches!(second, Err(SpoolError::Locked { .. })));
    drop(first);
    open(options(dir.path(), 1000), &registry).unwrap();
}

#[test]
fn tick_that_cannot_be_written_is_counted_and_the_next_one_is_whole() {
    let dir = tempfile::tempdir().unwrap();
    let spool = dir.path().join("spool");
    let registry = Registry::default();
    let (mut writer, handle) = open(options(&spool, 1 << 20), &registry).unwrap();
    let mut source = Source::new();
    source.add();
    let moved = dir.path().join("moved");
    fs::rename(&spool, &moved).unwrap();
    source.tick(1);
    writer.append(&mut source.table).unwrap_err();
    fs::rename(&moved, &spool).unwrap();
    source.add();
    let want = source.tick(2);
    let sequence = writer.append(&mut source.table).unwrap();
    let mut peer = Peer::default();
    peer.read(&mut handle.read_after(None));
    assert_eq!(peer.ticks, BTreeMap::from([(sequence, want)]));
    assert_eq!(
        SpoolMetrics::new(&registry, &[Receiver::Primary])
            .write_errors
            .get(),
        1
    );
}

/// A small file system, unmounted on drop.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    /// Prints why and returns `None` where mounting is not permitted.
    fn new(test: &str) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let mut mount = Command::new("mount");
        let mount = mount.args(["-t", "tmpfs", "-o", "size=256k", "none"]);
        if mount
            .arg(dir.path())
            .status()
            .is_ok_and(|status| status.success())
        {
            return Some(Self(dir));
        }
        eprintln!("SKIPPED {test}: cannot mount a file system (needs root)");
        None
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let unmount = Command::new("umount").arg("-l").arg(self.0.path()).status();
        assert!(unmount.unwrap().success() || std::thread::panicking());
    }
}

#[test]
fn full_disk_drops_and_counts_the_oldest_ticks() {
    let Some(disk) = SmallDisk::new("spool on a full disk") else {
        return;
    };
    let registry = Registry::default();
    // More than fits on the disk.
    let options = options(&disk.0.path().join("spool"), 400_000);
    let (mut writer, handle) = open(options, &registry).unwrap();
    let mut source = Source::new();
    (0..30).for_each(|_| source.add());
    let metrics = SpoolMetrics::new(&registry, &[Receiver::Primary]);
    let mut seed = 1u64;
    let mut model = BTreeMap::new();
    while metrics.dropped_ticks[0].get() < 500 {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let want = source.tick(seed);
        model.insert(writer.append(&mut source.table).unwrap(), want);
    }
    let mut peer = Peer::default();
    peer.read(&mut handle.read_after(None));
    let dropped = metrics.dropped_ticks[0].get() as usize;
    let want: BTreeMap<_, _> = model.into_iter().skip(dropped).collect();
    assert_eq!(peer.ticks, want);
    assert_eq!(metrics.write_errors.get(), 0);
}

fn write(writer: &mut SpoolWriter, source: &mut Source, ticks: u64) -> Vec<u64> {
    let mut append = |seed: u64| {
        source.tick(seed.wrapping_mul(1_234_567_891_234_567));
        writer.append(&mut source.table).unwrap()
    };
    (0..ticks).map(&mut append).collect()
}

#[test]
fn segment_stays_until_both_receivers_have_it() {
    let dir = tempfile::tempdir().unwrap();
    let registry = Registry::default();
    let options = SpoolOptions {
        receivers: &Receiver::ALL,
        ..options(dir.path(), 40_000)
    };
    let (mut writer, first) = open(options, &registry).unwrap();
    let mut source = Source::new();
    (0..20).for_each(|_| source.add());
    let sequences = write(&mut writer, &mut source, 200);
    let before = segments(dir.path()).len();
    assert!(before > 2, "{before}");
    let second = first.for_receiver(Receiver::Mirror);
    first.acknowledge(sequences[199]);
    assert_eq!(segments(dir.path()).len(), before, "the second has nothing");
    second.acknowledge(sequences[100]);
    let after = segments(dir.path()).len();
    assert!((2..before).contains(&after), "{after}");
    let mut peer = Peer::default();
    peer.read(&mut second.read_after(Some(sequences[100])));
    assert_eq!(peer.ticks.len(), 99);
    second.acknowledge(sequences[199]);
    assert_eq!(segments(dir.path()).len(), 1, "the open one");
}

#[test]
fn absent_receiver_loses_counted_ticks_and_the_other_loses_none() {
    let dir = tempfile::tempdir().unwrap();
    let registry = Registry::default();
    let options = SpoolOptions {
        receivers: &Receiver::ALL,
        ..options(dir.path(), 20_000)
    };
    let (mut writer, handle) = open(options, &registry).unwrap();
    let mut source = Source::new();
    (0..30).for_each(|_| source.add());
    let mut reader = handle.read_after(None);
    let mut peer = Peer::default();
    for _ in 0..40 {
        write(&mut writer, &mut source, 10);
        peer.read(&mut reader);
        handle.acknowledge(reader.position().unwrap());
    }
    assert_eq!(peer.ticks.len(), 400);
    let dropped = SpoolMetrics::new(&registry, &Receiver::ALL).dropped_ticks;
    assert_eq!(dropped[0].get(), 0);
    let mut late = Peer::default();
    late.read(&mut handle.for_receiver(Receiver::Mirror).read_after(None));
    assert!(dropped[1].get() > 0);
    assert_eq!(late.ticks.len() as u64, 400 - dropped[1].get());
}

#[test]
fn skipped_ticks_are_kept_and_read_with_the_first_newer_one() {
    let dir = tempfile::tempdir().unwrap();
    let registry = Registry::default();
    let (mut writer, handle) = open(options(dir.path(), 80_000), &registry).unwrap();
    let mut source = Source::new();
    (0..20).for_each(|_| source.add());
    let mut sequences = write(&mut writer, &mut source, 150);
    handle.resume(Some(sequences[9]));
    assert_eq!(handle.ticks_after(Some(sequences[9])), 140);
    let mut live = handle.skip_to_newest(Some(sequences[9])).unwrap();
    let (after, until) = (sequences[9], sequences[149]);
    assert_eq!(handle.oldest_gap(), Some(Gap { after, until }));
    sequences.extend(write(&mut writer, &mut source, 150));
    let mut newest = Peer::default();
    newest.read(&mut live);
    assert_eq!(
        newest.ticks.keys().copied().collect::<Vec<_>>(),
        sequences[149..]
    );

    // Ticks after the gap are freed, the gap is not; a restart within the gap continues there.
    let before = segments(dir.path()).len();
    handle.acknowledge(sequences[299]);
    assert!(segments(dir.path()).len() < before);
    handle.acknowledge_gap(sequences[70]);
    handle.save_gaps().unwrap();
    drop((writer, handle, live));
    let (_writer, handle) = open(options(dir.path(), 80_000), &registry).unwrap();
    handle.resume(Some(sequences[299]));
    let gap = handle.oldest_gap().unwrap();
    assert_eq!((gap.after, gap.until), (sequences[70], until));
    let mut late = Peer::default();
    let mut reader = handle.read_gap(gap);
    late.read(&mut reader);
    assert!(reader.is_finished());
    assert_eq!(
        late.ticks.keys().copied().collect::<Vec<_>>(),
        sequences[71..150]
    );
    let (last, tick) = late.ticks.last_key_value().unwrap();
    assert_eq!(
        newest.ticks[last], *tick,
        "bit for bit as it was read first"
    );
    handle.acknowledge_gap(until);
    assert_eq!(handle.oldest_gap(), None);
    assert_eq!(segments(dir.path()).len(), 0, "everything is acknowledged");
    assert_eq!(
        SpoolMetrics::new(&registry, &[Receiver::Primary]).dropped_ticks[0].get(),
        0
    );
}

#[test]
fn gap_at_one_aggregator_is_backlog_at_another() {
    let dir = tempfile::tempdir().unwrap();
    let registry = Registry::default();
    let (mut writer, handle) = open(options(dir.path(), 1 << 20), &registry).unwrap();
    let mut source = Source::new();
    source.add();
    let sequences = write(&mut writer, &mut source, 200);
    handle.resume(None);
    drop(handle.skip_to_newest(None).unwrap());
    handle.acknowledge(sequences[199]);
    let before = segments(dir.path()).len();
    // An aggregator that does not know this producer: everything is sent, and only its acknowledgements count now.
    handle.resume(None);
    assert_eq!(handle.oldest_gap(), None);
    assert_eq!(segments(dir.path()).len(), before);
    let mut peer = Peer::default();
    peer.read(&mut handle.read_after(None));
    assert_eq!(peer.ticks.len(), 200);
}

#[test]
fn error_names_step_file_and_cause() {
    #[track_caller]
    fn check(error: &SpoolError, wants: &[&str]) {
        let text = common::report::chain(error);
        for want in wants {
            assert!(text.contains(want), "{want:?} is not in {text:?}");
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let registry = Registry::default();
    let spool = dir.path().join("spool");
    drop(open(options(&spool, 1 << 20), &registry).unwrap());
    // Reading this process' memory at offset 0 fails with EIO.
    let segment = segment::path(&spool, 7);
    std::os::unix::fs::symlink("/proc/self/mem", &segment).unwrap();
    let error = open(options(&spool, 1 << 20), &registry).unwrap_err();
    check(
        &error,
        &["recover spool segment", "7.seg", "Input/output error"],
    );
    fs::remove_file(&segment).unwrap();

    let (mut writer, _handle) = open(options(&spool, 1 << 20), &registry).unwrap();
    fs::remove_dir_all(&spool).unwrap();
    let mut source = Source::new();
    source.add();
    source.tick(1);
    let error = writer.append(&mut source.table).unwrap_err();
    check(&error, &["create spool segment", ".seg", "No such file"]);

    fs::create_dir(&spool).unwrap();
    fs::set_permissions(&spool, std::os::unix::fs::PermissionsExt::from_mode(0o500)).unwrap();
    source.tick(2);
    match writer.append(&mut source.table) {
        Ok(_) => eprintln!("SKIPPED reason of a forbidden directory: root may write to it"),
        Err(error) => check(&error, &["create spool segment", "Permission denied"]),
    }

    let Some(disk) = SmallDisk::new("reason of a full disk") else {
        return;
    };
    let spool = disk.0.path().join("spool");
    let (mut writer, _handle) = open(options(&spool, 1 << 20), &registry).unwrap();
    let mut filler = fs::File::create(disk.0.path().join("filler")).unwrap();
    while io::Write::write_all(&mut filler, &[1; 4096]).is_ok() {}
    source.tick(3);
    let error = writer.append(&mut source.table).unwrap_err();
    check(&error, &["spool segment", ".seg", "No space left"]);
}
