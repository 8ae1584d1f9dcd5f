//! The reading end: ticks behind a sequence, as frames for a peer.

use std::fs::File;
use std::sync::Arc;

use common::wire::Frame;

use super::SpoolError;
use super::replay::Replay;
use super::segment::{self, Found, HEADER_BYTES, Kind};
use super::shared::{SegmentInfo, Shared};

/// Reads the spool for one session.
///
/// A peer is first brought to the state at the place where it begins, then gets the records as they are. Where they can't be
/// followed (a damaged record, segments that were dropped) it is reset with the next segment's snapshot.
#[derive(Debug)]
pub struct SpoolReader {
    shared: Arc<Shared>,
    /// The peer has everything up to here.
    behind: Option<u64>,
    /// The last one to read.
    until: u64,
    /// All up to `until` was read, or is no longer there.
    finished: bool,
    /// The segment being read.
    at: Option<Place>,
    /// The last segment that was read, and whether the peer's state is that at its end.
    last_index: Option<(u64, bool)>,
    body: Vec<u8>,
    /// Schema changes of a tick that has not been seen yet: they go out with it, or not at all.
    pending: Vec<u8>,
}

#[derive(Debug)]
struct Place {
    file: File,
    index: u64,
    offset: u64,
    /// The peer has the snapshot's state already.
    skip_snapshot: bool,
    /// The next schema frame is the snapshot's first.
    reset: bool,
}

enum Step {
    /// A record went by.
    On,
    /// The segment is read up to its end and closed.
    SegmentEnd,
    /// The rest of the segment can't be understood.
    Broken,
    /// The writer has no more yet.
    Wait,
}

impl SpoolReader {
    pub(super) const fn new(shared: Arc<Shared>, behind: Option<u64>, until: u64) -> Self {
        Self {
            shared,
            behind,
            until,
            finished: false,
            at: None,
            last_index: None,
            body: Vec::new(),
            pending: Vec::new(),
        }
    }

    /// The last sequence that was read, or that reading began behind.
    #[must_use]
    pub const fn position(&self) -> Option<u64> {
        self.behind
    }

    /// Whether everything that was asked for has been read; never for a reader without an end.
    #[must_use]
    pub const fn is_finished(&self) -> bool {
        self.finished
    }

    /// Whether it reads the segment that is being written, and has at most `bytes_max` of it before it.
    #[must_use]
    pub fn is_near_end(&self, bytes_max: u64) -> bool {
        let Some(place) = &self.at else {
            return false;
        };
        let list = self.shared.list();
        let newest = list
            .segments
            .back()
            .filter(|one| !one.closed && one.index == place.index);
        newest.is_some_and(|one| one.committed.saturating_sub(place.offset) <= bytes_max)
    }

    /// Appends frames to `out` until it is `bytes_target` long or no more is there. Returns the number of ticks.
    ///
    /// # Errors
    /// A file can't be read. Damaged records are skipped and counted.
    pub fn read(&mut self, out: &mut Vec<u8>, bytes_target: usize) -> Result<u64, SpoolError> {
        let mut ticks = 0;
        // Taken before reading: whatever comes later is behind the end.
        let is_all_there = *self.shared.newest.borrow() >= self.until;
        while out.len() < bytes_target && !self.finished {
            if self.at.is_none() && !self.open_next(out)? {
                self.finished = is_all_there;
                break;
            }
            match self.step(out, &mut ticks)? {
                Step::On => {}
                Step::Wait => {
                    self.finished |= is_all_there;
                    break;
                }
                Step::SegmentEnd => self.leave(true),
                Step::Broken => {
                    self.shared.metrics.corrupt_records.inc();
                    let index = self.at.as_ref().map(|at| at.index);
                    tracing::error!(index, "skip the rest of a damaged spool segment");
                    self.leave(false);
                }
            }
        }
        Ok(ticks)
    }

    fn leave(&mut self, whole: bool) {
        self.pending.clear();
        self.last_index = self.at.take().map(|at| (at.index, whole));
    }

    /// Opens the next segment with something to read. Where the peer begins within it, appends the state there.
    fn open_next(&mut self, out: &mut Vec<u8>) -> Result<bool, SpoolError> {
        while let Some(info) = self.next_segment() {
            let path = segment::path(&self.shared.directory, info.index);
            match File::open(&path) {
                Ok(file) => match self.begin(file, info, out) {
                    Err(SpoolError::Wire(error)) => {
                        self.shared.metrics.corrupt_records.inc();
                        tracing::error!(path = %path.display(), %error, "skip damaged spool segment");
                    }
                    other => return other.map(|()| true),
                },
                // Dropped or freed since it was listed.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(source) => return Err(SpoolError::Io { path, source }),
            }
            self.last_index = Some((info.index, false));
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
            .last_index
            .is_some_and(|(index, whole)| whole && index + 1 == info.index);
        let mut place = Place {
            file,
            index: info.index,
            offset: HEADER_BYTES,
            skip_snapshot: follows && info.continues,
            reset: true,
        };
        let within = self.behind >= info.first_sequence && info.first_sequence.is_some();
        if within && !place.skip_snapshot {
            self.replay_to_position(&mut place, info, out)?;
        }
        self.at = Some(place);
        Ok(())
    }

    fn next_segment(&self) -> Option<SegmentInfo> {
        let list = self.shared.list();
        let mut segments = list.segments.iter();
        let wanted = |info: &&SegmentInfo| match self.last_index {
            Some((last, _)) => info.index > last,
            // The first one with a tick behind the position; the open one may get it yet.
            None => !info.closed || info.last_sequence > self.behind,
        };
        segments.find(wanted).copied()
    }

    /// Brings the peer to the state behind the last tick it has.
    fn replay_to_position(
        &mut self,
        place: &mut Place,
        info: SegmentInfo,
        out: &mut Vec<u8>,
    ) -> Result<(), SpoolError> {
        let path = segment::path(&self.shared.directory, info.index);
        let mut replay = Replay::default();
        let mut offset = place.offset;
        let mut pending: Vec<Vec<u8>> = Vec::new();
        loop {
            let found = segment::read_record(&place.file, offset, info.committed, &mut self.body)
                .map_err(SpoolError::io(&path))?;
            // Damage is met again, and handled, when reading goes on from here.
            let Found::Record { kind, next } = found else {
                break;
            };
            match kind {
                Kind::Tick => {
                    let tick = segment::split_tick(&self.body)
                        .filter(|tick| Some(tick.sequence) <= self.behind);
                    let Some(tick) = tick else {
                        break;
                    };
                    for body in pending.drain(..) {
                        replay.apply(Kind::Schema, &body)?;
                    }
                    replay.apply_tick(tick)?;
                    place.offset = next;
                }
                Kind::Schema => pending.push(std::mem::take(&mut self.body)),
                Kind::SnapshotSchema | Kind::SnapshotBase => {
                    replay.apply(kind, &self.body)?;
                    place.offset = next;
                }
            }
            offset = next;
        }
        replay.put_snapshot(out)?;
        Ok(())
    }

    fn step(&mut self, out: &mut Vec<u8>, ticks: &mut u64) -> Result<Step, SpoolError> {
        let Some(place) = &mut self.at else {
            return Ok(Step::Wait);
        };
        let (end, closed) = {
            let list = self.shared.list();
            let info = list.segments.iter().find(|info| info.index == place.index);
            match info.copied() {
                Some(info) => (info.committed, info.closed),
                // Dropped or freed under us: the open file still has it all.
                None => {
                    let path = segment::path(&self.shared.directory, place.index);
                    let metadata = place.file.metadata().map_err(SpoolError::io(&path))?;
                    (metadata.len(), true)
                }
            }
        };
        let path = segment::path(&self.shared.directory, place.index);
        let found = segment::read_record(&place.file, place.offset, end, &mut self.body)
            .map_err(SpoolError::io(&path))?;
        match found {
            Found::Record { kind, .. } if is_tick_behind(self.until, kind, &self.body) => {
                self.finished = true;
                Ok(Step::Wait)
            }
            Found::Record { kind, next } => {
                place.offset = next;
                self.forward(kind, out, ticks)?;
                Ok(Step::On)
            }
            Found::End if place.offset == end => {
                Ok(if closed { Step::SegmentEnd } else { Step::Wait })
            }
            Found::End | Found::Corrupt { .. } => {
                if !closed {
                    self.shared.list().rotate_requested = true;
                }
                Ok(Step::Broken)
            }
        }
    }

    fn forward(
        &mut self,
        kind: Kind,
        out: &mut Vec<u8>,
        ticks: &mut u64,
    ) -> Result<(), SpoolError> {
        let Some(place) = &mut self.at else {
            return Ok(());
        };
        let payload = self.body.as_slice();
        match kind {
            Kind::SnapshotSchema | Kind::SnapshotBase if place.skip_snapshot => {}
            Kind::SnapshotSchema => {
                let reset = std::mem::take(&mut place.reset);
                Frame::Schema { reset, payload }.encode(out)?;
            }
            Kind::SnapshotBase => Frame::Base { payload }.encode(out)?,
            Kind::Schema => {
                let reset = false;
                Frame::Schema { reset, payload }.encode(&mut self.pending)?;
            }
            Kind::Tick => {
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
                self.behind = Some(tick.sequence);
                self.finished = tick.sequence >= self.until;
                *ticks += 1;
            }
        }
        Ok(())
    }
}

fn is_tick_behind(until: u64, kind: Kind, body: &[u8]) -> bool {
    let tick = segment::split_tick(body).filter(|_| kind == Kind::Tick);
    tick.is_some_and(|tick| tick.sequence > until)
}
