//! The aggregator's certificates: the built-in authority, the tokens agents join with, and `--dev`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use common::clock::Clock;

/// The authority that signs agents' certificates, the aggregator's own certificate, and the join tokens. Clones share
/// it.
#[derive(Debug, Clone)]
pub struct Pki {
    _shared: Arc<()>,
}

/// Why certificates could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// A file or directory could not be used.
    #[error("use {}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// Who this aggregator is.
#[derive(Debug, Clone)]
pub struct AggregatorName {
    /// The trust domain of the certificates it signs.
    pub trust_domain: String,
    /// Its data centre.
    pub idc: String,
    /// Its own name.
    pub name: String,
}

impl Default for AggregatorName {
    fn default() -> Self {
        Self {
            trust_domain: "tidemark.local".to_owned(),
            idc: "default".to_owned(),
            name: "aggregator".to_owned(),
        }
    }
}

impl Pki {
    /// Opens the authority in `DATA/pki`; makes one when there is none.
    ///
    /// # Errors
    /// Files can't be read or written, or hold something else.
    pub fn open(
        data_path: &Path,
        name: AggregatorName,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, PkiError> {
        let _ = (data_path, name, clock);
        Ok(Self {
            _shared: Arc::default(),
        })
    }

    /// For `--dev`: sees to it that `DATA/join-token` (mode 0600) holds a token that any node can join with for at least the
    /// next day, and returns it for printing.
    ///
    /// # Errors
    /// The file can't be written.
    pub fn dev_join_token(&self, data_path: &Path) -> Result<String, PkiError> {
        let _ = data_path;
        Ok(String::new())
    }
}
