//! Receivers as configured in alertmanager.yml.

mod global;
mod http;
mod kinds;
mod options;
mod source;
mod url;

use std::collections::BTreeMap;
use std::path::Path;

use common::yaml::{Fields, Issue, Issues, Node};

pub use global::Global;
pub(super) use global::read as read_global;
pub(crate) use http::read_fields as read_http_fields;
pub use http::{Credentials, HttpConfig, HttpOptions, TlsConfig, TlsOptions, TlsVersion};
pub use kinds::{Integration, KINDS, Kind};
pub(super) use kinds::{Payload, signed_url};
pub use source::{SecretError, SecretSource};

/// A destination of notifications, reached through one or more integrations.
#[derive(Debug, Clone)]
pub struct Receiver {
    /// The name of the receiver.
    pub name: String,
    /// The labels of the receiver, shown by the API.
    pub labels: BTreeMap<String, String>,
    /// The integrations, grouped by kind and in file order within a kind.
    pub integrations: Vec<Integration>,
}

/// Reads one entry of `receivers`. Files are relative to `folder`.
pub(super) fn read(node: &Node, global: &Global, folder: &Path, issues: &mut Issues) -> Receiver {
    let mut fields = Fields::new(node, "config.Receiver", issues);
    let name = fields.text("name", issues).unwrap_or_default();
    if name.is_empty() {
        issues.push(Issue::new(node.position, "missing name in receiver"));
    }
    let labels = fields
        .take("labels")
        .map_or_else(Vec::new, |node| node.read_pairs(issues));
    let mut integrations = Vec::new();
    for kind in KINDS {
        let key = format!("{}_configs", kind.name);
        let items = fields
            .take(&key)
            .map_or(&[][..], |node| node.read_list("[]", issues));
        for item in items {
            integrations.push(kinds::read(kind, item, (global, folder), issues));
        }
    }
    for kind in kinds::UNSUPPORTED_KINDS {
        let key = format!("{kind}_configs");
        let items = fields
            .take(&key)
            .map_or(&[][..], |node| node.read_list("[]", issues));
        if !items.is_empty() {
            let position = fields.position_of(&key, node.position);
            let supported: Vec<String> = KINDS
                .iter()
                .map(|kind| format!("{}_configs", kind.name))
                .collect();
            let message = format!(
                "receiver {name:?}: {key} is not supported; supported are {}",
                supported.join(", ")
            );
            issues.push(Issue::new(position, message));
        }
    }
    fields.finish(issues);
    Receiver {
        name,
        labels: labels.into_iter().collect(),
        integrations,
    }
}
