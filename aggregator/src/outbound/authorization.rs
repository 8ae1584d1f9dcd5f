//! The `Authorization` header of outgoing requests.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// The value of an `Authorization` header, if any. `Debug` does not show it.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Authorization(Option<String>);

impl Authorization {
    /// HTTP Basic (RFC 7617).
    #[must_use]
    pub fn basic(username: &str, password: &str) -> Self {
        Self(Some(basic(&format!("{username}:{password}"))))
    }

    /// A token of a scheme, for example `Bearer` (RFC 6750).
    #[must_use]
    pub fn token(scheme: &str, token: &str) -> Self {
        Self(Some(format!("{scheme} {token}")))
    }

    /// Returns the header's value. Without one, `url_user`, the part of the URL before `@`, is used as HTTP Basic.
    pub(super) fn header(&self, url_user: Option<&str>) -> Option<String> {
        self.0.clone().or_else(|| url_user.map(basic))
    }
}

fn basic(credentials: &str) -> String {
    format!("Basic {}", STANDARD.encode(credentials))
}

impl fmt::Debug for Authorization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Some(_) => "<secret>",
            None => "none",
        })
    }
}
