//! The head: the in-memory part of the store that takes new samples. It holds the series index, and groups of series
//! that share their timestamps.
//!
//! [`crate::sync::Rank`] gives the lock order.

pub(crate) mod group;
mod groups;
pub(crate) mod part;
mod replay;
pub(crate) mod rows;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use common::model::Labels;

use crate::budget::{Budget, Pressure};
use crate::index::{ColumnRef, Index, IndexFull, SeriesId};
use crate::series_hash::HashKey;
use crate::sync::{Rank, RankedRwLock, lock, read, write};
use crate::value_kind::ValueKind;
use crate::write::{DefineError, RefusalReason};
use group::{COLUMNS_MAX, Group, GroupData};
use groups::Groups;

/// Series and groups in memory.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) index: RankedRwLock<Index>,
    groups: RankedRwLock<Groups>,
    pub(crate) key: HashKey,
    series_max: u64,
    budget: Arc<Budget>,
    /// Number of columns in all groups, including freed ones.
    columns: AtomicU64,
}

/// Maximum number of columns in all groups, including freed ones. No machine can hold that many series; a log that
/// names more is damaged or forged.
const COLUMNS_IN_ALL_MAX: u64 = 1 << 25;

/// Why a series was not placed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PlaceError {
    /// The series limit, in total or of a source, is reached.
    SeriesLimit(u64),
    /// The memory budget is exhausted.
    Memory,
    /// The caller does not admit further new series now.
    NotAdmitted,
}

impl PlaceError {
    /// Returns the reason for refusing a sample of the series.
    pub(crate) const fn reason(self) -> RefusalReason {
        match self {
            Self::SeriesLimit(_) | Self::NotAdmitted => RefusalReason::SeriesLimit,
            Self::Memory => RefusalReason::MemoryBudget,
        }
    }
}

impl From<PlaceError> for DefineError {
    fn from(error: PlaceError) -> Self {
        match error {
            PlaceError::SeriesLimit(limit) => Self::SeriesLimit { limit },
            PlaceError::Memory => Self::MemoryBudget,
            PlaceError::NotAdmitted => Self::NotAdmitted,
        }
    }
}

impl From<IndexFull> for PlaceError {
    fn from(_: IndexFull) -> Self {
        Self::SeriesLimit(u64::from(u32::MAX))
    }
}

/// The place of a series, and whether the log knows it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Placed {
    pub(crate) place: ColumnRef,
    /// The log does not know the place yet.
    pub(crate) is_new: bool,
}

impl Head {
    pub(crate) fn new(key: HashKey, series_max: u64, budget: Arc<Budget>) -> Self {
        Self {
            index: RankedRwLock::new(Rank::Index, Default::default()),
            groups: RankedRwLock::new(Rank::Groups, Default::default()),
            key,
            series_max,
            budget,
            columns: AtomicU64::new(0),
        }
    }

    /// Returns the group with this key, creating it if needed. For `floor_ms`, see [`GroupData::floor_ms`].
    pub(crate) fn group_by_key(&self, key: &str, floor_ms: i64) -> Arc<Group> {
        if let Some(group) = read(&self.groups).with_key(key) {
            return Arc::clone(group);
        }
        let mut groups = write(&self.groups);
        if let Some(group) = groups.with_key(key) {
            return Arc::clone(group);
        }
        let number = groups.next_number();
        groups.put(number, key.into(), GroupData::new(floor_ms))
    }

    /// The group with that number.
    pub(crate) fn group(&self, number: u32) -> Option<Arc<Group>> {
        read(&self.groups).get(number).cloned()
    }

    /// Returns all groups, sorted by number.
    pub(crate) fn groups(&self) -> Vec<Arc<Group>> {
        read(&self.groups).all()
    }

    /// Finds or creates the series, and assigns it a column in `group` if it has none there.
    pub(crate) fn place_in(
        &self,
        group: &Group,
        labels: &Labels,
    ) -> Result<(SeriesId, Placed), PlaceError> {
        self.place_within(group, labels, &mut || true)
    }

    /// Like [`Self::place_in`], but calls `admit` before an unknown series is created. A flood of series that are not
    /// admitted takes no write lock.
    pub(crate) fn place_within(
        &self,
        group: &Group,
        labels: &Labels,
        admit: &mut dyn FnMut() -> bool,
    ) -> Result<(SeriesId, Placed), PlaceError> {
        let hash = self.key.hash(labels);
        {
            let index = read(&self.index);
            let found = index.find(hash);
            if let Some((id, place)) = found.and_then(|id| Some((id, index.place(id)?)))
                && place.group == group.number
            {
                let is_new = !index.is_logged(id);
                return Ok((id, Placed { place, is_new }));
            }
            if found.is_none() {
                self.check_new(&index)?;
            }
            if found.is_none() && !admit() {
                return Err(PlaceError::NotAdmitted);
            }
        }
        let mut index = write(&self.index);
        // Columns are assigned only under this lock.
        self.check_columns(group)?;
        let id = match index.find(hash) {
            Some(id) => id,
            None => {
                self.check_new(&index)?;
                index.add(hash, labels)?
            }
        };
        Ok((id, self.place_series(&mut index, id, group)))
    }

    /// Checks that there is room for one more series.
    fn check_new(&self, index: &Index) -> Result<(), PlaceError> {
        if index.len() as u64 >= self.series_max {
            return Err(PlaceError::SeriesLimit(self.series_max));
        }
        match self.budget.pressure() >= Pressure::Series {
            true => Err(PlaceError::Memory),
            false => Ok(()),
        }
    }

    fn place_series(&self, index: &mut Index, id: SeriesId, group: &Group) -> Placed {
        let before = index.place(id).filter(|place| place.group != group.number);
        let floor = before
            .and_then(|place| self.group(place.group))
            .map_or(i64::MIN, |former| lock(&former.data).floor_ms);
        let known = index.places(id).find(|place| place.group == group.number);
        let mut data = lock(&group.data);
        // Samples of the series in its former group must be compared before a sample is accepted here.
        data.floor_ms = data.floor_ms.max(floor);
        let place = known.unwrap_or_else(|| ColumnRef {
            group: group.number,
            column: {
                let before = data.columns().len();
                let column = data.add_column(id, ValueKind::Float);
                self.count_columns(before, data.columns().len());
                column
            },
        });
        drop(data);
        if index.place(id) != Some(place) {
            index.set_place(id, place);
        }
        let is_new = !index.is_logged(id);
        Placed { place, is_new }
    }

    fn check_columns(&self, group: &Group) -> Result<(), PlaceError> {
        let is_full = lock(&group.data).is_full();
        match is_full || self.columns.load(Ordering::Relaxed) >= COLUMNS_IN_ALL_MAX {
            true => Err(PlaceError::SeriesLimit(COLUMNS_MAX.into())),
            false => Ok(()),
        }
    }

    fn count_columns(&self, before: usize, after: usize) {
        let more = after.saturating_sub(before) as u64;
        self.columns.fetch_add(more, Ordering::Relaxed);
    }
}
