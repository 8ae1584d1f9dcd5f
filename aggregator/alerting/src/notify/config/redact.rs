//! A configuration for others to see: the same YAML without secrets.

use common::yaml::{Node, Yaml};

/// Fields that hold a secret wherever they stand.
const SECRETS: &[&str] = &[
    "api_secret",
    "api_url",
    "auth_password",
    "auth_secret",
    "bearer_token",
    "client_secret",
    "credentials",
    "key",
    "password",
    "routing_key",
    "secret",
    "service_key",
    "slack_api_url",
    "smtp_auth_password",
    "smtp_auth_secret",
    "token",
    "url",
    "wechat_api_secret",
];

/// Prints the document as YAML; secrets become `<secret>`.
pub(super) fn redacted(document: &Node) -> String {
    let mut out = String::new();
    write(document, 0, &mut out);
    out
}

fn write(node: &Node, indent: usize, out: &mut String) {
    let pad = "  ".repeat(indent);
    match &node.value {
        Yaml::Map(entries) if !entries.is_empty() => {
            for (key, value) in entries {
                let name = key.text().unwrap_or_default();
                out.push_str(&format!("{pad}{}:", scalar(name, true)));
                match value.text() {
                    Some(text) if !text.is_empty() && is_secret(name) => {
                        out.push_str(" <secret>\n");
                    }
                    _ => write_value(value, indent, out),
                }
            }
        }
        Yaml::List(items) if !items.is_empty() => {
            for item in items {
                out.push_str(&format!("{pad}-"));
                write_value(item, indent, out);
            }
        }
        _ => {
            out.push_str(&pad);
            write_value(node, indent, out);
        }
    }
}

fn is_secret(name: &str) -> bool {
    SECRETS.contains(&name)
}

fn write_value(node: &Node, indent: usize, out: &mut String) {
    match &node.value {
        Yaml::Null => out.push_str(" null\n"),
        Yaml::Scalar { text, plain } => out.push_str(&format!(" {}\n", scalar(text, *plain))),
        Yaml::List(items) if items.is_empty() => out.push_str(" []\n"),
        Yaml::Map(entries) if entries.is_empty() => out.push_str(" {}\n"),
        Yaml::List(_) | Yaml::Map(_) => {
            out.push('\n');
            write(node, indent + 1, out);
        }
    }
}

/// A text that reads back as it was: plain only where that is beyond doubt.
fn scalar(text: &str, plain: bool) -> String {
    let is_simple = !text.is_empty()
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "_-./".contains(c));
    if plain && is_simple && !text.starts_with('-') {
        return text.to_owned();
    }
    // JSON's strings are YAML's double-quoted ones.
    serde_json::Value::from(text).to_string()
}
