//! `tidemarkctl storage verify`.

use std::io::{self, Write as _};
use std::path::Path;

use common::report;
use tidemark_alerting::store::check_log;
use tidemark_storage::verify::{Damage, Verified, verify};

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

/// Verifies the store and the alert state in a directory, with a progress bar.
pub(super) fn check(directory: &Path) -> Result<Verified, Failure> {
    let bar = progress::of_bytes(0);
    let verified = verify(directory, &mut |done, total| {
        bar.set_length(total);
        bar.set_position(done);
    });
    bar.finish_and_clear();
    let mut verified = verified.map_err(|error| Failure::Failed(report::chain(&error)))?;
    let log = check_log(&directory.join("alerting"));
    let log = log.map_err(|error| Failure::Failed(report::chain(&error)))?;
    if let Some(log) = log {
        verified.files += 1;
        verified.bytes += log.bytes;
        verified.records += log.records;
        let damage = log.damage.into_iter().map(|offset| Damage {
            path: log.path.clone(),
            offset,
            what: "incomplete record of alert state".to_owned(),
        });
        verified.damage.extend(damage);
    }
    Ok(verified)
}
