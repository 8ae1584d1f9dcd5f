//! Secrets given inline or as a file.

use std::path::{Path, PathBuf};

use common::secret::Secret;
use common::yaml::{Fields, Issue, Issues, Node};

/// A text given inline or by the file that contains it.
///
/// As in Alertmanager, a file is read at each use, so that a rotated Kubernetes Secret needs no reload.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub enum SecretSource {
    /// Not configured.
    #[default]
    Unset,
    /// The text is in the configuration.
    Inline(Secret<String>),
    /// The text is in this file.
    File(PathBuf),
}

/// An error while reading the file of a secret.
#[derive(Debug, thiserror::Error)]
#[error("read {}", path.display())]
pub struct SecretError {
    /// The file.
    pub path: PathBuf,
    /// The cause.
    pub source: std::io::Error,
}

impl SecretSource {
    /// Reports whether the secret is configured.
    #[must_use]
    pub const fn is_set(&self) -> bool {
        !matches!(self, Self::Unset)
    }

    /// Reports whether each use reads a file.
    #[must_use]
    pub const fn is_file(&self) -> bool {
        matches!(self, Self::File(_))
    }

    /// Returns this source if it is configured, otherwise `default`.
    #[must_use]
    pub fn or(self, default: &Self) -> Self {
        if self.is_set() { self } else { default.clone() }
    }

    /// Returns the secret without surrounding white space, or an empty secret if it is not configured. May read a file.
    ///
    /// # Errors
    /// Returns an error if the file cannot be read.
    pub fn load(&self) -> Result<Secret<String>, SecretError> {
        match self {
            Self::Unset => Ok(Secret::default()),
            Self::Inline(secret) => Ok(secret.clone()),
            Self::File(path) => {
                let text = std::fs::read_to_string(path).map_err(|source| SecretError {
                    path: path.clone(),
                    source,
                })?;
                Ok(Secret::new(text.trim()))
            }
        }
    }
}

/// Reads the secret `name` or its file `name_file`, relative to `folder`. Setting both is an issue.
pub(super) fn secret(
    fields: &mut Fields<'_>,
    name: &str,
    folder: &Path,
    issues: &mut Issues,
) -> SecretSource {
    let inline = fields.take(name);
    if let Some(node) = inline {
        node.mark_secret();
    }
    source(fields, (name, inline), folder, issues)
}

/// Reads a text that is not secret, or its file, like [`secret`].
pub(super) fn text_or_file(
    fields: &mut Fields<'_>,
    name: &str,
    folder: &Path,
    issues: &mut Issues,
) -> SecretSource {
    let inline = fields.take(name);
    source(fields, (name, inline), folder, issues)
}

fn source(
    fields: &mut Fields<'_>,
    (name, inline): (&str, Option<&Node>),
    folder: &Path,
    issues: &mut Issues,
) -> SecretSource {
    let text = inline.map(|node| node.read_text(issues));
    let text = text.filter(|text| !text.is_empty());
    let file = fields.take(&format!("{name}_file"));
    let path = file.map(|node| node.read_text(issues));
    match (text, file, path.filter(|path| !path.is_empty())) {
        (Some(_), Some(file), Some(_)) => {
            issues.push(Issue::new(
                file.position,
                format!("at most one of {name} & {name}_file must be configured"),
            ));
            SecretSource::Unset
        }
        (_, _, Some(path)) => SecretSource::File(folder.join(path)),
        (Some(text), ..) => SecretSource::Inline(Secret::new(text)),
        (None, ..) => SecretSource::Unset,
    }
}
