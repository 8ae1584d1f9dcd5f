//! Every cgroup of the machine, under cAdvisor's names.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use self::devices::DeviceNames;
use self::entry::CgroupEntry;
use self::hierarchy::Hierarchy;
use self::hugetlb::PageSizes;
use self::identity::Identity;
use self::labels::Shown;
use self::local_names::LocalNames;
use self::names::{Names, NamesHandle};
use self::network::Networks;
use self::reader::{Layouts, Reader};
use self::tree::Tree;
use super::node::Roots;
use crate::collect::{CollectContext, Collector, Outcome, Single, Tier};
use crate::file::KeptFile;
use crate::parse;
use crate::read_errors::ReadErrors;
use crate::schema::{FamilyDef, Target, gauge};

pub mod blkio;
pub mod devices;
pub mod entry;
pub mod hierarchy;
pub mod hugetlb;
pub mod identity;
pub mod keyed_file;
pub mod labels;
pub mod local_names;
pub mod metric;
pub mod names;
pub mod nested;
pub mod network;
pub mod processes;
pub mod reader;
pub mod tree;
pub mod v1;
pub mod v2;

/// Upper bound on cgroups. The kubelet's default of 110 pods makes about 400.
const CGROUPS_MAX: usize = 4096;
/// Time between walks of the trees while inotify reports no change.
const WALK_MS_WATCHED: i64 = 600_000;
/// Time between walks of trees that can't be watched.
const WALK_MS: i64 = 60_000;
/// How long a pod may be unknown to the kubelet before it is shown by its UID.
const NAMELESS_MS_MAX: i64 = 30_000;

static CGROUPS: FamilyDef = gauge("agent_cgroups", "Cgroups that the agent reads.");
static OVER_LIMIT: FamilyDef = gauge(
    "agent_cgroups_over_limit",
    "Cgroups dropped because there are too many.",
);
static NAMELESS: FamilyDef = gauge(
    "agent_cgroups_nameless",
    "Cgroups of pods that the kubelet does not know, shown by UID.",
);

/// Collects `container_*`.
#[derive(Debug)]
pub struct Cgroups {
    hierarchy: Hierarchy,
    proc: PathBuf,
    tree: Tree,
    entries: BTreeMap<String, CgroupEntry>,
    /// Number of cgroups opened so far.
    opened: u64,
    walk_due_ms: i64,
    over_limit: usize,
    layouts: Layouts,
    device_names: DeviceNames,
    page_sizes: PageSizes,
    local_names: LocalNames,
    /// `None` without a kubelet.
    names: Option<NamesHandle>,
    networks: Networks,
    /// Whether cgroups or their labels changed in this tick.
    has_changed: bool,
    meminfo: KeptFile,
    memory_total_bytes: Option<f64>,
    sees_all_processes: bool,
    counts: [Single; 3],
}

impl Cgroups {
    /// A collector of the hierarchies below `roots`. `names` are those that the kubelet reports.
    ///
    /// # Errors
    /// There is no cgroup hierarchy.
    pub fn new(
        roots: &Roots,
        names: Option<NamesHandle>,
        errors: &mut ReadErrors,
    ) -> io::Result<Self> {
        let hierarchy = Hierarchy::detect(&roots.cgroup)?;
        let sees_all_processes = processes::sees_all(&roots.proc);
        if matches!(hierarchy, Hierarchy::Split(_)) && !sees_all_processes {
            tracing::warn!(
                "processes of other PID namespaces are not visible without hostPID; container_processes is absent"
            );
        }
        Ok(Self {
            hierarchy,
            sees_all_processes,
            proc: roots.proc.clone(),
            tree: Tree::new(CGROUPS_MAX),
            entries: BTreeMap::new(),
            opened: 0,
            walk_due_ms: i64::MIN,
            over_limit: 0,
            layouts: Layouts::default(),
            device_names: DeviceNames::new(&roots.sys),
            page_sizes: PageSizes::new(&roots.sys, errors),
            local_names: LocalNames::new(&roots.root, errors),
            names,
            networks: Networks::new(roots, errors),
            has_changed: false,
            meminfo: KeptFile::new(roots.proc.join("meminfo"), "proc/meminfo", errors),
            memory_total_bytes: None,
            counts: [&CGROUPS, &OVER_LIMIT, &NAMELESS]
                .map(|family| Single::new(Target::Agent, family)),
        })
    }

    /// Walks the trees after a change: opens new cgroups, drops those that have gone.
    fn find(&mut self, context: &mut CollectContext<'_>) {
        let now_ms = context.table.timestamp_ms();
        let changed = self.tree.has_changed();
        // A clock that was set back must not postpone the next walk.
        let is_due = now_ms >= self.walk_due_ms || now_ms < self.walk_due_ms - WALK_MS_WATCHED;
        if !changed && !is_due {
            return;
        }
        self.has_changed = true;
        let trees = self.hierarchy.trees();
        let found = self.tree.walk(&trees);
        self.over_limit = found.over_limit;
        self.entries.retain(|path, entry| {
            let is_there = found.cgroups.contains_key(path);
            if !is_there {
                entry.remove_series(context.table);
            }
            is_there
        });
        let mut is_complete = true;
        for (path, identity) in found.cgroups {
            if self.entries.contains_key(&path) {
                continue;
            }
            let mut entry = CgroupEntry::open(&self.hierarchy, &path, identity, now_ms);
            if entry.is_complete() {
                entry.stagger_slot = self.opened;
                self.opened += 1;
                self.entries.insert(path, entry);
            } else {
                is_complete = false;
            }
        }
        let period_ms = match (is_complete, self.tree.is_watched()) {
            (false, _) => 0,
            (true, true) => WALK_MS_WATCHED,
            (true, false) => WALK_MS,
        };
        self.walk_due_ms = now_ms.saturating_add(period_ms);
    }

    /// Labels new cgroups, and relabels the others after names have changed.
    fn label(&mut self, context: &mut CollectContext<'_>) {
        let names = self.names.as_ref().map(NamesHandle::current);
        let generation = names.as_ref().map_or(0, |names| names.generation);
        let now_ms = context.table.timestamp_ms();
        for (path, entry) in &mut self.entries {
            if entry.names_generation == Some(generation) {
                continue;
            }
            self.has_changed = true;
            let is_settled = relabel(
                path,
                entry,
                names.as_ref(),
                &self.proc,
                &self.local_names,
                context,
            );
            if is_settled {
                entry.names_generation = Some(generation);
                continue;
            }
            if let Some(handle) = &self.names {
                handle.want();
                // Shown by UID from now on, and tried again with the next names.
                if now_ms.saturating_sub(entry.found_ms) >= NAMELESS_MS_MAX {
                    entry.names_generation = Some(generation);
                }
            }
        }
    }

    fn collect_networks(&mut self, context: &mut CollectContext<'_>) {
        if std::mem::take(&mut self.has_changed) {
            let names = self.names.as_ref().map(NamesHandle::current);
            let is_host = |uid: &str| {
                let pod = names.as_ref().and_then(|names| names.pods.get(uid));
                pod.is_some_and(|pod| pod.host_network)
            };
            self.networks.follow(&self.entries, is_host, context.table);
        }
        self.networks.collect(&self.entries, context);
    }

    fn nameless(&self) -> usize {
        let is_nameless = |entry: &&CgroupEntry| {
            entry
                .labels
                .as_ref()
                .is_some_and(|labels| labels.iter().any(|(name, _)| *name == "uid"))
        };
        self.entries.values().filter(is_nameless).count()
    }

    /// Reads the machine's memory, which is the root's limit.
    fn read_memory_total(&mut self, context: &mut CollectContext<'_>) {
        let total = self
            .meminfo
            .read(context.buffer, context.errors)
            .map(|data| {
                let line = parse::lines(data).find_map(|line| line.strip_prefix(b"MemTotal:"))?;
                parse::integer(parse::words(line).next()?)
            });
        let error_id = self.meminfo.error_id();
        let total = total.and_then(|total| context.errors.parsed(error_id, total));
        self.memory_total_bytes = total.map(|kibibytes| kibibytes as f64 * 1024.0);
    }
}

/// Labels `entry`. Returns false while the kubelet has not reported its name.
fn relabel(
    path: &str,
    entry: &mut CgroupEntry,
    names: Option<&Arc<Names>>,
    proc: &Path,
    local: &LocalNames,
    context: &mut CollectContext<'_>,
) -> bool {
    let outside = labels::outside(&entry.identity, path, local, context.errors);
    let (labels, is_settled) = if outside.is_some() {
        (outside, true)
    } else {
        let empty = Names::default();
        let known = names.map_or(&empty, |names| names);
        let is_pause = || is_pause(entry, proc, context);
        match labels::kubernetes(&entry.identity, path, known, is_pause) {
            Shown::As(labels) => (Some(labels), true),
            Shown::Hidden => (None, true),
            Shown::Nameless(labels) => {
                let waited_ms = context.table.timestamp_ms().saturating_sub(entry.found_ms);
                let is_final = names.is_none() || waited_ms >= NAMELESS_MS_MAX;
                (is_final.then_some(labels), is_final)
            }
        }
    };
    if entry.labels != labels {
        entry.remove_series(context.table);
        entry.labels = labels;
    }
    let container = match &entry.identity {
        Identity::Container { container_id, .. } => {
            names.and_then(|names| names.containers.get(container_id))
        }
        _ => None,
    };
    entry.start_seconds = container
        .and_then(|names| names.start_seconds)
        .or(entry.start_seconds);
    is_settled
}

/// Whether the cgroup holds a single process named `pause`, as pod sandboxes do.
fn is_pause(entry: &CgroupEntry, proc: &Path, context: &mut CollectContext<'_>) -> bool {
    let Some(dir) = entry.dir() else { return false };
    let Some((pid, true)) = processes::first(context.buffer, dir) else {
        return false;
    };
    let comm = context
        .buffer
        .read_path(&proc.join(pid.to_string()).join("comm"));
    comm.is_ok_and(|comm| comm.trim_ascii() == b"pause")
}

impl Collector for Cgroups {
    fn collect(&mut self, context: &mut CollectContext<'_>) -> Outcome {
        self.find(context);
        self.label(context);
        if context.due.includes(Tier::Slow) {
            self.read_memory_total(context);
            self.device_names.clear();
            self.page_sizes.refresh(context.buffer, context.errors);
        }
        let mut has_gone = false;
        for entry in self
            .entries
            .values_mut()
            .filter(|entry| entry.labels.is_some())
        {
            let mut reader = Reader {
                buffer: context.buffer,
                errors: context.errors,
                layouts: &mut self.layouts,
                memory_total_bytes: self.memory_total_bytes,
                sees_all_processes: self.sees_all_processes,
            };
            let target = (&mut *context.table, &mut *context.schema);
            let known = (&mut self.device_names, self.page_sizes.list());
            let due = context.due.at_slot(entry.stagger_slot);
            if entry.collect(&mut reader, due, known, target).is_err() {
                entry.remove_series(context.table);
                has_gone = true;
            }
        }
        if has_gone {
            self.walk_due_ms = i64::MIN;
        }
        self.collect_networks(context);
        let counts = [self.entries.len(), self.over_limit, self.nameless()];
        for (series, count) in self.counts.iter_mut().zip(counts) {
            series.set(context.table, context.schema, count as f64);
        }
        Outcome::of(self.entries.values().next())
    }
}

#[cfg(test)]
mod tests;
