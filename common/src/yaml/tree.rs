//! The nodes of a document, with positions, and readers that convert a node to a Go-like type.

use std::cell::Cell;
use std::fmt;
use std::rc::Rc;

/// Line and column, both from 1. Displays as `line:column`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Position {
    /// The line.
    pub line: usize,
    /// The column, in characters.
    pub column: usize,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// A mistake and its position. Displays as `line:column: message`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{position}: {message}")]
pub struct Issue {
    /// Position of the node or character at fault.
    pub position: Position,
    /// Description, for people.
    pub message: String,
}

impl Issue {
    /// Creates an issue at `position`.
    pub fn new(position: Position, message: impl Into<String>) -> Self {
        Self {
            position,
            message: message.into(),
        }
    }
}

/// All mistakes found so far.
pub type Issues = Vec<Issue>;

/// A node of a document.
#[derive(Debug)]
pub struct Node {
    /// Position of its first character.
    pub position: Position,
    /// Its content.
    pub value: Yaml,
    /// Number of nodes in its subtree, aliases expanded.
    pub(super) size: u64,
    /// Whether a reader took it as a secret; then it must not be printed.
    is_secret: Cell<bool>,
}

/// Content of a node.
#[derive(Debug)]
pub enum Yaml {
    /// An empty value, `~` or `null`.
    Null,
    /// A scalar.
    Scalar {
        /// Its text, without quotes and escapes.
        text: String,
        /// Whether it is neither quoted, nor tagged, nor a block scalar.
        plain: bool,
    },
    /// A sequence.
    List(Vec<Rc<Node>>),
    /// A mapping, in the order of the file.
    Map(Vec<(Rc<Node>, Rc<Node>)>),
}

impl Node {
    pub(super) const fn new(position: Position, value: Yaml, size: u64) -> Self {
        Self {
            position,
            value,
            size,
            is_secret: Cell::new(false),
        }
    }

    /// Marks the value as a secret, which printers of the document must redact.
    pub fn mark_secret(&self) {
        self.is_secret.set(true);
    }

    /// Reports whether [`Self::mark_secret`] was called.
    #[must_use]
    pub fn is_secret(&self) -> bool {
        self.is_secret.get()
    }

    /// Returns the text of a scalar.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        match &self.value {
            Yaml::Scalar { text, .. } => Some(text),
            _ => None,
        }
    }

    /// Reports whether the value is null.
    #[must_use]
    pub const fn is_null(&self) -> bool {
        matches!(self.value, Yaml::Null)
    }

    fn tag(&self) -> &'static str {
        match &self.value {
            Yaml::Null => "!!null",
            Yaml::Scalar { text, plain: true } if text.parse::<i64>().is_ok() => "!!int",
            Yaml::Scalar { text, plain: true } if text.parse::<f64>().is_ok() => "!!float",
            Yaml::Scalar { text, plain: true } if boolean(text).is_some() => "!!bool",
            Yaml::Scalar { .. } => "!!str",
            Yaml::List(_) => "!!seq",
            Yaml::Map(_) => "!!map",
        }
    }

    /// Reports that the node cannot be read as the Go type `wanted`.
    pub fn mismatch(&self, wanted: &str, issues: &mut Issues) {
        let shown = match self.text() {
            Some(text) => {
                let short: String = text.chars().take(10).collect();
                let dots = if short.len() < text.len() { "..." } else { "" };
                format!(" `{short}{dots}`")
            }
            None => String::new(),
        };
        issues.push(Issue::new(
            self.position,
            format!("cannot unmarshal {}{shown} into {wanted}", self.tag()),
        ));
    }

    /// Reads a text; null reads as the empty text.
    pub fn read_text(&self, issues: &mut Issues) -> String {
        match &self.value {
            Yaml::Null => String::new(),
            Yaml::Scalar { text, .. } => text.clone(),
            _ => {
                self.mismatch("string", issues);
                String::new()
            }
        }
    }

    /// Reads an integer; null reads as 0.
    pub fn read_int(&self, issues: &mut Issues) -> i64 {
        let Yaml::Scalar { text, plain: true } = &self.value else {
            if !self.is_null() {
                self.mismatch("int", issues);
            }
            return 0;
        };
        let plain = text.replace('_', "");
        let parsed = match plain.strip_prefix("0x") {
            Some(hex) => i64::from_str_radix(hex, 16).ok(),
            None => match plain.strip_prefix("0o") {
                Some(octal) => i64::from_str_radix(octal, 8).ok(),
                None => plain.parse().ok(),
            },
        };
        parsed.unwrap_or_else(|| {
            self.mismatch("int", issues);
            0
        })
    }

    /// Reads a boolean; null reads as `false`.
    pub fn read_bool(&self, issues: &mut Issues) -> bool {
        if self.is_null() {
            return false;
        }
        let value = match &self.value {
            Yaml::Scalar { text, plain: true } => boolean(text),
            _ => None,
        };
        value.unwrap_or_else(|| {
            self.mismatch("bool", issues);
            false
        })
    }

    /// Reads a list; null reads as the empty list.
    pub fn read_list(&self, wanted: &str, issues: &mut Issues) -> &[Rc<Self>] {
        match &self.value {
            Yaml::List(items) => items,
            Yaml::Null => &[],
            _ => {
                self.mismatch(wanted, issues);
                &[]
            }
        }
    }

    /// Reads a list of texts.
    pub fn read_texts(&self, issues: &mut Issues) -> Vec<String> {
        self.read_list("[]string", issues)
            .iter()
            .map(|item| item.read_text(issues))
            .collect()
    }

    /// Reads a mapping of texts, in the order of the file.
    pub fn read_pairs(&self, issues: &mut Issues) -> Vec<(String, String)> {
        match &self.value {
            Yaml::Map(entries) => entries
                .iter()
                .map(|(key, value)| (key.read_text(issues), value.read_text(issues)))
                .collect(),
            Yaml::Null => Vec::new(),
            _ => {
                self.mismatch("map[string]string", issues);
                Vec::new()
            }
        }
    }

    /// Reads a Prometheus duration; null reads as 0.
    pub fn read_duration(&self, issues: &mut Issues) -> std::time::Duration {
        if self.is_null() {
            return std::time::Duration::ZERO;
        }
        let Some(text) = self.text() else {
            self.mismatch("string", issues);
            return std::time::Duration::ZERO;
        };
        crate::duration::parse(text).unwrap_or_else(|error| {
            issues.push(Issue::new(self.position, error.to_string()));
            std::time::Duration::ZERO
        })
    }
}

/// Parses a boolean as yaml.v3 does for a `bool` field: YAML 1.1's words are accepted too.
fn boolean(text: &str) -> Option<bool> {
    match text {
        "true" | "True" | "TRUE" | "y" | "Y" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" => {
            Some(true)
        }
        "false" | "False" | "FALSE" | "n" | "N" | "no" | "No" | "NO" | "off" | "Off" | "OFF" => {
            Some(false)
        }
        _ => None,
    }
}
