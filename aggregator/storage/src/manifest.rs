//! The manifest: the state database's list of blocks, and the durable sequence of each agent.
//!
//! Everything here can be rebuilt from the files, and is compared with them at each start. The manifest adds what files
//! can't show: that one of them is missing. The sequences are a third copy, in case both copies of the checkpoint are
//! damaged.

use std::collections::BTreeMap;
use std::sync::Arc;

use common::report::chain;

use crate::block::Block;
use crate::state::{StateChange, StateError, StateTable};

/// Agents without samples for this long are forgotten: 90 days.
const FORGET_MS: i64 = 90 * 24 * 3_600_000;

/// The entry of a block in the manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BlockRow {
    pub(crate) first_ms: i64,
    pub(crate) last_ms: i64,
    pub(crate) file_bytes: u64,
    /// CRC of the footer.
    pub(crate) footer_crc: u32,
}

impl BlockRow {
    pub(crate) fn of(block: &Block) -> Self {
        Self {
            first_ms: block.footer.first_ms,
            last_ms: block.footer.last_ms,
            file_bytes: block.file_bytes,
            footer_crc: crc32c::crc32c(&block.footer.to_bytes()),
        }
    }

    fn to_bytes(self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(28);
        bytes.extend_from_slice(&self.first_ms.to_le_bytes());
        bytes.extend_from_slice(&self.last_ms.to_le_bytes());
        bytes.extend_from_slice(&self.file_bytes.to_le_bytes());
        bytes.extend_from_slice(&self.footer_crc.to_le_bytes());
        bytes
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let (first, rest) = bytes.split_first_chunk()?;
        let (last, rest) = rest.split_first_chunk()?;
        let (size, rest) = rest.split_first_chunk()?;
        let crc = rest.try_into().ok()?;
        Some(Self {
            first_ms: i64::from_le_bytes(*first),
            last_ms: i64::from_le_bytes(*last),
            file_bytes: u64::from_le_bytes(*size),
            footer_crc: u32::from_le_bytes(crc),
        })
    }
}

/// The table of blocks.
#[derive(Debug)]
pub(crate) struct Manifest {
    table: Arc<dyn StateTable>,
}

impl Manifest {
    pub(crate) fn new(table: Arc<dyn StateTable>) -> Self {
        Self { table }
    }

    /// Returns the blocks that must exist, or none if unknown.
    pub(crate) fn blocks(&self) -> BTreeMap<u64, BlockRow> {
        let scan = match self.table.scan() {
            Ok(scan) if scan.is_filled => scan,
            Ok(_) => return BTreeMap::new(),
            Err(error) => {
                tracing::warn!(error = chain(&error), "read the manifest of blocks");
                return BTreeMap::new();
            }
        };
        if scan.damaged > 0 {
            tracing::warn!(
                rows = scan.damaged,
                "manifest of blocks is damaged, filled again from the files"
            );
        }
        let row = |(key, value): &(Vec<u8>, Vec<u8>)| {
            let id = u64::from_be_bytes(key.as_slice().try_into().ok()?);
            Some((id, BlockRow::parse(value)?))
        };
        scan.rows.iter().filter_map(row).collect()
    }

    /// Records added and removed blocks. Durable when this returns. Call it before the files of `gone` are removed, so that
    /// a row without a file means that the file was deleted externally.
    pub(crate) fn record<'b>(&self, came: impl Iterator<Item = &'b Block>, gone: &[u64]) {
        let insert = came.map(|block| row_of(block.id, Some(BlockRow::of(block))));
        let changes: Vec<StateChange> = insert
            .chain(gone.iter().map(|&id| row_of(id, None)))
            .collect();
        self.write(&changes);
    }

    /// Updates the table to the existing blocks and the known missing ones.
    pub(crate) fn settle(&self, there: &BTreeMap<u64, BlockRow>) {
        let known = self.blocks();
        let new = there.iter().filter(|(id, row)| known.get(id) != Some(row));
        let gone = known.keys().filter(|id| !there.contains_key(id));
        let changes: Vec<StateChange> = new
            .map(|(&id, &row)| row_of(id, Some(row)))
            .chain(gone.map(|&id| row_of(id, None)))
            .collect();
        self.write(&changes);
    }

    /// Ignores a failure, which the database reports itself. The files are authoritative.
    fn write(&self, changes: &[StateChange]) {
        let written = self
            .table
            .apply(changes)
            .and_then(|()| self.table.mark_filled())
            .and_then(|()| self.table.flush());
        if let Err(error) = written
            && !matches!(error, StateError::OutOfUse)
        {
            tracing::warn!(error = chain(&error), "write the manifest of blocks");
        }
    }
}

fn row_of(id: u64, row: Option<BlockRow>) -> StateChange {
    (id.to_be_bytes().to_vec(), row.map(BlockRow::to_bytes))
}

/// The table of agents and their durable sequences.
#[derive(Debug)]
pub(crate) struct AgentTable {
    table: Arc<dyn StateTable>,
    /// An entry of the table: the sequence, and when it was written.
    known: BTreeMap<String, (u64, i64)>,
}

impl AgentTable {
    /// Reads the table.
    pub(crate) fn open(table: Arc<dyn StateTable>) -> Self {
        let rows = table.scan().map(|scan| scan.rows).unwrap_or_else(|error| {
            tracing::warn!(error = chain(&error), "read the table of agents");
            Vec::new()
        });
        let row = |(key, value): (Vec<u8>, Vec<u8>)| {
            let (sequence, time) = value.split_first_chunk()?;
            let time = i64::from_le_bytes(time.try_into().ok()?);
            let name = String::from_utf8(key).ok()?;
            Some((name, (u64::from_le_bytes(*sequence), time)))
        };
        Self {
            table,
            known: rows.into_iter().filter_map(row).collect(),
        }
    }

    /// Names and sequences.
    pub(crate) fn sequences(&self) -> impl Iterator<Item = (&str, u64)> {
        let rows = self.known.iter();
        rows.map(|(name, &(sequence, _))| (name.as_str(), sequence))
    }

    /// Writes the sequences that changed, and removes agents that have been gone for long. Durable when this returns.
    pub(crate) fn record<'n>(&mut self, now: impl Iterator<Item = (&'n str, u64)>, now_ms: i64) {
        let mut changes: Vec<StateChange> = Vec::new();
        for (name, sequence) in now {
            let before = self.known.get(name).map(|&(sequence, _)| sequence);
            if before.is_none_or(|before| before < sequence) {
                let mut value = sequence.to_le_bytes().to_vec();
                value.extend_from_slice(&now_ms.to_le_bytes());
                changes.push((name.as_bytes().to_vec(), Some(value)));
                self.known.insert(name.to_owned(), (sequence, now_ms));
            }
        }
        self.known.retain(|name, &mut (_, time_ms)| {
            let keeps = now_ms.saturating_sub(time_ms) < FORGET_MS;
            if !keeps {
                changes.push((name.as_bytes().to_vec(), None));
            }
            keeps
        });
        if changes.is_empty() {
            return;
        }
        let written = self
            .table
            .apply(&changes)
            .and_then(|()| self.table.mark_filled())
            .and_then(|()| self.table.flush());
        if let Err(error) = written
            && !matches!(error, StateError::OutOfUse)
        {
            tracing::warn!(error = chain(&error), "write the table of agents");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::MemoryTable;

    #[test]
    fn agents_are_remembered_while_they_speak_and_forgotten_after() {
        let table: Arc<dyn StateTable> = Arc::new(MemoryTable::default());
        let mut agents = AgentTable::open(Arc::clone(&table));
        agents.record([("a", 5), ("b", 9)].into_iter(), 1_000);
        agents.record([("a", 4), ("b", 10)].into_iter(), FORGET_MS + 500);
        let again = AgentTable::open(Arc::clone(&table));
        let list: Vec<_> = again.sequences().collect();
        assert_eq!(list, [("a", 5), ("b", 10)], "a sequence never goes back");
        agents.record([("b", 10)].into_iter(), FORGET_MS + 1_000);
        let again = AgentTable::open(table);
        let list: Vec<_> = again.sequences().collect();
        assert_eq!(list, [("b", 10)]);
    }
}
