//! A bounded cache, which first evicts what was not used since the last round.

use std::collections::VecDeque;
use std::sync::Arc;

use hashbrown::HashMap;
use rustc_hash::FxBuildHasher;

use crate::sync::{Rank, RankedMutex, lock};

/// A part of a block: the block's number, and the number of the part.
pub(crate) type Key = (u64, u32);

#[derive(Debug)]
struct Slot<V> {
    value: Arc<V>,
    bytes: usize,
    used: bool,
}

#[derive(Debug)]
struct State<V> {
    slots: HashMap<Key, Slot<V>, FxBuildHasher>,
    queue: VecDeque<Key>,
    bytes: usize,
}

/// Caches values up to a total number of bytes.
#[derive(Debug)]
pub(crate) struct Cache<V> {
    bytes_max: usize,
    state: RankedMutex<State<V>>,
}

impl<V> Cache<V> {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self {
            bytes_max,
            state: RankedMutex::new(
                Rank::BlockCache,
                State {
                    slots: HashMap::default(),
                    queue: VecDeque::new(),
                    bytes: 0,
                },
            ),
        }
    }

    pub(crate) fn get(&self, key: Key) -> Option<Arc<V>> {
        let mut state = lock(&self.state);
        let slot = state.slots.get_mut(&key)?;
        slot.used = true;
        Some(Arc::clone(&slot.value))
    }

    /// Inserts a value, unless it is larger than the whole cache.
    pub(crate) fn insert(&self, key: Key, value: Arc<V>, bytes: usize) {
        if bytes > self.bytes_max {
            return;
        }
        let mut state = lock(&self.state);
        let slot = Slot {
            value,
            bytes,
            used: false,
        };
        match state.slots.insert(key, slot) {
            Some(old) => state.bytes -= old.bytes,
            None => state.queue.push_back(key),
        }
        state.bytes += bytes;
        while state.bytes > self.bytes_max {
            state.evict_one();
        }
    }

    /// Forgets all parts of a block.
    pub(crate) fn forget(&self, block: u64) {
        let mut state = lock(&self.state);
        let gone: usize = state
            .slots
            .extract_if(|&(owner, _), _| owner == block)
            .map(|(_, slot)| slot.bytes)
            .sum();
        state.bytes -= gone;
        state.queue.retain(|&(owner, _)| owner != block);
    }

    /// Bytes in use.
    pub(crate) fn bytes(&self) -> usize {
        lock(&self.state).bytes
    }
}

impl<V> State<V> {
    fn evict_one(&mut self) {
        while let Some(key) = self.queue.pop_front() {
            match self.slots.get_mut(&key) {
                Some(slot) if slot.used => {
                    slot.used = false;
                    self.queue.push_back(key);
                }
                Some(_) => {
                    if let Some(slot) = self.slots.remove(&key) {
                        self.bytes -= slot.bytes;
                    }
                    return;
                }
                None => {}
            }
        }
        self.bytes = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_used_goes_first_and_the_bound_holds() {
        let cache = Cache::new(100);
        for part in 0..10 {
            cache.insert((1, part), Arc::new(part), 10);
        }
        assert!(cache.get((1, 0)).is_some());
        cache.insert((2, 0), Arc::new(0), 10);
        assert_eq!(cache.bytes(), 100);
        assert!(cache.get((1, 0)).is_some());
        assert!(cache.get((1, 1)).is_none());
        cache.insert((3, 0), Arc::new(0), 101);
        assert!(cache.get((3, 0)).is_none());
        cache.forget(1);
        assert_eq!(cache.bytes(), 10);
    }
}
