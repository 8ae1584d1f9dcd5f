//! The locks of the store, and the order in which a thread may take them.
//!
//! Debug builds check the order: taking a lock panics unless its [`Rank`] is above the ranks of all locks that the
//! thread holds. Release builds neither store nor check ranks.
//!
//! A poisoned lock means that a thread panicked in a critical section. Critical sections here leave their data
//! valid at every step that can panic, so the data is used on.

use std::ops::{Deref, DerefMut};
use std::sync::{
    Condvar, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
};
use std::time::Duration;

/// The locks, in acquisition order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Rank {
    /// Handles of the maintenance threads.
    MaintenanceThreads,
    /// Whether the maintenance threads must stop.
    MaintenanceStop,
    /// State of block maintenance; held for a whole seal or merge.
    Maintenance,
    /// When the memory overhead is measured next.
    Overhead,
    /// Appends that wait for a seal.
    AppendThrottle,
    /// Keeps the head at one log position while held for writing.
    AppendBarrier,
    /// Series known by their encoded labels.
    RawCache,
    /// The pointer to the head.
    Head,
    /// Series index of the head.
    Index,
    /// List of the head's groups.
    Groups,
    /// Columns and rows of one group. A thread may hold several, taken in ascending order of their numbers.
    Group,
    /// Metadata of metric families.
    Metadata,
    /// Exemplars.
    Exemplars,
    /// Last sequence of each agent.
    Agents,
    /// Guard shared by the current series sets.
    Readers,
    /// Blocks and quarantined blocks.
    BlockList,
    /// Cached parts of blocks.
    BlockCache,
    /// Warnings of a series set.
    Warnings,
    /// Handle of the commit thread.
    LogThread,
    /// Pending records and progress of the log.
    Log,
    /// The open state database.
    StateDatabase,
    /// Rows of a state table in memory.
    MemoryRows,
    /// Whether a state table in memory was filled.
    MemoryFilled,
    /// The simulated disks of tests.
    #[cfg(test)]
    Disks,
    /// Content of a simulated disk.
    #[cfg(test)]
    Disk,
    /// Log lines captured by tests.
    #[cfg(test)]
    CapturedLines,
}

/// The entry of a held lock in its thread's list.
#[derive(Debug)]
struct Held {
    #[cfg(debug_assertions)]
    rank: Rank,
}

#[cfg(debug_assertions)]
thread_local! {
    static HELD: std::cell::RefCell<Vec<Rank>> = const { std::cell::RefCell::new(Vec::new()) };
}

#[cfg(debug_assertions)]
impl Held {
    fn new(rank: Rank) -> Self {
        let highest = HELD.try_with(|held| held.borrow().iter().max().copied());
        if let Some(highest) = highest.ok().flatten() {
            let is_in_order = rank > highest || (rank == highest && rank == Rank::Group);
            assert!(
                is_in_order,
                "lock order: {rank:?} is taken while {highest:?} is held"
            );
        }
        // Fails only while the thread ends.
        let _ended = HELD.try_with(|held| held.borrow_mut().push(rank));
        Self { rank }
    }
}

#[cfg(debug_assertions)]
impl Drop for Held {
    fn drop(&mut self) {
        let _ended = HELD.try_with(|held| {
            let mut held = held.borrow_mut();
            if let Some(at) = held.iter().rposition(|rank| *rank == self.rank) {
                held.remove(at);
            }
        });
    }
}

/// A mutex with a place in the lock order.
#[derive(Debug)]
pub(crate) struct RankedMutex<T> {
    #[cfg(debug_assertions)]
    rank: Rank,
    inner: Mutex<T>,
}

/// A read-write lock with a place in the lock order.
#[derive(Debug)]
pub(crate) struct RankedRwLock<T> {
    #[cfg(debug_assertions)]
    rank: Rank,
    inner: RwLock<T>,
}

/// A held lock.
#[derive(Debug)]
pub(crate) struct Guard<G> {
    inner: G,
    held: Held,
}

pub(crate) type RankedMutexGuard<'a, T> = Guard<MutexGuard<'a, T>>;
pub(crate) type RankedReadGuard<'a, T> = Guard<RwLockReadGuard<'a, T>>;
pub(crate) type RankedWriteGuard<'a, T> = Guard<RwLockWriteGuard<'a, T>>;

impl<G: Deref> Deref for Guard<G> {
    type Target = G::Target;

    fn deref(&self) -> &G::Target {
        &self.inner
    }
}

impl<G: DerefMut> DerefMut for Guard<G> {
    fn deref_mut(&mut self) -> &mut G::Target {
        &mut self.inner
    }
}

impl<T> RankedMutex<T> {
    pub(crate) const fn new(_rank: Rank, value: T) -> Self {
        Self {
            #[cfg(debug_assertions)]
            rank: _rank,
            inner: Mutex::new(value),
        }
    }

    #[cfg(debug_assertions)]
    fn held(&self) -> Held {
        Held::new(self.rank)
    }

    #[cfg(not(debug_assertions))]
    const fn held(&self) -> Held {
        Held {}
    }
}

impl<T> RankedRwLock<T> {
    pub(crate) const fn new(_rank: Rank, value: T) -> Self {
        Self {
            #[cfg(debug_assertions)]
            rank: _rank,
            inner: RwLock::new(value),
        }
    }

    #[cfg(debug_assertions)]
    fn held(&self) -> Held {
        Held::new(self.rank)
    }

    #[cfg(not(debug_assertions))]
    const fn held(&self) -> Held {
        Held {}
    }
}

/// Locks a mutex.
pub(crate) fn lock<T>(lock: &RankedMutex<T>) -> RankedMutexGuard<'_, T> {
    let held = lock.held();
    let inner = lock.inner.lock().unwrap_or_else(PoisonError::into_inner);
    Guard { inner, held }
}

/// Locks for reading.
pub(crate) fn read<T>(lock: &RankedRwLock<T>) -> RankedReadGuard<'_, T> {
    let held = lock.held();
    let inner = lock.inner.read().unwrap_or_else(PoisonError::into_inner);
    Guard { inner, held }
}

/// Locks for writing.
pub(crate) fn write<T>(lock: &RankedRwLock<T>) -> RankedWriteGuard<'_, T> {
    let held = lock.held();
    let inner = lock.inner.write().unwrap_or_else(PoisonError::into_inner);
    Guard { inner, held }
}

/// Waits for a notification.
pub(crate) fn wait<'a, T>(
    condvar: &Condvar,
    guard: RankedMutexGuard<'a, T>,
) -> RankedMutexGuard<'a, T> {
    let Guard { inner, held } = guard;
    let inner = condvar.wait(inner).unwrap_or_else(PoisonError::into_inner);
    Guard { inner, held }
}

/// Waits for a notification, at most for `timeout`.
pub(crate) fn wait_timeout<'a, T>(
    condvar: &Condvar,
    guard: RankedMutexGuard<'a, T>,
    timeout: Duration,
) -> RankedMutexGuard<'a, T> {
    let Guard { inner, held } = guard;
    let waited = condvar.wait_timeout(inner, timeout);
    let inner = waited.unwrap_or_else(PoisonError::into_inner).0;
    Guard { inner, held }
}

/// Waits while `condition` holds, at most for `timeout`.
pub(crate) fn wait_timeout_while<'a, T>(
    condvar: &Condvar,
    guard: RankedMutexGuard<'a, T>,
    timeout: Duration,
    condition: impl FnMut(&mut T) -> bool,
) -> RankedMutexGuard<'a, T> {
    let Guard { inner, held } = guard;
    let waited = condvar.wait_timeout_while(inner, timeout, condition);
    let inner = waited.unwrap_or_else(PoisonError::into_inner).0;
    Guard { inner, held }
}

#[cfg(all(test, debug_assertions))]
mod tests {
    use super::*;

    #[test]
    #[should_panic(expected = "lock order: Index is taken while Group is held")]
    fn a_lower_rank_is_refused() {
        let (group, index) = (
            RankedMutex::new(Rank::Group, ()),
            RankedRwLock::new(Rank::Index, ()),
        );
        let _group = lock(&group);
        let _index = read(&index);
    }

    #[test]
    #[should_panic(expected = "lock order: Index is taken while Index is held")]
    fn an_equal_rank_is_refused() {
        let index = RankedRwLock::new(Rank::Index, ());
        let _first = read(&index);
        let _second = read(&index);
    }

    #[test]
    fn ranks_may_be_released_in_any_order() {
        let index = RankedRwLock::new(Rank::Index, ());
        let (first, second) = (
            RankedMutex::new(Rank::Group, ()),
            RankedMutex::new(Rank::Group, ()),
        );
        let held = (read(&index), lock(&first), lock(&second));
        drop(held.0);
        drop(held.1);
        drop(held.2);
        drop(write(&index));
    }
}
