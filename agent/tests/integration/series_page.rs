//! docs/series.md: every series that the collectors produce.
//!
//! Families come from two places: the declarations in the sources, and what the collectors produce from a made-up machine
//! and two recorded nodes. The second has the labels, and the families whose names come from the kernel's files.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use agent::collect::{Due, Tier};
use agent::collectors::{self, COLLECTORS, CollectorSpec};
use agent::config::Config;
use agent::schema::Schema;
use agent::table::SeriesTable;
use common::model::label::METRIC_NAME;
use regex::Regex;

use crate::hardware::make_machine;
use crate::recorded::Recorded;

const INTRO: &str = "# Series of the agent

Every series that the agent's collectors produce. Each also has the labels `instance`, `node` and `idc`, `cluster` if
`--cluster.name` is set, and `metrics_path` if its job is `kubelet`. The agent's metrics about itself are in
[metrics.md](metrics.md). Names with `*` stand for one family per line or field of the source.

An interval of 30 s or 60 s applies to the collector; with a longer `--interval`, that is the interval. A fast collector
may read some of its files less often: block I/O, pressure, events and process counts of cgroups every 30 s, their limits
every 60 s.

Each collector also has `node_scrape_collector_duration_seconds` and `node_scrape_collector_success` with the label
`collector`. Files that can't be read or understood are counted in `agent_collector_faults_total`. A family without a job
below occurs on no recorded machine, so its labels are not listed.

This page is generated: `UPDATE_DOCS=1 cargo test -p agent --test integration series_page`.
";

/// Families whose names come from the kernel's files, by prefix, and the collector.
const DYNAMIC: [(&str, &str); 7] = [
    ("node_memory_", "meminfo"),
    ("node_vmstat_", "vmstat"),
    ("node_netstat_", "netstat"),
    ("node_sockstat_", "sockstat"),
    ("node_hwmon_", "hwmon"),
    ("node_xfs_", "xfs"),
    ("node_zfs_", "zfs"),
];

/// Source files that are not named after their collector.
const MODULES: [(&str, &str); 2] = [("thermal", "thermal_zone"), ("numbers", "entropy")];

/// Other families that the sources don't declare as literals, by prefix, and the collector.
const UNDECLARED: [(&str, &str); 12] = [
    ("node_cooling_device_", "thermal_zone"),
    ("node_thermal_zone_", "thermal_zone"),
    ("node_dmi_", "dmi"),
    ("node_cpu_", "cpufreq"),
    ("node_md_", "mdadm"),
    ("node_selinux_", "selinux"),
    ("node_btrfs_", "btrfs"),
    ("node_network_", "netdev"),
    ("node_timex_", "timex"),
    ("node_nf_conntrack_", "conntrack"),
    ("container_fs_stacked_", "stacked"),
    ("container_", "cgroup"),
];

/// Families about the collectors themselves, which the introduction describes.
const OF_COLLECTORS: [&str; 2] = ["node_scrape_collector_", "agent_collector_faults_"];

/// Files of the made-up machine that make every collector produce its families.
const FILES: [(&str, &str); 50] = [
    ("proc/sys/fs/file-nr", "1 0 2\n"),
    (
        "proc/pressure/irq",
        "full avg10=0.00 avg60=0.00 avg300=0.00 total=1\n",
    ),
    (
        "root/etc/os-release",
        "NAME=N\nID=i\nID_LIKE=l\nVERSION=\"1.2 (x)\"\nVERSION_ID=1.2\nVERSION_CODENAME=c\nPRETTY_NAME=P\nVARIANT=v\nVARIANT_ID=w\nBUILD_ID=b\nIMAGE_ID=g\nIMAGE_VERSION=h\n",
    ),
    ("proc/net/softnet_stat", "1 2 3 0 0 0 0 0 4 5 6 7 0\n"),
    (
        "proc/net/arp",
        "IP address HW type Flags HW address Mask Device\n10.0.0.1 0x1 0x2 00:00:00:00:00:01 * eth0\n",
    ),
    (
        "proc/net/stat/nf_conntrack",
        "entries clashres found new invalid ignore delete chainlength insert insert_failed drop early_drop icmp_error expect_new expect_create expect_delete search_restart\n1 0 1 0 1 1 0 0 1 1 1 1 0 0 0 0 1\n",
    ),
    ("proc/sys/net/netfilter/nf_conntrack_count", "1\n"),
    ("proc/sys/net/netfilter/nf_conntrack_max", "1\n"),
    (
        "proc/net/udp",
        "sl local_address rem_address st tx_queue:rx_queue\n0: 0:0 0:0 07 00000001:00000002 00:0 0 0 0 1\n",
    ),
    ("proc/schedstat", "version 15\ncpu0 1 2 3 4 5 6 7 8 9\n"),
    ("proc/sys/kernel/random/entropy_avail", "1\n"),
    ("proc/sys/kernel/random/poolsize", "1\n"),
    (
        "proc/net/netstat",
        "IpExt: InOctets OutOctets\nIpExt: 1 2\n",
    ),
    ("proc/net/snmp", "Tcp: ActiveOpens\nTcp: 1\n"),
    (
        "proc/net/sockstat",
        "sockets: used 1\nTCP: inuse 1 orphan 1 tw 1 alloc 1 mem 1\n",
    ),
    (
        "sys/devices/system/clocksource/clocksource0/available_clocksource",
        "tsc\n",
    ),
    (
        "sys/devices/system/clocksource/clocksource0/current_clocksource",
        "tsc\n",
    ),
    ("root/etc/selinux/config", "SELINUX=enforcing\n"),
    ("sys/fs/selinux/enforce", "1\n"),
    ("sys/block/dm-0/slaves/vda/size", "1\n"),
    ("sys/class/dmi/id/sys_vendor", "v\n"),
    ("sys/class/dmi/id/product_name", "p\n"),
    (
        "proc/net/dev",
        "a\nb\n eth9: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n",
    ),
    ("proc/1/mountinfo", "1 0 254:0 / / rw - ext4 /dev/vda rw\n"),
    ("root/etc/hostname", "n\n"),
    ("sys/class/net/eth9/addr_assign_type", "1\n"),
    ("sys/class/net/eth9/carrier", "1\n"),
    ("sys/class/net/eth9/flags", "0x1\n"),
    ("sys/class/net/eth9/mtu", "1\n"),
    ("sys/class/net/eth9/carrier_changes", "1\n"),
    ("sys/class/net/eth9/carrier_down_count", "1\n"),
    ("sys/class/net/eth9/carrier_up_count", "1\n"),
    ("sys/class/net/eth9/dev_id", "1\n"),
    ("sys/class/net/eth9/dormant", "1\n"),
    ("sys/class/net/eth9/ifindex", "1\n"),
    ("sys/class/net/eth9/iflink", "1\n"),
    ("sys/class/net/eth9/link_mode", "1\n"),
    ("sys/class/net/eth9/name_assign_type", "1\n"),
    ("sys/class/net/eth9/netdev_group", "1\n"),
    ("sys/class/net/eth9/type", "1\n"),
    ("sys/class/net/eth9/tx_queue_len", "1\n"),
    ("sys/class/net/eth9/speed", "1\n"),
    ("sys/class/net/eth9/address", "02:00\n"),
    ("sys/class/net/eth9/broadcast", "ff:ff\n"),
    ("sys/class/net/eth9/duplex", "full\n"),
    ("sys/class/net/eth9/ifalias", "alias\n"),
    ("sys/class/net/eth9/operstate", "up\n"),
    ("text/a.prom", "a 1\n"),
    ("sys/fs/cgroup/cgroup.controllers", "cpu memory hugetlb\n"),
    ("sys/fs/cgroup/a/cpu.stat", "usage_usec 1\n"),
];

/// Labels that every series of a job has.
const TARGET_LABELS: [&str; 4] = [METRIC_NAME, "job", "instance", "metrics_path"];

#[derive(Debug, Clone, Default)]
struct FamilyRow {
    metric_type: String,
    unit: String,
    jobs: BTreeSet<String>,
    labels: BTreeSet<String>,
    help: String,
}

/// Families by name.
type Families = BTreeMap<String, FamilyRow>;

fn unit_of(name: &str) -> &'static str {
    let stem = name.strip_suffix("_total").unwrap_or(name);
    [
        "seconds", "bytes", "hertz", "ratio", "bits", "celsius", "volts",
    ]
    .into_iter()
    .find(|unit| stem.ends_with(unit))
    .unwrap_or_default()
}

fn produced(table: &SeriesTable, families: &mut Families) {
    for (_, def) in table.series() {
        let family = table.family(def.family);
        let is_own = OF_COLLECTORS
            .iter()
            .any(|prefix| family.name.starts_with(prefix));
        if is_own || family.name == "a" {
            continue;
        }
        let row = families.entry(family.name.clone()).or_default();
        row.metric_type = family.metadata.metric_type.as_str().to_owned();
        row.help.clone_from(&family.metadata.help);
        unit_of(&family.name).clone_into(&mut row.unit);
        row.jobs.extend(def.labels.get("job").map(str::to_owned));
        let names = def.labels.iter().map(|(name, _)| name);
        let own = names.filter(|name| !TARGET_LABELS.contains(name));
        row.labels.extend(own.map(str::to_owned));
    }
}

fn made_up_machine(families: &mut Families) {
    let dir = tempfile::tempdir().unwrap();
    make_machine(dir.path());
    for (file, text) in FILES {
        let file = dir.path().join(file);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
    }
    let path = |flag: &str, below: &str| format!("--{flag}={}", dir.path().join(below).display());
    let args = [
        "tidemark-agent".to_owned(),
        "--node.name=n".to_owned(),
        path("path.cgroupfs", "sys/fs/cgroup"),
        path("path.procfs", "proc"),
        path("path.sysfs", "sys"),
        path("path.rootfs", "root"),
        path("collector.textfile.directory", "text"),
    ];
    let config = Config::from_args(args).unwrap();
    let mut collectors = collectors::build(&config.build_context(None)).unwrap();
    let (mut table, mut schema) = (SeriesTable::default(), Schema::for_node("n"));
    table.begin_tick(60_000);
    collectors.collect(&mut table, &mut schema, Due::ALL);
    produced(&table, families);
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    let mut paths: Vec<PathBuf> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    for path in paths {
        if path.is_dir() {
            sources(&path, found);
        } else if path.file_name().is_some_and(|name| name != "tests.rs") {
            found.push(path);
        }
    }
}

/// The collector that a source file belongs to: the longest part of its path that is a collector's name.
fn collector_of(path: &Path) -> Option<&'static str> {
    let stem = path.with_extension("");
    let parts = stem.components().rev();
    let names = parts.filter_map(|part| {
        let part = part.as_os_str().to_str()?;
        let renamed = MODULES.iter().find(|(module, _)| *module == part);
        let name = renamed.map_or(part, |(_, name)| name);
        COLLECTORS.iter().find(|spec| spec.name == name)
    });
    names.map(|spec| spec.name).next()
}

/// Families as the sources declare them, and the collector of each.
fn declared() -> BTreeMap<String, (&'static str, FamilyRow)> {
    let call = Regex::new(r#"\b(counter|gauge|info)\s*\(?\s*"((?:node|container|kube|kubelet|machine|agent)_\w+)"[^"]*?(?:,\s*|\],\s*)"((?:[^"\\]|\\.)*)""#).unwrap();
    let mut files = Vec::new();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/collectors");
    sources(&root, &mut files);
    let mut families = BTreeMap::new();
    for path in files {
        let text = fs::read_to_string(&path).unwrap();
        let code = text.split("#[cfg(test)]\nmod ").next().unwrap();
        let Some(collector) = collector_of(&path) else {
            continue;
        };
        for found in call.captures_iter(code) {
            let name = found[2].to_owned();
            let collector = match &*name {
                name if name.starts_with("node_kernel_hung_") => "kernel_hung",
                _ => collector,
            };
            let metric_type = if &found[1] == "counter" {
                "counter"
            } else {
                "gauge"
            };
            let row = FamilyRow {
                metric_type: metric_type.to_owned(),
                unit: unit_of(&name).to_owned(),
                help: found[3].replace("\\\"", "\""),
                ..FamilyRow::default()
            };
            families.insert(name, (collector, row));
        }
    }
    families
}

fn rows() -> BTreeMap<&'static str, Families> {
    let mut found = Families::new();
    made_up_machine(&mut found);
    for version in ["v1-full", "v2-full"] {
        let mut node = Recorded::new(version);
        node.tick();
        produced(&node.table, &mut found);
    }
    let mut rows: BTreeMap<&str, Families> = BTreeMap::new();
    for (name, (collector, row)) in declared() {
        let row = found.remove(&name).unwrap_or(row);
        rows.entry(collector).or_default().insert(name, row);
    }
    for (name, mut row) in found {
        let dynamic = DYNAMIC.iter().find(|(prefix, _)| name.starts_with(prefix));
        if let Some((prefix, collector)) = dynamic {
            // One row for all, since the kernel decides which there are.
            row.help = "See the source.".to_owned();
            let unit = if row.unit.is_empty() {
                String::new()
            } else {
                format!("_{}", row.unit)
            };
            let stars = format!("{prefix}*{unit}");
            let families = rows.entry(collector).or_default();
            let merged = families.entry(stars).or_insert_with(|| row.clone());
            merged.labels.extend(row.labels);
        } else if name == "up" {
            rows.entry("up").or_default().insert(name, row);
        } else {
            let collector = by_prefix(&name, &row);
            rows.entry(collector).or_default().insert(name, row);
        }
    }
    rows
}

/// The collector of a family that is not declared as a literal.
#[expect(clippy::panic, reason = "the test fails with what to do")]
fn by_prefix(name: &str, row: &FamilyRow) -> &'static str {
    let found = UNDECLARED
        .iter()
        .find(|(prefix, _)| name.starts_with(prefix));
    match found {
        Some((_, collector)) => collector,
        None if row.jobs.iter().eq(["kubelet"]) => "kubelet_metrics",
        None => panic!("add {name} to UNDECLARED"),
    }
}

fn interval(spec: &CollectorSpec) -> &'static str {
    match spec.tier {
        Tier::Fast => "every tick",
        Tier::Medium => "30 s",
        Tier::Slow => "60 s",
    }
}

fn page() -> String {
    let mut page = INTRO.to_owned();
    let mut rows = rows();
    for spec in COLLECTORS {
        let CollectorSpec {
            name, help, source, ..
        } = spec;
        write!(
            page,
            "\n## {name}\n\n{help}. Source: {source}. Interval: {}.\n",
            interval(spec)
        )
        .unwrap();
        let Some(families) = rows.remove(name) else {
            continue;
        };
        page.push_str("\n| name | type | unit | job | labels | meaning |\n| --- | --- | --- | --- | --- | --- |\n");
        for (name, row) in families {
            let list = |texts: &BTreeSet<String>| {
                texts
                    .iter()
                    .map(|text| format!("`{text}`"))
                    .collect::<Vec<_>>()
                    .join(", ")
            };
            let help = row.help.replace('|', "\\|");
            writeln!(
                page,
                "| `{name}` | {} | {} | {} | {} | {help} |",
                row.metric_type,
                row.unit,
                list(&row.jobs),
                list(&row.labels)
            )
            .unwrap();
        }
    }
    assert!(rows.is_empty(), "families of unknown collectors: {rows:#?}");
    page
}

#[test]
fn series_page_lists_every_family_of_the_collectors() {
    let wanted = page();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/series.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, &wanted).unwrap();
    }
    let current = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        current == wanted,
        "docs/series.md is out of date: run this test with UPDATE_DOCS=1"
    );
}
