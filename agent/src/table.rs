//! The table between collectors and spool: all series of this node and their values at the current tick.
//!
//! A collector adds a series once, keeps its id, and from then on only stores a float. So a steady tick does not allocate, hash or
//! format.

mod pairs;

use common::model::{Labels, Metadata};
use tidemark_link::{SchemaChange, TickSource};

use self::pairs::{PairList, Pairs};

/// Id of a series in this agent's table. It is reused only after the spool has recorded the removal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SeriesId(pub u32);

/// Id of a metric family in this agent's table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FamilyId(pub u32);

/// A metric family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Family {
    /// Metric name; for histograms and summaries without `_bucket`, `_sum` or `_count`.
    pub name: String,
    /// Type, help and unit.
    pub metadata: Metadata,
}

/// Definition of a series.
#[derive(Debug, Clone)]
pub struct SeriesDef {
    /// Metric family.
    pub family: FamilyId,
    /// All labels including the metric name. The aggregator adds `node` and `idc` from the certificate.
    pub labels: Labels,
}

/// All series of this node and their values at the current tick.
///
/// **Invariant:** `values`, `ticks` and `defs` have one entry for each id ever used.
#[derive(Debug, Default)]
pub struct SeriesTable {
    families: Vec<Family>,
    defs: Vec<Option<(FamilyId, PairList)>>,
    pairs: Pairs,
    values: Vec<f64>,
    /// Tick at which each value was stored. A value is current if this equals `tick`.
    ticks: Vec<u64>,
    free: Vec<SeriesId>,
    changes: Vec<SchemaChange>,
    tick: u64,
    timestamp_ms: i64,
}

impl SeriesTable {
    /// Adds a metric family.
    pub fn add_family(&mut self, name: impl Into<String>, metadata: Metadata) -> FamilyId {
        self.families.push(Family {
            name: name.into(),
            metadata,
        });
        FamilyId(self.families.len() as u32 - 1)
    }

    /// Adds a series. The caller ensures that no two series have equal labels.
    pub fn add(&mut self, family: FamilyId, labels: &Labels) -> SeriesId {
        let def = Some((family, self.pairs.intern(labels)));
        let id = if let Some(id) = self.free.pop() {
            self.defs[id.0 as usize] = def;
            id
        } else {
            self.defs.push(def);
            self.values.push(0.0);
            self.ticks.push(0);
            SeriesId(self.defs.len() as u32 - 1)
        };
        self.ticks[id.0 as usize] = 0;
        self.changes.push(SchemaChange::Added(id.0));
        id
    }

    /// Removes a series. Its id is reused only after [`Self::clear_changes`].
    pub fn remove(&mut self, id: SeriesId) {
        if let Some((_, pairs)) = self.defs[id.0 as usize].take() {
            self.pairs.release(&pairs);
            self.ticks[id.0 as usize] = 0;
            self.changes.push(SchemaChange::Removed(id.0));
        }
    }

    /// Starts a tick, at which no series has a value before [`Self::set`].
    pub fn begin_tick(&mut self, timestamp_ms: i64) {
        self.tick += 1;
        self.timestamp_ms = timestamp_ms;
    }

    /// Stores the value of a series for the current tick.
    pub fn set(&mut self, id: SeriesId, value: f64) {
        self.values[id.0 as usize] = value;
        self.ticks[id.0 as usize] = self.tick;
    }

    /// Returns the start of the current tick, milliseconds since the Unix epoch.
    #[must_use]
    pub const fn timestamp_ms(&self) -> i64 {
        self.timestamp_ms
    }

    /// Returns the series that have a value at this tick, by ascending id.
    pub fn current(&self) -> impl Iterator<Item = (SeriesId, f64)> + '_ {
        let values = self.values.iter().zip(&self.ticks).enumerate();
        values
            .filter(|&(_, (_, &tick))| tick == self.tick && tick != 0)
            .map(|(index, (&value, _))| (SeriesId(index as u32), value))
    }

    /// Assembles the definition of a series; `None` when the id is unused.
    #[must_use]
    pub fn def(&self, id: SeriesId) -> Option<SeriesDef> {
        let (family, pairs) = self.defs.get(id.0 as usize)?.as_ref()?;
        Some(SeriesDef {
            family: *family,
            labels: self.pairs.labels(pairs),
        })
    }

    /// Returns the family of a series; `None` when the id is unused.
    #[must_use]
    pub fn family_of(&self, id: SeriesId) -> Option<FamilyId> {
        let (family, _) = self.defs.get(id.0 as usize)?.as_ref()?;
        Some(*family)
    }

    /// Returns all series, by ascending id.
    pub fn series(&self) -> impl Iterator<Item = (SeriesId, SeriesDef)> {
        (0..self.defs.len() as u32)
            .map(SeriesId)
            .filter_map(|id| Some((id, self.def(id)?)))
    }

    /// Returns a metric family.
    #[must_use]
    pub fn family(&self, id: FamilyId) -> &Family {
        &self.families[id.0 as usize]
    }

    /// Returns all metric families, by ascending id.
    #[must_use]
    pub fn families(&self) -> &[Family] {
        &self.families
    }

    /// Returns the changes since the last [`Self::clear_changes`], in order.
    #[must_use]
    pub fn changes(&self) -> &[SchemaChange] {
        &self.changes
    }

    /// Drops the changes after the spool has recorded them; ids of removed series may be reused.
    pub fn clear_changes(&mut self) {
        for change in self.changes.drain(..) {
            if let SchemaChange::Removed(series_ref) = change {
                self.free.push(SeriesId(series_ref));
            }
        }
    }
}

impl TickSource for SeriesTable {
    fn timestamp_ms(&self) -> i64 {
        self.timestamp_ms
    }

    fn values(&self) -> impl Iterator<Item = (u32, f64)> {
        self.current().map(|(id, value)| (id.0, value))
    }

    fn capacity(&self) -> usize {
        self.defs.len()
    }

    fn families(&self) -> impl ExactSizeIterator<Item = (&str, &Metadata)> {
        self.families
            .iter()
            .map(|family| (family.name.as_str(), &family.metadata))
    }

    fn series(&self) -> impl Iterator<Item = (u32, Labels)> {
        Self::series(self).map(|(id, def)| (id.0, def.labels))
    }

    fn labels(&self, series_ref: u32) -> Option<Labels> {
        Some(self.def(SeriesId(series_ref))?.labels)
    }

    fn changes(&self) -> &[SchemaChange] {
        &self.changes
    }

    fn clear_changes(&mut self) {
        Self::clear_changes(self);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(name: &str) -> Labels {
        Labels::from_pairs([("__name__", name)]).unwrap()
    }

    #[test]
    fn value_of_an_earlier_tick_is_not_current() {
        let mut table = SeriesTable::default();
        let family = table.add_family("a", Metadata::default());
        let (a, b) = (
            table.add(family, &labels("a")),
            table.add(family, &labels("b")),
        );
        table.begin_tick(1000);
        table.set(a, 1.0);
        table.set(b, 2.0);
        assert_eq!(table.current().collect::<Vec<_>>(), [(a, 1.0), (b, 2.0)]);
        table.begin_tick(2000);
        table.set(b, 3.0);
        assert_eq!(table.current().collect::<Vec<_>>(), [(b, 3.0)]);
        assert_eq!(table.timestamp_ms(), 2000);
    }

    #[test]
    fn id_is_reused_only_after_the_removal_was_recorded() {
        let mut table = SeriesTable::default();
        let family = table.add_family("a", Metadata::default());
        let a = table.add(family, &labels("a"));
        table.begin_tick(1);
        table.set(a, 1.0);
        table.remove(a);
        table.remove(a);
        let b = table.add(family, &labels("b"));
        assert_ne!(a, b);
        let want = [
            SchemaChange::Added(a.0),
            SchemaChange::Removed(a.0),
            SchemaChange::Added(b.0),
        ];
        assert_eq!(table.changes(), want);
        table.clear_changes();
        let c = table.add(family, &labels("c"));
        assert_eq!(a, c);
        assert_eq!(
            table.current().count(),
            0,
            "the old value does not belong to the new series"
        );
        assert_eq!(table.def(c).unwrap().labels, labels("c"));
    }
}
