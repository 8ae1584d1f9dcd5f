//! What the spool needs from a producer of ticks.

use common::model::{Labels, Metadata};

/// Change of the set of series since the previous tick.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SchemaChange {
    /// This reference now names a new series.
    Added(u32),
    /// The series with this reference has ended.
    Removed(u32),
}

/// Series and values of the current tick.
///
/// A series has a reference below [`Self::capacity`]. A reference may name another series only after [`Self::clear_changes`]
/// has dropped the change that removed it. Methods that [`crate::spool::SpoolWriter::append`] calls at every tick
/// ([`Self::values`], [`Self::changes`], [`Self::families`]) should not allocate.
pub trait TickSource {
    /// Start of the current tick, milliseconds since the Unix epoch.
    fn timestamp_ms(&self) -> i64;

    /// Series that have a value at this tick, by ascending reference.
    fn values(&self) -> impl Iterator<Item = (u32, f64)>;

    /// Upper bound of all references used so far.
    fn capacity(&self) -> usize;

    /// Metric families in the order of creation. Families are never removed.
    fn families(&self) -> impl ExactSizeIterator<Item = (&str, &Metadata)>;

    /// All series that exist, by ascending reference.
    fn series(&self) -> impl Iterator<Item = (u32, Labels)>;

    /// Labels of a series; `None` when the reference is unused.
    fn labels(&self, series_ref: u32) -> Option<Labels>;

    /// Changes since the last [`Self::clear_changes`], in order.
    fn changes(&self) -> &[SchemaChange];

    /// Drops the changes; references of removed series may be used again.
    fn clear_changes(&mut self);
}
