//! Label sets as JSON objects.

use std::collections::BTreeMap;

use common::model::Labels;
use serde::{Deserialize as _, Deserializer, Serializer};

/// Writes an object of texts.
///
/// # Errors
/// The serializer's.
pub(crate) fn serialize<S: Serializer>(labels: &Labels, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(labels.iter())
}

/// Reads an object of texts.
///
/// # Errors
/// No object of texts, or no label set.
pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Labels, D::Error> {
    let map = BTreeMap::<String, String>::deserialize(deserializer)?;
    Labels::from_pairs(map).map_err(serde::de::Error::custom)
}
