//! Builds all postings at once after a replay.
//!
//! Adding series one by one looks up each label value in a table that does not fit into the CPU caches. Here, each label
//! name is one counting sort over all series, and several threads divide the names.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{available_parallelism, scope};

use super::postings::Postings;
use super::{Index, IndexFull, SeriesId, Values};
use crate::series_hash::SeriesHash;
use crate::symbols::Symbol;

/// Maximum number of threads that build postings.
const THREADS_MAX: usize = 4;

impl Index {
    /// Leaves the postings empty until [`Self::build_postings`]. The index must be empty.
    pub(crate) fn defer_postings(&mut self) {
        self.postings_deferred = true;
    }

    /// Reserves memory for `count` series in total.
    pub(crate) fn reserve(&mut self, count: usize) {
        let more = count.saturating_sub(self.series.len());
        self.series.reserve(more);
        let series = &self.series;
        self.by_hash
            .reserve(more, |&id| series[id as usize].hash.bucket());
    }

    /// Adds a new series with interned labels.
    ///
    /// # Errors
    /// The index is full.
    pub(crate) fn add_interned(
        &mut self,
        hash: SeriesHash,
        shape: u32,
        values: &[Symbol],
    ) -> Result<SeriesId, IndexFull> {
        debug_assert!(self.postings_deferred, "postings are built later");
        let id = self.place_entry(hash, shape, values)?;
        self.insert_hash(hash, id);
        Ok(SeriesId(id))
    }

    /// Builds the postings of all series.
    pub(crate) fn build_postings(&mut self) {
        self.postings_deferred = false;
        let mut names: Vec<Symbol> = self
            .shapes
            .iter()
            .flat_map(|one| &*one.names)
            .copied()
            .collect();
        names.sort_unstable();
        names.dedup();
        let next = AtomicUsize::new(0);
        let threads = available_parallelism().map_or(1, |cores| cores.get().min(THREADS_MAX));
        let index = &*self;
        let build = || {
            let mut counts = vec![0; index.symbols.len()];
            let mut built = Vec::new();
            while let Some(&name) = names.get(next.fetch_add(1, Ordering::Relaxed)) {
                built.push((name, index.values_of(name, &mut counts)));
            }
            built
        };
        let built: Vec<(Symbol, Values)> = scope(|scope| {
            let threads: Vec<_> = (0..threads.min(names.len()))
                .map(|_| scope.spawn(build))
                .collect();
            let results = threads.into_iter().map(|thread| match thread.join() {
                Ok(built) => built,
                Err(panic) => std::panic::resume_unwind(panic),
            });
            results.flatten().collect()
        });
        self.names = built
            .into_iter()
            .filter(|(_, values)| !values.is_empty())
            .collect();
    }

    /// Returns the postings of each value of a label name. `counts` has a zero for each symbol, before and after the call.
    fn values_of(&self, name: Symbol, counts: &mut [u32]) -> Values {
        let position = |shape: &super::Shape| shape.names.iter().position(|&other| other == name);
        let positions: Vec<Option<usize>> = self.shapes.iter().map(position).collect();
        let dead = &self.dead;
        let with_value = || {
            let alive = (0..).zip(&self.series);
            let alive = alive.filter(|&(id, _)| dead.is_empty() || !dead.contains(id));
            alive.filter_map(|(id, entry)| {
                let at = positions[entry.shape as usize]?;
                Some((id, self.values[entry.values as usize + at]))
            })
        };
        let mut used = Vec::new();
        for (_, value) in with_value() {
            let count = &mut counts[value.0 as usize];
            if *count == 0 {
                used.push(value);
            }
            *count += 1;
        }
        let mut ends = Vec::with_capacity(used.len());
        let mut next = 0;
        for value in &used {
            let count = &mut counts[value.0 as usize];
            next += std::mem::replace(count, next);
            ends.push(next);
        }
        let mut ids = vec![0; next as usize];
        for (id, value) in with_value() {
            let at = &mut counts[value.0 as usize];
            ids[*at as usize] = id;
            *at += 1;
        }
        let mut values = Values::with_capacity_and_hasher(used.len(), rustc_hash::FxBuildHasher);
        let mut start = 0;
        for (value, end) in used.into_iter().zip(ends) {
            counts[value.0 as usize] = 0;
            values.insert(value, Postings::from_ascending(&ids[start..end as usize]));
            start = end as usize;
        }
        values
    }
}
