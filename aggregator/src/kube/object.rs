//! The parts of Kubernetes objects from which series are made. All other fields are ignored.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};

/// An object: metadata, and the specification and status of its kind.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(bound(deserialize = "S: Default + Deserialize<'de>, T: Default + Deserialize<'de>"))]
pub struct Object<S, T> {
    /// Names and owners.
    pub metadata: Meta,
    /// The desired state.
    #[serde(default, deserialize_with = "or_default")]
    pub spec: S,
    /// The observed state.
    #[serde(default, deserialize_with = "or_default")]
    pub status: T,
}

/// `metadata` of an object.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Meta {
    /// Unique among the objects of its kind in its namespace.
    #[serde(default)]
    pub name: String,
    /// Empty for cluster-scoped objects.
    #[serde(default)]
    pub namespace: String,
    /// Unique over time.
    #[serde(default)]
    pub uid: String,
    /// The version of the cluster's state in which the object was last changed.
    #[serde(default)]
    pub resource_version: String,
    /// Counts changes of the specification.
    #[serde(default)]
    pub generation: i64,
    /// RFC 3339, if the server sent it.
    #[serde(default)]
    pub creation_timestamp: Option<String>,
    /// Labels.
    #[serde(default, deserialize_with = "or_default")]
    pub labels: BTreeMap<String, String>,
    /// The objects that own it.
    #[serde(default, deserialize_with = "or_default")]
    pub owner_references: Vec<Owner>,
}

impl Meta {
    /// Returns the key among the objects of its kind: namespace and name. An object that is deleted and created again under
    /// the same name updates the same key, so its series never exist twice.
    #[must_use]
    pub fn key(&self) -> Box<str> {
        format!("{}/{}", self.namespace, self.name).into_boxed_str()
    }
}

/// One of `metadata.ownerReferences`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct Owner {
    /// `ReplicaSet`, `Job`, ...
    #[serde(default)]
    pub kind: String,
    /// Its name in the same namespace.
    #[serde(default)]
    pub name: String,
    /// Whether it is the managing controller.
    #[serde(default, deserialize_with = "or_default")]
    pub controller: bool,
}

/// One of `status.conditions`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct Condition {
    /// The type of the condition.
    #[serde(rename = "type", default)]
    pub condition_type: String,
    /// `True`, `False` or `Unknown`.
    #[serde(default)]
    pub status: String,
    /// The reason, in CamelCase.
    #[serde(default, deserialize_with = "or_default")]
    pub reason: String,
}

/// Amounts by resource name, as text.
pub type Resources = BTreeMap<String, String>;

/// `null` is as good as absent.
pub(crate) fn or_default<'de, D, V>(deserializer: D) -> Result<V, D::Error>
where
    D: Deserializer<'de>,
    V: Default + Deserialize<'de>,
{
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// Returns the seconds since the Unix epoch of an RFC 3339 time; `None` if the text is not a time.
pub(crate) fn seconds(text: &str) -> Option<i64> {
    let time = text.parse::<jiff::Timestamp>().ok()?;
    Some(time.as_second())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nulls_and_unknown_fields_are_ignored() {
        let meta: Meta = serde_json::from_str(
            r#"{"name":"a","creationTimestamp":null,"labels":null,"managedFields":[1],
                "ownerReferences":[{"kind":"Job","name":"j","controller":null,"uid":"x"}]}"#,
        )
        .unwrap();
        assert_eq!(&*meta.key(), "/a");
        assert_eq!(meta.creation_timestamp, None);
        assert!(!meta.owner_references[0].controller);
        assert_eq!(seconds("2026-11-22T07:48:39Z"), Some(1_795_333_719));
        assert_eq!(seconds("yesterday"), None);
    }
}
