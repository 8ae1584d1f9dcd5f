//! The interface that queries need from an index, shared by the head and blocks.

use roaring::RoaringBitmap;

use common::model::Labels;

use super::found::meet;
use super::{SeriesId, Shape};
use crate::series_hash::SeriesHash;
use crate::symbols::Symbol;

/// A list of series, borrowed.
#[derive(Debug, Clone, Copy)]
pub(crate) enum PostingsRef<'a> {
    /// Strictly ascending.
    List(&'a [u32]),
    Bitmap(&'a RoaringBitmap),
}

impl<'a> PostingsRef<'a> {
    /// Adds these ids to `to`.
    pub(crate) fn add_to(self, to: &mut RoaringBitmap) {
        match self {
            Self::List(ids) if to.is_empty() => to.extend(ids.iter().copied()),
            Self::List(ids) if ids.len() > 64 => {
                *to |= ids.iter().copied().collect::<RoaringBitmap>();
            }
            Self::List(ids) => to.extend(ids.iter().copied()),
            Self::Bitmap(ids) => *to |= ids,
        }
    }

    /// Reports whether it shares a series with `other`.
    pub(crate) fn meets(self, other: Self) -> bool {
        match (self, other) {
            (Self::List(own), PostingsRef::List(other)) => meet(own, other),
            (Self::List(list), PostingsRef::Bitmap(set))
            | (Self::Bitmap(set), PostingsRef::List(list)) => {
                list.iter().any(|&id| set.contains(id))
            }
            (Self::Bitmap(own), PostingsRef::Bitmap(other)) => !own.is_disjoint(other),
        }
    }

    /// The ids, ascending.
    pub(crate) fn iter(self) -> impl Iterator<Item = u32> + use<'a> {
        let (list, set) = match self {
            Self::List(ids) => (Some(ids), None),
            Self::Bitmap(ids) => (None, Some(ids)),
        };
        let list = list.into_iter().flatten().copied();
        list.chain(set.into_iter().flatten())
    }

    pub(crate) fn len(self) -> u64 {
        match self {
            Self::List(ids) => ids.len() as u64,
            Self::Bitmap(ids) => ids.len(),
        }
    }
}

/// Series by number, and the dictionary of their labels.
pub(crate) trait SeriesIndex {
    /// Returns the symbol of `text`, if any series has it.
    fn find_symbol(&self, text: &str) -> Option<Symbol>;

    /// The text of a symbol.
    fn text(&self, symbol: Symbol) -> &str;

    /// The shapes by number.
    fn shapes(&self) -> &[Shape];

    /// The number of the series' shape.
    fn shape_number(&self, id: SeriesId) -> u32;

    /// The values of a series, in the order of its shape's names.
    fn values(&self, id: SeriesId) -> &[Symbol];

    /// The identity of a series.
    fn hash(&self, id: SeriesId) -> SeriesHash;

    /// All series.
    fn all(&self) -> RoaringBitmap;

    /// The series with a label value.
    fn postings(&self, name: Symbol, value: Symbol) -> Option<PostingsRef<'_>>;

    /// Returns the number of values of a label.
    fn values_len(&self, name: Symbol) -> usize;

    /// Visits the values of a label that begin with `prefix`.
    fn each_value(
        &self,
        name: Symbol,
        prefix: &str,
        visit: &mut dyn FnMut(Symbol, PostingsRef<'_>),
    );

    /// The labels of a series.
    fn labels(&self, id: SeriesId) -> Labels {
        let names = &self.shapes()[self.shape_number(id) as usize].names;
        let pairs = names.iter().zip(self.values(id));
        Labels::from_sorted(pairs.map(|(&n, &v)| (self.text(n), self.text(v))))
    }

    /// Returns, for each shape, the position of the label `name`.
    fn positions(&self, name: Symbol) -> Vec<Option<usize>> {
        self.shapes()
            .iter()
            .map(|shape| shape.names.iter().position(|&other| other == name))
            .collect()
    }
}
