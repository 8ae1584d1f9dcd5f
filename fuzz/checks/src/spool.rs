//! A segment of the agent's spool, damaged by a crash, a bad disk or a person.

use std::fs;

use agent::schema::{FamilyDef, Schema, Target, gauge};
use agent::table::SeriesTable;
use common::limits::FRAME_BYTES_MAX;
use common::telemetry::Registry;
use common::wire::{Frame, FrameBuffer};
use tidemark_link::spool::{self, Receiver, SpoolOptions, segment};

static FAMILY: FamilyDef = gauge("fuzz_value", "A value.");
const BYTES_TARGET: usize = 128 << 10;

/// The bytes after the header of the newest segment. Whatever they are, the spool opens and continues after them, and
/// reading it returns complete frames, including the tick appended last.
///
/// # Panics
/// One of these is violated.
pub fn segment(input: &[u8]) {
    let directory = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
    let directory = directory.expect("a temporary directory");
    let options = || SpoolOptions {
        path: directory.path().to_owned(),
        bytes_max: 1 << 20,
        receivers: &[Receiver::Primary],
        sync_each_tick: false,
    };
    // The first start creates the files beside the segments.
    drop(spool::open(options(), &Registry::default()).expect("an empty spool"));
    let mut bytes = segment::header(1, false).to_vec();
    bytes.extend_from_slice(input);
    fs::write(segment::path(directory.path(), 1), bytes).expect("write a segment");

    let (mut writer, handle) = spool::open(options(), &Registry::default()).expect("it opens");
    let (mut table, mut schema) = (SeriesTable::default(), Schema::for_node("n"));
    table.begin_tick(1_700_000_000_000);
    let series = schema.series(&mut table, Target::Agent, &FAMILY, &[]);
    table.set(series, 1.0);
    let sequence = writer.append(&mut table).expect("a tick is appended");
    let mut last = None;
    let mut reader = handle.read_after(None);
    loop {
        let mut out = Vec::new();
        let read = reader.read(&mut out, BYTES_TARGET);
        let _ticks = read.expect("it can be read");
        if out.is_empty() {
            break;
        }
        let mut frames = FrameBuffer::new(FRAME_BYTES_MAX);
        frames.extend(&out);
        while let Some(message) = frames.next_message().expect("frames of good length") {
            let frame = Frame::decode(message).expect("frames that can be decoded");
            if let Frame::Samples { sequence, .. } = frame {
                assert!(last < Some(sequence), "sequences ascend");
                last = Some(sequence);
            }
        }
        assert!(frames.is_empty(), "whole frames");
    }
    assert_eq!(last, Some(sequence), "the newest tick is read");
}
