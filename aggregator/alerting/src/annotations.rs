//! Alert annotations.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The annotations of an alert, by name.
///
/// Unlike labels, an annotation with an empty value differs from an absent one, because receivers may index its name.
/// Annotations serialize as an object of strings. Clones are cheap.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Annotations(Arc<BTreeMap<String, String>>);

impl Annotations {
    /// Returns an empty set of annotations.
    #[must_use]
    pub fn empty() -> Self {
        Self::default()
    }

    /// Returns the value of `name`.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// Iterates in ascending order of names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Returns the annotations that all sets have in common.
    pub fn common<'a>(mut sets: impl Iterator<Item = &'a Self>) -> Self {
        let mut common = sets
            .next()
            .map_or_else(BTreeMap::new, |first| first.0.as_ref().clone());
        for set in sets {
            common.retain(|name, value| set.get(name) == Some(value));
        }
        Self(Arc::new(common))
    }
}

/// Collects annotations. The last value of a duplicate name wins.
impl<N: Into<String>, V: Into<String>> FromIterator<(N, V)> for Annotations {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(pairs: I) -> Self {
        let pairs = pairs
            .into_iter()
            .map(|(name, value)| (name.into(), value.into()));
        Self(Arc::new(pairs.collect()))
    }
}

/// Formats like a label set: `{a="b", c=""}`.
impl fmt::Display for Annotations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pairs: Vec<String> = self
            .iter()
            .map(|(name, value)| format!("{name}={}", crate::template::quote(value)))
            .collect();
        write!(f, "{{{}}}", pairs.join(", "))
    }
}
