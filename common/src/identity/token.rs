//! Join tokens: a node without a certificate proves with one that it may have a certificate, and verifies the aggregator.

use std::fmt;
use std::fmt::Write as _;

use rand::TryRngCore as _;
use rand::rngs::OsRng;
use ring::digest::{SHA256, digest};

use super::IdentityError;

/// `id.secret.pin` in hexadecimal: 8 bytes that identify the token, 32 random bytes, and the SHA-256 of the authority's
/// public key, so that the first contact trusts only this authority.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinToken {
    id: [u8; 8],
    secret: [u8; 32],
    pin: [u8; 32],
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JoinToken({})", self.id())
    }
}

impl JoinToken {
    /// Creates a token for the authority with this pin.
    ///
    /// # Errors
    /// The system returns no random bytes.
    pub fn generate(pin: [u8; 32]) -> Result<Self, IdentityError> {
        let (mut id, mut secret) = ([0; 8], [0; 32]);
        OsRng
            .try_fill_bytes(&mut id)
            .and_then(|()| OsRng.try_fill_bytes(&mut secret))
            .map_err(|_| IdentityError::Random)?;
        Ok(Self { id, secret, pin })
    }

    /// Parses a token; surrounding white space is ignored.
    ///
    /// # Errors
    /// The text has another form. The error does not show it.
    pub fn parse(text: &str) -> Result<Self, IdentityError> {
        let (id, secret, pin) = split_parts(text.trim()).ok_or(IdentityError::Token)?;
        let pin = pin.ok_or(IdentityError::Token)?;
        Ok(Self { id, secret, pin })
    }

    /// Returns the token with its secret. Only for the file that nodes join with.
    #[must_use]
    pub fn reveal(&self) -> String {
        format!("{}.{}", self.credential(), hex(&self.pin))
    }

    /// Returns the part sent to the aggregator: `id.secret`.
    #[must_use]
    pub fn credential(&self) -> String {
        format!("{}.{}", self.id(), hex(&self.secret))
    }

    /// Returns the public part, for logs.
    #[must_use]
    pub fn id(&self) -> String {
        hex(&self.id)
    }

    /// Returns the SHA-256 of the authority's public key.
    #[must_use]
    pub const fn pin(&self) -> &[u8; 32] {
        &self.pin
    }

    /// Returns the record that the aggregator keeps of the token.
    #[must_use]
    pub fn record(&self, scope: TokenScope) -> TokenRecord {
        TokenRecord {
            id: self.id(),
            secret_sha256: sha256(&self.secret),
            scope,
        }
    }
}

type Parts = ([u8; 8], [u8; 32], Option<[u8; 32]>);

fn split_parts(text: &str) -> Option<Parts> {
    let mut parts = text.split('.');
    let id = unhex(parts.next()?)?;
    let secret = unhex(parts.next()?)?;
    let pin = match parts.next() {
        Some(pin) => Some(unhex(pin)?),
        None => None,
    };
    parts.next().is_none().then_some((id, secret, pin))
}

/// The nodes that may use a token, how often, and until when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenScope {
    /// The data centre that its nodes belong to.
    pub idc: String,
    /// Node names: a name, or a prefix followed by `*`.
    pub nodes: String,
    /// Milliseconds since the Unix epoch.
    pub expires_ms: i64,
    /// Remaining uses.
    pub uses_left: u32,
}

/// A token as the aggregator keeps it, without its secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenRecord {
    id: String,
    secret_sha256: [u8; 32],
    scope: TokenScope,
}

/// Why a token does not admit a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// The id is unknown, or the secret is wrong.
    #[error("unknown join token")]
    Unknown,
    /// The token has expired.
    #[error("join token has expired")]
    Expired,
    /// The token has no uses left.
    #[error("join token is used up")]
    Spent,
    /// The token is for other nodes.
    #[error("join token is not for this node")]
    OtherNode,
}

impl TokenRecord {
    /// Returns the token's public part.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Returns the token's scope.
    #[must_use]
    pub const fn scope(&self) -> &TokenScope {
        &self.scope
    }

    /// Whether `credential` (see [`JoinToken::credential`]) has this token's id. Does not check the secret.
    #[must_use]
    pub fn is_named_by(&self, credential: &str) -> bool {
        credential.split('.').next() == Some(self.id.as_str())
    }

    /// Checks a credential for a node and consumes one use.
    ///
    /// # Errors
    /// See [`TokenError`]. No use is consumed.
    pub fn redeem(&mut self, credential: &str, node: &str, now_ms: i64) -> Result<(), TokenError> {
        let (_, secret, _) = split_parts(credential).ok_or(TokenError::Unknown)?;
        // Compares hashes: the time it takes reveals nothing about the secret.
        if !self.is_named_by(credential) || sha256(&secret) != self.secret_sha256 {
            return Err(TokenError::Unknown);
        }
        if now_ms >= self.scope.expires_ms {
            return Err(TokenError::Expired);
        }
        if !self.scope.covers(node) {
            return Err(TokenError::OtherNode);
        }
        self.scope.uses_left = self
            .scope
            .uses_left
            .checked_sub(1)
            .ok_or(TokenError::Spent)?;
        Ok(())
    }

    /// Formats the record as a line, for [`Self::from_line`].
    #[must_use]
    pub fn to_line(&self) -> String {
        let TokenScope {
            idc,
            nodes,
            expires_ms,
            uses_left,
        } = &self.scope;
        let secret = hex(&self.secret_sha256);
        format!(
            "{} {secret} {idc} {nodes} {expires_ms} {uses_left}",
            self.id
        )
    }

    /// Parses a line of [`Self::to_line`]; `None` when it has another form.
    #[must_use]
    pub fn from_line(line: &str) -> Option<Self> {
        let mut words = line.split(' ');
        let id: [u8; 8] = unhex(words.next()?)?;
        let record = Self {
            id: hex(&id),
            secret_sha256: unhex(words.next()?)?,
            scope: TokenScope {
                idc: words.next()?.to_owned(),
                nodes: words.next()?.to_owned(),
                expires_ms: words.next()?.parse().ok()?,
                uses_left: words.next()?.parse().ok()?,
            },
        };
        words.next().is_none().then_some(record)
    }
}

impl TokenScope {
    fn covers(&self, node: &str) -> bool {
        match self.nodes.strip_suffix('*') {
            Some(prefix) => node.starts_with(prefix),
            None => node == self.nodes,
        }
    }
}

/// SHA-256.
#[must_use]
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, bytes).as_ref());
    hash
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string can't fail.
        let (Ok(()) | Err(fmt::Error)) = write!(text, "{byte:02x}");
        text
    })
}

fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digit = |byte: u8| (byte as char).to_digit(16);
    let bytes = text.as_bytes();
    if bytes.len() != 2 * N {
        return None;
    }
    let mut out = [0; N];
    for (out, pair) in out.iter_mut().zip(bytes.chunks_exact(2)) {
        *out = (digit(pair[0])? << 4 | digit(pair[1])?) as u8;
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope(nodes: &str) -> TokenScope {
        TokenScope {
            idc: "a".to_owned(),
            nodes: nodes.to_owned(),
            expires_ms: 1000,
            uses_left: 2,
        }
    }

    #[track_caller]
    fn check(nodes: &str, node: &str, now_ms: i64, want: Result<(), TokenError>) {
        let token = JoinToken::generate([7; 32]).unwrap();
        let mut record = token.record(scope(nodes));
        assert_eq!(record.redeem(&token.credential(), node, now_ms), want);
    }

    #[test]
    fn token_admits_only_its_scope() {
        check("*", "n1", 999, Ok(()));
        check("n*", "n1", 999, Ok(()));
        check("n1", "n1", 999, Ok(()));
        check("n1", "n12", 999, Err(TokenError::OtherNode));
        check("m*", "n1", 999, Err(TokenError::OtherNode));
        check("*", "n1", 1000, Err(TokenError::Expired));
    }

    #[test]
    fn token_runs_out_of_uses_and_checks_its_secret() {
        let token = JoinToken::generate([7; 32]).unwrap();
        let other = JoinToken {
            id: token.id,
            ..JoinToken::generate([7; 32]).unwrap()
        };
        let mut record = token.record(scope("*"));
        let unknown = Err(TokenError::Unknown);
        assert_eq!(record.redeem(&other.credential(), "n", 0), unknown);
        assert_eq!(record.redeem("", "n", 0), unknown);
        for want in [Ok(()), Ok(()), Err(TokenError::Spent)] {
            assert_eq!(record.redeem(&token.credential(), "n", 0), want);
        }
    }

    #[test]
    fn text_forms_round_trip_and_hide_the_secret() {
        let token = JoinToken::generate([7; 32]).unwrap();
        let text = token.reveal();
        assert_eq!(JoinToken::parse(&format!(" {text}\n")).unwrap(), token);
        for bad in ["", "a.b.c", &token.credential(), &format!("{text}.00")] {
            JoinToken::parse(bad).unwrap_err();
        }
        assert!(!format!("{token:?}").contains(&hex(&token.secret)));
        let record = token.record(scope("n*"));
        let line = record.to_line();
        assert!(!line.contains(&hex(&token.secret)));
        assert_eq!(TokenRecord::from_line(&line), Some(record));
        assert_eq!(TokenRecord::from_line("x y"), None);
    }
}
