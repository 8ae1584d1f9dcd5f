//! Turns the configuration file into command-line arguments, so that one set of rules checks both.

use std::path::{Path, PathBuf};

use serde_json::Value;

/// Why a configuration file was refused.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The file cannot be read.
    #[error("read {}", path.display())]
    Read {
        /// Path of the file.
        path: PathBuf,
        /// Cause.
        source: std::io::Error,
    },
    /// The file is not a YAML mapping.
    #[error("{}: {message}", path.display())]
    Parse {
        /// Path of the file.
        path: PathBuf,
        /// Message with line and column.
        message: String,
    },
    /// A key is not the name of a flag.
    #[error("{}:{line}: no setting {key:?}", path.display())]
    Unknown {
        /// Path of the file.
        path: PathBuf,
        /// Line of the key, from 1.
        line: usize,
        /// Key with its parents, joined by dots.
        key: String,
    },
    /// A value has the wrong type for a flag.
    #[error("{}:{line}: {key} takes a string, a number, true, false or a list of these", path.display())]
    Value {
        /// Path of the file.
        path: PathBuf,
        /// Line of the key, from 1.
        line: usize,
        /// Key with its parents, joined by dots.
        key: String,
    },
}

/// Returns the file's settings as `--flag=value`, except those that are already set elsewhere according to `is_unset`.
pub(super) fn arguments(
    path: &Path,
    is_unset: impl Fn(&str) -> Option<bool>,
) -> Result<Vec<String>, FileError> {
    let text = std::fs::read_to_string(path).map_err(|source| FileError::Read {
        path: path.to_owned(),
        source,
    })?;
    let parse_error = |message: String| FileError::Parse {
        path: path.to_owned(),
        message,
    };
    let value: Value =
        common::yaml::from_str(&text).map_err(|error| parse_error(error.to_string()))?;
    let mut settings = Vec::new();
    match &value {
        Value::Null => {}
        Value::Object(_) => flatten("", &value, &mut settings),
        _ => return Err(parse_error("not a mapping of settings".to_owned())),
    }
    let mut arguments = Vec::new();
    for (key, value) in settings {
        let line = line_of(&text, &key);
        match is_unset(&key) {
            None => {
                return Err(FileError::Unknown {
                    path: path.to_owned(),
                    line,
                    key,
                });
            }
            Some(false) => {}
            Some(true) => {
                let texts = texts(value).ok_or_else(|| FileError::Value {
                    path: path.to_owned(),
                    line,
                    key: key.clone(),
                })?;
                arguments.extend(texts.into_iter().filter_map(|text| argument(&key, &text)));
            }
        }
    }
    Ok(arguments)
}

/// Formats one setting. A switch takes no value on the command line: `true` sets it, `false` omits it.
fn argument(key: &str, text: &str) -> Option<String> {
    let is_switch = ["check-config", "kubelet.insecure-skip-verify", "mirror"].contains(&key);
    match (is_switch, text) {
        (true, "true") => Some(format!("--{key}")),
        (true, "false") => None,
        _ => Some(format!("--{key}={text}")),
    }
}

fn flatten<'a>(prefix: &str, value: &'a Value, settings: &mut Vec<(String, &'a Value)>) {
    let Value::Object(map) = value else {
        settings.push((prefix.to_owned(), value));
        return;
    };
    for (key, value) in map {
        let name = if prefix.is_empty() {
            key.clone()
        } else {
            format!("{prefix}.{key}")
        };
        flatten(&name, value, settings);
    }
}

fn texts(value: &Value) -> Option<Vec<String>> {
    match value {
        Value::Array(values) => values.iter().map(text).collect(),
        _ => Some(vec![text(value)?]),
    }
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(_) | Value::Number(_) => Some(value.to_string()),
        Value::Null => Some(String::new()),
        Value::Array(_) | Value::Object(_) => None,
    }
}

/// Returns the first line that starts with the key or its last part, for error messages; 1 if there is none.
fn line_of(text: &str, key: &str) -> usize {
    let last = key.rsplit('.').next().unwrap_or(key);
    let begins = |line: &str| {
        let line = line.trim_start();
        [key, last].iter().any(|name| {
            line.strip_prefix(name)
                .is_some_and(|rest| rest.trim_start().starts_with(':'))
        })
    };
    text.lines().position(begins).map_or(1, |index| index + 1)
}
