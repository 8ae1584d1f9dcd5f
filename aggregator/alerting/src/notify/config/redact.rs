//! Prints a configuration without its secrets for the API.

use common::secret::REDACTED;
use common::yaml::{Node, Yaml};

/// Prints the document as YAML. Values that were read as secrets become `<secret>`.
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
                    Some(text) if !text.is_empty() && value.is_secret() => {
                        out.push_str(&format!(" {REDACTED}\n"));
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

/// Formats a text so that it parses back unchanged. Omits quotes only if that is safe.
fn scalar(text: &str, plain: bool) -> String {
    let is_simple = !text.is_empty()
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "_-./".contains(c));
    if plain && is_simple && !text.starts_with('-') {
        return text.to_owned();
    }
    // A JSON string is a double-quoted YAML scalar.
    serde_json::Value::from(text).to_string()
}
