//! Decides what is sent next: new ticks first, then ticks that were skipped.

use std::time::{Duration, Instant};

use common::wire::Frame;

use crate::spool::{Gap, SpoolError, SpoolHandle, SpoolReader};

/// Bytes read from the spool at a time.
const BATCH_BYTES: usize = 128 << 10;
/// This many bytes written last are surely still in the page cache, so reading them does not wait for the disk.
const FRESH_BYTES: u64 = BATCH_BYTES as u64;
/// Interval between saves of how far gaps are filled.
const SAVE_INTERVAL: Duration = Duration::from_secs(10);

/// Stream of ticks within a session. Sequences ascend within the live lane; the backfill lane goes back to gaps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lane {
    Live,
    Backfill,
}

/// The two lanes of a session.
///
/// The backfill lane is read when the live lane has nothing, and has at most one batch unacknowledged. So on a slow network a new
/// tick waits for at most one batch.
#[derive(Debug)]
pub(super) struct Lanes {
    spool: SpoolHandle,
    live: SpoolReader,
    backfill: Option<Backfill>,
    /// Number of waiting ticks above which they are skipped. `None` for an aggregator that knows only the live lane, which receives
    /// no backfill either.
    waiting_ticks_max: Option<u64>,
    /// Lane that the aggregator expects the next frame to belong to.
    announced: Lane,
    saved_at: Instant,
}

#[derive(Debug)]
struct Backfill {
    gap: Gap,
    reader: SpoolReader,
    /// Last sequence sent.
    sent: Option<u64>,
    acked: Option<u64>,
}

/// Frames to send next.
#[derive(Debug, Default)]
pub(super) struct Batch {
    /// Encoded frames; empty when there is nothing to send now.
    pub(super) bytes: Vec<u8>,
    /// Number of ticks in the frames.
    pub(super) ticks: u64,
    /// The ticks belong to a gap.
    pub(super) is_backfill: bool,
    /// Older ticks were skipped in favour of these.
    pub(super) has_skipped: bool,
}

impl Lanes {
    /// Creates the lanes for an aggregator that has everything up to `durable` except the gaps.
    pub(super) fn new(
        spool: SpoolHandle,
        durable: Option<u64>,
        waiting_ticks_max: Option<u64>,
    ) -> Self {
        Self {
            live: spool.read_after(durable),
            spool,
            backfill: None,
            waiting_ticks_max,
            announced: Lane::Live,
            saved_at: Instant::now(),
        }
    }

    /// Returns the last sequence read on the live lane.
    pub(super) const fn live_position(&self) -> Option<u64> {
        self.live.position()
    }

    /// Returns whether skipped ticks are still to be sent or acknowledged.
    pub(super) fn has_gap(&self) -> bool {
        self.waiting_ticks_max.is_some() && self.spool.oldest_gap().is_some()
    }

    /// Returns whether everything written so far was read and no gap is left.
    pub(super) fn is_idle(&self) -> bool {
        self.spool.newest() <= self.live.position().unwrap_or(0) && !self.has_gap()
    }

    /// Returns whether [`Self::read`] will read from the page cache, as it usually does.
    pub(super) fn is_fresh(&self) -> bool {
        self.live.is_near_end(FRESH_BYTES) && !self.has_gap()
    }

    /// Records that the backfill lane is on disk at the aggregator up to `sequence`.
    pub(super) fn acknowledge_backfill(&mut self, sequence: u64) {
        if let Some(backfill) = &mut self.backfill {
            backfill.acked = backfill.acked.max(Some(sequence));
        }
        self.spool.acknowledge_gap(sequence);
        if !self.has_gap() {
            self.backfill = None;
        }
    }

    /// Reads what to send next. Blocks on the disk unless [`Self::is_fresh`].
    pub(super) fn read(&mut self) -> Result<Batch, SpoolError> {
        let mut batch = Batch::default();
        let position = self.live.position();
        let waiting_ticks_max = self.waiting_ticks_max.unwrap_or(u64::MAX);
        if self.spool.ticks_after(position) > waiting_ticks_max {
            self.live = self.spool.skip_to_newest(position)?;
            batch.has_skipped = true;
        }
        let (live, announced) = (&mut self.live, &mut self.announced);
        batch.ticks = read_lane(live, Lane::Live, announced, &mut batch.bytes)?;
        if batch.bytes.is_empty() && self.waiting_ticks_max.is_some() {
            batch.is_backfill = true;
            self.read_backfill(&mut batch)?;
        }
        Ok(batch)
    }

    fn read_backfill(&mut self, batch: &mut Batch) -> Result<(), SpoolError> {
        while let Some(gap) = self.spool.oldest_gap() {
            let spool = &self.spool;
            // A gap that has grown is read again from where it is filled to.
            let current = self.backfill.take_if(|one| one.gap.until == gap.until);
            let backfill = self.backfill.insert(current.unwrap_or_else(|| Backfill {
                gap,
                reader: spool.read_gap(gap),
                sent: None,
                acked: None,
            }));
            if backfill.acked < backfill.sent {
                return Ok(());
            }
            if backfill.reader.is_finished() {
                self.spool.acknowledge_gap(gap.until);
                self.save()?;
                continue;
            }
            let (reader, announced) = (&mut backfill.reader, &mut self.announced);
            batch.ticks = read_lane(reader, Lane::Backfill, announced, &mut batch.bytes)?;
            if batch.ticks > 0 {
                backfill.sent = backfill.reader.position();
            }
            if batch.bytes.is_empty() && !backfill.reader.is_finished() {
                return Ok(());
            }
            if !batch.bytes.is_empty() {
                return self.save_at_intervals();
            }
        }
        self.backfill = None;
        Ok(())
    }

    fn save_at_intervals(&mut self) -> Result<(), SpoolError> {
        match self.saved_at.elapsed() > SAVE_INTERVAL {
            true => self.save(),
            false => Ok(()),
        }
    }

    fn save(&mut self) -> Result<(), SpoolError> {
        self.saved_at = Instant::now();
        self.spool.save_gaps()
    }
}

/// Reads one lane's frames, preceded by a `Lane` frame when the lane changes.
fn read_lane(
    reader: &mut SpoolReader,
    lane: Lane,
    announced: &mut Lane,
    out: &mut Vec<u8>,
) -> Result<u64, SpoolError> {
    if lane != *announced {
        let backfill = lane == Lane::Backfill;
        Frame::Lane { backfill }.encode(out)?;
    }
    let start = out.len();
    let ticks = reader.read(out, BATCH_BYTES)?;
    if out.len() == start {
        out.clear();
    } else {
        *announced = lane;
    }
    Ok(ticks)
}

#[cfg(test)]
mod tests {
    use common::limits::FRAME_BYTES_MAX;
    use common::model::Labels;
    use common::telemetry::Registry;
    use common::wire::FrameBuffer;

    use super::*;
    use crate::spool::{Receiver, SpoolOptions, SpoolWriter, open};
    use crate::testing::TestTable;

    /// A spool and a function that appends the next tick.
    fn spool(dir: &std::path::Path) -> (SpoolWriter, SpoolHandle, impl FnMut(&mut SpoolWriter)) {
        let options = SpoolOptions {
            path: dir.to_owned(),
            bytes_max: 1 << 20,
            receivers: &[Receiver::Primary],
            sync_each_tick: false,
        };
        let (writer, handle) = open(options, &Registry::default()).unwrap();
        let mut table = TestTable::default();
        let series = table.add(Labels::from_pairs([("__name__", "v")]).unwrap());
        let mut now_ms = 0;
        let tick = move |writer: &mut SpoolWriter| {
            now_ms += 1000;
            table.begin_tick(now_ms);
            table.set(series, now_ms as f64);
            writer.append(&mut table).unwrap();
        };
        (writer, handle, tick)
    }

    /// Timestamps of ticks and changes of lane, in order.
    fn contents(batch: &Batch) -> Vec<String> {
        let mut frames = FrameBuffer::new(FRAME_BYTES_MAX);
        frames.extend(&batch.bytes);
        let mut found = Vec::new();
        while let Some(message) = frames.next_message().unwrap() {
            match Frame::decode(message).unwrap() {
                Frame::Samples { timestamp_ms, .. } => found.push(timestamp_ms.to_string()),
                Frame::Lane { backfill } => found.push(format!("backfill {backfill}")),
                _ => {}
            }
        }
        found
    }

    #[test]
    fn aggregator_without_backfill_lane_gets_ticks_in_order_and_gaps_wait_for_another() {
        let dir = tempfile::tempdir().unwrap();
        let (mut writer, handle, mut tick) = spool(dir.path());
        (0..6).for_each(|_| tick(&mut writer));
        let mut one = Lanes::new(handle.clone(), None, None);
        let batch = one.read().unwrap();
        assert_eq!(
            contents(&batch),
            ["1000", "2000", "3000", "4000", "5000", "6000"]
        );
        assert!(!batch.has_skipped && one.is_idle());
        // With two lanes, ticks are skipped. An aggregator with one lane must not receive them after newer ticks.
        let mut two = Lanes::new(handle.clone(), None, Some(3));
        let batch = two.read().unwrap();
        assert!(batch.has_skipped && two.has_gap() && !two.is_idle());
        assert_eq!(contents(&batch), ["6000"]);
        let mut one = Lanes::new(handle.clone(), two.live_position(), None);
        tick(&mut writer);
        assert_eq!(contents(&one.read().unwrap()), ["7000"]);
        assert!(one.is_idle() && !one.has_gap());
        assert!(one.read().unwrap().bytes.is_empty());
        assert!(
            handle.oldest_gap().is_some(),
            "kept for an aggregator with a backfill lane"
        );
        let mut two = Lanes::new(handle, one.live_position(), Some(3));
        let resumed = two.read().unwrap();
        assert!(
            resumed.ticks == 0 && !resumed.is_backfill,
            "the position of the live lane"
        );
        let late = ["1000", "2000", "3000", "4000", "5000", "6000"];
        assert_eq!(
            contents(&two.read().unwrap()),
            [&["backfill true"], &late[..]].concat()
        );
    }

    #[test]
    fn tick_just_written_is_read_without_another_thread() {
        let dir = tempfile::tempdir().unwrap();
        let (mut writer, handle, mut tick) = spool(dir.path());
        let mut lanes = Lanes::new(handle, None, Some(100));
        tick(&mut writer);
        assert!(
            !lanes.is_idle() && !lanes.is_fresh(),
            "the segment is not open yet"
        );
        for now in ["1000", "2000", "3000"] {
            assert_eq!(contents(&lanes.read().unwrap()), [now]);
            assert!(lanes.is_idle());
            tick(&mut writer);
            assert!(!lanes.is_idle() && lanes.is_fresh());
        }
    }
}
