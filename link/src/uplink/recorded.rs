//! Compares a recorded session of protocol version 1 with what today's uplink sends to an aggregator of that version.
//!
//! `UPDATE_RECORDING=1` replaces the recordings; that changes version 1, which agents in the field speak. The aggregator's tests
//! replay the same files to a real aggregator.

use std::fs;
use std::ops::Range;
use std::path::PathBuf;

use common::limits::FRAME_BYTES_MAX;
use common::model::{Labels, Metadata, MetricType};
use common::telemetry::Registry;
use common::wire::{Frame, FrameBuffer, SchemaEntry, SchemaReader, TickState};

use super::lanes::Lanes;
use crate::spool::{Receiver, SpoolHandle, SpoolOptions, SpoolWriter, open};
use crate::testing::TestTable;

const START_MS: i64 = 1_700_000_000_000;
const INTERVAL_MS: i64 = 10_000;
/// Ticks of the two sessions.
const TICKS: [Range<u64>; 2] = [0..12, 12..20];

/// Name, type, help and unit of a family.
type Family = (&'static str, MetricType, &'static str, &'static str);
// The texts are part of the recording.
const SECONDS: Family = (
    "recorded_seconds_total",
    MetricType::Counter,
    "Seconds that went by.",
    "seconds",
);
const LEVEL: Family = (
    "recorded_level_bytes",
    MetricType::Gauge,
    "A level.",
    "bytes",
);
const ODD: Family = (
    "recorded_odd",
    MetricType::Gauge,
    "Values that no scale suits.",
    "",
);

/// Adds a series with the labels that an agent gives to those of node_exporter.
fn add(table: &mut TestTable, family: Family, pair: (&'static str, &'static str)) -> u32 {
    let (name, metric_type, help, unit) = family;
    let (help, unit) = (help.to_owned(), unit.to_owned());
    table.add_family(
        name,
        Metadata {
            metric_type,
            help,
            unit,
        },
    );
    let target = [("instance", "recorded"), ("job", "node-exporter")];
    let pairs = [("__name__", name), pair].into_iter().chain(target);
    table.add(Labels::from_pairs(pairs).unwrap())
}

fn path(name: &str) -> PathBuf {
    let fixtures = concat!(env!("CARGO_MANIFEST_DIR"), "/../common/tests/fixtures/wire");
    PathBuf::from(fixtures).join(name)
}

/// A source whose series appear, disappear and miss ticks.
struct Source {
    table: TestTable,
    seconds: u32,
    level: u32,
    odd: u32,
    late: Option<u32>,
}

impl Source {
    fn new() -> Self {
        let mut table = TestTable::default();
        Self {
            seconds: add(&mut table, SECONDS, ("mode", "idle")),
            level: add(&mut table, LEVEL, ("device", "a \"quoted\" näme")),
            odd: add(&mut table, ODD, ("kind", "odd")),
            late: None,
            table,
        }
    }

    fn run(&mut self, writer: &mut SpoolWriter, ticks: Range<u64>) {
        let table = &mut self.table;
        for tick in ticks {
            table.begin_tick(START_MS + tick as i64 * INTERVAL_MS);
            table.set(self.seconds, tick as f64 * 9.75);
            if tick % 3 != 2 {
                table.set(self.level, 4096.0 * (tick / 4) as f64);
            }
            let values = [0.1 + 0.2, f64::NAN, -0.0, f64::INFINITY, 1e-300];
            match tick {
                15 => table.remove(self.odd),
                ..15 => table.set(self.odd, values[tick as usize % values.len()]),
                _ => {}
            }
            if tick == 5 {
                self.late = Some(add(table, LEVEL, ("device", "late")));
            }
            if let Some(late) = self.late {
                table.set(late, tick as f64);
            }
            writer.append(table).unwrap();
        }
    }
}

fn spool(dir: &std::path::Path) -> (SpoolWriter, SpoolHandle) {
    let options = SpoolOptions {
        path: dir.to_owned(),
        bytes_max: 1 << 20,
        receivers: &[Receiver::Primary],
        sync_each_tick: false,
    };
    open(options, &Registry::default()).unwrap()
}

/// Returns the bytes of two sessions with an aggregator of version 1. The second continues where the first ended.
fn sessions() -> [Vec<u8>; 2] {
    let dir = tempfile::tempdir().unwrap();
    let (mut writer, handle) = spool(dir.path());
    let mut source = Source::new();
    let mut durable = None;
    TICKS.map(|ticks| {
        source.run(&mut writer, ticks);
        let mut bytes = Vec::new();
        let hello = Frame::Hello {
            versions: vec![1],
            node: "recorded",
            instance: *b"recorded session",
            oldest_sequence: 1,
            interval_ms: INTERVAL_MS as u32,
            program: "0.1.0",
        };
        hello.encode(&mut bytes).unwrap();
        let mut lanes = Lanes::new(handle.clone(), durable, None);
        while !lanes.is_idle() {
            bytes.extend(lanes.read().unwrap().bytes);
        }
        durable = lanes.live_position();
        bytes
    })
}

/// Decodes the bytes of a session into one line for each statement.
fn meaning(bytes: &[u8]) -> Vec<String> {
    let mut frames = FrameBuffer::new(FRAME_BYTES_MAX);
    frames.extend(bytes);
    let mut state = TickState::default();
    let mut lines = Vec::new();
    while let Some(message) = frames.next_message().unwrap() {
        match Frame::decode(message).unwrap() {
            Frame::Schema { reset, payload } => {
                if reset {
                    state.clear();
                }
                lines.push(format!("schema, reset {reset}"));
                let mut reader = SchemaReader::new(payload).unwrap();
                while let Some(entry) = reader.next_entry().unwrap() {
                    if let SchemaEntry::Added {
                        series_ref: number, ..
                    } = entry
                    {
                        state.define(number);
                    }
                    lines.push(format!("{entry:?}"));
                }
            }
            Frame::Base { payload } => {
                state.decode_base(payload, 1 << 10).unwrap();
                lines.push(format!("base of {}", state.capacity()));
            }
            Frame::Samples {
                sequence,
                timestamp_ms,
                payload,
            } => {
                let mut tick = Vec::new();
                state.decode(payload, &mut tick).unwrap();
                let bits: Vec<_> = tick.iter().map(|(n, v)| (n, v.to_bits())).collect();
                lines.push(format!("{sequence} {timestamp_ms} {bits:?}"));
            }
            other => lines.push(format!("{other:?}")),
        }
    }
    lines
}

#[test]
fn session_of_version_1_equals_the_recording() {
    let names = ["v1-agent.bin", "v1-agent-again.bin"];
    for (name, today) in names.into_iter().zip(sessions()) {
        if std::env::var_os("UPDATE_RECORDING").is_some() {
            fs::write(path(name), &today).unwrap();
        }
        let recorded = fs::read(path(name)).unwrap();
        let (was, is) = (meaning(&recorded), meaning(&today));
        assert_eq!(was, is, "{name}");
        // Uncompressed frames are equal byte for byte.
        let hello =
            4 + usize::try_from(u32::from_le_bytes(recorded[..4].try_into().unwrap())).unwrap();
        assert_eq!(recorded[..hello], today[..hello], "{name}");
    }
    let [first, again] = names.map(|name| meaning(&fs::read(path(name)).unwrap()));
    let ticks = |lines: &[String]| lines.iter().filter(|line| line.contains(" 17000")).count();
    assert_eq!((ticks(&first), ticks(&again)), (12, 8));
    for (lines, what) in [(&first, "Added"), (&again, "base"), (&again, "Removed")] {
        assert!(lines.iter().any(|line| line.starts_with(what)), "{what}");
    }
}
