//! Calls statfs in a separate thread, and handles mounts that never answer.
//!
//! statfs on a dead NFS server blocks uninterruptibly. A thread that has been in a call for [`STUCK_AFTER`] is
//! abandoned and replaced, and its mount is not asked again until the call returns.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::statfs::statfs;

/// A mount whose call takes longer counts as stuck, as in node_exporter.
const STUCK_AFTER: Duration = Duration::from_secs(5);
/// How long a tick waits for answers. A healthy file system takes microseconds.
const PATIENCE: Duration = Duration::from_millis(5);
/// Upper bound on abandoned threads. Beyond it no thread is started, and all mounts count as failed.
const LEFT_BEHIND_MAX: usize = 16;

/// Space and inodes of a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Usage {
    pub(super) block_bytes: u64,
    pub(super) blocks: u64,
    pub(super) blocks_free: u64,
    pub(super) blocks_available: u64,
    pub(super) files: u64,
    pub(super) files_free: u64,
}

/// The last answer for a mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    /// Not asked yet.
    Pending,
    /// statfs failed or hangs.
    Failed,
    /// The result of statfs.
    Usage(Usage),
}

#[derive(Debug)]
struct Asked {
    /// Distinguishes mounts: a path that was removed and added again is another mount.
    mount: u64,
    path: Arc<Path>,
    answer: Answer,
}

/// A call that has not returned. It may outlive the entry of its mount.
#[derive(Debug)]
struct Call {
    mount: u64,
    thread: u64,
    since: Instant,
}

/// Shared by the collector and the threads. The lock is never held during a call.
#[derive(Debug, Default)]
struct Shared {
    state: Mutex<WorkerState>,
}

#[derive(Debug, Default)]
struct WorkerState {
    asked: Vec<Asked>,
    calls: Vec<Call>,
    mounts: u64,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, WorkerState> {
        // The lists stay consistent after a panic: each entry is written as a whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug)]
struct Running {
    thread: u64,
    rounds: SyncSender<()>,
    done: Receiver<()>,
}

/// The collector's side.
#[derive(Debug)]
pub(super) struct Worker {
    shared: Arc<Shared>,
    running: Option<Running>,
    /// Threads started so far.
    threads: u64,
    /// How long a tick waits for a round.
    patience: Duration,
    stuck_after: Duration,
}

impl Default for Worker {
    fn default() -> Self {
        Self {
            shared: Arc::default(),
            running: None,
            threads: 0,
            patience: PATIENCE,
            stuck_after: STUCK_AFTER,
        }
    }
}

impl Worker {
    /// A worker that waits for each round to end, so that tests do not depend on timing.
    #[cfg(test)]
    pub(super) fn patient() -> Self {
        Self {
            patience: Duration::from_secs(60),
            ..Self::default()
        }
    }

    /// Sets the paths to ask for. Keeps the answers of paths that stay.
    pub(super) fn set_paths(&mut self, paths: Vec<PathBuf>) {
        let mut state = self.shared.lock();
        let mut old = std::mem::take(&mut state.asked);
        for path in paths {
            let asked = match old.iter().position(|entry| *entry.path == *path) {
                Some(index) => old.swap_remove(index),
                None => {
                    state.mounts += 1;
                    Asked {
                        mount: state.mounts,
                        path: path.into(),
                        answer: Answer::Pending,
                    }
                }
            };
            state.asked.push(asked);
        }
    }

    /// Starts a round of calls and waits a few milliseconds for it.
    pub(super) fn ask(&mut self) {
        self.leave_stuck_behind();
        if self.running.is_none() {
            self.running = self.start();
        }
        let Some(running) = &self.running else { return };
        while running.done.try_recv().is_ok() {} // Of a round that took longer than a tick waits.
        match running.rounds.try_send(()) {
            Ok(()) => match running.done.recv_timeout(self.patience) {
                Ok(()) | Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => self.running = None,
            },
            Err(TrySendError::Full(())) => {} // A round is still under way.
            Err(TrySendError::Disconnected(())) => self.running = None,
        }
    }

    /// The last answer for the path at `index`.
    pub(super) fn answer(&self, index: usize) -> Answer {
        let state = self.shared.lock();
        state
            .asked
            .get(index)
            .map_or(Answer::Pending, |entry| entry.answer)
    }

    /// Number of running threads. Each holds a reference to the shared state, as does the collector.
    fn thread_count(&self) -> usize {
        Arc::strong_count(&self.shared) - 1
    }

    fn leave_stuck_behind(&mut self) {
        let mut state = self.shared.lock();
        let WorkerState { asked, calls, .. } = &mut *state;
        let current = self.running.as_ref().map(|running| running.thread);
        let mut is_current_stuck = false;
        for call in calls.iter() {
            if call.since.elapsed() < self.stuck_after {
                continue;
            }
            is_current_stuck |= current == Some(call.thread);
            let entry = asked.iter_mut().find(|entry| entry.mount == call.mount);
            if let Some(entry) = entry.filter(|entry| entry.answer != Answer::Failed) {
                tracing::warn!(path = %entry.path.display(), "statfs hangs; the mount counts as failed until it answers");
                entry.answer = Answer::Failed;
            }
        }
        drop(state);
        if is_current_stuck {
            self.running = None;
        }
    }

    fn start(&mut self) -> Option<Running> {
        if self.thread_count() > LEFT_BEHIND_MAX {
            self.give_up();
            return None;
        }
        let (rounds, rounds_receiver) = sync_channel(1);
        let (done_sender, done) = sync_channel(4);
        let shared = Arc::clone(&self.shared);
        self.threads += 1;
        let thread = self.threads;
        let spawned = thread::Builder::new()
            .name("statfs".to_owned())
            .stack_size(64 << 10)
            .spawn(move || serve(thread, &shared, &rounds_receiver, &done_sender));
        match spawned {
            Ok(_handle) => Some(Running {
                thread,
                rounds,
                done,
            }),
            Err(error) => {
                tracing::warn!(
                    error = common::report::chain(&error),
                    "start the statfs thread; file systems are absent"
                );
                self.give_up();
                None
            }
        }
    }

    /// Marks all mounts as failed, so that old answers do not pass for current ones.
    fn give_up(&self) {
        let mut state = self.shared.lock();
        let mut known = 0;
        for entry in &mut state.asked {
            known += u32::from(entry.answer != Answer::Failed);
            entry.answer = Answer::Failed;
        }
        drop(state);
        if known > 0 {
            tracing::warn!(
                threads = self.thread_count(),
                "too many statfs calls hang; all mounts count as failed"
            );
        }
    }
}

/// Answers rounds until the collector is dropped.
fn serve(thread: u64, shared: &Shared, rounds: &Receiver<()>, done: &SyncSender<()>) {
    while rounds.recv().is_ok() {
        let mut index = 0;
        while let Some((mount, path)) = begin(thread, shared, &mut index) {
            let answer = call(&path);
            let mut state = shared.lock();
            state.calls.retain(|call| call.mount != mount);
            let mut asked = state.asked.iter_mut();
            if let Some(entry) = asked.find(|entry| entry.mount == mount) {
                entry.answer = answer;
            }
        }
        if done.try_send(()).is_err() {
            // The collector no longer waits; the answers are in the list.
        }
    }
}

/// The next path, from `index` on, that no other thread is stuck in.
fn begin(thread: u64, shared: &Shared, index: &mut usize) -> Option<(u64, Arc<Path>)> {
    let mut state = shared.lock();
    let WorkerState { asked, calls, .. } = &mut *state;
    loop {
        let entry = asked.get(*index)?;
        *index += 1;
        if calls.iter().all(|call| call.mount != entry.mount) {
            calls.push(Call {
                mount: entry.mount,
                thread,
                since: Instant::now(),
            });
            return Some((entry.mount, Arc::clone(&entry.path)));
        }
    }
}

fn call(path: &Path) -> Answer {
    let Ok(stat) = statfs(path) else {
        return Answer::Failed;
    };
    let Ok(block_bytes) = u64::try_from(stat.block_size()) else {
        return Answer::Failed;
    };
    Answer::Usage(Usage {
        block_bytes,
        blocks: stat.blocks(),
        blocks_free: stat.blocks_free(),
        blocks_available: stat.blocks_available(),
        files: stat.files(),
        files_free: stat.files_free(),
    })
}

#[cfg(test)]
mod tests;
