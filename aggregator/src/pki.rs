//! The aggregator's public key infrastructure: the certificate authority, join tokens, and the token of `--dev`.

mod tokens;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use common::clock::Clock;
use common::identity::authority::LEAF_LIFETIME;
use common::identity::token::{TokenError, TokenScope};
use common::identity::{Authority, Credentials, Identity, IdentityError, JoinToken, Role, files};
use rand::TryRngCore as _;
use rand::rngs::OsRng;
use rustls_pki_types::CertificateDer;

use self::tokens::Tokens;
use crate::config::file::{AuthorityFiles, Tls};

/// Lifetime of the token of `--dev`, and the least remaining lifetime with which it is reused.
const DEV_TOKEN_LIFETIME: Duration = Duration::from_secs(7 * 24 * 3600);
const DEV_TOKEN_LEFT_MIN: Duration = Duration::from_secs(24 * 3600);
const DEV_TOKEN_USES: u32 = 100_000;

/// The authority that signs agents' certificates, the aggregator's own certificate, and the join tokens. Clones share
/// it.
#[derive(Debug, Clone)]
pub struct Pki {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    authority: Authority,
    reset_key: ResetKey,
    identity: Identity,
    clock: Arc<dyn Clock>,
    tokens: Tokens,
}

/// The key of QUIC's stateless reset tokens (RFC 9000, 10.3.2), kept across restarts.
struct ResetKey(Vec<u8>);

impl std::fmt::Debug for ResetKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ResetKey")
    }
}

impl ResetKey {
    const BYTES: usize = 64;

    fn open_or_create(path: &Path) -> Result<Self, IdentityError> {
        if let Some(key) = files::read_if_there(path)?
            && key.len() == Self::BYTES
        {
            return Ok(Self(key));
        }
        let mut key = vec![0; Self::BYTES];
        OsRng
            .try_fill_bytes(&mut key)
            .map_err(|_| IdentityError::Random)?;
        files::write_private(path, &key)?;
        Ok(Self(key))
    }
}

/// Why certificates could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// The authority, a certificate, or one of their files can't be used.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The list of tokens is damaged.
    #[error("{} line {line} is not a join token", path.display())]
    Tokens {
        /// The file of the list.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
    },
}

/// Why a node gets no certificate.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// Its token does not allow it.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// Its name or request is invalid, or the certificate could not be created.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The list of tokens can't be read.
    #[error(transparent)]
    Tokens(#[from] PkiError),
}

/// The identity of this aggregator.
#[derive(Debug, Clone)]
pub struct AggregatorName {
    /// The trust domain of its certificates.
    pub trust_domain: String,
    /// Its data centre.
    pub idc: String,
    /// Its name.
    pub name: String,
    /// The authority that it shares with others; `None` for its own.
    pub authority: Option<AuthorityFiles>,
}

impl From<&Tls> for AggregatorName {
    fn from(tls: &Tls) -> Self {
        Self {
            trust_domain: tls.trust_domain.clone(),
            idc: tls.idc.clone(),
            name: tls.name.clone(),
            authority: tls.authority.clone(),
        }
    }
}

impl Default for AggregatorName {
    fn default() -> Self {
        Self::from(&Tls::default())
    }
}

/// Returns whether a pod of that name is not the first of its StatefulSet.
#[must_use]
pub fn is_later_replica(pod: Option<&str>) -> bool {
    let ordinal = pod.and_then(|pod| pod.rsplit_once('-')?.1.parse::<u32>().ok());
    ordinal.is_some_and(|ordinal| ordinal > 0)
}

/// An issued certificate.
#[derive(Debug)]
pub struct Issued {
    /// The identity in it.
    pub identity: Identity,
    /// The leaf, then the intermediates.
    pub chain: Vec<CertificateDer<'static>>,
    /// The roots to trust.
    pub roots: Vec<CertificateDer<'static>>,
}

impl Pki {
    /// Opens the shared authority, or the one in `DATA/pki`, which is created if it does not exist.
    ///
    /// # Errors
    /// Files can't be read or written, or have invalid content.
    pub fn open(
        data_path: &Path,
        name: AggregatorName,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, PkiError> {
        let AggregatorName {
            trust_domain,
            idc,
            name,
            authority,
        } = name;
        let directory = data_path.join("pki");
        let identity = Identity::new(&trust_domain, &idc, Role::Aggregator, &name)?;
        let authority = match authority {
            Some(shared) => {
                files::create_private_dir(&directory)?;
                Authority::open(&shared.cert_file, &shared.key_file)?
            }
            None => Authority::open_or_create(&directory, &trust_domain, clock.now_ms())?,
        };
        let reset_key = ResetKey::open_or_create(&directory.join("quic-reset-key"))?;
        let tokens = Tokens::open(directory.join("join-tokens"))?;
        Ok(Self {
            shared: Arc::new(Shared {
                authority,
                reset_key,
                identity,
                clock,
                tokens,
            }),
        })
    }

    /// Ensures for `--dev` that `DATA/join-token` (mode 0600) contains a token with which any node can join for at least the
    /// next day, and returns it.
    ///
    /// # Errors
    /// The file can't be written.
    pub fn dev_join_token(&self, data_path: &Path) -> Result<String, PkiError> {
        let path = data_path.join("join-token");
        let kept = files::read_if_there(&path)?
            .and_then(|bytes| JoinToken::parse(&String::from_utf8(bytes).ok()?).ok());
        if let Some(token) = kept
            && self.is_good_for_a_day(&token)?
        {
            return Ok(token.reveal());
        }
        let token = self.create_token("*", DEV_TOKEN_LIFETIME, DEV_TOKEN_USES)?;
        let text = token.reveal();
        files::write_private(&path, format!("{text}\n").as_bytes())?;
        Ok(text)
    }

    fn is_good_for_a_day(&self, token: &JoinToken) -> Result<bool, PkiError> {
        let until_ms = self.now_ms() + DEV_TOKEN_LEFT_MIN.as_millis() as i64;
        let same_authority = *token.pin() == self.shared.authority.pin()?;
        let tokens = &self.shared.tokens;
        Ok(same_authority && tokens.would_redeem(&token.credential(), until_ms)?)
    }

    /// Creates a token for nodes of this aggregator's data centre. `nodes` is a name, or a prefix followed by `*`.
    ///
    /// # Errors
    /// The list of tokens can't be written.
    pub fn create_token(
        &self,
        nodes: &str,
        lifetime: Duration,
        uses: u32,
    ) -> Result<JoinToken, PkiError> {
        let token = JoinToken::generate(self.shared.authority.pin()?)?;
        let now_ms = self.now_ms();
        let scope = TokenScope {
            idc: self.shared.identity.idc().to_owned(),
            nodes: nodes.to_owned(),
            expires_ms: now_ms.saturating_add(lifetime.as_millis() as i64),
            uses_left: uses,
        };
        self.shared.tokens.add(token.record(scope), now_ms)?;
        Ok(token)
    }

    /// The identity of this aggregator.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.shared.identity
    }

    /// Returns the key with which connections from before a restart are reset, so that agents need not wait for a timeout.
    pub(crate) fn reset_key(&self) -> &[u8] {
        &self.shared.reset_key.0
    }

    /// Returns the roots that agents' certificates must chain to.
    #[must_use]
    pub fn roots(&self) -> Vec<CertificateDer<'static>> {
        vec![self.shared.authority.root().clone()]
    }

    /// Returns the roots as PEM, for clients that verify this aggregator by a file.
    #[must_use]
    pub fn roots_pem(&self) -> String {
        files::to_pem("CERTIFICATE", self.shared.authority.root())
    }

    /// Issues a new certificate for this aggregator.
    ///
    /// # Errors
    /// The system provides no random numbers.
    pub fn own_credentials(&self) -> Result<Credentials, IdentityError> {
        let Shared {
            authority,
            identity,
            ..
        } = &*self.shared;
        authority.credentials(identity, self.now_ms(), LEAF_LIFETIME)
    }

    /// Issues a node's first certificate for a join token. Writes the list of tokens to disk.
    ///
    /// # Errors
    /// The token does not allow it, the request is invalid, or the list can't be written.
    pub fn join(&self, credential: &str, node: &str, request: &[u8]) -> Result<Issued, JoinError> {
        let own = &self.shared.identity;
        // Checked before the token: an invalid name costs no use of it.
        Identity::new(own.trust_domain(), own.idc(), Role::Node, node)?;
        let tokens = &self.shared.tokens;
        let scope = tokens.redeem(credential, node, self.now_ms())?;
        let identity = Identity::new(own.trust_domain(), &scope.idc, Role::Node, node)?;
        Ok(self.issue(identity, request)?)
    }

    /// Issues the first certificate of a node that the API server has identified.
    ///
    /// # Errors
    /// The node's name or the request is invalid.
    pub fn admit(&self, node: &str, request: &[u8]) -> Result<Issued, IdentityError> {
        let own = &self.shared.identity;
        let identity = Identity::new(own.trust_domain(), own.idc(), Role::Node, node)?;
        self.issue(identity, request)
    }

    /// Issues another certificate for the identity that the peer has authenticated as.
    ///
    /// # Errors
    /// The request is invalid.
    pub fn renew(&self, identity: Identity, request: &[u8]) -> Result<Issued, IdentityError> {
        self.issue(identity, request)
    }

    fn issue(&self, identity: Identity, request: &[u8]) -> Result<Issued, IdentityError> {
        let authority = &self.shared.authority;
        let leaf = authority.issue(request, &identity, self.now_ms(), LEAF_LIFETIME)?;
        Ok(Issued {
            identity,
            chain: vec![leaf, authority.root().clone()],
            roots: self.roots(),
        })
    }

    fn now_ms(&self) -> i64 {
        self.shared.clock.now_ms()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use common::clock::ManualClock;
    use common::identity::LeafRequest;

    fn open(path: &Path, clock: &Arc<ManualClock>) -> Pki {
        let clock: Arc<dyn Clock> = Arc::<ManualClock>::clone(clock);
        Pki::open(path, AggregatorName::default(), clock).unwrap()
    }

    #[test]
    fn token_file_stays_until_its_last_day_and_works_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::new(1_700_000_000_000));
        let first = open(dir.path(), &clock).dev_join_token(dir.path()).unwrap();
        let pki = open(dir.path(), &clock);
        assert_eq!(pki.dev_join_token(dir.path()).unwrap(), first);
        let token = JoinToken::parse(&first).unwrap();
        let request = LeafRequest::new().unwrap();
        let issued = pki
            .join(&token.credential(), "n1", request.request())
            .unwrap();
        let uri = "spiffe://tidemark.local/idc/default/node/n1";
        assert_eq!(issued.identity.to_string(), uri);
        clock.advance(Duration::from_secs(6 * 24 * 3600 + 1));
        assert_ne!(pki.dev_join_token(dir.path()).unwrap(), first);
    }

    #[test]
    fn token_is_used_up_across_restarts() {
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::new(1_700_000_000_000));
        let pki = open(dir.path(), &clock);
        let token = pki
            .create_token("n*", Duration::from_secs(60), 2)
            .unwrap()
            .credential();
        let request = LeafRequest::new().unwrap();
        let join = |pki: &Pki, node| pki.join(&token, node, request.request()).map(drop);
        join(&pki, "n1").unwrap();
        let other = join(&pki, "m1").unwrap_err();
        assert!(matches!(other, JoinError::Token(TokenError::OtherNode)));
        join(&pki, "n/..").unwrap_err();
        let pki = open(dir.path(), &clock);
        join(&pki, "n2").unwrap();
        let spent = join(&open(dir.path(), &clock), "n3").unwrap_err();
        assert!(matches!(spent, JoinError::Token(TokenError::Spent)));
    }

    #[test]
    fn token_made_beside_a_running_aggregator_is_taken_once() {
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::new(1_700_000_000_000));
        let running = open(dir.path(), &clock);
        let beside = open(dir.path(), &clock);
        let token = beside
            .create_token("*", Duration::from_secs(60), 8)
            .unwrap();
        let credential = token.credential();
        // Both use up the same list concurrently; no use counts twice.
        let joined = std::thread::scope(|scope| {
            let one = |pki: Pki| {
                let credential = &credential;
                scope.spawn(move || {
                    let request = LeafRequest::new().unwrap();
                    let join = || pki.join(credential, "n1", request.request());
                    (0..8).filter(|_| join().is_ok()).count()
                })
            };
            let threads = [one(running), one(beside)];
            threads
                .map(|thread| thread.join().unwrap())
                .iter()
                .sum::<usize>()
        });
        assert_eq!(joined, 8);
    }

    #[test]
    fn identity_is_what_the_configuration_says() {
        let tls = Tls {
            trust_domain: "example.org".to_owned(),
            idc: "fra".to_owned(),
            name: "a1".to_owned(),
            authority: None,
        };
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::new(0));
        let pki = Pki::open(dir.path(), AggregatorName::from(&tls), clock).unwrap();
        let uri = "spiffe://example.org/idc/fra/aggregator/a1";
        assert_eq!(pki.identity().to_string(), uri);
    }

    #[test]
    fn replicas_share_an_authority_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::new(1_700_000_000_000));
        let path = |name: &str| dir.path().join(name);
        // Any authority works; this is how the first replica's becomes that of all.
        open(&path("first"), &clock);
        let name = AggregatorName {
            authority: Some(AuthorityFiles {
                cert_file: path("first/pki/ca.pem"),
                key_file: path("first/pki/ca-key.pem"),
            }),
            ..AggregatorName::default()
        };
        let replica = |folder: &str, name: &AggregatorName| {
            let clock: Arc<dyn Clock> = clock.clone();
            Pki::open(&path(folder), name.clone(), clock)
        };
        let (one, two) = (
            replica("one", &name).unwrap(),
            replica("two", &name).unwrap(),
        );
        assert_eq!(one.roots_pem(), two.roots_pem());
        assert_ne!(one.reset_key(), two.reset_key());
        assert!(!path("one/pki/ca-key.pem").try_exists().unwrap());
        let alone = replica("three", &AggregatorName::default()).unwrap();
        assert_ne!(alone.roots_pem(), one.roots_pem());
        let mut wrong = name;
        wrong.authority.as_mut().unwrap().key_file = path("absent");
        let error = common::report::chain(&replica("four", &wrong).unwrap_err());
        assert!(error.contains("absent"), "{error}");
    }

    #[test]
    fn only_replicas_behind_the_first_need_a_shared_authority() {
        for (pod, wanted) in [
            (None, false),
            (Some("tidemark-aggregator-0"), false),
            (Some("tidemark-aggregator-1"), true),
            (Some("tidemark-aggregator-12"), true),
            (Some("tidemark-aggregator-7f9c"), false),
            (Some(""), false),
        ] {
            assert_eq!(is_later_replica(pod), wanted, "{pod:?}");
        }
    }

    #[test]
    fn damaged_list_of_tokens_is_named_by_line() {
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::new(0));
        open(dir.path(), &clock).dev_join_token(dir.path()).unwrap();
        let path = dir.path().join("pki/join-tokens");
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, format!("{text}rubbish\n")).unwrap();
        let error = Pki::open(dir.path(), AggregatorName::default(), clock).unwrap_err();
        assert!(matches!(error, PkiError::Tokens { line: 2, .. }), "{error}");
    }
}
