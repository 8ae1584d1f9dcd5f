//! The ascending list of series that have one label value.

use roaring::RoaringBitmap;

use super::SeriesId;

/// A bitmap costs some 100 bytes however little it holds; most values have few series.
const FEW_MAX: usize = 128;

/// Series ids, ascending strictly.
#[derive(Debug)]
pub(crate) enum Postings {
    Few(Vec<u32>),
    Many(RoaringBitmap),
}

impl Default for Postings {
    fn default() -> Self {
        Self::Few(Vec::new())
    }
}

impl Postings {
    /// Adds an id above all others.
    pub(crate) fn push(&mut self, id: u32) {
        match self {
            Self::Few(ids) => {
                debug_assert!(ids.last().is_none_or(|&last| last < id), "ids must ascend");
                ids.push(id);
                if ids.len() > FEW_MAX {
                    *self = Self::Many(ids.iter().copied().collect());
                }
            }
            Self::Many(ids) => {
                ids.insert(id);
            }
        }
    }

    pub(crate) fn len(&self) -> u64 {
        match self {
            Self::Few(ids) => ids.len() as u64,
            Self::Many(ids) => ids.len(),
        }
    }

    pub(crate) fn to_bitmap(&self) -> RoaringBitmap {
        match self {
            Self::Few(ids) => ids.iter().copied().collect(),
            Self::Many(ids) => ids.clone(),
        }
    }

    /// Adds these ids to `to`.
    pub(crate) fn add_to(&self, to: &mut RoaringBitmap) {
        match self {
            Self::Few(ids) => to.extend(ids.iter().copied()),
            Self::Many(ids) => *to |= ids,
        }
    }

    /// Removes from `from` what is not here.
    pub(crate) fn intersect_into(&self, from: &mut RoaringBitmap) {
        match self {
            Self::Few(ids) => {
                *from = ids
                    .iter()
                    .copied()
                    .filter(|&id| from.contains(id))
                    .collect();
            }
            Self::Many(ids) => *from &= ids,
        }
    }

    /// Whether a series of `ids` is here.
    pub(crate) fn meets(&self, ids: &RoaringBitmap) -> bool {
        match self {
            Self::Few(own) => own.iter().any(|&id| ids.contains(id)),
            Self::Many(own) => !own.is_disjoint(ids),
        }
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        match self {
            Self::Few(ids) => ids.capacity() * 4,
            Self::Many(ids) => ids.serialized_size() + 64,
        }
    }

    /// The ids as series.
    pub(crate) fn series(&self) -> Box<dyn Iterator<Item = SeriesId> + '_> {
        match self {
            Self::Few(ids) => Box::new(ids.iter().copied().map(SeriesId)),
            Self::Many(ids) => Box::new(ids.iter().map(SeriesId)),
        }
    }
}
