//! Open files of the whole machine, from /proc/sys/fs/file-nr.

use super::Roots;
use crate::collect::{CollectContext, Collector, Outcome, Single};
use crate::file::KeptFile;
use crate::parse;
use crate::read_errors::ReadErrors;
use crate::schema::{FamilyDef, gauge};

static ALLOCATED: FamilyDef = gauge(
    "node_filefd_allocated",
    "File descriptor statistics: allocated.",
);
static MAXIMUM: FamilyDef = gauge(
    "node_filefd_maximum",
    "File descriptor statistics: maximum.",
);

/// Collects `node_filefd_allocated` and `node_filefd_maximum`.
#[derive(Debug)]
pub struct Filefd {
    file: KeptFile,
    allocated: Single,
    maximum: Single,
}

impl Filefd {
    /// A collector over the host's /proc.
    pub fn new(roots: &Roots, errors: &mut ReadErrors) -> Self {
        Self {
            file: KeptFile::new(
                roots.proc.join("sys/fs/file-nr"),
                "proc/sys/fs/file-nr",
                errors,
            ),
            allocated: Single::node(&ALLOCATED),
            maximum: Single::node(&MAXIMUM),
        }
    }
}

impl Collector for Filefd {
    fn collect(&mut self, context: &mut CollectContext<'_>) -> Outcome {
        let Some(data) = self.file.read(context.buffer, context.errors) else {
            return Outcome::NoData;
        };
        let Some((allocated, maximum)) = context
            .errors
            .parsed(self.file.error_id(), parse_file(data))
        else {
            return Outcome::NoData;
        };
        self.allocated
            .set(context.table, context.schema, allocated as f64);
        self.maximum
            .set(context.table, context.schema, maximum as f64);
        Outcome::Done
    }
}

/// The first and third number. The second has been 0 since Linux 2.6.
fn parse_file(data: &[u8]) -> Option<(u64, u64)> {
    let mut words = parse::words(data);
    let allocated = parse::integer(words.next()?)?;
    let maximum = parse::integer(words.nth(1)?)?;
    Some((allocated, maximum))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_and_third_number() {
        assert_eq!(
            parse_file(b"566\t0\t9223372036854775807\n"),
            Some((566, i64::MAX as u64))
        );
        assert_eq!(parse_file(b"566\t0\n"), None);
    }
}
