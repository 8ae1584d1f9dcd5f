//! The machine under cAdvisor's names: `machine_*`.

use super::node::Roots;
use crate::collect::{CollectContext, Collector, Outcome, Single};
use crate::file::KeptFile;
use crate::parse;
use crate::read_errors::ReadErrors;
use crate::schema::{FamilyDef, Target, gauge};

static CORES: FamilyDef = gauge("machine_cpu_cores", "Number of logical CPU cores.");
static MEMORY: FamilyDef = gauge(
    "machine_memory_bytes",
    "Amount of memory installed on the machine.",
);
static SWAP: FamilyDef = gauge(
    "machine_swap_bytes",
    "Amount of swap memory available on the machine.",
);

/// Collects `machine_*`.
#[derive(Debug)]
pub struct Machine {
    stat: KeptFile,
    meminfo: KeptFile,
    cores: Single,
    memory: Single,
    swap: Single,
}

impl Machine {
    /// A collector over the host's /proc.
    pub fn new(roots: &Roots, errors: &mut ReadErrors) -> Self {
        let single = |family| Single::new(Target::Cadvisor, family);
        Self {
            stat: KeptFile::new(roots.proc.join("stat"), "proc/stat", errors),
            meminfo: KeptFile::new(roots.proc.join("meminfo"), "proc/meminfo", errors),
            cores: single(&CORES),
            memory: single(&MEMORY),
            swap: single(&SWAP),
        }
    }
}

impl Collector for Machine {
    fn collect(&mut self, context: &mut CollectContext<'_>) -> Outcome {
        let is_core =
            |line: &&[u8]| line.starts_with(b"cpu") && line.get(3).is_some_and(u8::is_ascii_digit);
        let cores = self
            .stat
            .read(context.buffer, context.errors)
            .map(|data| parse::lines(data).filter(is_core).count());
        if let Some(cores) = cores.filter(|cores| *cores > 0) {
            self.cores.set(context.table, context.schema, cores as f64);
        }
        let Some(data) = self.meminfo.read(context.buffer, context.errors) else {
            return Outcome::of(cores.as_ref());
        };
        for (key, series) in [
            (&b"MemTotal:"[..], &mut self.memory),
            (b"SwapTotal:", &mut self.swap),
        ] {
            let line = parse::lines(data).find_map(|line| line.strip_prefix(key));
            let kibibytes = line.and_then(|line| parse::integer(parse::words(line).next()?));
            if let Some(kibibytes) = context.errors.parsed(self.meminfo.error_id(), kibibytes) {
                series.set(context.table, context.schema, kibibytes as f64 * 1024.0);
            }
        }
        Outcome::Done
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collectors::testing::Bench;

    #[test]
    fn cores_and_memory() {
        let mut bench = Bench::new();
        bench.write("proc/stat", "cpu  1\ncpu0 1\ncpu1 1\nintr 1\n");
        bench.write("proc/meminfo", "MemTotal:  2 kB\nSwapTotal: x kB\n");
        let roots = bench.roots();
        let mut machine = Machine::new(&roots, bench.errors());
        bench.collect(&mut machine);
        assert_eq!(bench.value("machine_cpu_cores", &[]), Some(2.0));
        assert_eq!(
            bench.value("machine_memory_bytes", &[("job", "kubelet")]),
            Some(2048.0)
        );
        assert_eq!(
            (
                bench.value("machine_swap_bytes", &[]),
                bench.errors().total()
            ),
            (None, 1)
        );
    }
}
