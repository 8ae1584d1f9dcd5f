//! Open files of the whole machine, from /proc/sys/fs/file-nr.

use super::Roots;
use crate::collect::{Collector, Outcome, Single, Tick};
use crate::faults::Faults;
use crate::file::KeptFile;
use crate::parse;
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
    pub fn new(roots: &Roots, faults: &mut Faults) -> Self {
        Self {
            file: KeptFile::new(
                roots.proc.join("sys/fs/file-nr"),
                "proc/sys/fs/file-nr",
                faults,
            ),
            allocated: Single::node(&ALLOCATED),
            maximum: Single::node(&MAXIMUM),
        }
    }
}

impl Collector for Filefd {
    fn name(&self) -> &'static str {
        "filefd"
    }

    fn collect(&mut self, tick: &mut Tick<'_>) -> Outcome {
        let Some(data) = self.file.read(tick.buffer, tick.faults) else {
            return Outcome::NoData;
        };
        let Some((allocated, maximum)) = tick.faults.parsed(self.file.fault(), parse_file(data))
        else {
            return Outcome::NoData;
        };
        self.allocated
            .set(tick.table, tick.schema, allocated as f64);
        self.maximum.set(tick.table, tick.schema, maximum as f64);
        Outcome::Done
    }
}

/// The first and third number; the second has been 0 since Linux 2.6.
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
