//! The configuration file as command-line arguments, so that flags and file are checked by one set of rules.

use std::path::{Path, PathBuf};

use serde_json::Value;

/// Why a configuration file was refused.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It can't be read.
    #[error("read {}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is no YAML mapping.
    #[error("{}: {message}", path.display())]
    Parse {
        /// Which file.
        path: PathBuf,
        /// What is wrong, with line and column.
        message: String,
    },
    /// A key that is no flag's name.
    #[error("{}:{line}: no setting {key:?}", path.display())]
    Unknown {
        /// Which file.
        path: PathBuf,
        /// Where the key stands, from 1.
        line: usize,
        /// The key, with the keys around it.
        key: String,
    },
    /// A value that can't be a flag's.
    #[error("{}:{line}: {key} takes a text, a number, true, false or a list of them", path.display())]
    Value {
        /// Which file.
        path: PathBuf,
        /// Where the key stands, from 1.
        line: usize,
        /// The key, with the keys around it.
        key: String,
    },
}

/// The file's settings as `--flag=value`, without those that `is_unset` says are set elsewhere.
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

/// A switch takes no value on the command line: `true` sets it, `false` leaves it.
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

/// The first line that begins with the key's last part, for people; 1 when it is written in another way.
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
