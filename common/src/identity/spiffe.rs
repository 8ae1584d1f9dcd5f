//! SPIFFE identities: `spiffe://<trust-domain>/idc/<idc>/node/<node>` and `.../aggregator/<name>`.

use std::fmt;

use rustls_pki_types::CertificateDer;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::IdentityError;

/// The role of a certificate's holder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// The agent of a node.
    Node,
    /// An aggregator.
    Aggregator,
}

impl Role {
    const fn path(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::Aggregator => "aggregator",
        }
    }
}

/// The identity of a certificate's holder.
///
/// Invariant: each part has 1 to 253 letters, digits, dots, dashes or underscores, so an identity needs no escaping in a
/// URI, a label, a stream's name or a log line.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Identity {
    trust_domain: String,
    idc: String,
    role: Role,
    name: String,
}

impl Identity {
    /// Creates an identity.
    ///
    /// # Errors
    /// A part is empty, too long, or has other characters.
    pub fn new(
        trust_domain: &str,
        idc: &str,
        role: Role,
        name: &str,
    ) -> Result<Self, IdentityError> {
        check_part("trust domain", trust_domain)?;
        check_part("data centre", idc)?;
        check_part("name", name)?;
        Ok(Self {
            trust_domain: trust_domain.to_owned(),
            idc: idc.to_owned(),
            role,
            name: name.to_owned(),
        })
    }

    /// Parses a URI; `None` when it has another form.
    #[must_use]
    pub fn parse(uri: &str) -> Option<Self> {
        let mut parts = uri.strip_prefix("spiffe://")?.split('/');
        let (trust_domain, idc_key, idc) = (parts.next()?, parts.next()?, parts.next()?);
        let role = match parts.next()? {
            "node" => Role::Node,
            "aggregator" => Role::Aggregator,
            _ => return None,
        };
        let name = parts.next()?;
        if idc_key != "idc" || parts.next().is_some() {
            return None;
        }
        Self::new(trust_domain, idc, role, name).ok()
    }

    /// Reads the identity in a certificate: the only URI among its alternative names.
    ///
    /// # Errors
    /// The certificate can't be parsed, or has no such URI, or more than one URI (SPIFFE forbids that).
    pub fn of_certificate(certificate: &CertificateDer<'_>) -> Result<Self, IdentityError> {
        let (_, parsed) =
            X509Certificate::from_der(certificate).map_err(|_| IdentityError::Damaged)?;
        let names = parsed
            .subject_alternative_name()
            .map_err(|_| IdentityError::Damaged)?;
        let names = names.map_or(&[][..], |names| &names.value.general_names);
        let uris: Vec<&str> = names
            .iter()
            .filter_map(|name| match name {
                GeneralName::URI(uri) => Some(*uri),
                _ => None,
            })
            .collect();
        match uris.as_slice() {
            [uri] => Self::parse(uri),
            _ => None,
        }
        .ok_or_else(|| IdentityError::NoIdentity {
            found: uris.iter().map(|&uri| uri.to_owned()).collect(),
        })
    }

    /// Returns the trust domain.
    #[must_use]
    pub fn trust_domain(&self) -> &str {
        &self.trust_domain
    }

    /// Returns the data centre.
    #[must_use]
    pub fn idc(&self) -> &str {
        &self.idc
    }

    /// Returns the role.
    #[must_use]
    pub const fn role(&self) -> Role {
        self.role
    }

    /// Returns the name of the node or aggregator.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl fmt::Display for Identity {
    /// Formats the URI.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (domain, idc, name) = (&self.trust_domain, &self.idc, &self.name);
        write!(f, "spiffe://{domain}/idc/{idc}/{}/{name}", self.role.path())
    }
}

fn check_part(what: &'static str, name: &str) -> Result<(), IdentityError> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    let path_step = matches!(name, "." | "..");
    if name.is_empty() || name.len() > 253 || path_step || !name.bytes().all(plain) {
        let name = name.chars().take(300).collect();
        return Err(IdentityError::Name { what, name });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(uri: &str, want: Option<(&str, &str, Role, &str)>) {
        let identity = Identity::parse(uri);
        let got = identity.as_ref().map(|identity| {
            (
                identity.trust_domain(),
                identity.idc(),
                identity.role(),
                identity.name(),
            )
        });
        assert_eq!(got, want, "{uri}");
        if let Some(identity) = identity {
            assert_eq!(identity.to_string(), uri);
        }
    }

    #[test]
    fn only_well_formed_identities_are_parsed() {
        let node = Some(("t.local", "a", Role::Node, "n-1.x"));
        check("spiffe://t.local/idc/a/node/n-1.x", node);
        check(
            "spiffe://t/idc/a/aggregator/b",
            Some(("t", "a", Role::Aggregator, "b")),
        );
        for bad in [
            "",
            "spiffe://t/idc/a/node/",
            "spiffe://t/idc/a/node/n/",
            "spiffe://t/idc/a/node/n/x",
            "spiffe://t/idc/a/pod/n",
            "spiffe://t/dc/a/node/n",
            "spiffe://t/idc/../node/n",
            "spiffe://t/idc/a/node/n%2f",
            "spiffe://t/idc/a/node/ü",
            "https://t/idc/a/node/n",
        ] {
            check(bad, None);
        }
    }
}
