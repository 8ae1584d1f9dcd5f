//! The parts of Kubernetes objects that series are made from. Whatever else an object has is ignored.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};

/// What every object has, and what differs by kind.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(bound(deserialize = "S: Default + Deserialize<'de>, T: Default + Deserialize<'de>"))]
pub struct Object<S, T> {
    /// Names and owners.
    pub metadata: Meta,
    /// What is wanted.
    #[serde(default, deserialize_with = "or_default")]
    pub spec: S,
    /// What is.
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
    /// Empty for objects of the whole cluster.
    #[serde(default)]
    pub namespace: String,
    /// Unique for ever.
    #[serde(default)]
    pub uid: String,
    /// The state of the cluster that this object is of.
    #[serde(default)]
    pub resource_version: String,
    /// Counts changes of the specification.
    #[serde(default)]
    pub generation: i64,
    /// RFC 3339; `None` when the server sent none.
    #[serde(default)]
    pub creation_timestamp: Option<String>,
    /// Labels.
    #[serde(default, deserialize_with = "or_default")]
    pub labels: BTreeMap<String, String>,
    /// Who made it.
    #[serde(default, deserialize_with = "or_default")]
    pub owner_references: Vec<Owner>,
}

impl Meta {
    /// What tells this object from others of its kind at one moment: namespace and name. A deleted and newly made
    /// object of the same name is an update of the same key, so its series never exist twice.
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
    /// Its name, in the same namespace.
    #[serde(default)]
    pub name: String,
    /// Whether it is the managing owner.
    #[serde(default, deserialize_with = "or_default")]
    pub controller: bool,
}

/// One of `status.conditions`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct Condition {
    /// Which condition.
    #[serde(rename = "type", default)]
    pub condition_type: String,
    /// `True`, `False` or `Unknown`.
    #[serde(default)]
    pub status: String,
    /// Why, in one word.
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

/// Seconds since the Unix epoch of an RFC 3339 time; `None` for a text that is none.
pub(crate) fn seconds(text: &str) -> Option<i64> {
    let time = text.parse::<jiff::Timestamp>().ok()?;
    Some(time.as_second())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nulls_and_unknown_fields_are_no_error() {
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
