//! SPIFFE identities, the built-in certificate authority, join tokens, and the TLS configurations that enforce them.
//!
//! **Invariant:** a node's name comes from its certificate, never from its messages. Private keys exist only in memory and
//! in files of mode 0600. No `Debug` output or error shows a private key or a token's secret.

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

/// Why an identity can't be created, read or trusted.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A file could not be read or written.
    #[error("read or write {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// A file does not contain what it should.
    #[error("{} contains no {what}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// The expected content.
        what: &'static str,
    },
    /// A step with a certificate, key or request failed.
    #[error("{what}")]
    X509 {
        /// The step.
        what: &'static str,
        /// The cause.
        source: rcgen::Error,
    },
    /// The certificate can't be parsed.
    #[error("certificate is damaged")]
    Damaged,
    /// The certificate has no SPIFFE identity of the expected form.
    #[error("certificate names {found:?}, not an identity of the form {FORM}")]
    NoIdentity {
        /// The URIs in the certificate.
        found: Vec<String>,
    },
    /// A name is not valid in an identity.
    #[error("{what} {name:?}: 1 to 253 letters, digits, dots, dashes or underscores expected")]
    Name {
        /// What the name is of.
        what: &'static str,
        /// The name as given.
        name: String,
    },
    /// A text is not a join token.
    #[error("join token is not of the form id.secret.pin")]
    Token,
    /// The TLS library refuses the certificates or the key.
    #[error("set up TLS")]
    Tls(#[from] rustls::Error),
    /// The TLS library can't build a verifier from the roots.
    #[error("set up verification of client certificates")]
    Verifier(#[from] rustls::client::VerifierBuilderError),
    /// The system returned no random bytes.
    #[error("get random bytes from the system")]
    Random,
}

const FORM: &str = "spiffe://<trust-domain>/idc/<idc>/node/<node>";
