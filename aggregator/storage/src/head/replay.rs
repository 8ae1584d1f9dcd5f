//! Rebuilds the head from checkpoint and log at a start.
//!
//! Definitions arrive as whole records that other threads have decoded. Postings are built once, after the last record.
//! The index has no readers until then.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::group::{COLUMNS_MAX, Group, GroupData};
use super::{COLUMNS_IN_ALL_MAX, Head};
use crate::index::{ColumnRef, Index, SeriesId};
use crate::sync::{lock, read, write};
use crate::wal::definitions::DecodedDefinitions;

impl Head {
    /// Prepares the index for the definitions of a replay.
    pub(crate) fn begin_replay(&self) {
        write(&self.index).defer_postings();
    }

    /// Reserves memory for about `count` series in total.
    pub(crate) fn reserve_for_replay(&self, count: usize) {
        write(&self.index).reserve(count);
    }

    /// Returns the group with this number from the log, creating it if needed. An empty `key` means that it is not
    /// known yet; the group then has a provisional key until its definition is read.
    pub(crate) fn group_for_replay(&self, number: u32, key: &str) -> Arc<Group> {
        if key.is_empty()
            && let Some(group) = self.group(number)
        {
            return group;
        }
        let mut groups = write(&self.groups);
        let data = match groups.get(number) {
            Some(group) if key.is_empty() || *group.key == *key => return Arc::clone(group),
            Some(group) => lock(&group.data).clone(),
            None => GroupData::new(i64::MIN),
        };
        let key = match key {
            "" => format!("lost/{number}").into(),
            key => key.into(),
        };
        groups.put(number, key, data)
    }

    /// Reports whether a group with `known` columns may grow to `columns`, as a log record demands. If so, the new columns
    /// are counted and the caller must create them.
    pub(crate) fn has_room(&self, known: usize, columns: u32) -> bool {
        let more = (columns as usize).saturating_sub(known) as u64;
        if more == 0 {
            return true;
        }
        let in_all = self.columns.fetch_add(more, Ordering::Relaxed) + more;
        let fits = columns <= COLUMNS_MAX && in_all <= COLUMNS_IN_ALL_MAX;
        if !fits {
            self.columns.fetch_sub(more, Ordering::Relaxed);
        }
        fits
    }

    /// Undoes [`Self::has_room`] for columns that are not created.
    fn return_room(&self, known: usize, columns: u32) {
        let more = (columns as usize).saturating_sub(known) as u64;
        self.columns.fetch_sub(more, Ordering::Relaxed);
    }

    /// Assigns the columns that a record names to series. Returns the number of definitions that were refused because a
    /// limit of columns or of the index is reached.
    pub(crate) fn define_for_replay(&self, record: &DecodedDefinitions) -> u64 {
        let group = self.group_for_replay(record.group, &record.key);
        let mut index = write(&self.index);
        let mut data = lock(&group.data);
        let Some(shapes) = intern_shapes(&mut index, record) else {
            return record.series.len() as u64;
        };
        let mut symbols = vec![None; record.texts_len()];
        let mut values = Vec::new();
        let mut refused = 0;
        for (series, texts) in record.series() {
            let (known, columns) = (data.columns().len(), series.column.saturating_add(1));
            if !self.has_room(known, columns) {
                refused += 1;
                continue;
            }
            let id = index.find(series.hash).or_else(|| {
                values.clear();
                for &text in texts {
                    let slot = &mut symbols[text as usize];
                    *slot = slot.or_else(|| index.symbols.intern(record.text(text)));
                    values.push((*slot)?);
                }
                let shape = shapes[series.shape as usize];
                index.add_interned(series.hash, shape, &values).ok()
            });
            let Some(id) = id else {
                self.return_room(known, columns);
                refused += 1;
                continue;
            };
            let before = data.set_column(series.column, record.kind, id);
            let column = ColumnRef {
                group: group.number,
                column: series.column,
            };
            give_column(&mut index, id, column, before);
        }
        refused
    }

    /// Finishes a replay: builds the postings, and sets the floors that placing the series one by one would have set.
    pub(crate) fn finish_replay(&self, floor_ms: i64) {
        write(&self.index).build_postings();
        let index = read(&self.index);
        for group in self.groups() {
            let mut data = lock(&group.data);
            data.floor_ms = data.floor_ms.max(floor_ms);
            data.coder.resume();
            data.find_free();
        }
        for id in index.moved() {
            let floors = index
                .former_places(id)
                .filter_map(|place| self.group(place.group));
            let floor = floors.map(|group| lock(&group.data).floor_ms).max();
            if let (Some(floor), Some(place)) = (floor, index.place(id))
                && let Some(group) = self.group(place.group)
            {
                let mut data = lock(&group.data);
                data.floor_ms = data.floor_ms.max(floor);
            }
        }
    }
}

/// Returns the numbers of the record's shapes in the index, or `None` if the index is full.
fn intern_shapes(index: &mut Index, record: &DecodedDefinitions) -> Option<Vec<u32>> {
    let mut shapes = Vec::with_capacity(record.shapes.len());
    for names in &record.shapes {
        let intern = |&name: &u32| index.symbols.intern(record.text(name));
        let symbols: Option<Vec<_>> = names.iter().map(intern).collect();
        shapes.push(index.shape(&symbols?));
    }
    Some(shapes)
}

/// Directs samples of a series to a column that belonged to `before`.
fn give_column(index: &mut Index, id: SeriesId, column: ColumnRef, before: Option<SeriesId>) {
    if let Some(before) = before {
        let is_only = index.former_places(before).next().is_none();
        if index.place(before) == Some(column) && is_only {
            index.remove(before);
        } else {
            index.forget_place(before, column);
        }
    }
    index.set_place(id, column);
    index.set_logged(id, column);
}
