//! The thread that calls statfs, and the guard against mounts that never answer.
//!
//! statfs on a dead NFS server blocks uninterruptibly. So the call is made in a thread of its own; one that has been
//! in a call for [`STUCK_AFTER`] is left behind and replaced, and its mount is not asked again until the call returns.

use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::statfs::statfs;

/// After this time in one call a mount counts as stuck (node_exporter: 5 s).
const STUCK_AFTER: Duration = Duration::from_secs(5);
/// How long a tick waits for answers; a healthy file system takes microseconds.
const PATIENCE: Duration = Duration::from_millis(5);
/// Threads left behind in stuck calls; with more stuck mounts than this no new thread is started.
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
    /// What it said.
    Usage(Usage),
}

#[derive(Debug)]
struct Asked {
    path: PathBuf,
    answer: Answer,
    /// When a call for this path began that has not returned.
    since: Option<Instant>,
}

/// What the collector and the threads share. Locked only for moments, never across a call.
#[derive(Debug, Default)]
struct Shared {
    asked: Mutex<Vec<Asked>>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Vec<Asked>> {
        // The list stays usable after a panic elsewhere: each entry is written as a whole.
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug)]
struct Running {
    rounds: SyncSender<()>,
    done: Receiver<()>,
}

/// The collector's end.
#[derive(Debug)]
pub(super) struct Worker {
    shared: Arc<Shared>,
    running: Option<Running>,
    left_behind: usize,
    /// How long a round is waited for.
    patience: Duration,
}

impl Default for Worker {
    fn default() -> Self {
        Self {
            shared: Arc::default(),
            running: None,
            left_behind: 0,
            patience: PATIENCE,
        }
    }
}

impl Worker {
    /// One that waits for each round to end, so that a test does not depend on how busy the machine is.
    #[cfg(test)]
    pub(super) fn patient() -> Self {
        Self {
            patience: Duration::from_secs(60),
            ..Self::default()
        }
    }

    /// Sets which paths are asked for; answers known for a path are kept.
    pub(super) fn set_paths(&mut self, paths: Vec<PathBuf>) {
        let mut asked = self.shared.lock();
        let mut old = std::mem::take(&mut *asked);
        *asked = paths
            .into_iter()
            .map(
                |path| match old.iter().position(|entry| entry.path == path) {
                    Some(index) => old.swap_remove(index),
                    None => Asked {
                        path,
                        answer: Answer::Pending,
                        since: None,
                    },
                },
            )
            .collect();
    }

    /// Starts a round of calls and waits a few milliseconds for it to end.
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
        self.shared
            .lock()
            .get(index)
            .map_or(Answer::Pending, |entry| entry.answer)
    }

    fn leave_stuck_behind(&mut self) {
        let mut asked = self.shared.lock();
        let stuck = |entry: &&mut Asked| {
            entry
                .since
                .is_some_and(|since| since.elapsed() >= STUCK_AFTER)
        };
        let mut stuck_count = 0;
        let mut newly_stuck = false;
        for entry in asked.iter_mut().filter(stuck) {
            stuck_count += 1;
            if entry.answer != Answer::Failed {
                tracing::warn!(path = %entry.path.display(), "statfs hangs, the mount is left out until it answers");
                entry.answer = Answer::Failed;
                newly_stuck = true;
            }
        }
        self.left_behind = stuck_count;
        drop(asked);
        if newly_stuck {
            self.running = None;
        }
    }

    fn start(&self) -> Option<Running> {
        if self.left_behind > LEFT_BEHIND_MAX {
            return None;
        }
        let (rounds, rounds_receiver) = sync_channel(1);
        let (done_sender, done) = sync_channel(4);
        let shared = Arc::clone(&self.shared);
        let spawned = thread::Builder::new()
            .name("statfs".to_owned())
            .stack_size(64 << 10)
            .spawn(move || serve(&shared, &rounds_receiver, &done_sender));
        match spawned {
            Ok(_handle) => Some(Running { rounds, done }),
            Err(error) => {
                tracing::warn!(%error, "start of the statfs thread, file systems are absent");
                None
            }
        }
    }
}

/// Answers rounds until the collector hangs up.
fn serve(shared: &Shared, rounds: &Receiver<()>, done: &SyncSender<()>) {
    while rounds.recv().is_ok() {
        let mut index = 0;
        while let Some(path) = begin(shared, &mut index) {
            let answer = call(&path);
            let mut asked = shared.lock();
            if let Some(entry) = asked.iter_mut().find(|entry| entry.path == path) {
                entry.answer = answer;
                entry.since = None;
            }
        }
        if done.try_send(()).is_err() {
            // Nobody waits any more; the answers are in the list.
        }
    }
}

/// The next path that no other thread hangs in, from `index` on.
fn begin(shared: &Shared, index: &mut usize) -> Option<PathBuf> {
    let mut asked = shared.lock();
    loop {
        let entry = asked.get_mut(*index)?;
        *index += 1;
        if entry.since.is_none() {
            entry.since = Some(Instant::now());
            return Some(entry.path.clone());
        }
    }
}

fn call(path: &std::path::Path) -> Answer {
    let Ok(stat) = statfs(path) else {
        return Answer::Failed;
    };
    Answer::Usage(Usage {
        block_bytes: u64::try_from(stat.block_size()).unwrap_or_default(),
        blocks: stat.blocks(),
        blocks_free: stat.blocks_free(),
        blocks_available: stat.blocks_available(),
        files: stat.files(),
        files_free: stat.files_free(),
    })
}
