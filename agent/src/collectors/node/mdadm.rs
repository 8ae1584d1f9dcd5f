//! Software RAID, from /proc/mdstat (`drivers/md/md.c`, `md_seq_show`; `raid*.c` for the brackets).

use super::Roots;
use crate::collect::{CollectContext, Collector, Outcome};
use crate::file::KeptFile;
use crate::ordered_cache::OrderedCache;
use crate::parse;
use crate::read_errors::ReadErrors;
use crate::schema::{FamilyDef, Schema, Target, gauge};
use crate::table::{SeriesId, SeriesTable};

const STATE: FamilyDef = gauge("node_md_state", "Indicates the state of md-device.");
const DISKS: FamilyDef = gauge(
    "node_md_disks",
    "Number of active/failed/spare disks of device.",
);
const REQUIRED: FamilyDef = gauge("node_md_disks_required", "Total number of disks of device.");
const BLOCKS: FamilyDef = gauge("node_md_blocks", "Total number of blocks on device.");
const SYNCED: FamilyDef = gauge(
    "node_md_blocks_synced",
    "Number of blocks synced on device.",
);
/// The states of an array, in the order of their series.
const STATES: [&str; 5] = ["active", "inactive", "recovering", "resync", "check"];
const DISK_STATES: [&str; 3] = ["active", "failed", "spare"];

/// State of an array.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ArrayState {
    Active,
    Inactive,
    Recovering,
    Resync,
    Check,
    /// Growing. Has no series of its own.
    Reshape,
}

/// One array.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Array<'a> {
    /// Its name, `md0`.
    pub name: &'a [u8],
    state: ArrayState,
    required: u64,
    /// Active, failed, spare.
    disks: [u64; 3],
    blocks: u64,
    synced: u64,
}

/// Parses the arrays of /proc/mdstat; `None` for a malformed one.
pub fn arrays(data: &[u8]) -> impl Iterator<Item = Option<Array<'_>>> {
    let mut lines = parse::lines(data).peekable();
    std::iter::from_fn(move || {
        let head = lines.find(|line| is_head(line))?;
        let mut array = Some(Body::default());
        while let Some(line) = lines.next_if(|line| line.first() == Some(&b' ')) {
            array = array.and_then(|body| body.with(line));
        }
        Some(array.and_then(|body| body.array(head)))
    })
}

/// Parses `md0 : active raid1 sda1[0] sdb1[1](F)`. Other lines without indentation concern all arrays.
fn is_head(line: &[u8]) -> bool {
    let name = line.first().is_some_and(|byte| !byte.is_ascii_whitespace());
    name && !line.starts_with(b"Personalities") && !line.starts_with(b"unused")
}

fn has(line: &[u8], text: &[u8]) -> bool {
    line.windows(text.len()).any(|window| window == text)
}

fn count(line: &[u8], text: &[u8]) -> u64 {
    let windows = line.windows(text.len());
    windows.filter(|window| *window == text).count() as u64
}

/// What the lines after an array's first one say.
#[derive(Debug, Clone, Copy, Default)]
struct Body {
    blocks: Option<u64>,
    /// From `[required/active]`.
    disks: Option<[u64; 2]>,
    sync: Option<(Sync, u64)>,
}

#[derive(Debug, Clone, Copy)]
enum Sync {
    Recovery,
    Resync,
    Check,
    Reshape,
}

impl Body {
    fn with(mut self, line: &[u8]) -> Option<Self> {
        if self.blocks.is_none() {
            let mut words = parse::words(line);
            self.blocks = Some(parse::integer(words.next()?)?);
            self.disks = words.find_map(disks);
            return Some(self);
        }
        let kinds = [
            (Sync::Recovery, &b"recovery"[..]),
            (Sync::Resync, b"resync"),
            (Sync::Check, b"check"),
            (Sync::Reshape, b"reshape"),
        ];
        let kind = kinds.into_iter().find(|(_, word)| has(line, word));
        if let Some((kind, _)) = kind.filter(|_| self.sync.is_none()) {
            // `resync=DELAYED` and `resync=PENDING` have not started. Otherwise the line has `(done/all)`.
            let is_waiting = has(line, b"=DELAYED") || has(line, b"=PENDING");
            let done = match is_waiting {
                true => 0,
                false => parse::words(line).find_map(done)?,
            };
            self.sync = Some((kind, done));
        }
        Some(self)
    }

    fn array(self, head: &[u8]) -> Option<Array<'_>> {
        let mut words = parse::words(head);
        let (name, colon, activity) = (words.next()?, words.next()?, words.next()?);
        // Names that are not UTF-8 could not be distinguished.
        std::str::from_utf8(name).ok()?;
        let blocks = self.blocks?;
        let state = match (colon, activity, self.sync) {
            (b":", b"inactive", _) => ArrayState::Inactive,
            (b":", b"active", None) => ArrayState::Active,
            (b":", b"active", Some((sync, _))) => match sync {
                Sync::Recovery => ArrayState::Recovering,
                Sync::Resync => ArrayState::Resync,
                Sync::Check => ArrayState::Check,
                Sync::Reshape => ArrayState::Reshape,
            },
            _ => return None,
        };
        let is_plain = |word: &[u8]| word == b"raid0" || word == b"linear";
        let [required, active] = if state == ArrayState::Inactive {
            [0; 2]
        } else if parse::words(head).any(is_plain) {
            // These levels can't lose a disk, so the kernel prints no counts. Each disk has its number in brackets.
            [count(head, b"["); 2]
        } else {
            self.disks?
        };
        Some(Array {
            name,
            state,
            required,
            disks: [active, count(head, b"(F)"), count(head, b"(S)")],
            blocks,
            synced: self.sync.map_or(blocks, |(_, done)| done),
        })
    }
}

/// Parses `[required/active]`.
fn disks(word: &[u8]) -> Option<[u64; 2]> {
    let inside = word.strip_prefix(b"[")?.strip_suffix(b"]")?;
    fraction(inside)
}

/// The first number of `(done/all)`.
fn done(word: &[u8]) -> Option<u64> {
    let inside = word.strip_prefix(b"(")?.strip_suffix(b")")?;
    Some(fraction(inside)?[0])
}

fn fraction(text: &[u8]) -> Option<[u64; 2]> {
    let slash = text.iter().position(|&byte| byte == b'/')?;
    let (first, second) = (text.get(..slash)?, text.get(slash + 1..)?);
    Some([parse::integer(first)?, parse::integer(second)?])
}

/// Series of one array.
#[derive(Debug)]
struct ArraySeries {
    states: [SeriesId; STATES.len()],
    disks: [SeriesId; DISK_STATES.len()],
    numbers: [SeriesId; 3],
}

impl ArraySeries {
    fn new(name: &[u8], table: &mut SeriesTable, schema: &mut Schema) -> Self {
        let device = parse::text(name);
        let mut add = |family: &FamilyDef, state: &str| {
            let labels = [("device", &*device), ("state", state)];
            schema.series(table, Target::Node, family, &labels)
        };
        Self {
            states: STATES.map(|state| add(&STATE, state)),
            disks: DISK_STATES.map(|state| add(&DISKS, state)),
            numbers: [&REQUIRED, &BLOCKS, &SYNCED].map(|family| add(family, "")),
        }
    }

    fn set(&self, array: &Array<'_>, table: &mut SeriesTable) {
        for (index, id) in self.states.iter().enumerate() {
            table.set(*id, f64::from(u8::from(index == array.state as usize)));
        }
        let numbers = [array.required, array.blocks, array.synced];
        let ids = self.disks.iter().chain(&self.numbers);
        for (id, number) in ids.zip(array.disks.iter().chain(&numbers)) {
            table.set(*id, *number as f64);
        }
    }

    fn remove(&self, table: &mut SeriesTable) {
        let ids = self.states.iter().chain(&self.disks).chain(&self.numbers);
        ids.for_each(|id| table.remove(*id));
    }
}

/// Collects `node_md_*`.
#[derive(Debug)]
pub struct Mdadm {
    file: KeptFile,
    arrays: OrderedCache<ArraySeries>,
}

impl Mdadm {
    /// A collector over the host's /proc.
    pub fn new(roots: &Roots, errors: &mut ReadErrors) -> Self {
        let file = KeptFile::new(roots.proc.join("mdstat"), "proc/mdstat", errors);
        Self {
            file,
            arrays: OrderedCache::default(),
        }
    }
}

impl Collector for Mdadm {
    fn collect(&mut self, context: &mut CollectContext<'_>) -> Outcome {
        let Some(data) = self.file.read(context.buffer, context.errors) else {
            return Outcome::NoData;
        };
        let CollectContext {
            table,
            schema,
            errors,
            ..
        } = context;
        self.arrays.begin();
        for array in arrays(data) {
            let Some(array) = errors.parsed(self.file.error_id(), array) else {
                continue;
            };
            let series = self
                .arrays
                .entry(array.name, |name| ArraySeries::new(name, table, schema));
            series.set(&array, table);
        }
        self.arrays.end(|series| series.remove(table));
        Outcome::Done
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collectors::testing::Bench;

    const HEALTHY: &str = "Personalities : [raid1]\nmd0 : active raid1 sdb1[1] sda1[0]\n      1000 blocks super 1.2 [2/2] [UU]\n      bitmap: 1/2 pages [4KB], 65536KB chunk\n\nunused devices: <none>\n";

    #[test]
    fn lost_disk_is_shown_and_gone_array_is_removed() {
        let mut bench = Bench::new();
        bench.write("proc/mdstat", HEALTHY);
        let mut mdadm = Mdadm::new(&bench.roots(), bench.errors());
        bench.collect(&mut mdadm);
        let disks = |bench: &Bench| {
            DISK_STATES.map(|state| bench.value("node_md_disks", &[("state", state)]).unwrap())
        };
        assert_eq!(disks(&bench), [2.0, 0.0, 0.0]);
        let state = [("device", "md0"), ("state", "active")];
        assert_eq!(bench.value("node_md_state", &state), Some(1.0));
        bench.write("proc/mdstat", "md0 : active raid1 sdb1[1](F) sdc1[2](S) sda1[0]\n      1000 blocks super 1.2 [2/1] [U_]\n      [=>....]  recovery = 12.6% (126/1000) finish=1min speed=1K/sec\n\n");
        bench.collect(&mut mdadm);
        assert_eq!(disks(&bench), [1.0, 1.0, 1.0]);
        assert_eq!(bench.value("node_md_disks_required", &[]), Some(2.0));
        assert_eq!(bench.value("node_md_blocks_synced", &[]), Some(126.0));
        assert_eq!(bench.value("node_md_state", &state), Some(0.0));
        let state = [("device", "md0"), ("state", "recovering")];
        assert_eq!(bench.value("node_md_state", &state), Some(1.0));
        bench.write("proc/mdstat", "Personalities :\nunused devices: <none>\n");
        bench.collect(&mut mdadm);
        assert_eq!((bench.series_count(), bench.errors().total()), (0, 0));
    }

    #[test]
    fn malformed_array_is_counted_and_does_not_affect_others() {
        let mut bench = Bench::new();
        let text = "mda : active raid1 sda1[0]\n      x blocks [2/2] [UU]\nmdb : odd raid1 sda1[0]\n      5 blocks [2/2] [UU]\nmdc : active raid1 sda1[0]\nmdd : active raid1 sda1[0]\n      5 blocks [2-2] [UU]\nmde : active raid5 sda1[0]\n      5 blocks [2/2] [UU]\n      resync = 5% (a/b)\nmd9 : active raid0 sda1[0] sdb1[1]\n      5 blocks\n";
        bench.write("proc/mdstat", text);
        let mut mdadm = Mdadm::new(&bench.roots(), bench.errors());
        bench.collect(&mut mdadm);
        assert_eq!(bench.value("node_md_disks_required", &[]), Some(2.0));
        assert_eq!(bench.errors().total(), 5);
    }

    proptest::proptest! {
        #[test]
        fn no_input_panics(data: Vec<u8>) {
            let _arrays = arrays(&data).count();
        }
    }
}
