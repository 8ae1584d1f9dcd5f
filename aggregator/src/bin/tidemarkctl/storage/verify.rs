//! `tidemarkctl storage verify`.

use std::io::{self, Write as _};
use std::path::Path;

use common::report;
use tidemark_storage::verify::{Verified, verify};

use super::progress;
use crate::output::Failure;

pub(crate) fn run(directory: &Path) -> Result<(), Failure> {
    let verified = check(directory)?;
    let mut out = io::stdout().lock();
    for one in &verified.damage {
        let path = one.path.display();
        writeln!(out, "{path}: offset {}: {}", one.offset, one.what)?;
    }
    let Verified {
        files,
        bytes,
        records,
        chunks,
        samples,
        ..
    } = verified;
    writeln!(
        out,
        "checked {files} files, {bytes} bytes: {records} records, {chunks} chunks, {samples} samples"
    )?;
    match verified.damage.len() {
        0 => Ok(()),
        count => Err(Failure::Failed(format!("{count} places are damaged"))),
    }
}

/// Checks a directory behind a bar.
pub(super) fn check(directory: &Path) -> Result<Verified, Failure> {
    let bar = progress::of_bytes(0);
    let verified = verify(directory, &mut |done, total| {
        bar.set_length(total);
        bar.set_position(done);
    });
    bar.finish_and_clear();
    verified.map_err(|error| Failure::Failed(report::chain(&error)))
}
