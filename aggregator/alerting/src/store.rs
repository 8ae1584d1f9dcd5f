//! The durable state of alerting: alerts, silences and the notification log.

mod check;
mod durable;
mod log;

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

pub use check::{CheckedLog, check_log};
pub use durable::DurableStore;

/// The kinds of state. Each has its own table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Table {
    /// Alerts by rule and labels.
    Alerts = 1,
    /// The time of the last evaluation of each rule group.
    Groups = 2,
    /// Silences by id.
    Silences = 3,
    /// The last notification sent, by group and integration.
    NotificationLog = 4,
    /// Alerts received by the notifier, by fingerprint.
    ReceivedAlerts = 5,
}

impl Table {
    const ALL: [Self; 5] = [
        Self::Alerts,
        Self::Groups,
        Self::Silences,
        Self::NotificationLog,
        Self::ReceivedAlerts,
    ];

    fn from_byte(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|&table| table as u8 == byte)
    }
}

/// One change: a new value of a key, or its removal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The table.
    pub table: Table,
    /// The key.
    pub key: Vec<u8>,
    /// The value; `None` removes the key.
    pub value: Option<Vec<u8>>,
}

impl Change {
    /// Sets `key` to `value` as JSON.
    ///
    /// # Errors
    /// Returns an error if `value` cannot be encoded as JSON.
    pub fn put<T: serde::Serialize>(
        table: Table,
        key: impl Into<Vec<u8>>,
        value: &T,
    ) -> Result<Self, StoreError> {
        let value = serde_json::to_vec(value).map_err(StoreError::Encode)?;
        Ok(Self {
            table,
            key: key.into(),
            value: Some(value),
        })
    }

    /// Removes `key`.
    pub fn remove(table: Table, key: impl Into<Vec<u8>>) -> Self {
        Self {
            table,
            key: key.into(),
            value: None,
        }
    }
}

/// The durability that a commit waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// The change survives a power loss.
    Synced,
    /// The change survives the end of the process.
    Written,
}

/// An error while storing or reading state.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A file could not be read or written.
    #[error("{action} {path}")]
    Io {
        /// The operation.
        action: &'static str,
        /// The file.
        path: String,
        /// The cause.
        source: std::io::Error,
    },
    /// A value cannot be encoded as JSON.
    #[error("encode state")]
    Encode(#[source] serde_json::Error),
    /// The embedded database failed.
    #[error("embedded database: {0}")]
    Database(String),
    /// A change is too large for one record.
    #[error("change of {bytes} bytes is too large")]
    TooLarge {
        /// The size of the change in bytes.
        bytes: usize,
    },
}

/// A small transactional store.
pub trait StateStore: Send + Sync + std::fmt::Debug {
    /// Applies all changes or none. They have the requested durability when this returns.
    ///
    /// # Errors
    /// On an error the changes may be lost, so the caller's memory may be ahead of the disk.
    fn commit(&self, changes: Vec<Change>, durability: Durability) -> Result<(), StoreError>;

    /// Returns all keys and values of a table in ascending order of the keys.
    fn scan(&self, table: Table) -> Vec<(Vec<u8>, Vec<u8>)>;
}

/// The contents of all tables.
pub(crate) type Tables = BTreeMap<(Table, Vec<u8>), Vec<u8>>;

fn apply(tables: &mut Tables, changes: Vec<Change>) {
    for change in changes {
        let key = (change.table, change.key);
        match change.value {
            Some(value) => tables.insert(key, value),
            None => tables.remove(&key),
        };
    }
}

fn rows(tables: &Tables, table: Table) -> Vec<(Vec<u8>, Vec<u8>)> {
    let of_table = tables
        .range((table, Vec::new())..)
        .take_while(|((other, _), _)| *other == table);
    of_table
        .map(|((_, key), value)| (key.clone(), value.clone()))
        .collect()
}

/// An in-memory store for tests and for `test rules`.
#[derive(Debug, Default)]
pub struct MemoryStore {
    tables: Mutex<Tables>,
}

impl StateStore for MemoryStore {
    fn commit(&self, changes: Vec<Change>, _: Durability) -> Result<(), StoreError> {
        apply(
            &mut self.tables.lock().unwrap_or_else(PoisonError::into_inner),
            changes,
        );
        Ok(())
    }

    fn scan(&self, table: Table) -> Vec<(Vec<u8>, Vec<u8>)> {
        rows(
            &self.tables.lock().unwrap_or_else(PoisonError::into_inner),
            table,
        )
    }
}
