//! From matchers to series: look-ups in the dictionary first, then a filter over the few that are left.

use std::collections::BTreeSet;

use common::model::{MatchOp, Matcher};
use hashbrown::HashMap;
use roaring::RoaringBitmap;
use rustc_hash::FxBuildHasher;

use super::literals::{Literals, literals};
use super::{Index, LabelName, SeriesId};
use crate::read::{ReadControl, ReadError};
use crate::symbols::Symbol;

/// Series between two looks at the control.
const CHECK_EVERY: usize = 4096;

/// A matcher and what is known of its pattern.
struct Prepared<'m> {
    matcher: &'m Matcher,
    literals: Literals,
}

impl<'m> Prepared<'m> {
    fn new(matcher: &'m Matcher) -> Self {
        let literals = match matcher.op() {
            MatchOp::Equal => Literals::Exactly(vec![matcher.value().to_owned()]),
            MatchOp::Regex => literals(matcher.value()),
            MatchOp::NotEqual | MatchOp::NotRegex => Literals::Unknown,
        };
        Self { matcher, literals }
    }

    /// Whether its series are those of a few values that can be looked up.
    fn is_lookup(&self) -> bool {
        matches!(self.literals, Literals::Exactly(_)) && !self.matcher.matches_empty()
    }
}

impl Index {
    /// The series for which all matchers hold, ascending. No matcher: all series.
    ///
    /// # Errors
    /// The control's bounds.
    pub(crate) fn resolve(
        &self,
        matchers: &[Matcher],
        control: &ReadControl,
    ) -> Result<RoaringBitmap, ReadError> {
        let mut prepared: Vec<_> = matchers.iter().map(Prepared::new).collect();
        prepared.sort_by_key(|one| !one.is_lookup());
        let mut found: Option<RoaringBitmap> = None;
        for one in &prepared {
            control.check()?;
            let narrowed = match found {
                None if one.matcher.matches_empty() => {
                    self.filter(one.matcher, self.all(), control)?
                }
                None => self.union(one),
                Some(ids) if one.is_lookup() => self.intersect(one, ids),
                Some(ids) => self.filter(one.matcher, ids, control)?,
            };
            if narrowed.is_empty() {
                return Ok(narrowed);
            }
            found = Some(narrowed);
        }
        Ok(found.unwrap_or_else(|| self.all()))
    }

    fn all(&self) -> RoaringBitmap {
        let mut all = RoaringBitmap::new();
        all.insert_range(0..self.len() as u32);
        all
    }

    /// The series of every value that matches; for matchers that need the label.
    fn union(&self, one: &Prepared<'_>) -> RoaringBitmap {
        let mut ids = RoaringBitmap::new();
        let Some(label) = self.label_name(one.matcher.name()) else {
            return ids;
        };
        match &one.literals {
            Literals::Exactly(texts) => {
                for postings in texts.iter().filter_map(|text| self.postings(label, text)) {
                    postings.add_to(&mut ids);
                }
            }
            _ if is_any_value(one.matcher) => return label.all.clone(),
            literals => {
                let prefix = match literals {
                    Literals::Prefix(prefix) => prefix.as_str(),
                    _ => "",
                };
                for (&value, postings) in &label.values {
                    let text = self.symbols.text(value);
                    if text.starts_with(prefix) && one.matcher.matches(text) {
                        postings.add_to(&mut ids);
                    }
                }
            }
        }
        ids
    }

    fn postings<'a>(
        &'a self,
        label: &'a LabelName,
        value: &str,
    ) -> Option<&'a super::postings::Postings> {
        label.values.get(&self.symbols.find(value)?)
    }

    fn intersect(&self, one: &Prepared<'_>, mut ids: RoaringBitmap) -> RoaringBitmap {
        let (Some(label), Literals::Exactly(texts)) =
            (self.label_name(one.matcher.name()), &one.literals)
        else {
            return RoaringBitmap::new();
        };
        if let [text] = texts.as_slice() {
            let Some(postings) = self.postings(label, text) else {
                return RoaringBitmap::new();
            };
            postings.intersect_into(&mut ids);
            return ids;
        }
        ids & self.union(one)
    }

    /// Those of `ids` for which the matcher holds. Each value is matched once.
    fn filter(
        &self,
        matcher: &Matcher,
        ids: RoaringBitmap,
        control: &ReadControl,
    ) -> Result<RoaringBitmap, ReadError> {
        let on_empty = matcher.matches_empty();
        let Some(label) = self.label_name(matcher.name()) else {
            return Ok(if on_empty { ids } else { RoaringBitmap::new() });
        };
        if is_any_value(matcher) {
            return Ok(ids & &label.all);
        }
        if matcher.op() == MatchOp::Regex && matcher.value() == ".*" {
            return Ok(ids);
        }
        let Some(name) = self.symbols.find(matcher.name()) else {
            return Ok(RoaringBitmap::new());
        };
        let positions = self.positions(name);
        let mut verdicts: HashMap<Symbol, bool, FxBuildHasher> = HashMap::default();
        let mut kept = RoaringBitmap::new();
        for (count, id) in ids.iter().enumerate() {
            if count % CHECK_EVERY == 0 {
                control.check()?;
            }
            let id = SeriesId(id);
            let keep = match positions[self.shape_number(id) as usize] {
                None => on_empty,
                Some(at) => {
                    let value = self.values(id)[at];
                    *verdicts
                        .entry(value)
                        .or_insert_with(|| matcher.matches(self.symbols.text(value)))
                }
            };
            if keep {
                kept.insert(id.0);
            }
        }
        Ok(kept)
    }

    /// For each shape, where the label `name` is among its names.
    pub(crate) fn positions(&self, name: Symbol) -> Vec<Option<usize>> {
        self.shapes()
            .iter()
            .map(|shape| shape.names.iter().position(|&other| other == name))
            .collect()
    }

    /// The names of the labels of these series; of all series when `None`.
    pub(crate) fn label_names(&self, ids: Option<&RoaringBitmap>) -> BTreeSet<String> {
        self.names()
            .filter(|(_, label)| ids.is_none_or(|ids| !label.all.is_disjoint(ids)))
            .map(|(name, _)| self.symbols.text(name).to_owned())
            .collect()
    }

    /// The values of a label of these series; of all series when `None`.
    pub(crate) fn label_values(&self, name: &str, ids: Option<&RoaringBitmap>) -> BTreeSet<String> {
        let (Some(label), Some(symbol)) = (self.label_name(name), self.symbols.find(name)) else {
            return BTreeSet::new();
        };
        let text = |value: Symbol| self.symbols.text(value).to_owned();
        let Some(ids) = ids else {
            return label.values.keys().map(|&value| text(value)).collect();
        };
        if ids.len() > label.values.len() as u64 {
            let meets = label.values.iter().filter(|(_, own)| own.meets(ids));
            return meets.map(|(&value, _)| text(value)).collect();
        }
        let positions = self.positions(symbol);
        let mut values: Vec<Symbol> = ids
            .iter()
            .filter_map(|id| {
                let at = positions[self.shape_number(SeriesId(id)) as usize]?;
                Some(self.values(SeriesId(id))[at])
            })
            .collect();
        values.sort_unstable();
        values.dedup();
        values.into_iter().map(text).collect()
    }
}

/// Whether a matcher asks only that the label be there.
fn is_any_value(matcher: &Matcher) -> bool {
    match matcher.op() {
        MatchOp::NotEqual => matcher.value().is_empty(),
        MatchOp::Regex => matcher.value() == ".+",
        _ => false,
    }
}
