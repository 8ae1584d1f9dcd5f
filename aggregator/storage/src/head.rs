//! The part of the store that takes new samples: series by labels, and groups of series that share their clock.
//!
//! **Lock order:** cut, then index, then the list of groups, then groups in ascending order of their numbers, then
//! the log. A thread that holds one of them takes only later ones.

pub(crate) mod group;
pub(crate) mod part;
pub(crate) mod rows;

use std::sync::{Arc, Mutex, RwLock};

use common::model::Labels;
use hashbrown::HashMap;
use rustc_hash::FxBuildHasher;

use crate::budget::{Budget, Pressure};
use crate::identity::HashKey;
use crate::index::{Index, IndexFull, Place, SeriesId};
use crate::sync::{lock, read, write};
use crate::write::{DefineError, RefusalReason};
use group::{Group, GroupData};

/// Series and groups in memory.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) index: RwLock<Index>,
    groups: RwLock<Groups>,
    pub(crate) key: HashKey,
    series_max: u64,
    budget: Arc<Budget>,
}

#[derive(Debug, Default)]
struct Groups {
    list: Vec<Arc<Group>>,
    by_key: HashMap<Arc<str>, u32, FxBuildHasher>,
}

/// Why a series got no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PlaceError {
    /// The limit of series in all, or of a source.
    SeriesLimit(u64),
    /// The memory budget has no room.
    Memory,
}

impl PlaceError {
    /// The same, for a sample.
    pub(crate) const fn reason(self) -> RefusalReason {
        match self {
            Self::SeriesLimit(_) => RefusalReason::SeriesLimit,
            Self::Memory => RefusalReason::MemoryBudget,
        }
    }
}

impl From<PlaceError> for DefineError {
    fn from(error: PlaceError) -> Self {
        match error {
            PlaceError::SeriesLimit(limit) => Self::SeriesLimit { limit },
            PlaceError::Memory => Self::MemoryBudget,
        }
    }
}

impl From<IndexFull> for PlaceError {
    fn from(_: IndexFull) -> Self {
        Self::SeriesLimit(u64::from(u32::MAX))
    }
}

/// A series, where its samples go, and whether that was decided just now.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Placed {
    pub(crate) place: Place,
    /// The log does not know the place yet.
    pub(crate) is_new: bool,
}

impl Head {
    pub(crate) fn new(key: HashKey, series_max: u64, budget: Arc<Budget>) -> Self {
        Self {
            index: RwLock::default(),
            groups: RwLock::default(),
            key,
            series_max,
            budget,
        }
    }

    /// The group with that key, made now if there is none. `floor_ms`: see [`GroupData::floor_ms`].
    pub(crate) fn group_by_key(&self, key: &str, floor_ms: i64) -> Arc<Group> {
        if let Some(group) = self.find_group(key) {
            return group;
        }
        let mut groups = write(&self.groups);
        if let Some(&number) = groups.by_key.get(key) {
            return Arc::clone(&groups.list[number as usize]);
        }
        let number = groups.list.len() as u32;
        Self::insert_group(&mut groups, number, key, floor_ms)
    }

    fn find_group(&self, key: &str) -> Option<Arc<Group>> {
        let groups = read(&self.groups);
        let number = *groups.by_key.get(key)?;
        groups.list.get(number as usize).cloned()
    }

    fn insert_group(groups: &mut Groups, number: u32, key: &str, floor_ms: i64) -> Arc<Group> {
        let key: Arc<str> = key.into();
        let group = Arc::new(Group {
            number,
            key: Arc::clone(&key),
            data: Mutex::new(GroupData::new(floor_ms)),
        });
        groups.list.push(Arc::clone(&group));
        groups.by_key.insert(key, number);
        group
    }

    /// The group with that number, as the log has it. A key that is not known yet is empty; the group gets a
    /// provisional one until its definition is read.
    pub(crate) fn group_for_replay(&self, number: u32, key: &str) -> Arc<Group> {
        if key.is_empty()
            && let Some(group) = self.group(number)
        {
            return group;
        }
        let mut groups = write(&self.groups);
        while (groups.list.len() as u32) <= number {
            let missing = groups.list.len() as u32;
            Self::insert_group(&mut groups, missing, &format!("lost/{missing}"), i64::MIN);
        }
        let group = Arc::clone(&groups.list[number as usize]);
        if key.is_empty() || *group.key == *key {
            return group;
        }
        groups.by_key.remove(&group.key);
        let key: Arc<str> = key.into();
        let named = Arc::new(Group {
            number,
            key: Arc::clone(&key),
            data: Mutex::new(lock(&group.data).clone()),
        });
        groups.list[number as usize] = Arc::clone(&named);
        groups.by_key.insert(key, number);
        named
    }

    /// The group with that number.
    pub(crate) fn group(&self, number: u32) -> Option<Arc<Group>> {
        read(&self.groups).list.get(number as usize).cloned()
    }

    /// All groups, by number.
    pub(crate) fn groups(&self) -> Vec<Arc<Group>> {
        read(&self.groups).list.clone()
    }

    /// Finds or makes the series, and gives it a column in `group` if it has none there.
    pub(crate) fn place_in(
        &self,
        group: &Group,
        labels: &Labels,
    ) -> Result<(SeriesId, Placed), PlaceError> {
        let hash = self.key.hash(labels);
        let known = {
            let index = read(&self.index);
            index.find(hash).and_then(|id| Some((id, index.place(id)?)))
        };
        if let Some((id, place)) = known
            && place.group == group.number
        {
            let is_new = !read(&self.index).is_logged(id);
            return Ok((id, Placed { place, is_new }));
        }
        let mut index = write(&self.index);
        let id = match index.find(hash) {
            Some(id) => id,
            None if index.len() as u64 >= self.series_max => {
                return Err(PlaceError::SeriesLimit(self.series_max));
            }
            None if self.budget.pressure() >= Pressure::Series => return Err(PlaceError::Memory),
            None => index.add(hash, labels)?,
        };
        Ok((id, self.place_series(&mut index, id, group)))
    }

    fn place_series(&self, index: &mut Index, id: SeriesId, group: &Group) -> Placed {
        let before = index.place(id).filter(|place| place.group != group.number);
        let floor = before
            .and_then(|place| self.group(place.group))
            .map_or(i64::MIN, |former| lock(&former.data).floor_ms);
        let known = index.places(id).find(|place| place.group == group.number);
        let mut data = lock(&group.data);
        // Samples of the series in its former group must be looked at before one is taken here.
        data.floor_ms = data.floor_ms.max(floor);
        let place = known.unwrap_or_else(|| Place {
            group: group.number,
            column: data.add_column(id),
        });
        drop(data);
        if index.place(id) != Some(place) {
            index.set_place(id, place);
        }
        let is_new = !index.is_logged(id);
        Placed { place, is_new }
    }

    /// Makes the floors hold that [`Self::place_series`] would have set, once a replay is over.
    pub(crate) fn finish_replay(&self, floor_ms: i64) {
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

    /// Gives the series of `labels` the column that the log says.
    pub(crate) fn define_for_replay(
        &self,
        group: &Group,
        column: u32,
        labels: &Labels,
    ) -> Result<(), IndexFull> {
        let hash = self.key.hash(labels);
        let mut index = write(&self.index);
        let id = match index.find(hash) {
            Some(id) => id,
            None => index.add(hash, labels)?,
        };
        let before = lock(&group.data).set_column(column, id);
        let place = Place {
            group: group.number,
            column,
        };
        if let Some(before) = before {
            if index.place(before) == Some(place) && index.former_places(before).next().is_none() {
                index.remove(before);
            } else {
                index.forget_place(before, place);
            }
        }
        index.set_place(id, place);
        index.set_logged(id, place);
        Ok(())
    }
}
