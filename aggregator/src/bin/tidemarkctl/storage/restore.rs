//! `tidemarkctl storage restore`.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use common::report::chain;

use super::{progress, verify};
use crate::output::Failure;

fn failed(doing: &str, path: &Path, error: &io::Error) -> Failure {
    Failure::Failed(format!("{doing} {}: {}", path.display(), chain(error)))
}

/// Copies a snapshot after checking it. The directory gets its name once the copy is complete and on disk.
pub(crate) fn run(snapshot: &Path, directory: &Path) -> Result<(), Failure> {
    let damage = verify::check(snapshot)?.damage;
    if let Some(first) = damage.first() {
        let path = first.path.display();
        return Err(Failure::Failed(format!(
            "the snapshot is damaged, nothing was restored: {path}: {}",
            first.what
        )));
    }
    if let Ok(mut entries) = fs::read_dir(directory)
        && entries.next().is_some()
    {
        let directory = directory.display();
        return Err(Failure::Failed(format!("{directory} is not empty")));
    }
    let mut name = directory.file_name().unwrap_or_default().to_os_string();
    name.push(".part");
    let part = directory.with_file_name(name);
    // Left over from an interrupted run.
    match fs::remove_dir_all(&part) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(failed("remove", &part, &error));
        }
        _ => {}
    }
    let files = files_of(snapshot)?;
    let bar = progress::of_items(files.len() as u64);
    fs::create_dir_all(part.join("blocks")).map_err(|e| failed("create", &part, &e))?;
    for file in &files {
        let to = part.join(file);
        let copied = fs::copy(snapshot.join(file), &to).and_then(|_| File::open(&to)?.sync_all());
        copied.map_err(|e| failed("copy", &to, &e))?;
        bar.inc(1);
    }
    bar.finish_and_clear();
    let parent = match part.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    let sync = |path: &Path| File::open(path).and_then(|file| file.sync_all());
    sync(&part.join("blocks"))
        .and_then(|()| sync(&part))
        .and_then(|()| fs::rename(&part, directory))
        .and_then(|()| sync(parent))
        .map_err(|e| failed("create", directory, &e))
}

/// The files of a snapshot, relative to it.
fn files_of(snapshot: &Path) -> Result<Vec<PathBuf>, Failure> {
    let blocks = snapshot.join("blocks");
    let entries = fs::read_dir(&blocks).map_err(|e| failed("read", &blocks, &e))?;
    let mut files = vec![PathBuf::from("key")];
    for entry in entries {
        let entry = entry.map_err(|e| failed("read", &blocks, &e))?;
        if Path::new(&entry.file_name())
            .extension()
            .is_some_and(|e| e == "blk")
        {
            files.push(Path::new("blocks").join(entry.file_name()));
        }
    }
    Ok(files)
}
