//! The write-ahead log: accepted records in order, on disk before they are acknowledged.
//!
//! Writers append whole records to a buffer in memory. One thread takes the buffered records, writes and syncs them,
//! and notifies the waiting writers (group commit). A segment is never appended to after a restart: each start begins a
//! new one. The layout of a segment is in `docs/format/wal.md`.
//!
//! **Invariant:** a position is durable only when every record up to it is on disk (with [`WalSync::Interval`]: handed
//! to the kernel). After a write error the segment is cut back to its last durable byte, a new one is begun, and the
//! failed records are written first.

mod committer;
pub(crate) mod definitions;
pub(crate) mod frame;
pub(crate) mod record;
mod reference;
mod replay;
pub(crate) mod rows;
pub(crate) mod segment;

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Condvar};
use std::thread::JoinHandle;
use std::time::Duration;

use common::report::chain;

use crate::files;
use crate::sync::{Rank, RankedMutex, lock, wait};
use crate::write::{AppendError, LogError, LogPosition};

pub(crate) use replay::{Numbered, RecordFormat, ReplayReport, Unsupported, keep_copy, replay};
pub(crate) use segment::remove_before;

/// Maximum number of bytes that wait for the disk; above it, writers wait too.
const PENDING_BYTES_MAX: usize = 64 << 20;

/// When written records are synced to disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WalSync {
    /// Records are synced before they are acknowledged.
    #[default]
    EveryCommit,
    /// Records are synced at most this long after they are acknowledged. A kill of the process loses nothing. A power
    /// loss or kernel crash loses what was acknowledged within that time.
    Interval(Duration),
}

/// Options of the log.
#[derive(Debug, Clone)]
pub(crate) struct WalOptions {
    pub(crate) directory: PathBuf,
    /// The seed of this data directory's checksums.
    pub(crate) seed: u32,
    /// How long records may gather before they are written, when no caller blocks on them. Within that time, a commit
    /// waits for as many writers as recently waited at a time.
    pub(crate) linger: Duration,
    /// The segment size in bytes at which a new segment is begun.
    pub(crate) segment_bytes: u64,
    /// When written records are synced.
    pub(crate) sync: WalSync,
}

type Done = Box<dyn FnOnce(Result<(), AppendError>) + Send>;

struct State {
    /// Records that the committer has not taken yet.
    pending: Vec<u8>,
    /// The number of the next record.
    next: u64,
    /// All records up to this one are on disk.
    durable: u64,
    /// Set while writes fail; nothing is accepted until one succeeds.
    failure: Option<Arc<LogError>>,
    callbacks: Vec<(u64, Done)>,
    /// The number of writers that recently waited at a time. Delaying a commit until they all wait again is worthwhile.
    writers: usize,
    /// The committer waits for more records and must be woken when all writers wait.
    lingers: bool,
    /// A caller blocks, so the next commit must not be delayed.
    urgent: bool,
    rotate: bool,
    closed: bool,
    /// The committer has ended.
    ended: bool,
    written_bytes: u64,
    commits: u64,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State")
            .field("next", &self.next)
            .field("durable", &self.durable)
            .finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct Shared {
    options: WalOptions,
    state: RankedMutex<State>,
    /// The committer waits here for work.
    work: Condvar,
    /// Writers wait here for durability, or for room.
    progress: Condvar,
}

/// The log, open for appending.
#[derive(Debug)]
pub(crate) struct Wal {
    shared: Arc<Shared>,
    thread: RankedMutex<Option<JoinHandle<()>>>,
}

/// Statistics of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct WalStats {
    pub(crate) pending_bytes: u64,
    pub(crate) written_bytes: u64,
    pub(crate) commits: u64,
    pub(crate) failed: bool,
}

impl Wal {
    /// Begins a new segment whose first record will be number `next`, and starts the commit thread.
    ///
    /// # Errors
    /// The segment can't be created, or the thread can't be started.
    pub(crate) fn start(options: WalOptions, next: u64) -> io::Result<Self> {
        let segment = segment::SegmentWriter::create(&options.directory, next)?;
        let shared = Arc::new(Shared {
            options,
            state: RankedMutex::new(
                Rank::Log,
                State {
                    pending: Vec::new(),
                    next,
                    durable: next.saturating_sub(1),
                    failure: None,
                    callbacks: Vec::new(),
                    writers: 1,
                    lingers: false,
                    urgent: false,
                    rotate: false,
                    closed: false,
                    ended: false,
                    written_bytes: 0,
                    commits: 0,
                },
            ),
            work: Condvar::new(),
            progress: Condvar::new(),
        });
        let for_thread = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("wal-commit".to_owned())
            .spawn(move || committer::run(&for_thread, segment))?;
        Ok(Self {
            shared,
            thread: RankedMutex::new(Rank::LogThread, Some(thread)),
        })
    }

    /// Waits until there is room for more records. Must be called before [`Self::push`], without holding any lock.
    ///
    /// # Errors
    /// The log is failing or closed; nothing may be pushed.
    pub(crate) fn admit(&self) -> Result<(), AppendError> {
        let mut state = lock(&self.shared.state);
        loop {
            if state.closed {
                return Err(AppendError::Closed);
            }
            if let Some(failure) = &state.failure {
                return Err(append_error(failure, &self.shared.options));
            }
            if state.pending.len() < PENDING_BYTES_MAX {
                return Ok(());
            }
            state.urgent = true;
            self.shared.work.notify_one();
            state = wait(&self.shared.progress, state);
        }
    }

    /// Appends one record and returns its position.
    pub(crate) fn push(&self, payload: &[u8]) -> LogPosition {
        let payload_crc = crc32c::crc32c(payload);
        let mut state = lock(&self.shared.state);
        let number = state.next;
        state.next += 1;
        let idle = state.pending.is_empty();
        frame::put(
            &mut state.pending,
            self.shared.options.seed,
            number,
            payload_crc,
            payload,
        );
        drop(state);
        if idle {
            self.shared.work.notify_one();
        }
        LogPosition(number)
    }

    /// Returns the position of the last record pushed.
    pub(crate) fn end(&self) -> LogPosition {
        LogPosition(lock(&self.shared.state).next - 1)
    }

    /// Returns the position up to which all records are on disk.
    pub(crate) fn durable(&self) -> LogPosition {
        LogPosition(lock(&self.shared.state).durable)
    }

    /// Begins a new segment with the next commit.
    pub(crate) fn rotate(&self) {
        lock(&self.shared.state).rotate = true;
    }

    /// Blocks until `position` is durable.
    ///
    /// # Errors
    /// The log failed or was closed before that.
    pub(crate) fn wait_durable(&self, position: LogPosition) -> Result<(), AppendError> {
        let mut state = lock(&self.shared.state);
        loop {
            if state.durable >= position.0 {
                return Ok(());
            }
            if let Some(failure) = &state.failure {
                return Err(append_error(failure, &self.shared.options));
            }
            if state.ended {
                return Err(AppendError::Closed);
            }
            state.urgent = true;
            self.shared.work.notify_one();
            state = wait(&self.shared.progress, state);
        }
    }

    /// Calls `done` once `position` is durable or the log has failed.
    pub(crate) fn when_durable(&self, position: LogPosition, done: Done) {
        let mut state = lock(&self.shared.state);
        let result = if state.durable >= position.0 {
            Ok(())
        } else if let Some(failure) = &state.failure {
            Err(append_error(failure, &self.shared.options))
        } else if state.ended {
            Err(AppendError::Closed)
        } else {
            state.callbacks.push((position.0, done));
            if state.lingers && state.callbacks.len() >= state.writers {
                self.shared.work.notify_one();
            }
            return;
        };
        drop(state);
        done(result);
    }

    /// Commits pending records and ends the thread. Nothing can be pushed afterwards.
    ///
    /// # Errors
    /// The last commit failed.
    pub(crate) fn close(&self) -> Result<(), AppendError> {
        {
            let mut state = lock(&self.shared.state);
            state.closed = true;
            state.urgent = true;
            self.shared.work.notify_all();
            self.shared.progress.notify_all();
        }
        if let Some(thread) = lock(&self.thread).take()
            && thread.join().is_err()
        {
            return Err(AppendError::Log(Arc::new(LogError::Panicked)));
        }
        let state = lock(&self.shared.state);
        match &state.failure {
            Some(failure) => Err(append_error(failure, &self.shared.options)),
            None => Ok(()),
        }
    }

    /// Returns statistics for metrics.
    pub(crate) fn stats(&self) -> WalStats {
        let state = lock(&self.shared.state);
        WalStats {
            pending_bytes: state.pending.len() as u64,
            written_bytes: state.written_bytes,
            commits: state.commits,
            failed: state.failure.is_some(),
        }
    }
}

impl Drop for Wal {
    fn drop(&mut self) {
        if let Err(error) = self.close() {
            tracing::error!(error = chain(&error), "close write-ahead log");
        }
    }
}

/// Returns the error for writers while the log is failing.
fn append_error(failure: &Arc<LogError>, options: &WalOptions) -> AppendError {
    if failure.is_disk_full() {
        let free_bytes = files::free_bytes(&options.directory).unwrap_or(0);
        return AppendError::DiskFull { free_bytes };
    }
    AppendError::Log(Arc::clone(failure))
}

#[cfg(test)]
mod tests;
