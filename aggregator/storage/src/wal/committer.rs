//! The thread that writes and syncs the log.

use std::io;
use std::sync::{MutexGuard, PoisonError};
use std::time::Duration;

use super::segment::SegmentWriter;
use super::{Done, Failure, Shared, State};
use crate::sync::lock;
use crate::write::AppendError;

/// Pause between attempts after a write failed.
const RETRY: Duration = Duration::from_millis(if cfg!(test) { 2 } else { 250 });
/// Bytes that are written at once without lingering.
const BATCH_BYTES: usize = 1 << 20;
/// Capacity that an emptied buffer may keep.
const KEEP_BYTES: usize = 4 << 20;

/// What the committer took: bytes, and the numbers of the first and last record in them.
struct Batch {
    bytes: Vec<u8>,
    first: u64,
    last: u64,
    rotate: bool,
}

/// Commits until the log is closed and empty. `segment` is the one to begin with.
pub(super) fn run(shared: &Shared, segment: SegmentWriter) {
    let mut segment = Some(segment);
    let mut spare = Vec::new();
    while let Some(batch) = next_batch(shared, std::mem::take(&mut spare)) {
        if !commit_batch(shared, &mut segment, &batch) {
            break;
        }
        spare = batch.bytes;
        spare.clear();
        spare.shrink_to(KEEP_BYTES);
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

/// Waits for records and takes them; `None` once the log is closed and all is written.
fn next_batch(shared: &Shared, spare: Vec<u8>) -> Option<Batch> {
    let mut state = lock(&shared.state);
    while state.pending.is_empty() {
        if state.closed {
            return None;
        }
        state = super::wait(&shared.work, state);
    }
    if !state.urgent && state.pending.len() < BATCH_BYTES {
        state = linger(shared, state);
    }
    state.urgent = false;
    Some(Batch {
        bytes: std::mem::replace(&mut state.pending, spare),
        first: state.durable + 1,
        last: state.next - 1,
        rotate: std::mem::take(&mut state.rotate),
    })
}

/// Lets more records gather, until the time is over or somebody blocks.
fn linger<'a>(shared: &'a Shared, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
    let busy =
        |state: &mut State| !state.urgent && !state.closed && state.pending.len() < BATCH_BYTES;
    let waited = shared
        .work
        .wait_timeout_while(state, shared.options.linger, busy);
    waited.unwrap_or_else(PoisonError::into_inner).0
}

/// Writes one batch, again and again until it succeeds; false when the log was closed while it could not.
fn commit_batch(shared: &Shared, segment: &mut Option<SegmentWriter>, batch: &Batch) -> bool {
    let mut rotate = batch.rotate;
    loop {
        match write(shared, segment, batch, rotate) {
            Ok(()) => {
                succeed(shared, batch);
                return true;
            }
            Err(error) => {
                *segment = None;
                rotate = false;
                if !fail(shared, &error) {
                    return false;
                }
            }
        }
    }
}

fn write(
    shared: &Shared,
    segment: &mut Option<SegmentWriter>,
    batch: &Batch,
    rotate: bool,
) -> io::Result<()> {
    let full = |writer: &SegmentWriter| writer.bytes() >= shared.options.segment_bytes;
    if rotate || segment.as_ref().is_some_and(full) {
        *segment = None;
    }
    let writer = match segment {
        Some(writer) => writer,
        None => segment.insert(SegmentWriter::create(
            &shared.options.directory,
            batch.first,
        )?),
    };
    writer.commit(&batch.bytes)
}

fn succeed(shared: &Shared, batch: &Batch) {
    let ready: Vec<Done> = {
        let mut state = lock(&shared.state);
        state.durable = batch.last;
        state.written_bytes += batch.bytes.len() as u64;
        state.commits += 1;
        if state.failure.take().is_some() {
            tracing::info!("write-ahead log works again");
        }
        shared.progress.notify_all();
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

/// Tells everybody who waits; then pauses. False when the log was closed meanwhile.
fn fail(shared: &Shared, error: &io::Error) -> bool {
    let failure = Failure::new(error);
    let callbacks = {
        let mut state = lock(&shared.state);
        if state.failure.replace(failure.clone()).is_none() {
            tracing::error!(%error, "write-ahead log can't be written, refusing samples");
        }
        shared.progress.notify_all();
        std::mem::take(&mut state.callbacks)
    };
    for (_, done) in callbacks {
        done(Err(failure.to_error(&shared.options)));
    }
    let state = lock(&shared.state);
    let waited = shared
        .work
        .wait_timeout_while(state, RETRY, |state| !state.closed);
    let state = waited.unwrap_or_else(PoisonError::into_inner).0;
    !state.closed
}
