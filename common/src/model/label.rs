//! Label sets, which identify series.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use crate::limits::{LABEL_NAME_BYTES_MAX, LABEL_VALUE_BYTES_MAX, LABELS_PER_SERIES_MAX};

/// The label that holds the metric name.
pub const METRIC_NAME: &str = "__name__";

/// Why a label set was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LabelsError {
    /// A name occurs twice.
    #[error("label name {name:?} is not unique")]
    Duplicate {
        /// The name.
        name: String,
    },
    /// A label name is empty.
    #[error("label name is empty")]
    EmptyName,
    /// The set has more than [`LABELS_PER_SERIES_MAX`] labels.
    #[error("{count} labels, at most {LABELS_PER_SERIES_MAX} allowed")]
    TooMany {
        /// Number of labels.
        count: usize,
    },
    /// A name is longer than [`LABEL_NAME_BYTES_MAX`] in input, or than 65,535 bytes anywhere.
    #[error("label name of {bytes} bytes, at most {LABEL_NAME_BYTES_MAX} allowed")]
    NameTooLong {
        /// Its length.
        bytes: usize,
    },
    /// A value is longer than [`LABEL_VALUE_BYTES_MAX`].
    #[error("value of label {name:?} has {bytes} bytes, at most {LABEL_VALUE_BYTES_MAX} allowed")]
    ValueTooLong {
        /// The label.
        name: String,
        /// The value's length.
        bytes: usize,
    },
}

/// A set of labels, sorted by name, in a single allocation shared by clones.
///
/// Layout: for each label `name_len: u16 LE, value_len: u32 LE, name, value`. Equal sets have equal bytes, so
/// equality and hashing work on the whole buffer.
///
/// Invariant: names ascend strictly, no value is empty (an empty value means "no such label"), all text is UTF-8.
#[derive(Clone)]
pub struct Labels {
    packed: Arc<[u8]>,
}

const HEADER: usize = 6;

impl Labels {
    /// Returns the empty set.
    #[must_use]
    pub fn empty() -> Self {
        Self {
            packed: Arc::from([]),
        }
    }

    /// Creates a set from `pairs`; pairs with an empty value are dropped.
    ///
    /// # Errors
    /// A name is empty, occurs twice, or is longer than 65,535 bytes.
    pub fn from_pairs<N, V>(pairs: impl IntoIterator<Item = (N, V)>) -> Result<Self, LabelsError>
    where
        N: Into<String>,
        V: Into<String>,
    {
        let mut builder = LabelsBuilder::default();
        for (name, value) in pairs {
            builder.push(name, value);
        }
        builder.build()
    }

    /// Returns the number of labels.
    #[must_use]
    pub fn len(&self) -> usize {
        self.iter().count()
    }

    /// Whether there are no labels.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.packed.is_empty()
    }

    /// Iterates over the labels in ascending order of their names.
    #[must_use]
    pub fn iter(&self) -> LabelsIter<'_> {
        LabelsIter { rest: &self.packed }
    }

    /// Returns the value of `name`.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.iter()
            .find(|&(candidate, _)| candidate == name)
            .map(|(_, value)| value)
    }

    /// Returns the metric name.
    #[must_use]
    pub fn metric_name(&self) -> Option<&str> {
        self.get(METRIC_NAME)
    }

    /// Returns the set of the labels for which `keep(name)` is true.
    #[must_use]
    pub fn filtered(&self, mut keep: impl FnMut(&str) -> bool) -> Self {
        let mut packed = Vec::with_capacity(self.packed.len());
        for (name, value) in self {
            if keep(name) {
                push_packed(&mut packed, name, value);
            }
        }
        Self {
            packed: packed.into(),
        }
    }

    /// Returns the set without its metric name.
    #[must_use]
    pub fn without_metric_name(&self) -> Self {
        if self.metric_name().is_none() {
            return self.clone();
        }
        self.filtered(|name| name != METRIC_NAME)
    }

    /// Checks the limits for labels from outside. They do not apply to query results.
    ///
    /// # Errors
    /// The first limit of [`crate::limits`] that is exceeded.
    pub fn check_limits(&self) -> Result<(), LabelsError> {
        let mut count = 0;
        for (name, value) in self {
            count += 1;
            if name.len() > LABEL_NAME_BYTES_MAX {
                return Err(LabelsError::NameTooLong { bytes: name.len() });
            }
            if value.len() > LABEL_VALUE_BYTES_MAX {
                return Err(LabelsError::ValueTooLong {
                    name: name.to_owned(),
                    bytes: value.len(),
                });
            }
        }
        if count > LABELS_PER_SERIES_MAX {
            return Err(LabelsError::TooMany { count });
        }
        Ok(())
    }

    /// Returns a builder with these labels.
    #[must_use]
    pub fn to_builder(&self) -> LabelsBuilder {
        LabelsBuilder {
            pairs: self
                .iter()
                .map(|(n, v)| (n.to_owned(), v.to_owned()))
                .collect(),
        }
    }

    /// Returns the packed form (layout: see the type). Two sets are equal exactly when their packed forms are.
    #[must_use]
    pub fn as_packed(&self) -> &[u8] {
        &self.packed
    }

    /// Appends the packed form of labels that are known to be sorted, unique and not empty, without making a set.
    pub fn pack_sorted(pairs: &[(&str, &str)], to: &mut Vec<u8>) {
        debug_assert!(pairs.is_sorted_by(|a, b| a.0 < b.0), "names must ascend");
        for (name, value) in pairs {
            push_packed(to, name, value);
        }
    }

    /// Creates a set from labels with unique names in ascending order, as the store's dictionary returns them.
    ///
    /// Pairs with an empty value are dropped. The order is checked in debug builds only.
    #[must_use]
    pub fn from_sorted<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let mut packed = Vec::with_capacity(256);
        let mut last: Option<&str> = None;
        for (name, value) in pairs {
            debug_assert!(last.is_none_or(|last| last < name), "names must ascend");
            last = Some(name);
            if !value.is_empty() {
                push_packed(&mut packed, name, value);
            }
        }
        Self {
            packed: packed.into(),
        }
    }
}

/// Appends one label. The builder refuses names longer than `u16::MAX`; values are far below 4 GiB.
fn push_packed(packed: &mut Vec<u8>, name: &str, value: &str) {
    debug_assert!(name.len() <= usize::from(u16::MAX));
    packed.extend_from_slice(&(name.len() as u16).to_le_bytes());
    packed.extend_from_slice(&(value.len() as u32).to_le_bytes());
    packed.extend_from_slice(name.as_bytes());
    packed.extend_from_slice(value.as_bytes());
}

/// Iterator over the labels of a set, in order.
#[derive(Debug, Clone)]
pub struct LabelsIter<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for LabelsIter<'a> {
    type Item = (&'a str, &'a str);

    fn next(&mut self) -> Option<Self::Item> {
        let (header, rest) = self.rest.split_at_checked(HEADER)?;
        let name_len = usize::from(u16::from_le_bytes([header[0], header[1]]));
        let value_len = u32::from_le_bytes([header[2], header[3], header[4], header[5]]) as usize;
        let (name, rest) = rest.split_at_checked(name_len)?;
        let (value, rest) = rest.split_at_checked(value_len)?;
        self.rest = rest;
        Some((packed_str(name), packed_str(value)))
    }
}

#[expect(
    unsafe_code,
    reason = "label iteration is on the per-series path of every query"
)]
fn packed_str(bytes: &[u8]) -> &str {
    // SAFETY: `push_packed` is the only writer of packed bytes; it copies whole `&str`s and the lengths that
    // delimit them, and the bytes are immutable afterwards.
    unsafe { std::str::from_utf8_unchecked(bytes) }
}

impl<'a> IntoIterator for &'a Labels {
    type Item = (&'a str, &'a str);
    type IntoIter = LabelsIter<'a>;

    fn into_iter(self) -> LabelsIter<'a> {
        self.iter()
    }
}

impl Default for Labels {
    fn default() -> Self {
        Self::empty()
    }
}

impl PartialEq for Labels {
    fn eq(&self, other: &Self) -> bool {
        self.packed == other.packed
    }
}

impl Eq for Labels {}

impl Hash for Labels {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.packed.hash(state);
    }
}

impl PartialOrd for Labels {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Labels {
    /// Compares label by label, by name, then value; a prefix sorts first (Prometheus `labels.Compare`).
    fn cmp(&self, other: &Self) -> Ordering {
        self.iter().cmp(other.iter())
    }
}

impl fmt::Display for Labels {
    /// Formats the set as Prometheus does: `{a="1", b="2"}`, the metric name like any other label.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{")?;
        for (index, (name, value)) in self.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(f, "{comma}{name}={value:?}")?;
        }
        f.write_str("}")
    }
}

impl fmt::Debug for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Collects labels in any order; [`Self::build`] sorts and checks them.
#[derive(Debug, Clone, Default)]
pub struct LabelsBuilder {
    pairs: Vec<(String, String)>,
}

impl LabelsBuilder {
    /// Adds a label. [`Self::build`] fails when a name occurs twice.
    pub fn push(&mut self, name: impl Into<String>, value: impl Into<String>) {
        self.pairs.push((name.into(), value.into()));
    }

    /// Adds or replaces a label; an empty value removes it.
    pub fn set(&mut self, name: impl Into<String>, value: impl Into<String>) {
        let name = name.into();
        self.remove(&name);
        self.pairs.push((name, value.into()));
    }

    /// Removes a label if it exists.
    pub fn remove(&mut self, name: &str) {
        self.pairs.retain(|(candidate, _)| candidate != name);
    }

    /// Returns the current value of `name`.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.pairs
            .iter()
            .find(|(candidate, _)| candidate == name)
            .map(|(_, value)| value.as_str())
    }

    /// Builds the set; labels with an empty value are dropped.
    ///
    /// # Errors
    /// A name is empty, occurs twice, or is longer than 65,535 bytes.
    pub fn build(mut self) -> Result<Labels, LabelsError> {
        self.pairs.sort_unstable();
        let mut bytes = 0;
        for (index, (name, value)) in self.pairs.iter().enumerate() {
            if name.is_empty() {
                return Err(LabelsError::EmptyName);
            }
            if name.len() > usize::from(u16::MAX) {
                return Err(LabelsError::NameTooLong { bytes: name.len() });
            }
            if index > 0 && self.pairs[index - 1].0 == *name {
                return Err(LabelsError::Duplicate { name: name.clone() });
            }
            bytes += HEADER + name.len() + value.len();
        }
        let mut packed = Vec::with_capacity(bytes);
        for (name, value) in self.pairs.iter().filter(|(_, value)| !value.is_empty()) {
            push_packed(&mut packed, name, value);
        }
        Ok(Labels {
            packed: packed.into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(pairs: &[(&str, &str)], want: Result<&str, LabelsError>) {
        let labels = Labels::from_pairs(pairs.iter().copied());
        assert_eq!(
            labels.map(|labels| labels.to_string()),
            want.map(str::to_owned)
        );
    }

    #[test]
    fn labels_are_sorted_and_empty_values_are_absent() {
        check(
            &[("b", "2"), ("__name__", "up"), ("a", "")],
            Ok(r#"{__name__="up", b="2"}"#),
        );
        check(&[], Ok("{}"));
    }

    #[test]
    fn invalid_label_sets_are_refused() {
        check(
            &[("a", "1"), ("a", "2")],
            Err(LabelsError::Duplicate {
                name: "a".to_owned(),
            }),
        );
        check(&[("", "1")], Err(LabelsError::EmptyName));
    }

    #[test]
    fn limits_accept_the_bound_and_refuse_one_more() {
        let value = |bytes: usize| Labels::from_pairs([("a", "x".repeat(bytes))]).unwrap();
        assert_eq!(value(LABEL_VALUE_BYTES_MAX).check_limits(), Ok(()));
        let bytes = LABEL_VALUE_BYTES_MAX + 1;
        let want = LabelsError::ValueTooLong {
            name: "a".to_owned(),
            bytes,
        };
        assert_eq!(value(bytes).check_limits(), Err(want));
        let many =
            |count| Labels::from_pairs((0..count).map(|n| (format!("l{n:03}"), "v"))).unwrap();
        assert_eq!(many(LABELS_PER_SERIES_MAX).check_limits(), Ok(()));
        let count = LABELS_PER_SERIES_MAX + 1;
        assert_eq!(
            many(count).check_limits(),
            Err(LabelsError::TooMany { count })
        );
    }

    #[test]
    fn order_is_by_label_not_by_bytes() {
        let short = Labels::from_pairs([("a", "zz")]).unwrap();
        let long = Labels::from_pairs([("a", "b"), ("b", "c")]).unwrap();
        assert!(
            long < short,
            "value \"b\" sorts before \"zz\" whatever their lengths"
        );
        assert!(short.filtered(|_| false) < short);
    }

    #[test]
    fn filtered_set_equals_one_built_directly() {
        let labels = Labels::from_pairs([("__name__", "up"), ("job", "x"), ("z", "ü")]).unwrap();
        let want = Labels::from_pairs([("job", "x"), ("z", "ü")]).unwrap();
        assert_eq!(labels.without_metric_name(), want);
        assert_eq!(labels.get("z"), Some("ü"));
        assert_eq!(labels.metric_name(), Some("up"));
        assert_eq!(labels.to_builder().build().unwrap(), labels);
    }
}
