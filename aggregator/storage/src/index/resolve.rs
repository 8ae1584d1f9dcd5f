//! From matchers to series: look-ups in the dictionary first, then a filter over the few that are left.

use std::collections::BTreeSet;

use common::model::{MatchOp, Matcher};
use hashbrown::HashMap;
use roaring::RoaringBitmap;
use rustc_hash::FxBuildHasher;

use super::SeriesId;
use super::literals::{Literals, literals};
use super::view::SeriesIndex;
use crate::read::{ReadControl, ReadError};
use crate::symbols::Symbol;

/// Series between two looks at the control.
const CHECK_EVERY: usize = 4096;

/// Matchers, taken apart once for all the parts they are resolved in.
#[derive(Debug)]
pub(crate) struct Prepared<'m> {
    matchers: Vec<One<'m>>,
}

/// A matcher and what is known of its pattern.
#[derive(Debug)]
struct One<'m> {
    matcher: &'m Matcher,
    literals: Literals,
}

impl<'m> One<'m> {
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

    fn symbols(&self, index: &(impl SeriesIndex + ?Sized)) -> Vec<Symbol> {
        let Literals::Exactly(texts) = &self.literals else {
            return Vec::new();
        };
        let found = texts.iter().filter_map(|text| index.find_symbol(text));
        found.collect()
    }
}

impl<'m> Prepared<'m> {
    pub(crate) fn new(matchers: &'m [Matcher]) -> Self {
        let mut matchers: Vec<_> = matchers.iter().map(One::new).collect();
        matchers.sort_by_key(|one| !one.is_lookup());
        Self { matchers }
    }

    /// The series for which all matchers hold. No matcher: all series.
    ///
    /// # Errors
    /// The control's bounds.
    pub(crate) fn resolve(
        &self,
        index: &(impl SeriesIndex + ?Sized),
        control: &ReadControl,
    ) -> Result<RoaringBitmap, ReadError> {
        let mut found: Option<RoaringBitmap> = None;
        for one in &self.matchers {
            control.check()?;
            let narrowed = match found {
                None if one.matcher.matches_empty() => {
                    filter(index, one.matcher, index.all(), control)?
                }
                None => union(index, one, control)?,
                Some(ids) if one.is_lookup() => intersect(index, one, ids),
                Some(ids) => filter(index, one.matcher, ids, control)?,
            };
            if narrowed.is_empty() {
                return Ok(narrowed);
            }
            found = Some(narrowed);
        }
        Ok(found.unwrap_or_else(|| index.all()))
    }
}

/// The series of every value that matches; for matchers that need the label.
fn union(
    index: &(impl SeriesIndex + ?Sized),
    one: &One<'_>,
    control: &ReadControl,
) -> Result<RoaringBitmap, ReadError> {
    let mut ids = RoaringBitmap::new();
    let Some(name) = index.find_symbol(one.matcher.name()) else {
        return Ok(ids);
    };
    match &one.literals {
        Literals::Exactly(_) => {
            for value in one.symbols(index) {
                if let Some(postings) = index.postings(name, value) {
                    postings.add_to(&mut ids);
                }
            }
        }
        _ if is_any_value(one.matcher) => return filter(index, one.matcher, index.all(), control),
        literals => {
            let prefix = match literals {
                Literals::Prefix(prefix) => prefix.as_str(),
                _ => "",
            };
            index.each_value(name, prefix, &mut |value, postings| {
                if one.matcher.matches(index.text(value)) {
                    postings.add_to(&mut ids);
                }
            });
        }
    }
    Ok(ids)
}

fn intersect(
    index: &(impl SeriesIndex + ?Sized),
    one: &One<'_>,
    mut ids: RoaringBitmap,
) -> RoaringBitmap {
    let Some(name) = index.find_symbol(one.matcher.name()) else {
        return RoaringBitmap::new();
    };
    let values = one.symbols(index);
    if let [value] = values.as_slice() {
        let Some(postings) = index.postings(name, *value) else {
            return RoaringBitmap::new();
        };
        postings.intersect_into(&mut ids);
        return ids;
    }
    let mut any = RoaringBitmap::new();
    for postings in values
        .iter()
        .filter_map(|&value| index.postings(name, value))
    {
        postings.add_to(&mut any);
    }
    ids & any
}

/// Those of `ids` for which the matcher holds. Each value is matched once.
fn filter(
    index: &(impl SeriesIndex + ?Sized),
    matcher: &Matcher,
    ids: RoaringBitmap,
    control: &ReadControl,
) -> Result<RoaringBitmap, ReadError> {
    let on_empty = matcher.matches_empty();
    let Some(name) = index.find_symbol(matcher.name()) else {
        return Ok(if on_empty { ids } else { RoaringBitmap::new() });
    };
    if is_anything(matcher) {
        return Ok(ids);
    }
    let any_value = is_any_value(matcher);
    let positions = index.positions(name);
    let mut verdicts: HashMap<Symbol, bool, FxBuildHasher> = HashMap::default();
    let mut kept = Vec::new();
    for (count, id) in ids.iter().enumerate() {
        if count % CHECK_EVERY == 0 {
            control.check()?;
        }
        let id = SeriesId(id);
        let keep = match positions[index.shape_number(id) as usize] {
            None => on_empty,
            Some(_) if any_value => true,
            Some(at) => {
                let value = index.values(id)[at];
                *verdicts
                    .entry(value)
                    .or_insert_with(|| matcher.matches(index.text(value)))
            }
        };
        if keep {
            kept.push(id.0);
        }
    }
    Ok(kept.into_iter().collect())
}

/// The names of the labels of these series.
pub(crate) fn label_names(
    index: &(impl SeriesIndex + ?Sized),
    ids: &RoaringBitmap,
    to: &mut BTreeSet<String>,
) {
    let mut seen = vec![false; index.shapes().len()];
    for id in ids {
        seen[index.shape_number(SeriesId(id)) as usize] = true;
    }
    for (shape, _) in index.shapes().iter().zip(seen).filter(|(_, seen)| *seen) {
        to.extend(shape.names.iter().map(|&name| index.text(name).to_owned()));
    }
}

/// The values of a label of these series; of all series when `None`.
pub(crate) fn label_values(
    index: &(impl SeriesIndex + ?Sized),
    name: &str,
    ids: Option<&RoaringBitmap>,
    to: &mut BTreeSet<String>,
) {
    let Some(name) = index.find_symbol(name) else {
        return;
    };
    let mut add = |value: Symbol| to.insert(index.text(value).to_owned());
    let Some(ids) = ids else {
        index.each_value(name, "", &mut |value, _| {
            add(value);
        });
        return;
    };
    if ids.len() > index.values_len(name) as u64 * 8 {
        index.each_value(name, "", &mut |value, own| {
            if own.meets(ids) {
                add(value);
            }
        });
        return;
    }
    let positions = index.positions(name);
    let value_of = |id: u32| {
        let at = positions[index.shape_number(SeriesId(id)) as usize]?;
        Some(index.values(SeriesId(id))[at])
    };
    let mut values: Vec<Symbol> = ids.iter().filter_map(value_of).collect();
    values.sort_unstable();
    values.dedup();
    values.into_iter().for_each(|value| {
        add(value);
    });
}

/// Whether a matcher asks only that the label be there.
fn is_any_value(matcher: &Matcher) -> bool {
    match matcher.op() {
        MatchOp::NotEqual => matcher.value().is_empty(),
        MatchOp::Regex => matcher.value() == ".+",
        _ => false,
    }
}

/// Whether a matcher holds for every series.
fn is_anything(matcher: &Matcher) -> bool {
    matcher.op() == MatchOp::Regex && matcher.value() == ".*"
}
