//! What the writing and the reading end share: the list of segments and how far each is good.

use std::collections::VecDeque;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::reader::SpoolReader;
use super::{SpoolMetrics, segment};

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

#[derive(Debug, Default)]
pub(super) struct List {
    /// By ascending index; only the last one may be open.
    pub(super) segments: VecDeque<SegmentInfo>,
    /// The reader found the open segment damaged: it should be closed.
    pub(super) rotate_requested: bool,
    pub(super) acknowledged: Option<u64>,
}

impl List {
    fn bytes(&self) -> u64 {
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
            let acknowledged = segment.last_sequence <= list.acknowledged;
            if !acknowledged {
                self.metrics.dropped_segments.inc();
                self.metrics.dropped_ticks.add(segment.ticks);
                tracing::error!(
                    ticks = segment.ticks,
                    first_sequence = segment.first_sequence,
                    last_sequence = segment.last_sequence,
                    "spool is full: drop the oldest ticks"
                );
            }
            self.remove_file(segment.index);
        }
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

/// The reading end, for the uplink. Clones share the spool.
#[derive(Debug, Clone)]
pub struct SpoolHandle {
    pub(super) shared: Arc<Shared>,
}

impl SpoolHandle {
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

    /// Tells the newest tick's sequence, again whenever it changes; 0 before the first.
    #[must_use]
    pub fn newest_sequence(&self) -> watch::Receiver<u64> {
        self.shared.newest.subscribe()
    }

    /// Frees what is no longer needed: closed segments with no tick behind `sequence`.
    ///
    /// One aggregator's word is enough: with several, the one that acknowledged has the data.
    pub fn acknowledge(&self, sequence: u64) {
        let mut list = self.shared.list();
        list.acknowledged = list.acknowledged.max(Some(sequence));
        while let Some(segment) = list.segments.front() {
            if !segment.closed || segment.last_sequence > Some(sequence) {
                break;
            }
            self.shared.remove_file(segment.index);
            list.segments.pop_front();
        }
        self.shared.report(&list);
    }

    /// Reads the ticks behind `sequence`; all there are for `None`.
    #[must_use]
    pub fn read_behind(&self, sequence: Option<u64>) -> SpoolReader {
        SpoolReader::new(Arc::clone(&self.shared), sequence)
    }
}
