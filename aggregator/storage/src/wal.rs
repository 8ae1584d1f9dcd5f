//! The write-ahead log: what was accepted, in order, on disk before anybody is told so.
//!
//! Writers put whole records into a buffer in memory; one thread takes what has gathered, writes it, syncs it, and
//! tells those who wait (group commit). A segment is never appended to by a second process life: each start begins
//! a new one. Layout of a segment: `docs/format/wal.md`.
//!
//! **Invariant:** a position is durable only when every record up to it is on disk (with [`WalSync::Interval`]: is with
//! the kernel). After a write error the
//! segment is cut back to its last durable byte, a new one is begun, and the records that failed go first.

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
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use common::report::chain;

use crate::files;
use crate::sync::lock;
use crate::write::{AppendError, LogError, LogPosition};

pub(crate) use replay::{Numbered, RecordFormat, ReplayReport, Unsupported, keep_copy, replay};
pub(crate) use segment::remove_before;

/// Bytes that may wait for the disk; then writers wait too.
const PENDING_BYTES_MAX: usize = 64 << 20;

/// When what was written is on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WalSync {
    /// Before anybody is told that it is.
    #[default]
    EveryCommit,
    /// At most this later. A kill of the process costs nothing; a loss of power, or a crash of the kernel, what was
    /// acknowledged in that time.
    Interval(Duration),
}

/// How the log behaves.
#[derive(Debug, Clone)]
pub(crate) struct WalOptions {
    pub(crate) directory: PathBuf,
    /// Seeds the checksums of this data directory.
    pub(crate) seed: u32,
    /// How long records may gather before they are written, when nobody blocks on them: until then a commit waits for
    /// as many writers as lately waited at a time.
    pub(crate) linger: Duration,
    /// Bytes after which a new segment is begun.
    pub(crate) segment_bytes: u64,
    /// When what was written is synced.
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
    /// The last write failed; nothing is accepted until one succeeds.
    failure: Option<Arc<LogError>>,
    callbacks: Vec<(u64, Done)>,
    /// So many waited at a time lately: a commit is worth putting off until they all wait again.
    writers: usize,
    /// The committer waits for more, and is to be told when all writers wait.
    lingers: bool,
    /// Somebody blocks: commit at once.
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
    state: Mutex<State>,
    /// The committer waits here for work.
    work: Condvar,
    /// Writers wait here for durability, or for room.
    progress: Condvar,
}

/// The log, open for appending.
#[derive(Debug)]
pub(crate) struct Wal {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// Figures of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct WalStats {
    pub(crate) pending_bytes: u64,
    pub(crate) written_bytes: u64,
    pub(crate) commits: u64,
    pub(crate) failed: bool,
}

impl Wal {
    /// Begins a new segment whose first record will be number `next`, and starts the committing thread.
    ///
    /// # Errors
    /// The segment can't be made, or no thread can be started.
    pub(crate) fn start(options: WalOptions, next: u64) -> io::Result<Self> {
        let segment = segment::SegmentWriter::create(&options.directory, next)?;
        let shared = Arc::new(Shared {
            options,
            state: Mutex::new(State {
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
            }),
            work: Condvar::new(),
            progress: Condvar::new(),
        });
        let for_thread = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("wal-commit".to_owned())
            .spawn(move || committer::run(&for_thread, segment))?;
        Ok(Self {
            shared,
            thread: Mutex::new(Some(thread)),
        })
    }

    /// Waits until there is room for more records. Called without any lock held, before [`Self::push`].
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

    /// The position of the last record pushed.
    pub(crate) fn end(&self) -> LogPosition {
        LogPosition(lock(&self.shared.state).next - 1)
    }

    /// The position up to which all is on disk.
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

    /// Calls `done` once `position` is durable or the log failed.
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

    /// Commits what is pending and ends the thread. Nothing can be pushed afterwards.
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

    /// Figures for metrics.
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

/// The error that writers get while the log is failing.
fn append_error(failure: &Arc<LogError>, options: &WalOptions) -> AppendError {
    if failure.is_disk_full() {
        let free_bytes = files::free_bytes(&options.directory).unwrap_or(0);
        return AppendError::DiskFull { free_bytes };
    }
    AppendError::Log(Arc::clone(failure))
}

fn wait<'a>(
    condvar: &Condvar,
    state: std::sync::MutexGuard<'a, State>,
) -> std::sync::MutexGuard<'a, State> {
    condvar.wait(state).unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
