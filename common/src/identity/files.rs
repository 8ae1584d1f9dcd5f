//! PEM files of certificates and keys.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::IdentityError;

fn io(path: &Path) -> impl FnOnce(io::Error) -> IdentityError + '_ {
    move |source| IdentityError::Io {
        path: path.to_owned(),
        source,
    }
}

/// Creates a directory of mode 0700 and its parents.
///
/// # Errors
/// A directory can't be created.
pub fn create_private_dir(path: &Path) -> Result<(), IdentityError> {
    let mut builder = DirBuilder::new();
    builder
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(io(path))
}

/// Replaces a file atomically by one of mode 0600: after a crash, either the old or the new one exists.
///
/// # Errors
/// It can't be written.
pub fn write_private(path: &Path, content: &[u8]) -> Result<(), IdentityError> {
    let new = path.with_extension("new");
    let write = || -> io::Result<()> {
        // A leftover file would keep its mode.
        match fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&new)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&new, path)?;
        path.parent()
            .map_or(Ok(()), |parent| File::open(parent)?.sync_all())
    };
    write().map_err(io(path))
}

/// Reads a file; `None` when it does not exist.
///
/// # Errors
/// It can't be read.
pub fn read_if_there(path: &Path) -> Result<Option<Vec<u8>>, IdentityError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(io(path)(error)),
    }
}

/// Reads a file that must exist.
///
/// # Errors
/// It can't be read.
pub fn read(path: &Path) -> Result<Vec<u8>, IdentityError> {
    fs::read(path).map_err(io(path))
}

/// Parses the certificates in a PEM text; `path` is for the error.
///
/// # Errors
/// There is none, or one is malformed.
pub fn certificates(
    pem: &[u8],
    path: &Path,
) -> Result<Vec<CertificateDer<'static>>, IdentityError> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match certificates {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        _ => Err(IdentityError::Content {
            path: path.to_owned(),
            what: "PEM certificate",
        }),
    }
}

/// Parses the first private key in a PEM text; `path` is for the error.
///
/// # Errors
/// There is none.
pub fn private_key(pem: &[u8], path: &Path) -> Result<PrivateKeyDer<'static>, IdentityError> {
    PrivateKeyDer::from_pem_slice(pem).map_err(|_| IdentityError::Content {
        path: path.to_owned(),
        what: "PEM private key",
    })
}

/// Encodes DER as PEM.
#[must_use]
pub fn to_pem(label: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let mut pem = format!("-----BEGIN {label}-----\n");
    for (index, letter) in text.chars().enumerate() {
        if index > 0 && index % 64 == 0 {
            pem.push('\n');
        }
        pem.push(letter);
    }
    pem.push_str(&format!("\n-----END {label}-----\n"));
    pem
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn private_file_is_replaced_atomically_with_mode_0600() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key.pem");
        fs::write(path.with_extension("new"), "left over").unwrap();
        write_private(&path, b"one").unwrap();
        write_private(&path, b"two").unwrap();
        assert_eq!(read_if_there(&path).unwrap().as_deref(), Some(&b"two"[..]));
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        assert_eq!(read_if_there(&dir.path().join("no")).unwrap(), None);
    }

    #[test]
    fn pem_round_trips() {
        let der = vec![7u8; 100];
        let pem = to_pem("CERTIFICATE", &der);
        let back = certificates(pem.as_bytes(), Path::new("x")).unwrap();
        assert_eq!(back[0].as_ref(), der);
        certificates(b"nothing", Path::new("x")).unwrap_err();
    }
}
