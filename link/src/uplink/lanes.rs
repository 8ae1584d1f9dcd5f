//! What is sent next: the newest ticks first, and behind them what was passed over.

use std::time::{Duration, Instant};

use common::wire::Frame;

use crate::spool::{Gap, SpoolError, SpoolHandle, SpoolReader};

/// Bytes read from the spool at a time.
const BATCH_BYTES: usize = 128 << 10;
/// As much of what was written last is surely in the system's memory still, and read without waiting for a disk.
const FRESH_BYTES: u64 = BATCH_BYTES as u64;
/// How often it is written down how far gaps are filled.
const SAVE_INTERVAL: Duration = Duration::from_secs(10);

/// The two lanes of a session.
///
/// The backfill lane gets its turn when the live one has nothing, and has one batch on the way at most: on a slow link a new tick
/// waits for no more than that.
#[derive(Debug)]
pub(super) struct Lanes {
    spool: SpoolHandle,
    live: SpoolReader,
    backfill: Option<Backfill>,
    /// Ticks that may wait before they are passed over; `None` for an aggregator that knows one lane only, which gets none of
    /// what was passed over for another one.
    patience_ticks: Option<u64>,
    /// The lane that the aggregator expects frames of.
    at_backfill: bool,
    saved_at: Instant,
}

#[derive(Debug)]
struct Backfill {
    gap: Gap,
    reader: SpoolReader,
    /// The last tick on the way.
    sent: Option<u64>,
    acked: Option<u64>,
}

/// What was read to be sent.
#[derive(Debug, Default)]
pub(super) struct Batch {
    /// Frames; empty when there is nothing to send now.
    pub(super) bytes: Vec<u8>,
    /// Ticks in them.
    pub(super) ticks: u64,
    /// They were passed over before.
    pub(super) is_backfill: bool,
    /// Ticks were passed over for these.
    pub(super) has_skipped: bool,
}

impl Lanes {
    /// For an aggregator that has everything up to `durable` but the gaps.
    pub(super) fn new(
        spool: SpoolHandle,
        durable: Option<u64>,
        patience_ticks: Option<u64>,
    ) -> Self {
        Self {
            live: spool.read_behind(durable),
            spool,
            backfill: None,
            patience_ticks,
            at_backfill: false,
            saved_at: Instant::now(),
        }
    }

    /// The last tick of the live lane that was read.
    pub(super) const fn live_position(&self) -> Option<u64> {
        self.live.position()
    }

    /// Whether ticks that were passed over are still to be sent or acknowledged.
    pub(super) fn has_gap(&self) -> bool {
        self.patience_ticks.is_some() && self.spool.oldest_gap().is_some()
    }

    /// Whether there is nothing to send now or later but what is still to be written.
    pub(super) fn is_idle(&self) -> bool {
        self.spool.newest() <= self.live.position().unwrap_or(0) && !self.has_gap()
    }

    /// Whether [`Self::read`] finds what it reads in memory, as it does tick after tick.
    pub(super) fn is_fresh(&self) -> bool {
        self.live.is_near_end(FRESH_BYTES) && !self.has_gap()
    }

    /// Ticks of the backfill lane are on disk at the aggregator.
    pub(super) fn acknowledge_backfill(&mut self, sequence: u64) {
        if let Some(backfill) = &mut self.backfill {
            backfill.acked = backfill.acked.max(Some(sequence));
        }
        self.spool.acknowledge_gap(sequence);
        if !self.has_gap() {
            self.backfill = None;
        }
    }

    /// Reads what is to be sent next. Blocks on the disk unless it [`Self::is_fresh`].
    pub(super) fn read(&mut self) -> Result<Batch, SpoolError> {
        let mut batch = Batch::default();
        let position = self.live.position();
        let patience_ticks = self.patience_ticks.unwrap_or(u64::MAX);
        if self.spool.ticks_behind(position) > patience_ticks {
            self.live = self.spool.skip_to_newest(position)?;
            batch.has_skipped = true;
        }
        let live = &mut self.live;
        batch.ticks = read_lane(live, (false, &mut self.at_backfill), &mut batch.bytes)?;
        if batch.bytes.is_empty() && self.patience_ticks.is_some() {
            batch.is_backfill = true;
            self.read_backfill(&mut batch)?;
        }
        Ok(batch)
    }

    fn read_backfill(&mut self, batch: &mut Batch) -> Result<(), SpoolError> {
        while let Some(gap) = self.spool.oldest_gap() {
            let spool = &self.spool;
            // A gap that has grown is read anew, from where it is filled to.
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
            let reader = &mut backfill.reader;
            batch.ticks = read_lane(reader, (true, &mut self.at_backfill), &mut batch.bytes)?;
            if batch.ticks > 0 {
                backfill.sent = backfill.reader.position();
            }
            if batch.bytes.is_empty() && !backfill.reader.is_finished() {
                return Ok(());
            }
            if !batch.bytes.is_empty() {
                return self.save_now_and_then();
            }
        }
        self.backfill = None;
        Ok(())
    }

    fn save_now_and_then(&mut self) -> Result<(), SpoolError> {
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

/// Reads frames of a lane, behind the word that they are of it, if that is news.
fn read_lane(
    reader: &mut SpoolReader,
    (backfill, at_backfill): (bool, &mut bool),
    out: &mut Vec<u8>,
) -> Result<u64, SpoolError> {
    if backfill != *at_backfill {
        Frame::Lane { backfill }.encode(out)?;
    }
    let start = out.len();
    let ticks = reader.read(out, BATCH_BYTES)?;
    if out.len() == start {
        out.clear();
    } else {
        *at_backfill = backfill;
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
    use crate::spool::{SpoolOptions, SpoolWriter, open};
    use crate::testing::TestTable;

    /// A spool and what is written to it.
    fn spool(dir: &std::path::Path) -> (SpoolWriter, SpoolHandle, impl FnMut(&mut SpoolWriter)) {
        let options = SpoolOptions {
            path: dir.to_owned(),
            bytes_max: 1 << 20,
            copies: 1,
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

    /// Ticks and changes of lane, in order.
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
    fn an_aggregator_of_one_lane_gets_all_in_order_and_gaps_wait_for_another() {
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
        // One with two lanes passes over what the next one, with one lane, must not be sent behind newer ticks.
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
            "kept for an aggregator that can take it"
        );
        let mut two = Lanes::new(handle, one.live_position(), Some(3));
        let resumed = two.read().unwrap();
        assert!(
            resumed.ticks == 0 && !resumed.is_backfill,
            "where the live lane goes on"
        );
        let late = ["1000", "2000", "3000", "4000", "5000", "6000"];
        assert_eq!(
            contents(&two.read().unwrap()),
            [&["backfill true"], &late[..]].concat()
        );
    }

    #[test]
    fn what_was_just_written_is_read_in_place() {
        let dir = tempfile::tempdir().unwrap();
        let (mut writer, handle, mut tick) = spool(dir.path());
        let mut lanes = Lanes::new(handle, None, Some(100));
        tick(&mut writer);
        assert!(
            !lanes.is_idle() && !lanes.is_fresh(),
            "the segment is still to be opened"
        );
        for now in ["1000", "2000", "3000"] {
            assert_eq!(contents(&lanes.read().unwrap()), [now]);
            assert!(lanes.is_idle());
            tick(&mut writer);
            assert!(!lanes.is_idle() && lanes.is_fresh());
        }
    }
}
