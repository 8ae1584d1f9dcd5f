//! The thread that writes and syncs the log.

use std::sync::Arc;
use std::time::{Duration, Instant};

use common::report::chain;

use super::segment::SegmentWriter;
use super::{Done, Shared, State, WalOptions, WalSync, append_error};
use crate::sync::{RankedMutexGuard, lock, wait, wait_timeout, wait_timeout_while};
use crate::write::{AppendError, LogError};

/// Pause between attempts after a write failed.
const RETRY: Duration = Duration::from_millis(if cfg!(test) { 2 } else { 250 });
/// Number of pending bytes from which on a commit does not linger.
const BATCH_BYTES: usize = 1 << 20;
/// Number of unsynced bytes from which on a sync does not wait for its interval.
const UNSYNCED_BYTES_MAX: usize = 16 << 20;
/// Maximum capacity that an emptied buffer keeps.
const KEEP_BYTES: usize = 4 << 20;

/// The records taken by the committer, and the numbers of the first and last one.
struct Batch {
    bytes: Vec<u8>,
    first: u64,
    last: u64,
    rotate: bool,
}

/// The next action of the committer.
enum Next {
    Write(Batch),
    /// A sync of written records is due.
    Sync,
    /// The log is closed and everything is written.
    End,
}

/// The part of the log that is being written.
struct Log {
    segment: Option<SegmentWriter>,
    /// Bytes written but not synced, with [`WalSync::Interval`] only. They are kept because a failed sync drops them.
    unsynced: Vec<u8>,
    /// The number of the first record in `unsynced`.
    unsynced_first: u64,
    /// When `unsynced` must be synced.
    sync_at: Option<Instant>,
}

/// Commits until the log is closed and empty. `segment` is the first one to write to.
pub(super) fn run(shared: &Shared, segment: SegmentWriter) {
    let mut log = Log {
        segment: Some(segment),
        unsynced: Vec::new(),
        unsynced_first: 0,
        sync_at: None,
    };
    let mut spare = Vec::new();
    loop {
        match next(shared, std::mem::take(&mut spare), log.sync_at) {
            Next::Write(batch) => {
                if !repeat(shared, || log.commit(shared, &batch)) {
                    break;
                }
                succeed(shared, &batch);
                spare = batch.bytes;
                spare.clear();
                spare.shrink_to(KEEP_BYTES);
            }
            Next::Sync => {
                if !repeat(shared, || log.sync(shared)) {
                    break;
                }
                recovered(&mut lock(&shared.state));
            }
            Next::End => {
                if let Err(error) = log.sync(shared) {
                    tracing::error!(error = chain(&error), "sync the end of the write-ahead log");
                    lock(&shared.state).failure = Some(Arc::new(error));
                }
                break;
            }
        }
    }
    let callbacks = {
        let mut state = lock(&shared.state);
        state.ended = true;
        shared.progress.notify_all();
        std::mem::take(&mut state.callbacks)
    };
    for (_, done) in callbacks {
        done(Err(AppendError::Closed));
    }
}

/// Waits for records and takes them, or waits until a sync is due.
fn next(shared: &Shared, spare: Vec<u8>, sync_at: Option<Instant>) -> Next {
    let mut state = lock(&shared.state);
    while state.pending.is_empty() {
        if state.closed {
            return Next::End;
        }
        state = match sync_at.map(|at| at.saturating_duration_since(Instant::now())) {
            None => wait(&shared.work, state),
            Some(Duration::ZERO) => return Next::Sync,
            Some(left) => wait_timeout(&shared.work, state, left),
        };
    }
    if !state.urgent && state.pending.len() < BATCH_BYTES {
        state = linger(shared, state);
    }
    state.urgent = false;
    Next::Write(Batch {
        bytes: std::mem::replace(&mut state.pending, spare),
        first: state.durable + 1,
        last: state.next - 1,
        rotate: std::mem::take(&mut state.rotate),
    })
}

/// Lets more records gather until all writers wait, the time is over, or a caller blocks.
fn linger<'a>(
    shared: &'a Shared,
    mut state: RankedMutexGuard<'a, State>,
) -> RankedMutexGuard<'a, State> {
    state.lingers = true;
    let more_may_come = |state: &mut State| {
        let few = state.pending.len() < BATCH_BYTES && state.callbacks.len() < state.writers;
        few && !state.urgent && !state.closed
    };
    let mut state = wait_timeout_while(&shared.work, state, shared.options.linger, more_may_come);
    state.lingers = false;
    state
}

/// Returns the number of writers to wait for, after a commit that `together` of them waited for, including those that
/// arrived during it. A missing writer delays the others by one commit; many missing ones delay a few commits.
fn writers_after(before: usize, together: usize) -> usize {
    let fewer = before - before.div_ceil(8);
    together.max(fewer).max(1)
}

/// Retries until it succeeds. Returns false if the log was closed before that.
fn repeat(shared: &Shared, mut attempt: impl FnMut() -> Result<(), LogError>) -> bool {
    while let Err(error) = attempt() {
        if !fail(shared, error) {
            return false;
        }
    }
    true
}

impl Log {
    /// Writes a batch, and syncs it now or within the interval.
    fn commit(&mut self, shared: &Shared, batch: &Batch) -> Result<(), LogError> {
        let options = &shared.options;
        let full = |writer: &SegmentWriter| writer.bytes() >= options.segment_bytes;
        if batch.rotate || self.segment.as_ref().is_some_and(full) {
            self.sync(shared)?;
            self.segment = None;
        }
        let result = self.write(options, batch.first, &batch.bytes);
        let result = result.and_then(|()| match options.sync {
            WalSync::EveryCommit => self.sync_segment(),
            WalSync::Interval(interval) => {
                if self.unsynced.is_empty() {
                    self.unsynced_first = batch.first;
                    self.sync_at = Some(Instant::now() + interval);
                }
                self.unsynced.extend_from_slice(&batch.bytes);
                Ok(())
            }
        });
        if result.is_err() {
            self.segment = None;
        }
        if self.unsynced.len() >= UNSYNCED_BYTES_MAX {
            self.sync_at = Some(Instant::now());
        }
        result
    }

    fn write(&mut self, options: &WalOptions, first: u64, bytes: &[u8]) -> Result<(), LogError> {
        let writer = match &mut self.segment {
            Some(writer) => writer,
            None => self.segment.insert(
                SegmentWriter::create(&options.directory, first)
                    .map_err(LogError::CreateSegment)?,
            ),
        };
        writer.write(bytes).map_err(LogError::Write)
    }

    fn sync_segment(&mut self) -> Result<(), LogError> {
        match &mut self.segment {
            Some(writer) => writer.sync().map_err(LogError::Sync),
            None => Ok(()),
        }
    }

    /// Syncs written records. Records dropped by a failed sync are first written again to a new segment.
    fn sync(&mut self, shared: &Shared) -> Result<(), LogError> {
        if self.unsynced.is_empty() {
            return Ok(());
        }
        if self.segment.is_none() {
            let bytes = std::mem::take(&mut self.unsynced);
            let written = self.write(&shared.options, self.unsynced_first, &bytes);
            self.unsynced = bytes;
            written.inspect_err(|_| self.segment = None)?;
        }
        self.sync_segment().inspect_err(|_| self.segment = None)?;
        self.unsynced.clear();
        self.unsynced.shrink_to(KEEP_BYTES);
        self.sync_at = None;
        Ok(())
    }
}

/// Clears an earlier failure, now that the log works.
fn recovered(state: &mut State) {
    if state.failure.take().is_some() {
        tracing::info!("write-ahead log works again");
    }
}

fn succeed(shared: &Shared, batch: &Batch) {
    let ready: Vec<Done> = {
        let mut state = lock(&shared.state);
        state.durable = batch.last;
        state.written_bytes += batch.bytes.len() as u64;
        state.commits += 1;
        recovered(&mut state);
        shared.progress.notify_all();
        state.writers = writers_after(state.writers, state.callbacks.len());
        state
            .callbacks
            .extract_if(.., |(position, _)| *position <= batch.last)
            .map(|(_, done)| done)
            .collect()
    };
    for done in ready {
        done(Ok(()));
    }
}

/// Reports the error to all waiters, then pauses. Returns false if the log was closed meanwhile.
fn fail(shared: &Shared, error: LogError) -> bool {
    let failure = Arc::new(error);
    let callbacks = {
        let mut state = lock(&shared.state);
        if state.failure.replace(Arc::clone(&failure)).is_none() {
            tracing::error!(
                error = chain(&*failure),
                "write-ahead log fails, refusing samples"
            );
        }
        shared.progress.notify_all();
        std::mem::take(&mut state.callbacks)
    };
    for (_, done) in callbacks {
        done(Err(append_error(&failure, &shared.options)));
    }
    let state = lock(&shared.state);
    let state = wait_timeout_while(&shared.work, state, RETRY, |state| !state.closed);
    !state.closed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writers_that_stay_away_are_waited_for_no_longer() {
        assert_eq!(writers_after(1, 0), 1);
        assert_eq!(writers_after(1, 4), 4);
        assert_eq!(writers_after(4, 3), 3);
        assert_eq!(writers_after(1000, 1), 875);
        let commits = (0..).scan(1000, |writers, _| {
            *writers = writers_after(*writers, 1);
            (*writers > 1).then_some(())
        });
        assert!(commits.count() < 60);
    }
}
