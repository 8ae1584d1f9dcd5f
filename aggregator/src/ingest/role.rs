//! What a peer may send, by the role in its certificate. A second role is added here.

use common::identity::{Identity, Role};
use common::model::Labels;
use common::model::label::METRIC_NAME;

use super::agent_series::SeriesError;

/// How the data of a sender is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SenderPolicy {
    /// The agent of a node: it sends series of its own node only, so `node` and `idc` are those of its certificate.
    NodeAgent,
}

impl SenderPolicy {
    /// Returns the policy of a role.
    ///
    /// # Errors
    /// The role may not send; the text says why.
    pub(super) const fn of(role: Role) -> Result<Self, &'static str> {
        match role {
            Role::Node => Ok(Self::NodeAgent),
            Role::Aggregator => {
                Err("an aggregator may not send samples: this version has no federation")
            }
        }
    }

    /// Returns the beginning of the names of the sender's streams in the store.
    pub(super) fn stream_prefix(self, identity: &Identity) -> String {
        match self {
            Self::NodeAgent => agent_prefix(identity.idc(), identity.name()),
        }
    }

    /// Returns the labels under which a series of the sender is stored.
    ///
    /// # Errors
    /// No series may have these labels.
    pub(super) fn stored_labels(
        self,
        sent: &Labels,
        identity: &Identity,
    ) -> Result<Labels, SeriesError> {
        match self {
            Self::NodeAgent => owned_labels(sent, identity.name(), identity.idc()),
        }
    }
}

/// Returns the beginning of the names of a node's streams. The rest is the instance, one for each spool.
pub(super) fn agent_prefix(idc: &str, node: &str) -> String {
    format!("agent/{idc}/{node}/")
}

/// Sets `node` and `idc` to those of the certificate. What the agent sent under these names becomes `exported_node` and
/// `exported_idc`.
fn owned_labels(labels: &Labels, node: &str, idc: &str) -> Result<Labels, SeriesError> {
    if labels.get(METRIC_NAME).is_none() {
        return Err(SeriesError::NoName);
    }
    let mut builder = labels.to_builder();
    for (name, value) in [("node", node), ("idc", idc)] {
        if let Some(sent) = labels.get(name).filter(|&sent| sent != value) {
            let mut exported = format!("exported_{name}");
            while builder.get(&exported).is_some() {
                exported.insert_str(0, "exported_");
            }
            builder.push(exported, sent);
        }
        builder.set(name, value);
    }
    let labels = builder.build()?;
    labels.check_limits()?;
    Ok(labels)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(sent: &[(&str, &str)], want: &str) {
        let labels = Labels::from_pairs(sent.iter().copied()).unwrap();
        let identity = Identity::new("t", "a", Role::Node, "n1").unwrap();
        let stored = SenderPolicy::NodeAgent.stored_labels(&labels, &identity);
        let stored = stored.map_or_else(|error| error.to_string(), |labels| labels.to_string());
        assert_eq!(stored, want);
    }

    #[test]
    fn node_and_idc_are_those_of_the_certificate() {
        check(
            &[("__name__", "up")],
            r#"{__name__="up", idc="a", node="n1"}"#,
        );
        check(
            &[("__name__", "up"), ("node", "n1"), ("idc", "b")],
            r#"{__name__="up", exported_idc="b", idc="a", node="n1"}"#,
        );
        check(
            &[("__name__", "up"), ("node", "x"), ("exported_node", "y")],
            r#"{__name__="up", exported_exported_node="x", exported_node="y", idc="a", node="n1"}"#,
        );
        check(&[("node", "x")], "no metric name");
    }

    #[test]
    fn only_agents_may_send() {
        assert_eq!(SenderPolicy::of(Role::Node), Ok(SenderPolicy::NodeAgent));
        let refused = SenderPolicy::of(Role::Aggregator).unwrap_err();
        assert!(refused.contains("no federation"), "{refused}");
    }
}
