//! Lists of series, borrowed from an index or combined from several. Intersections are led by the smaller list.

use std::borrow::Cow;

use roaring::RoaringBitmap;

use super::view::PostingsRef;

/// The series that matched.
#[derive(Debug, Clone)]
pub(crate) enum Found<'i> {
    /// Strictly ascending.
    List(Cow<'i, [u32]>),
    /// Many of them.
    Bitmap(Cow<'i, RoaringBitmap>),
}

impl<'i> From<PostingsRef<'i>> for Found<'i> {
    fn from(postings: PostingsRef<'i>) -> Self {
        match postings {
            PostingsRef::List(ids) => Self::List(Cow::Borrowed(ids)),
            PostingsRef::Bitmap(ids) => Self::Bitmap(Cow::Borrowed(ids)),
        }
    }
}

impl From<Vec<u32>> for Found<'_> {
    fn from(ids: Vec<u32>) -> Self {
        Self::List(Cow::Owned(ids))
    }
}

impl From<RoaringBitmap> for Found<'_> {
    fn from(ids: RoaringBitmap) -> Self {
        Self::Bitmap(Cow::Owned(ids))
    }
}

impl Found<'_> {
    /// No series.
    pub(crate) fn nothing() -> Self {
        Self::from(Vec::new())
    }

    pub(crate) fn view(&self) -> PostingsRef<'_> {
        match self {
            Self::List(ids) => PostingsRef::List(ids),
            Self::Bitmap(ids) => PostingsRef::Bitmap(ids),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        match self {
            Self::List(ids) => ids.is_empty(),
            Self::Bitmap(ids) => ids.is_empty(),
        }
    }

    /// The ids, ascending.
    pub(crate) fn into_ids(self) -> Vec<u32> {
        match self {
            Self::List(ids) => ids.into_owned(),
            Self::Bitmap(ids) => ids.iter().collect(),
        }
    }

    /// Returns the ids that are also in `other`.
    pub(crate) fn intersect(self, other: PostingsRef<'_>) -> Self {
        match (self.view(), other) {
            (PostingsRef::List(own), PostingsRef::List(other)) => both(own, other).into(),
            (PostingsRef::List(list), PostingsRef::Bitmap(set))
            | (PostingsRef::Bitmap(set), PostingsRef::List(list)) => {
                let held = list.iter().copied().filter(|&id| set.contains(id));
                held.collect::<Vec<_>>().into()
            }
            (PostingsRef::Bitmap(own), PostingsRef::Bitmap(other)) => (own & other).into(),
        }
    }
}

/// How many times longer a list must be before a search in it is faster than a scan.
const SEARCH_FROM: usize = 8;

/// The ids of both lists.
fn both(a: &[u32], b: &[u32]) -> Vec<u32> {
    let (short, long) = if a.len() <= b.len() { (a, b) } else { (b, a) };
    let mut common = Vec::with_capacity(short.len());
    each_common(short, long, |id| {
        common.push(id);
        true
    });
    common
}

/// Reports whether two lists share an id.
pub(super) fn meet(a: &[u32], b: &[u32]) -> bool {
    let (short, long) = if a.len() <= b.len() { (a, b) } else { (b, a) };
    let mut found = false;
    each_common(short, long, |_| {
        found = true;
        false
    });
    found
}

/// Calls `visit` with each shared id until it returns `false`.
fn each_common(short: &[u32], long: &[u32], mut visit: impl FnMut(u32) -> bool) {
    let from = if long.len() / SEARCH_FROM >= short.len() {
        search
    } else {
        walk
    };
    let (mut short, mut long) = (short, long);
    while let Some((&id, later)) = short.split_first() {
        long = from(long, id);
        match long.first() {
            None => return,
            Some(&other) if other == id => {
                if !visit(id) {
                    return;
                }
                short = later;
            }
            // The ids of a target are adjacent: skip all that precede the next id of the other list at once.
            Some(&other) => short = from(later, other),
        }
    }
}

/// Returns the rest of a list from `least` on, found by a scan.
fn walk(list: &[u32], least: u32) -> &[u32] {
    let before = list.iter().take_while(|&&id| id < least).count();
    list.get(before..).unwrap_or_default()
}

/// Returns the rest of a list from `least` on, found in doubling steps, so that near ids are found fast.
fn search(list: &[u32], least: u32) -> &[u32] {
    let mut end = 1;
    while list.get(end).is_some_and(|&id| id < least) {
        end *= 2;
    }
    let head = list.get(..end).unwrap_or(list);
    let before = head.partition_point(|&id| id < least);
    list.get(before..).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn ids() -> impl Strategy<Value = Vec<u32>> {
        let sets = prop_oneof![
            prop::collection::btree_set(0..400_u32, 0..4),
            prop::collection::btree_set(0..400_u32, 0..200),
        ];
        sets.prop_map(|set| set.into_iter().collect())
    }

    proptest! {
        #[test]
        fn intersections_and_meetings_are_those_of_sets(a in ids(), b in ids()) {
            let set: BTreeSet<u32> = a.iter().copied().collect();
            let want: Vec<u32> = b.iter().copied().filter(|id| set.contains(id)).collect();
            let bitmaps: [RoaringBitmap; 2] = [a.iter().collect(), b.iter().collect()];
            for left in [PostingsRef::List(&a), PostingsRef::Bitmap(&bitmaps[0])] {
                for right in [PostingsRef::List(&b), PostingsRef::Bitmap(&bitmaps[1])] {
                    let found = Found::from(left).intersect(right);
                    prop_assert_eq!(found.is_empty(), want.is_empty());
                    prop_assert_eq!(found.into_ids(), want.clone());
                    prop_assert_eq!(left.meets(right), !want.is_empty());
                }
            }
        }
    }
}
