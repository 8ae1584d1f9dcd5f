//! A table in memory, for tests and for state that need not survive.

use std::collections::BTreeMap;

use super::{StateChange, StateError, StateScan, StateTable};
use crate::sync::{Rank, RankedMutex, lock};

/// A table whose content is lost when the process ends.
#[derive(Debug)]
pub struct MemoryTable {
    rows: RankedMutex<BTreeMap<Vec<u8>, Vec<u8>>>,
    is_filled: RankedMutex<bool>,
}

impl Default for MemoryTable {
    fn default() -> Self {
        Self {
            rows: RankedMutex::new(Rank::MemoryRows, BTreeMap::new()),
            is_filled: RankedMutex::new(Rank::MemoryFilled, false),
        }
    }
}

impl StateTable for MemoryTable {
    fn scan(&self) -> Result<StateScan, StateError> {
        let rows = lock(&self.rows);
        let rows = rows.iter().map(|(key, value)| (key.clone(), value.clone()));
        Ok(StateScan {
            rows: rows.collect(),
            damaged: 0,
            is_filled: *lock(&self.is_filled),
        })
    }

    fn apply(&self, changes: &[StateChange]) -> Result<(), StateError> {
        let mut rows = lock(&self.rows);
        for (key, value) in changes {
            match value {
                Some(value) => rows.insert(key.clone(), value.clone()),
                None => rows.remove(key),
            };
        }
        Ok(())
    }

    fn mark_filled(&self) -> Result<(), StateError> {
        *lock(&self.is_filled) = true;
        Ok(())
    }

    fn flush(&self) -> Result<(), StateError> {
        Ok(())
    }
}
