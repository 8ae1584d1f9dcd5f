//! The list of join tokens: `DATA/pki/join-tokens`, one per line, without their secrets.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;

use common::identity::token::{TokenError, TokenScope};
use common::identity::{IdentityError, TokenRecord, files};

use super::{JoinError, PkiError};

/// The join tokens. The file is authoritative: it is read at each use and locked while it changes, so that
/// `tidemarkctl cert token` can add to the list of a running aggregator. Each change is durable before it takes effect.
#[derive(Debug)]
pub(super) struct Tokens {
    path: PathBuf,
}

impl Tokens {
    pub(super) fn open(path: PathBuf) -> Result<Self, PkiError> {
        let tokens = Self { path };
        tokens.read()?;
        Ok(tokens)
    }

    /// Adds a token and removes expired ones.
    pub(super) fn add(&self, record: TokenRecord, now_ms: i64) -> Result<(), PkiError> {
        let _lock = self.lock()?;
        let mut records = self.read()?;
        records.retain(|record| record.scope().expires_ms > now_ms);
        records.push(record);
        Ok(self.replace(&records)?)
    }

    /// Returns whether a credential allows some node to join at that time.
    pub(super) fn would_redeem(&self, credential: &str, at_ms: i64) -> Result<bool, PkiError> {
        let records = self.read()?;
        let record = records.iter().find(|one| one.is_named_by(credential));
        Ok(record.is_some_and(|record| record.clone().redeem(credential, "any", at_ms).is_ok()))
    }

    /// Uses up one use of a token and returns what it allows.
    pub(super) fn redeem(
        &self,
        credential: &str,
        node: &str,
        now_ms: i64,
    ) -> Result<TokenScope, JoinError> {
        let _lock = self.lock()?;
        let mut records = self.read()?;
        let record = records
            .iter_mut()
            .find(|record| record.is_named_by(credential))
            .ok_or(TokenError::Unknown)?;
        record.redeem(credential, node, now_ms)?;
        let scope = record.scope().clone();
        self.replace(&records)?;
        Ok(scope)
    }

    /// Locks the list against other processes and threads until it is dropped. The lock is a separate file, because the
    /// list is replaced by renaming.
    fn lock(&self) -> Result<File, PkiError> {
        let path = self.path.with_extension("lock");
        let locked = || {
            let mut options = OpenOptions::new();
            let file = options
                .create(true)
                .truncate(false)
                .write(true)
                .mode(0o600)
                .open(&path)?;
            file.lock()?;
            Ok(file)
        };
        let path = path.clone();
        Ok(locked().map_err(|source| IdentityError::Io { path, source })?)
    }

    fn read(&self) -> Result<Vec<TokenRecord>, PkiError> {
        let bytes = files::read_if_there(&self.path)?.unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        let record = |(index, line)| {
            TokenRecord::from_line(line).ok_or_else(|| PkiError::Tokens {
                path: self.path.clone(),
                line: index + 1,
            })
        };
        text.lines().enumerate().map(record).collect()
    }

    fn replace(&self, records: &[TokenRecord]) -> Result<(), IdentityError> {
        let mut text = String::new();
        for record in records {
            text.push_str(&record.to_line());
            text.push('\n');
        }
        files::write_private(&self.path, text.as_bytes())
    }
}
