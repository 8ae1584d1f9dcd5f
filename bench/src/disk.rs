//! What a server keeps on disk, and how to make it read that again.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};

/// A file below a data directory.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Relative to the directory that was walked.
    pub path: PathBuf,
    /// Bytes of disk it takes: a sparse or preallocated file counts what is allocated, at most its length.
    pub bytes: u64,
}

/// All files below `directory`. A file that vanishes meanwhile is left out.
///
/// # Errors
/// A directory can't be read.
pub fn files(directory: &Path) -> Result<Vec<Entry>> {
    let mut entries = Vec::new();
    let mut pending = vec![directory.to_owned()];
    while let Some(next) = pending.pop() {
        let listing = match fs::read_dir(&next) {
            Ok(listing) => listing,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error).with_context(|| format!("list {}", next.display())),
        };
        for entry in listing {
            let entry = entry?;
            let metadata = match entry.metadata() {
                Ok(metadata) => metadata,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error.into()),
            };
            if metadata.is_dir() {
                pending.push(entry.path());
            } else if metadata.is_file() {
                let path = entry.path();
                let relative = path.strip_prefix(directory)?.to_owned();
                entries.push(Entry {
                    path: relative,
                    bytes: metadata.len().min(metadata.blocks() * 512),
                });
            }
        }
    }
    Ok(entries)
}

/// Removes every page of the files below `directory` from the page cache, so that the next start reads the disk.
/// Nothing may have the files open for writing.
///
/// # Errors
/// A file can't be opened or synced.
pub fn drop_page_cache(directory: &Path) -> Result<()> {
    for entry in files(directory)? {
        let path = directory.join(&entry.path);
        let file = File::open(&path).with_context(|| format!("open {}", path.display()))?;
        // Only clean pages can be dropped.
        file.sync_all()?;
        posix_fadvise(&file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_all_depths_are_counted() {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir_all(directory.path().join("a/b")).unwrap();
        fs::write(directory.path().join("x"), [1; 5000]).unwrap();
        fs::write(directory.path().join("a/b/y"), [1; 3000]).unwrap();
        drop_page_cache(directory.path()).unwrap();
        let mut found = files(directory.path()).unwrap();
        found.sort_by(|a, b| a.path.cmp(&b.path));
        let found: Vec<_> = found
            .iter()
            .map(|entry| (entry.path.to_str().unwrap(), entry.bytes))
            .collect();
        assert_eq!(found, [("a/b/y", 3000), ("x", 5000)]);
        assert!(files(&directory.path().join("absent")).unwrap().is_empty());
    }
}
