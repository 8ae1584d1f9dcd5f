//! The ascending list of series that have one label value.

use roaring::RoaringBitmap;

use super::view::PostingsRef;

/// A bitmap takes at least about 100 bytes, and most values have few series.
const FEW_MAX: usize = 128;

/// Series ids, strictly ascending.
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
    /// The list of ids that ascend strictly.
    pub(super) fn from_ascending(ids: &[u32]) -> Self {
        if ids.len() <= FEW_MAX {
            return Self::Few(ids.to_vec());
        }
        // Ids that ascend are never refused.
        let sorted = RoaringBitmap::from_sorted_iter(ids.iter().copied());
        Self::Many(sorted.unwrap_or_else(|_| ids.iter().copied().collect()))
    }

    /// Adds an id.
    pub(crate) fn insert(&mut self, id: u32) {
        match self {
            Self::Few(ids) => {
                if ids.last().is_none_or(|&last| last < id) {
                    ids.push(id);
                } else if let Err(at) = ids.binary_search(&id) {
                    ids.insert(at, id);
                }
                if ids.len() > FEW_MAX {
                    *self = Self::Many(ids.iter().copied().collect());
                }
            }
            Self::Many(ids) => {
                ids.insert(id);
            }
        }
    }

    /// Removes an id. Returns `true` if none is left.
    pub(crate) fn remove(&mut self, id: u32) -> bool {
        match self {
            Self::Few(ids) => {
                if let Ok(at) = ids.binary_search(&id) {
                    ids.remove(at);
                }
                ids.is_empty()
            }
            Self::Many(ids) => {
                ids.remove(id);
                ids.is_empty()
            }
        }
    }

    pub(crate) fn view(&self) -> PostingsRef<'_> {
        match self {
            Self::Few(ids) => PostingsRef::List(ids),
            Self::Many(ids) => PostingsRef::Bitmap(ids),
        }
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        match self {
            Self::Few(ids) => ids.capacity() * 4,
            Self::Many(ids) => ids.serialized_size() + 64,
        }
    }
}
