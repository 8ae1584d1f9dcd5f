//! The list of join tokens: `DATA/pki/join-tokens`, one a line, without their secrets.

use std::path::PathBuf;

use common::identity::token::{TokenError, TokenScope};
use common::identity::{IdentityError, TokenRecord, files};

use super::{JoinError, PkiError};

/// The tokens there are; every change is on disk before it takes effect.
#[derive(Debug)]
pub(super) struct Tokens {
    path: PathBuf,
    records: Vec<TokenRecord>,
}

impl Tokens {
    pub(super) fn open(path: PathBuf) -> Result<Self, PkiError> {
        let bytes = files::read_if_there(&path)?.unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        let mut records = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let Some(record) = TokenRecord::from_line(line) else {
                let line = index + 1;
                return Err(PkiError::Tokens { path, line });
            };
            records.push(record);
        }
        Ok(Self { path, records })
    }

    /// Adds a token and forgets those that have expired.
    pub(super) fn add(&mut self, record: TokenRecord, now_ms: i64) -> Result<(), IdentityError> {
        let mut records = self.records.clone();
        records.retain(|record| record.scope().expires_ms > now_ms);
        records.push(record);
        self.replace(records)
    }

    /// Whether a credential would let some node in at that time.
    pub(super) fn would_redeem(&self, credential: &str, at_ms: i64) -> bool {
        let record = self.records.iter().find(|one| one.is_named_by(credential));
        record.is_some_and(|record| record.clone().redeem(credential, "any", at_ms).is_ok())
    }

    /// Takes one use off a token and says what it allows.
    pub(super) fn redeem(
        &mut self,
        credential: &str,
        node: &str,
        now_ms: i64,
    ) -> Result<TokenScope, JoinError> {
        let mut records = self.records.clone();
        let record = records
            .iter_mut()
            .find(|record| record.is_named_by(credential))
            .ok_or(TokenError::Unknown)?;
        record.redeem(credential, node, now_ms)?;
        let scope = record.scope().clone();
        self.replace(records)?;
        Ok(scope)
    }

    fn replace(&mut self, records: Vec<TokenRecord>) -> Result<(), IdentityError> {
        let mut text = String::new();
        for record in &records {
            text.push_str(&record.to_line());
            text.push('\n');
        }
        files::write_private(&self.path, text.as_bytes())?;
        self.records = records;
        Ok(())
    }
}
