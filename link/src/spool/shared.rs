//! State shared by writer and readers: the list of segments, how far each is committed, and what each receiver has.

use std::collections::VecDeque;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::gaps::{Gap, Gaps};
use super::reader::SpoolReader;
use super::{Receiver, SpoolError, SpoolMetrics, segment};

/// What is known of a segment without reading it.
#[derive(Debug, Clone, Copy)]
pub(super) struct SegmentInfo {
    pub(super) index: u64,
    pub(super) continues: bool,
    /// Length up to which readers may read.
    pub(super) committed: u64,
    /// `None` when the segment holds no tick.
    pub(super) first_sequence: Option<u64>,
    pub(super) last_sequence: Option<u64>,
    pub(super) ticks: u64,
    /// The writer will not append to it any more.
    pub(super) closed: bool,
}

/// Ticks that one receiver has on disk.
#[derive(Debug, Default)]
pub(super) struct Received {
    /// Everything up to this sequence, except the gaps.
    pub(super) live: Option<u64>,
    pub(super) gaps: Gaps,
}

impl Received {
    /// Returns whether the receiver has all ticks of a segment.
    fn covers(&self, segment: &SegmentInfo) -> bool {
        let (Some(first), Some(last)) = (segment.first_sequence, segment.last_sequence) else {
            return true;
        };
        Some(last) <= self.live && !self.gaps.overlap(first, last)
    }

    /// Counts the ticks of a segment that the receiver lacks: those after `live`, and those in gaps.
    fn missing(&self, segment: &SegmentInfo) -> u64 {
        let (Some(first), Some(last)) = (segment.first_sequence, segment.last_sequence) else {
            return 0;
        };
        let Some(live) = self.live.filter(|live| *live >= first) else {
            return segment.ticks;
        };
        let missing = last.saturating_sub(live) + self.gaps.missing(first, last.min(live));
        missing.min(segment.ticks)
    }
}

#[derive(Debug, Default)]
pub(super) struct SegmentList {
    /// By ascending index; only the last segment may be open.
    pub(super) segments: VecDeque<SegmentInfo>,
    /// A reader found the open segment damaged, so the writer should start a new one.
    pub(super) rotate_requested: bool,
    /// By the receiver's index.
    pub(super) received: Vec<Received>,
}

impl SegmentList {
    pub(super) fn bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.committed).sum()
    }
}

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) directory: PathBuf,
    pub(super) instance: [u8; 16],
    pub(super) list: Mutex<SegmentList>,
    pub(super) metrics: SpoolMetrics,
    /// Sequence of the newest tick; 0 before the first.
    pub(super) newest: watch::Sender<u64>,
}

impl Shared {
    pub(super) fn list(&self) -> MutexGuard<'_, SegmentList> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn report(&self, list: &SegmentList) {
        self.metrics.bytes.set(list.bytes() as f64);
        self.metrics.segments.set(list.segments.len() as f64);
    }

    /// Deletes the oldest segments, but never the newest, until at most `bytes_max` bytes are left.
    pub(super) fn drop_oldest(&self, list: &mut SegmentList, bytes_max: u64) {
        while list.bytes() > bytes_max && list.segments.len() > 1 {
            let Some(segment) = list.segments.pop_front() else {
                return;
            };
            let mut lost = 0;
            for (received, dropped) in list.received.iter().zip(&self.metrics.dropped_ticks) {
                let missing = received.missing(&segment);
                dropped.add(missing);
                lost = missing.max(lost);
            }
            if lost > 0 {
                self.metrics.dropped_segments.inc();
                tracing::error!(
                    ticks = lost,
                    first_sequence = segment.first_sequence,
                    last_sequence = segment.last_sequence,
                    "spool is full, dropping the oldest ticks"
                );
            }
            self.remove_file(segment.index);
        }
    }

    /// Deletes closed segments that every receiver has.
    fn free(&self, list: &mut SegmentList) {
        let SegmentList {
            segments, received, ..
        } = list;
        segments.retain(|segment| {
            let is_done = segment.closed && received.iter().all(|one| one.covers(segment));
            if is_done {
                self.remove_file(segment.index);
            }
            !is_done
        });
        self.report(list);
    }

    fn remove_file(&self, index: u64) {
        let path = segment::path(&self.directory, index);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                let error = common::report::chain(&error);
                tracing::warn!(path = %path.display(), error, "cannot remove spool segment");
            }
            _ => {}
        }
    }
}

/// Reading half of the spool for one receiver's uplink. Clones share the spool.
#[derive(Debug, Clone)]
pub struct SpoolHandle {
    pub(super) shared: Arc<Shared>,
    pub(super) receiver: Receiver,
}

impl SpoolHandle {
    /// Returns a handle for another of [`super::SpoolOptions::receivers`].
    #[must_use]
    pub fn for_receiver(&self, receiver: Receiver) -> Self {
        let shared = Arc::clone(&self.shared);
        Self { shared, receiver }
    }

    /// Returns the receiver that this handle reads for.
    #[must_use]
    pub const fn receiver(&self) -> Receiver {
        self.receiver
    }

    /// Returns the spool's random name. Sequences are unique within it.
    #[must_use]
    pub fn instance(&self) -> [u8; 16] {
        self.shared.instance
    }

    /// Returns the sequence of the oldest tick; 0 for none.
    #[must_use]
    pub fn oldest_sequence(&self) -> u64 {
        let list = self.shared.list();
        let first = list.segments.iter().find_map(|one| one.first_sequence);
        first.unwrap_or(0)
    }

    /// Returns the numbers of ticks and samples written since the start.
    #[must_use]
    pub fn written(&self) -> (u64, u64) {
        let metrics = &self.shared.metrics;
        (metrics.ticks.get(), metrics.samples.get())
    }

    /// Returns the sequence of the newest tick; 0 before the first.
    #[must_use]
    pub fn newest(&self) -> u64 {
        *self.shared.newest.borrow()
    }

    /// Subscribes to the sequence of the newest tick; 0 before the first.
    #[must_use]
    pub fn newest_sequence(&self) -> watch::Receiver<u64> {
        self.shared.newest.subscribe()
    }

    /// Estimates the number of ticks after `sequence`. The estimate is exact unless the producer restarted in between.
    #[must_use]
    pub fn ticks_after(&self, sequence: Option<u64>) -> u64 {
        let list = self.shared.list();
        let ticks = list.segments.iter().map(|segment| {
            let last = segment.last_sequence.unwrap_or(0);
            let after = last.saturating_sub(sequence.unwrap_or(0));
            segment.ticks.min(after)
        });
        ticks.sum()
    }

    /// Takes over what an aggregator reports at the start of a session: it has everything up to `durable` except the gaps.
    ///
    /// It may be another aggregator than last time, or one that lost its disk. Gaps after `durable` are dropped then, because the
    /// live lane sends those ticks anyway.
    pub fn resume(&self, durable: Option<u64>) {
        let mut list = self.shared.list();
        if let Some(received) = list.received.get_mut(self.receiver.index()) {
            // Ticks that another aggregator acknowledged after a gap are not on this one's disk.
            let has_less = received.gaps.truncate_after(durable.unwrap_or(0));
            let live = if has_less { None } else { received.live };
            received.live = live.max(durable);
        }
        self.shared.free(&mut list);
    }

    /// Records that the receiver has every tick up to `sequence` on disk, except the gaps, and frees segments.
    pub fn acknowledge(&self, sequence: u64) {
        let mut list = self.shared.list();
        if let Some(received) = list.received.get_mut(self.receiver.index()) {
            received.live = received.live.max(Some(sequence));
        }
        self.shared.free(&mut list);
    }

    /// Records that the receiver has the ticks up to `sequence` of the oldest gap on disk, and frees segments.
    pub fn acknowledge_gap(&self, sequence: u64) {
        let mut list = self.shared.list();
        if let Some(received) = list.received.get_mut(self.receiver.index()) {
            received.gaps.fill(sequence);
        }
        self.shared.free(&mut list);
    }

    /// Returns the oldest gap: ticks that were skipped and are still to be sent.
    #[must_use]
    pub fn oldest_gap(&self) -> Option<Gap> {
        let list = self.shared.list();
        list.received.get(self.receiver.index())?.gaps.first()
    }

    /// Skips the ticks after `sequence`: they become a gap, and the returned reader starts with the newest tick. Blocks on the disk.
    ///
    /// # Errors
    /// The list of gaps cannot be written. Nothing is skipped then.
    pub fn skip_to_newest(&self, sequence: Option<u64>) -> Result<SpoolReader, SpoolError> {
        let until = *self.shared.newest.borrow();
        let after = sequence.unwrap_or(0);
        let mut gaps = self.gaps();
        gaps.add(Gap { after, until });
        gaps.save(&self.shared.directory, self.receiver)?;
        // Only the receiver's one session changes its gaps, and it waits for this call.
        if let Some(received) = self.shared.list().received.get_mut(self.receiver.index()) {
            received.gaps = gaps;
        }
        Ok(self.read_after(Some(until.saturating_sub(1))))
    }

    /// Saves how far the gaps are filled, so that less is sent again after a restart. Blocks on the disk.
    ///
    /// # Errors
    /// The list of gaps cannot be written.
    pub fn save_gaps(&self) -> Result<(), SpoolError> {
        self.gaps().save(&self.shared.directory, self.receiver)
    }

    fn gaps(&self) -> Gaps {
        let list = self.shared.list();
        let received = list.received.get(self.receiver.index());
        received.map_or_else(Gaps::default, |received| received.gaps.clone())
    }

    /// Returns a reader of the ticks after `sequence`, or of all ticks for `None`.
    #[must_use]
    pub fn read_after(&self, sequence: Option<u64>) -> SpoolReader {
        SpoolReader::new(Arc::clone(&self.shared), sequence, u64::MAX)
    }

    /// Returns a reader of the ticks in a gap.
    #[must_use]
    pub fn read_gap(&self, gap: Gap) -> SpoolReader {
        SpoolReader::new(Arc::clone(&self.shared), Some(gap.after), gap.until)
    }
}
