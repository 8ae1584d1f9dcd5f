//! Files of /proc and /sys with a single number.

use super::Roots;
use crate::collect::{CollectContext, Collector, Outcome, Single};
use crate::file::KeptFile;
use crate::parse;
use crate::read_errors::ReadErrors;
use crate::schema::{FamilyDef, counter, gauge};

/// A file below a root, and its family.
type Number = (&'static str, FamilyDef);

static ENTROPY: [Number; 2] = [
    (
        "sys/kernel/random/entropy_avail",
        gauge("node_entropy_available_bits", "Bits of available entropy."),
    ),
    (
        "sys/kernel/random/poolsize",
        gauge("node_entropy_pool_size_bits", "Bits of entropy pool."),
    ),
];

static KERNEL_HUNG: [Number; 1] = [(
    "sys/kernel/hung_task_detect_count",
    counter(
        "node_kernel_hung_tasks_total",
        "Total number of tasks that have been detected as hung since the system boot.",
    ),
)];

/// Collects files of /proc with a single number each.
#[derive(Debug)]
pub struct Numbers {
    files: Vec<(KeptFile, Single)>,
}

impl Numbers {
    /// `node_entropy_*`.
    pub fn entropy(roots: &Roots, errors: &mut ReadErrors) -> Self {
        Self::new(&ENTROPY, roots, errors)
    }

    /// `node_kernel_hung_tasks_total`, of Linux 6.13 and later.
    pub fn kernel_hung(roots: &Roots, errors: &mut ReadErrors) -> Self {
        Self::new(&KERNEL_HUNG, roots, errors)
    }

    fn new(numbers: &'static [Number], roots: &Roots, errors: &mut ReadErrors) -> Self {
        let files = numbers.iter().map(|(path, family)| {
            (
                KeptFile::new(roots.proc.join(path), &format!("proc/{path}"), errors),
                Single::node(family),
            )
        });
        Self {
            files: files.collect(),
        }
    }
}

impl Collector for Numbers {
    fn collect(&mut self, context: &mut CollectContext<'_>) -> Outcome {
        let mut outcome = Outcome::NoData;
        for (file, series) in &mut self.files {
            let Some(data) = file.read(context.buffer, context.errors) else {
                continue;
            };
            if let Some(value) = context.errors.parsed(file.error_id(), parse::single(data)) {
                series.set(context.table, context.schema, value as f64);
                outcome = Outcome::Done;
            }
        }
        outcome
    }
}
