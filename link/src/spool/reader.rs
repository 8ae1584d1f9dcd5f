//! Reads the ticks after a sequence as frames for a peer.

use std::fs::File;
use std::sync::Arc;

use common::wire::Frame;

use super::SpoolError;
use super::replay::Replay;
use super::segment::{self, HEADER_BYTES, ReadRecord, RecordKind};
use super::shared::{SegmentInfo, Shared};

/// Reads the spool for one session.
///
/// The peer first receives the state at the start position, then the records as they are. Where records are missing (a damaged
/// record, dropped segments), the next segment's snapshot resets the peer.
#[derive(Debug)]
pub struct SpoolReader {
    shared: Arc<Shared>,
    /// The peer has everything up to this sequence.
    position: Option<u64>,
    /// Last sequence to read.
    until: u64,
    /// Everything up to `until` was read, or exists no more.
    finished: bool,
    /// The segment being read.
    cursor: Option<Cursor>,
    /// The last segment that was left.
    previous: Option<LeftSegment>,
    body: Vec<u8>,
    /// Encoded schema changes of the next tick; sent together with it or not at all.
    pending: Vec<u8>,
}

/// Position in an open segment.
#[derive(Debug)]
struct Cursor {
    file: File,
    index: u64,
    offset: u64,
    /// The peer already has the snapshot's state.
    skip_snapshot: bool,
    /// The next schema frame is the first of the snapshot.
    reset: bool,
}

/// A segment that the reader is done with.
#[derive(Debug, Clone, Copy)]
struct LeftSegment {
    index: u64,
    /// The peer has the state at the end of the segment.
    is_complete: bool,
}

enum Step {
    /// A record was read.
    Record,
    /// The segment is closed and was read to its end.
    SegmentEnd,
    /// The rest of the segment cannot be decoded.
    Broken,
    /// The writer has not committed more yet.
    Wait,
}

impl SpoolReader {
    pub(super) const fn new(shared: Arc<Shared>, position: Option<u64>, until: u64) -> Self {
        Self {
            shared,
            position,
            until,
            finished: false,
            cursor: None,
            previous: None,
            body: Vec::new(),
            pending: Vec::new(),
        }
    }

    /// Returns the last sequence read, or the one that reading started after.
    #[must_use]
    pub const fn position(&self) -> Option<u64> {
        self.position
    }

    /// Returns whether everything requested was read; never for a reader without an end.
    #[must_use]
    pub const fn is_finished(&self) -> bool {
        self.finished
    }

    /// Returns whether the reader is in the open segment with at most `bytes_max` bytes left to read.
    #[must_use]
    pub fn is_near_end(&self, bytes_max: u64) -> bool {
        let Some(cursor) = &self.cursor else {
            return false;
        };
        let list = self.shared.list();
        let newest = list
            .segments
            .back()
            .filter(|one| !one.closed && one.index == cursor.index);
        newest.is_some_and(|one| one.committed.saturating_sub(cursor.offset) <= bytes_max)
    }

    /// Appends frames to `out` until it is `bytes_target` long or everything committed was read. Returns the number of ticks.
    ///
    /// # Errors
    /// A file cannot be read. Damaged records are skipped and counted.
    pub fn read(&mut self, out: &mut Vec<u8>, bytes_target: usize) -> Result<u64, SpoolError> {
        let mut ticks = 0;
        // Checked before reading: ticks committed later are after `until`.
        let is_all_there = *self.shared.newest.borrow() >= self.until;
        while out.len() < bytes_target && !self.finished {
            if self.cursor.is_none() && !self.open_next(out)? {
                self.finished = is_all_there;
                break;
            }
            match self.step(out, &mut ticks)? {
                Step::Record => {}
                Step::Wait => {
                    self.finished |= is_all_there;
                    break;
                }
                Step::SegmentEnd => self.leave(true),
                Step::Broken => {
                    self.shared.metrics.corrupt_records.inc();
                    let index = self.cursor.as_ref().map(|cursor| cursor.index);
                    tracing::error!(index, "skipping the rest of a damaged spool segment");
                    self.leave(false);
                }
            }
        }
        Ok(ticks)
    }

    fn leave(&mut self, is_complete: bool) {
        self.pending.clear();
        self.previous = self.cursor.take().map(|cursor| LeftSegment {
            index: cursor.index,
            is_complete,
        });
    }

    /// Opens the next segment with something to read. If the position is within it, appends the state at the position.
    fn open_next(&mut self, out: &mut Vec<u8>) -> Result<bool, SpoolError> {
        while let Some(info) = self.next_segment() {
            let path = segment::path(&self.shared.directory, info.index);
            match File::open(&path) {
                Ok(file) => match self.begin(file, info, out) {
                    Err(SpoolError::Wire(error)) => {
                        self.shared.metrics.corrupt_records.inc();
                        let error = common::report::chain(&error);
                        tracing::error!(path = %path.display(), error, "skipping damaged spool segment");
                    }
                    other => return other.map(|()| true),
                },
                // Deleted since it was listed.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(source) => return Err(SpoolError::io("open spool segment", &path)(source)),
            }
            self.previous = Some(LeftSegment {
                index: info.index,
                is_complete: false,
            });
        }
        Ok(false)
    }

    fn begin(
        &mut self,
        file: File,
        info: SegmentInfo,
        out: &mut Vec<u8>,
    ) -> Result<(), SpoolError> {
        let follows = self
            .previous
            .is_some_and(|one| one.is_complete && one.index + 1 == info.index);
        let mut cursor = Cursor {
            file,
            index: info.index,
            offset: HEADER_BYTES,
            skip_snapshot: follows && info.continues,
            reset: true,
        };
        let within = self.position >= info.first_sequence && info.first_sequence.is_some();
        if within && !cursor.skip_snapshot {
            self.replay_to_position(&mut cursor, info, out)?;
        }
        self.cursor = Some(cursor);
        Ok(())
    }

    fn next_segment(&self) -> Option<SegmentInfo> {
        let list = self.shared.list();
        let mut segments = list.segments.iter();
        let is_next = |info: &&SegmentInfo| match self.previous {
            Some(previous) => info.index > previous.index,
            // The first segment with a tick after the position; the open one may still receive it.
            None => !info.closed || info.last_sequence > self.position,
        };
        segments.find(is_next).copied()
    }

    /// Brings the peer to the state after the last tick that it has, and moves the cursor there.
    fn replay_to_position(
        &mut self,
        cursor: &mut Cursor,
        info: SegmentInfo,
        out: &mut Vec<u8>,
    ) -> Result<(), SpoolError> {
        let path = segment::path(&self.shared.directory, info.index);
        let mut replay = Replay::default();
        let mut offset = cursor.offset;
        let mut pending: Vec<Vec<u8>> = Vec::new();
        loop {
            let record = segment::read_record(&cursor.file, offset, info.committed, &mut self.body)
                .map_err(SpoolError::io("read spool segment", &path))?;
            // `step` meets the damage again and handles it.
            let ReadRecord::Record { kind, next } = record else {
                break;
            };
            match kind {
                RecordKind::Tick => {
                    let tick = segment::split_tick(&self.body)
                        .filter(|tick| Some(tick.sequence) <= self.position);
                    let Some(tick) = tick else {
                        break;
                    };
                    for body in pending.drain(..) {
                        replay.apply(RecordKind::Schema, &body)?;
                    }
                    replay.apply_tick(tick)?;
                    cursor.offset = next;
                }
                RecordKind::Schema => pending.push(std::mem::take(&mut self.body)),
                RecordKind::SnapshotSchema | RecordKind::SnapshotBase => {
                    replay.apply(kind, &self.body)?;
                    cursor.offset = next;
                }
            }
            offset = next;
        }
        replay.put_snapshot(out)?;
        Ok(())
    }

    fn step(&mut self, out: &mut Vec<u8>, ticks: &mut u64) -> Result<Step, SpoolError> {
        let Some(cursor) = &mut self.cursor else {
            return Ok(Step::Wait);
        };
        let (end, closed) = {
            let list = self.shared.list();
            let info = list.segments.iter().find(|info| info.index == cursor.index);
            match info.copied() {
                Some(info) => (info.committed, info.closed),
                // Deleted meanwhile: the open file still has everything.
                None => {
                    let path = segment::path(&self.shared.directory, cursor.index);
                    let metadata = cursor
                        .file
                        .metadata()
                        .map_err(SpoolError::io("read length of spool segment", &path))?;
                    (metadata.len(), true)
                }
            }
        };
        let path = segment::path(&self.shared.directory, cursor.index);
        let record = segment::read_record(&cursor.file, cursor.offset, end, &mut self.body)
            .map_err(SpoolError::io("read spool segment", &path))?;
        match record {
            ReadRecord::Record { kind, .. } if is_tick_after(self.until, kind, &self.body) => {
                self.finished = true;
                Ok(Step::Wait)
            }
            ReadRecord::Record { kind, next } => {
                cursor.offset = next;
                self.forward(kind, out, ticks)?;
                Ok(Step::Record)
            }
            ReadRecord::End if cursor.offset == end => {
                Ok(if closed { Step::SegmentEnd } else { Step::Wait })
            }
            ReadRecord::End | ReadRecord::Corrupt { .. } => {
                if !closed {
                    self.shared.list().rotate_requested = true;
                }
                Ok(Step::Broken)
            }
        }
    }

    fn forward(
        &mut self,
        kind: RecordKind,
        out: &mut Vec<u8>,
        ticks: &mut u64,
    ) -> Result<(), SpoolError> {
        let Some(cursor) = &mut self.cursor else {
            return Ok(());
        };
        let payload = self.body.as_slice();
        match kind {
            RecordKind::SnapshotSchema | RecordKind::SnapshotBase if cursor.skip_snapshot => {}
            RecordKind::SnapshotSchema => {
                let reset = std::mem::take(&mut cursor.reset);
                Frame::Schema { reset, payload }.encode(out)?;
            }
            RecordKind::SnapshotBase => Frame::Base { payload }.encode(out)?,
            RecordKind::Schema => {
                let reset = false;
                Frame::Schema { reset, payload }.encode(&mut self.pending)?;
            }
            RecordKind::Tick => {
                let Some(tick) = segment::split_tick(payload) else {
                    return Ok(());
                };
                out.append(&mut self.pending);
                let frame = Frame::Samples {
                    sequence: tick.sequence,
                    timestamp_ms: tick.timestamp_ms,
                    payload: tick.payload,
                };
                frame.encode(out)?;
                self.position = Some(tick.sequence);
                self.finished = tick.sequence >= self.until;
                *ticks += 1;
            }
        }
        Ok(())
    }
}

fn is_tick_after(until: u64, kind: RecordKind, body: &[u8]) -> bool {
    let tick = segment::split_tick(body).filter(|_| kind == RecordKind::Tick);
    tick.is_some_and(|tick| tick.sequence > until)
}
