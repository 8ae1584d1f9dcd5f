//! Serializes label sets as JSON objects.

use std::collections::BTreeMap;

use common::model::Labels;
use serde::{Deserialize as _, Deserializer, Serializer};

/// Serializes the labels as an object of strings.
///
/// # Errors
/// Returns the errors of the serializer.
pub(crate) fn serialize<S: Serializer>(labels: &Labels, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(labels.iter())
}

/// Deserializes labels from an object of strings.
///
/// # Errors
/// Returns an error if the input is not an object of strings or not a valid label set.
pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Labels, D::Error> {
    let map = BTreeMap::<String, String>::deserialize(deserializer)?;
    Labels::from_pairs(map).map_err(serde::de::Error::custom)
}
