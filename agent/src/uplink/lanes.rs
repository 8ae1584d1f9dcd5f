//! What is sent next: the newest ticks first, and behind them what was passed over.

use std::time::{Duration, Instant};

use common::wire::Frame;

use crate::spool::{Gap, SpoolError, SpoolHandle, SpoolReader};

/// Bytes read from the spool at a time.
const BATCH_BYTES: usize = 128 << 10;
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
    /// Ticks that may wait before they are passed over.
    patience_ticks: u64,
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
    pub(super) fn new(spool: SpoolHandle, durable: Option<u64>, patience_ticks: u64) -> Self {
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
        self.spool.oldest_gap().is_some()
    }

    /// Ticks of the backfill lane are on disk at the aggregator.
    pub(super) fn acknowledge_backfill(&mut self, sequence: u64) {
        if let Some(backfill) = &mut self.backfill {
            backfill.acked = backfill.acked.max(Some(sequence));
        }
        self.spool.acknowledge_gap(sequence);
    }

    /// Reads what is to be sent next. Blocks on the disk.
    pub(super) fn read(&mut self) -> Result<Batch, SpoolError> {
        let mut batch = Batch::default();
        let position = self.live.position();
        if self.spool.ticks_behind(position) > self.patience_ticks {
            self.live = self.spool.skip_to_newest(position)?;
            batch.has_skipped = true;
        }
        let live = &mut self.live;
        batch.ticks = read_lane(live, (false, &mut self.at_backfill), &mut batch.bytes)?;
        if batch.bytes.is_empty() {
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
