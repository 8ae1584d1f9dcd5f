//! What the writing and the reading end share: the list of segments and how far each is good.

use std::collections::VecDeque;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::gaps::{Gap, Gaps};
use super::reader::SpoolReader;
use super::{SpoolError, SpoolMetrics, segment};

/// A segment.
#[derive(Debug, Clone, Copy)]
pub(super) struct SegmentInfo {
    pub(super) index: u64,
    pub(super) continues: bool,
    /// Bytes that are written and good.
    pub(super) committed: u64,
    /// `None` without a tick.
    pub(super) first_sequence: Option<u64>,
    pub(super) last_sequence: Option<u64>,
    pub(super) ticks: u64,
    /// Nothing more will be written to it.
    pub(super) closed: bool,
}

/// What one receiver has.
#[derive(Debug, Default)]
pub(super) struct Receipt {
    /// Everything up to here but the gaps.
    pub(super) live: Option<u64>,
    pub(super) gaps: Gaps,
}

impl Receipt {
    /// Whether it has all ticks of a segment.
    fn covers(&self, segment: &SegmentInfo) -> bool {
        let (Some(first), Some(last)) = (segment.first_sequence, segment.last_sequence) else {
            return true;
        };
        Some(last) <= self.live && !self.gaps.overlap(first, last)
    }

    /// How many ticks of a segment it has not: those behind what it has, and those in gaps before.
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
pub(super) struct List {
    /// By ascending index; only the last one may be open.
    pub(super) segments: VecDeque<SegmentInfo>,
    /// The reader found the open segment damaged: it should be closed.
    pub(super) rotate_requested: bool,
    /// One for each receiver.
    pub(super) receipts: Vec<Receipt>,
}

impl List {
    pub(super) fn bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.committed).sum()
    }
}

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) directory: PathBuf,
    pub(super) instance: [u8; 16],
    pub(super) list: Mutex<List>,
    pub(super) metrics: SpoolMetrics,
    /// The newest tick's sequence; 0 before the first.
    pub(super) newest: watch::Sender<u64>,
}

impl Shared {
    pub(super) fn list(&self) -> MutexGuard<'_, List> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn report(&self, list: &List) {
        self.metrics.bytes.set(list.bytes() as f64);
        self.metrics.segments.set(list.segments.len() as f64);
    }

    /// Removes the oldest segments, the open one never, until at most `bytes_max` are left.
    pub(super) fn drop_beyond(&self, list: &mut List, bytes_max: u64) {
        while list.bytes() > bytes_max && list.segments.len() > 1 {
            let Some(segment) = list.segments.pop_front() else {
                return;
            };
            let mut lost = 0;
            for (receipt, dropped) in list.receipts.iter().zip(&self.metrics.dropped_ticks) {
                let missing = receipt.missing(&segment);
                dropped.add(missing);
                lost = missing.max(lost);
            }
            if lost > 0 {
                self.metrics.dropped_segments.inc();
                tracing::error!(
                    ticks = lost,
                    first_sequence = segment.first_sequence,
                    last_sequence = segment.last_sequence,
                    "spool is full: drop the oldest ticks"
                );
            }
            self.remove_file(segment.index);
        }
    }

    /// Removes closed segments that every receiver has.
    fn free(&self, list: &mut List) {
        let List {
            segments, receipts, ..
        } = list;
        segments.retain(|segment| {
            let is_done = segment.closed && receipts.iter().all(|one| one.covers(segment));
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
                tracing::warn!(path = %path.display(), %error, "remove spool segment");
            }
            _ => {}
        }
    }
}

/// The reading end, for the uplink of one receiver. Clones share the spool.
#[derive(Debug, Clone)]
pub struct SpoolHandle {
    pub(super) shared: Arc<Shared>,
    pub(super) copy: usize,
}

impl SpoolHandle {
    /// The same spool for the receiver number `copy`, below [`super::SpoolOptions::copies`].
    #[must_use]
    pub fn for_copy(&self, copy: usize) -> Self {
        let shared = Arc::clone(&self.shared);
        Self { shared, copy }
    }

    /// The receiver's number.
    #[must_use]
    pub const fn copy(&self) -> usize {
        self.copy
    }

    /// The spool's random name: sequences count within it.
    #[must_use]
    pub fn instance(&self) -> [u8; 16] {
        self.shared.instance
    }

    /// The oldest tick there is; 0 for none.
    #[must_use]
    pub fn oldest_sequence(&self) -> u64 {
        let list = self.shared.list();
        let first = list.segments.iter().find_map(|one| one.first_sequence);
        first.unwrap_or(0)
    }

    /// Ticks and samples that were written since the start.
    #[must_use]
    pub fn written(&self) -> (u64, u64) {
        let metrics = &self.shared.metrics;
        (metrics.ticks.get(), metrics.samples.get())
    }

    /// The newest tick's sequence; 0 before the first.
    #[must_use]
    pub fn newest(&self) -> u64 {
        *self.shared.newest.borrow()
    }

    /// Tells the newest tick's sequence, again whenever it changes; 0 before the first.
    #[must_use]
    pub fn newest_sequence(&self) -> watch::Receiver<u64> {
        self.shared.newest.subscribe()
    }

    /// How many ticks there are behind `sequence`; a few more where the agent was started anew in between.
    #[must_use]
    pub fn ticks_behind(&self, sequence: Option<u64>) -> u64 {
        let list = self.shared.list();
        let ticks = list.segments.iter().map(|segment| {
            let last = segment.last_sequence.unwrap_or(0);
            let behind = last.saturating_sub(sequence.unwrap_or(0));
            segment.ticks.min(behind)
        });
        ticks.sum()
    }

    /// An aggregator says what it has: everything up to `durable` that was not passed over. It may be another one than last time.
    pub fn resume(&self, durable: Option<u64>) {
        let mut list = self.shared.list();
        if let Some(receipt) = list.receipts.get_mut(self.copy) {
            // What was to be sent to another aggregator later is now to be sent to this one at once.
            let owes_more = receipt.gaps.cut_behind(durable.unwrap_or(0));
            let live = if owes_more { None } else { receipt.live };
            receipt.live = live.max(durable);
        }
        self.shared.free(&mut list);
    }

    /// Frees what is no longer needed: the ticks up to `sequence` are on disk at the receiver, but for the gaps.
    pub fn acknowledge(&self, sequence: u64) {
        let mut list = self.shared.list();
        if let Some(receipt) = list.receipts.get_mut(self.copy) {
            receipt.live = receipt.live.max(Some(sequence));
        }
        self.shared.free(&mut list);
    }

    /// Frees what is no longer needed: the ticks up to `sequence` of the oldest gap are on disk at the receiver.
    pub fn acknowledge_gap(&self, sequence: u64) {
        let mut list = self.shared.list();
        if let Some(receipt) = list.receipts.get_mut(self.copy) {
            receipt.gaps.fill(sequence);
        }
        self.shared.free(&mut list);
    }

    /// The oldest ticks that were passed over and are still to be sent.
    #[must_use]
    pub fn oldest_gap(&self) -> Option<Gap> {
        let list = self.shared.list();
        list.receipts.get(self.copy)?.gaps.first()
    }

    /// Passes over the ticks behind `sequence`: they become a gap, and the reader begins with the newest one. Blocks on the disk.
    ///
    /// # Errors
    /// The list of gaps could not be written; nothing is passed over then.
    pub fn skip_to_newest(&self, sequence: Option<u64>) -> Result<SpoolReader, SpoolError> {
        let until = *self.shared.newest.borrow();
        let behind = sequence.unwrap_or(0);
        let mut gaps = self.gaps();
        gaps.add(Gap { behind, until });
        gaps.save(&self.shared.directory, self.copy)?;
        // Nobody else adds or fills gaps of this receiver meanwhile: it has one session, which waits for this.
        if let Some(receipt) = self.shared.list().receipts.get_mut(self.copy) {
            receipt.gaps = gaps;
        }
        Ok(self.read_behind(Some(until.saturating_sub(1))))
    }

    /// Writes down how far the gaps are filled. Without, after a restart more is sent again than need be. Blocks on the disk.
    ///
    /// # Errors
    /// The file could not be written.
    pub fn save_gaps(&self) -> Result<(), SpoolError> {
        self.gaps().save(&self.shared.directory, self.copy)
    }

    fn gaps(&self) -> Gaps {
        let list = self.shared.list();
        let receipt = list.receipts.get(self.copy);
        receipt.map_or_else(Gaps::default, |receipt| receipt.gaps.clone())
    }

    /// Reads the ticks behind `sequence`; all there are for `None`.
    #[must_use]
    pub fn read_behind(&self, sequence: Option<u64>) -> SpoolReader {
        SpoolReader::new(Arc::clone(&self.shared), sequence, u64::MAX)
    }

    /// Reads the ticks of a gap.
    #[must_use]
    pub fn read_gap(&self, gap: Gap) -> SpoolReader {
        SpoolReader::new(Arc::clone(&self.shared), Some(gap.behind), gap.until)
    }
}
