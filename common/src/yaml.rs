//! Reads YAML, either into types that implement `Deserialize` or as a tree with positions.
//!
//! Every reader of a configuration file goes through here, so that all of them use the same parser options.
//!
//! Files whose format Prometheus or Alertmanager defines are read as a tree ([`read_tree`], [`Fields`]): an issue must
//! name its position, all issues of a file are reported at once, and scalars must read as Go's yaml.v3 reads them
//! (`severity: 1` is a text).

mod compose;
mod fields;
#[cfg(test)]
mod tests;
mod tree;

pub use compose::read_tree;
pub use fields::Fields;
pub use tree::{Issue, Issues, Node, Position, Yaml};

use serde::de::DeserializeOwned;
use serde_saphyr::{Error, Options};

/// The options of every parse.
///
/// Comments are dropped in the scanner. Otherwise, the parser buffers them while it looks ahead, and refuses a file
/// that has more than 96 comment lines in a row between a key and its value.
fn options() -> Options {
    serde_saphyr::options! { emit_comments: false }
}

/// Reads one document.
///
/// # Errors
/// `text` is not valid YAML, or does not fit `T`.
pub fn from_str<T: DeserializeOwned>(text: &str) -> Result<T, Error> {
    serde_saphyr::from_str_with_options(text, options())
}

/// Reads one document from UTF-8 bytes.
///
/// # Errors
/// As [`from_str`]; also bytes that are not UTF-8.
pub fn from_slice<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Error> {
    serde_saphyr::from_slice_with_options(bytes, options())
}
