//! The series and values of an answer or a set of files that is parsed now and then and stored at every tick.
//!
//! A tick carries one timestamp, and [`SeriesTable`] has no place for another. The values of an answer therefore get
//! the timestamp of the tick that stores them, not the time at which they were scraped or written. Timestamps in text
//! files are refused for the same reason (as in node_exporter).

use std::collections::HashMap;
use std::hash::Hash;

use crate::table::{SeriesId, SeriesTable};

/// Series by key, with the value that each had in the latest pass.
///
/// An unchanged answer costs one hash per series and no allocation.
#[derive(Debug)]
pub struct SeriesCache<K> {
    series: HashMap<K, CachedSeries>,
    pass: u64,
}

#[derive(Debug)]
struct CachedSeries {
    id: SeriesId,
    value: f64,
    pass: u64,
    /// Whether the value differs from the one that [`SeriesCache::store_changed`] stored last.
    is_changed: bool,
}

/// What [`SeriesCache::update`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CacheUpdate {
    /// The series has its new value.
    Updated,
    /// The series already got a value in this pass, which it keeps.
    Duplicate,
    /// No series has this key; [`SeriesCache::insert`] adds it.
    Unknown,
}

impl<K> Default for SeriesCache<K> {
    fn default() -> Self {
        Self {
            series: HashMap::new(),
            pass: 0,
        }
    }
}

impl<K: Eq + Hash> SeriesCache<K> {
    /// Begins a pass over all samples.
    pub const fn begin_pass(&mut self) {
        self.pass += 1;
    }

    /// Sets the value of a known series.
    pub fn update(&mut self, key: &K, value: f64) -> CacheUpdate {
        let Some(cached) = self.series.get_mut(key) else {
            return CacheUpdate::Unknown;
        };
        if cached.pass == self.pass {
            return CacheUpdate::Duplicate;
        }
        cached.is_changed |= cached.value.to_bits() != value.to_bits();
        cached.value = value;
        cached.pass = self.pass;
        CacheUpdate::Updated
    }

    /// Adds a series after [`CacheUpdate::Unknown`].
    pub fn insert(&mut self, key: K, id: SeriesId, value: f64) {
        let pass = self.pass;
        let cached = CachedSeries {
            id,
            value,
            pass,
            is_changed: true,
        };
        self.series.insert(key, cached);
    }

    /// Ends a pass: removes the series that got no value in it.
    pub fn end_pass(&mut self, table: &mut SeriesTable) {
        self.series.retain(|_, cached| {
            let is_current = cached.pass == self.pass;
            if !is_current {
                table.remove(cached.id);
            }
            is_current
        });
    }

    /// Stores all values for the current tick.
    pub fn store(&self, table: &mut SeriesTable) {
        for cached in self.series.values() {
            table.set(cached.id, cached.value);
        }
    }

    /// Stores the values that changed since the last call.
    pub fn store_changed(&mut self, table: &mut SeriesTable) {
        for cached in self.series.values_mut() {
            if std::mem::take(&mut cached.is_changed) {
                table.set(cached.id, cached.value);
            }
        }
    }

    /// Whether there are no series.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.series.is_empty()
    }

    /// Passes so far.
    #[cfg(test)]
    pub(super) const fn passes(&self) -> u64 {
        self.pass
    }

    /// Number of series.
    #[must_use]
    pub fn len(&self) -> usize {
        self.series.len()
    }
}

#[cfg(test)]
mod tests {
    use super::CacheUpdate::{Duplicate, Unknown, Updated};
    use super::*;
    use crate::schema::{Schema, Target, gauge};

    #[test]
    fn series_without_a_value_in_the_latest_pass_is_removed() {
        let (mut table, mut schema) = (SeriesTable::default(), Schema::for_node("n"));
        let family = gauge("g", "G.");
        let mut cache = SeriesCache::default();
        let mut pass = |keys: &[(&'static str, f64)]| {
            cache.begin_pass();
            let mut updates = Vec::new();
            for (key, value) in keys {
                let update = cache.update(key, *value);
                if update == Unknown {
                    let id = schema.series(&mut table, Target::Node, &family, &[("k", key)]);
                    cache.insert(*key, id, *value);
                }
                updates.push(update);
            }
            cache.end_pass(&mut table);
            table.begin_tick(1);
            cache.store(&mut table);
            let values: Vec<f64> = table.current().map(|(_, value)| value).collect();
            (updates, values)
        };
        assert_eq!(
            pass(&[("a", 1.0), ("b", 2.0)]),
            (vec![Unknown, Unknown], vec![1.0, 2.0])
        );
        assert_eq!(
            pass(&[("b", 3.0), ("b", 4.0)]),
            (vec![Updated, Duplicate], vec![3.0])
        );
        assert_eq!(cache.len(), 1);
    }
}
