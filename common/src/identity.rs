//! Who is who: SPIFFE identities, the built-in authority, join tokens, and TLS configurations that hold to them.
//!
//! **Invariant:** a node's name is taken from its certificate, never from what it says. Private keys are in files of mode
//! 0600 or in memory, and no `Debug` or error shows one or a token's secret.

pub mod authority;
pub mod files;
pub mod leaf;
pub mod spiffe;
pub mod tls;
pub mod token;

pub use authority::Authority;
pub use leaf::{Credentials, LeafRequest, Validity};
pub use spiffe::{Identity, Role};
pub use token::{JoinToken, TokenRecord};

use std::path::PathBuf;

/// Why an identity can't be made, read or trusted.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A file could not be read or written.
    #[error("use {}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file holds something else.
    #[error("{} holds no {what}", path.display())]
    Content {
        /// Which.
        path: PathBuf,
        /// What was expected in it.
        what: &'static str,
    },
    /// A certificate, key or request that can't be understood or made.
    #[error("{what}")]
    X509 {
        /// What was being done.
        what: &'static str,
        /// Why it failed.
        source: rcgen::Error,
    },
    /// A certificate that can't be parsed.
    #[error("certificate is damaged")]
    Damaged,
    /// A certificate without a SPIFFE identity of ours.
    #[error("certificate names {found:?}, not an identity of the form {FORM}")]
    NoIdentity {
        /// The URIs it has, if any.
        found: Vec<String>,
    },
    /// A name that can't stand in an identity.
    #[error("{what} {name:?}: 1 to 253 letters, digits, dots, dashes or underscores expected")]
    Name {
        /// Which name.
        what: &'static str,
        /// As given.
        name: String,
    },
    /// A join token that is none.
    #[error("join token is not of the form id.secret.pin")]
    Token,
    /// TLS refuses the certificates or the key.
    #[error("tls")]
    Tls(#[from] rustls::Error),
    /// TLS can't build a verifier from the roots.
    #[error("client verification")]
    Verifier(#[from] rustls::client::VerifierBuilderError),
    /// The system gave no random bytes.
    #[error("no random numbers from the system")]
    Random,
}

const FORM: &str = "spiffe://<trust-domain>/idc/<idc>/node/<node>";
