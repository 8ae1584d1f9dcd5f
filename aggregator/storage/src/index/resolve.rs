//! Resolves matchers to series: first by look-ups in the dictionary, then by a filter over the remaining series.

use std::collections::BTreeSet;

use common::model::{MatchOp, Matcher};
use hashbrown::HashMap;
use roaring::RoaringBitmap;
use rustc_hash::FxBuildHasher;

use super::SeriesId;
use super::found::Found;
use super::literals::{Literals, literals};
use super::view::{PostingsRef, SeriesIndex};
use crate::read::{ReadControl, ReadError};
use crate::symbols::Symbol;

/// The number of series between two checks of the control.
const CHECK_EVERY: usize = 4096;

/// From this many series per value of a label on, intersecting the postings of each value is cheaper than reading the
/// label of each series.
const PER_VALUE: u64 = 8;

/// Matchers, analysed once for all parts of the store.
#[derive(Debug)]
pub(crate) struct Prepared<'m> {
    matchers: Vec<One<'m>>,
}

/// A matcher and the analysis of its pattern.
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

    /// Reports whether its series are those of a few values that can be looked up.
    fn is_lookup(&self) -> bool {
        matches!(self.literals, Literals::Exactly(_)) && !self.matcher.matches_empty()
    }

    /// Returns the series of each value that can be looked up.
    fn postings<'i>(&self, index: &'i (impl SeriesIndex + ?Sized)) -> Vec<PostingsRef<'i>> {
        let (Literals::Exactly(texts), Some(name)) =
            (&self.literals, index.find_symbol(self.matcher.name()))
        else {
            return Vec::new();
        };
        let values = texts.iter().filter_map(|text| index.find_symbol(text));
        values
            .filter_map(|value| index.postings(name, value))
            .collect()
    }
}

impl<'m> Prepared<'m> {
    pub(crate) fn new(matchers: &'m [Matcher]) -> Self {
        Self {
            matchers: matchers.iter().map(One::new).collect(),
        }
    }

    /// Returns the series that all matchers match. Without a matcher, these are all series.
    ///
    /// # Errors
    /// The control's bounds.
    pub(crate) fn resolve<'i>(
        &self,
        index: &'i (impl SeriesIndex + ?Sized),
        control: &ReadControl,
    ) -> Result<Found<'i>, ReadError> {
        let mut found = self.look_up(index);
        for one in self.matchers.iter().filter(|one| !one.is_lookup()) {
            control.check()?;
            found = Some(match found {
                None if one.matcher.matches_empty() => {
                    filter(index, one.matcher, index.all().into(), control)?
                }
                None => union(index, one, control)?,
                Some(ids) => filter(index, one.matcher, ids, control)?,
            });
            if found.as_ref().is_some_and(Found::is_empty) {
                break;
            }
        }
        Ok(found.unwrap_or_else(|| index.all().into()))
    }

    /// Intersects the results of the matchers that are look-ups. The one with the fewest series leads, so that the cost
    /// depends on the result. Returns `None` without such a matcher.
    fn look_up<'i>(&self, index: &'i (impl SeriesIndex + ?Sized)) -> Option<Found<'i>> {
        let lookups = self.matchers.iter().filter(|one| one.is_lookup());
        let mut lists: Vec<(u64, Vec<PostingsRef<'i>>)> = Vec::with_capacity(self.matchers.len());
        for one in lookups {
            let postings = one.postings(index);
            if postings.is_empty() {
                return Some(Found::nothing());
            }
            lists.push((postings.iter().map(|list| list.len()).sum(), postings));
        }
        lists.sort_by_key(|(count, _)| *count);
        let mut found: Option<Found<'i>> = None;
        for (_, postings) in lists {
            let any = match postings.as_slice() {
                [one] => Found::from(*one),
                several => {
                    let mut any = RoaringBitmap::new();
                    several.iter().for_each(|list| list.add_to(&mut any));
                    any.into()
                }
            };
            found = Some(match found {
                None => any,
                Some(found) => found.intersect(any.view()),
            });
        }
        found
    }
}

/// Returns the series of every matching value, for matchers that require the label and are not look-ups.
fn union<'i>(
    index: &'i (impl SeriesIndex + ?Sized),
    one: &One<'_>,
    control: &ReadControl,
) -> Result<Found<'i>, ReadError> {
    if is_any_value(one.matcher) {
        return filter(index, one.matcher, index.all().into(), control);
    }
    let mut ids = RoaringBitmap::new();
    let Some(name) = index.find_symbol(one.matcher.name()) else {
        return Ok(ids.into());
    };
    let prefix = match &one.literals {
        Literals::Prefix(prefix) => prefix.as_str(),
        Literals::Exactly(_) | Literals::Unknown => "",
    };
    index.each_value(name, prefix, &mut |value, postings| {
        if one.matcher.matches(index.text(value)) {
            postings.add_to(&mut ids);
        }
    });
    Ok(ids.into())
}

/// Returns those of `ids` that the matcher matches. Each value is matched once.
fn filter<'i>(
    index: &(impl SeriesIndex + ?Sized),
    matcher: &Matcher,
    ids: Found<'i>,
    control: &ReadControl,
) -> Result<Found<'i>, ReadError> {
    let on_empty = matcher.matches_empty();
    let Some(name) = index.find_symbol(matcher.name()) else {
        return Ok(if on_empty { ids } else { Found::nothing() });
    };
    if is_anything(matcher) {
        return Ok(ids);
    }
    let any_value = is_any_value(matcher);
    let positions = index.positions(name);
    let mut verdicts: HashMap<Symbol, bool, FxBuildHasher> = HashMap::default();
    let mut kept = Vec::new();
    for (count, id) in ids.view().iter().enumerate() {
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
    Ok(kept.into())
}

/// The names of the labels of these series.
pub(crate) fn label_names(
    index: &(impl SeriesIndex + ?Sized),
    ids: PostingsRef<'_>,
    to: &mut BTreeSet<String>,
) {
    let mut seen = vec![false; index.shapes().len()];
    for id in ids.iter() {
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
    ids: Option<PostingsRef<'_>>,
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
    if ids.len() > index.values_len(name) as u64 * PER_VALUE {
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

/// Reports whether a matcher only requires that the label exists.
fn is_any_value(matcher: &Matcher) -> bool {
    match matcher.op() {
        MatchOp::NotEqual => matcher.value().is_empty(),
        MatchOp::Regex => matcher.value() == ".+",
        _ => false,
    }
}

/// Reports whether a matcher matches every series.
fn is_anything(matcher: &Matcher) -> bool {
    matcher.op() == MatchOp::Regex && matcher.value() == ".*"
}
