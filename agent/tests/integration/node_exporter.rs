//! The node's values compared with the real node_exporter, scraped right before and right after.

use std::collections::{BTreeMap, BTreeSet};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::support::{Agent, Killed, Scrape, eventually, get, name_of, parse, scrape, skip};

/// Rounds in which an unsteady gauge must agree at least once.
const ROUNDS: usize = 8;
/// Allowed distance of a gauge from the two scrapes.
const GAUGE_TOLERANCE: f64 = 0.05;
const FAMILIES_MIN: usize = 60;

/// Families about node_exporter itself are not compared, nor those that each program measures on its own.
fn is_compared(name: &str) -> bool {
    name.starts_with("node_")
        && !name.starts_with("node_scrape_collector_")
        && !name.starts_with("node_exporter_")
        && !name.starts_with("node_textfile_")
}

/// Families that node_exporter has by default and the agent lacks on purpose.
const LEFT_OUT: [(&str, &str); 3] = [
    ("node_filesystem_purgeable_bytes", "of macOS; always 0 here"),
    (
        "node_network_speed_bytes",
        "where the kernel says -1 for unknown, which node_exporter makes -125000",
    ),
    (
        "node_time_zone_offset_seconds",
        "of the time zone of the process, which in a pod is not the node's",
    ),
];

/// Families of rare hardware and file systems that no node dashboard queries.
const OPTIONAL: [&str; 12] = [
    "node_bcache_",
    "node_dmmultipath_",
    "node_edac_",
    "node_fibrechannel_",
    "node_infiniband_",
    "node_ipvs_",
    "node_nfs",
    "node_nvme_",
    "node_power_supply_",
    "node_rapl_",
    "node_tape_",
    "node_watchdog_",
];

/// The path of node_exporter, from the environment or fetched by scripts/peers.
pub(crate) fn node_exporter() -> Option<PathBuf> {
    if let Some(path) = std::env::var_os("PEER_NODE_EXPORTER") {
        return Some(path.into());
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/peers");
    let output = Command::new(script).stderr(Stdio::null()).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let path = text
        .lines()
        .find_map(|line| line.strip_prefix("PEER_NODE_EXPORTER="))?;
    Some(path.trim_matches('\'').into())
}

fn start(program: &Path) -> (Killed, String) {
    start_with(program, &[])
}

/// Starts it with flags on a free port.
pub(crate) fn start_with(program: &Path, flags: &[String]) -> (Killed, String) {
    let port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let address = format!("127.0.0.1:{port}");
    let child = Command::new(program)
        .arg(format!("--web.listen-address={address}"))
        .arg("--log.level=error")
        .args(flags)
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let child = Killed(child);
    eventually("node_exporter", || {
        get(&address, "/metrics")
            .ok()
            .filter(|(code, _)| *code == 200)
    });
    (child, address)
}

fn types(text: &str) -> BTreeMap<String, String> {
    let lines = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    lines
        .filter_map(|line| line.split_once(' '))
        .map(|(name, kind)| (name.to_owned(), kind.to_owned()))
        .collect()
}

/// Whether `value` is between two scrapes.
fn is_between(value: f64, before: f64, after: f64, tolerance: f64) -> bool {
    let slack = tolerance * before.abs().max(after.abs());
    value >= before.min(after) - slack && value <= before.max(after) + slack
}

/// The kernel lets these two run backwards. Both programs then keep the highest value they have seen.
fn is_unsteady(series: &str) -> bool {
    name_of(series) == "node_cpu_seconds_total"
        && (series.contains("\"idle\"") || series.contains("\"iowait\""))
}

/// The number of connections goes up and down, although node_exporter declares no type.
const UNTYPED_GAUGE: &str = "node_netstat_Tcp_CurrEstab";

fn is_gauge(kinds: &BTreeMap<String, String>, series: &str) -> bool {
    let name = name_of(series);
    name == UNTYPED_GAUGE || kinds.get(name).is_some_and(|kind| kind == "gauge")
}

/// The series that disagree in a round.
fn disagreements(
    before: &Scrape,
    ours: &Scrape,
    after: &Scrape,
    kinds: &BTreeMap<String, String>,
) -> BTreeSet<String> {
    let shared = before.iter().filter_map(|(series, before)| {
        Some((series, *before, *ours.get(series)?, *after.get(series)?))
    });
    shared
        .filter(|(series, ..)| is_compared(name_of(series)))
        .filter(|(series, before, ours, after)| {
            let tolerance = if is_gauge(kinds, series) {
                GAUGE_TOLERANCE
            } else {
                1e-9
            };
            let slack = if is_unsteady(series) { 0.05 } else { 0.0 };
            !is_between(*ours, before - slack, after + slack, tolerance)
        })
        .map(|(series, ..)| series.clone())
        .collect()
}

#[test]
fn values_lie_between_two_scrapes_of_node_exporter() {
    let Some(program) = node_exporter() else {
        return skip(
            "comparison with node_exporter",
            "the package can't be had (scripts/peers)",
        );
    };
    let dir = tempfile::tempdir().unwrap();
    let (_peer, peer) = start(&program);
    let agent = Agent::start(dir.path(), &["--interval=10m"], None);
    eventually("first tick", || {
        get(&agent.address, "/-/ready")
            .ok()
            .filter(|(code, _)| *code == 200)
    });
    let kinds = types(&get(&peer, "/metrics").unwrap().1);
    let mut still: Option<BTreeSet<String>> = None;
    let mut families = BTreeSet::new();
    for _ in 0..ROUNDS {
        let before = scrape(&peer);
        let ours = agent.scrape();
        let after = scrape(&peer);
        families.extend(
            before
                .keys()
                .filter(|series| ours.contains_key(*series))
                .map(|series| name_of(series))
                .filter(|name| is_compared(name))
                .map(str::to_owned),
        );
        let odd = disagreements(&before, &ours, &after, &kinds);
        let wrong: Vec<_> = odd
            .iter()
            .filter(|series| !is_gauge(&kinds, series))
            .map(|series| (series, before[series], ours[series], after[series]))
            .collect();
        assert!(wrong.is_empty(), "not between before and after: {wrong:#?}");
        still = Some(still.map_or(odd.clone(), |still| {
            still.intersection(&odd).cloned().collect()
        }));
        if still.as_ref().is_some_and(BTreeSet::is_empty) && families.len() >= FAMILIES_MIN {
            break;
        }
    }
    let counted = families.iter().filter(|name| {
        kinds
            .get(*name)
            .is_some_and(|kind| kind == "gauge" || kind == "counter")
    });
    let counted = counted.count();
    assert!(
        counted >= FAMILIES_MIN,
        "only {counted} gauges and counters in common: {families:?}"
    );
    assert_eq!(
        still,
        Some(BTreeSet::new()),
        "gauges that agreed in no round"
    );
}

#[test]
fn types_of_shared_families_are_node_exporters() {
    let Some(program) = node_exporter() else {
        return skip(
            "types of node_exporter",
            "the package can't be had (scripts/peers)",
        );
    };
    let dir = tempfile::tempdir().unwrap();
    let (_peer, peer) = start(&program);
    let agent = Agent::start(dir.path(), &["--interval=10m"], None);
    let theirs = types(&get(&peer, "/metrics").unwrap().1);
    let text = get(&agent.address, "/metrics").unwrap().1;
    let ours = types(&text);
    for (name, kind) in ours.iter().filter(|(name, _)| is_compared(name)) {
        assert_eq!(theirs.get(name).unwrap_or(kind), kind, "{name}");
    }
    let is_left_out = |name: &str| {
        let is_listed = LEFT_OUT.iter().any(|(left_out, _)| *left_out == name);
        is_listed || OPTIONAL.iter().any(|prefix| name.starts_with(prefix))
    };
    let lacking: Vec<_> = theirs
        .keys()
        .filter(|name| is_compared(name) && !ours.contains_key(*name) && !is_left_out(name))
        .collect();
    assert!(
        lacking.is_empty(),
        "families of node_exporter that are not there: {lacking:?}"
    );
    // The agent has every series of node_exporter in a common family, except where defaults differ, and except the
    // label `rotational`, which node_exporter sets to 0 if it can't read another file of the device's queue.
    let theirs = scrape(&peer);
    let ours_samples = parse(&text);
    let missing: Vec<_> = theirs
        .keys()
        .filter(|series| is_compared(name_of(series)) && ours.contains_key(name_of(series)))
        .filter(|series| !ours_samples.contains_key(*series))
        .filter(|series| {
            !["node_filesystem_", "node_network_", "node_disk_info"]
                .iter()
                .any(|family| name_of(series).starts_with(family))
        })
        .collect();
    assert!(missing.is_empty(), "{missing:#?}");
}

/// The names of the labels with a value, by family.
fn label_names(scrape: &Scrape) -> BTreeMap<&str, BTreeSet<&str>> {
    let label = regex::Regex::new(r#"([A-Za-z_]\w*)="(?:[^"\\]|\\.)+""#).unwrap();
    let mut families: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for series in scrape.keys().filter(|series| is_compared(name_of(series))) {
        let names = label.captures_iter(series);
        let names = names.filter_map(|found| Some(found.get(1)?.as_str()));
        families.entry(name_of(series)).or_default().extend(names);
    }
    families
}

#[test]
fn common_families_have_every_label_of_node_exporter() {
    let Some(program) = node_exporter() else {
        return skip(
            "labels of node_exporter",
            "the package can't be had (scripts/peers)",
        );
    };
    let dir = tempfile::tempdir().unwrap();
    let (_peer, peer) = start(&program);
    let agent = Agent::start(dir.path(), &["--interval=10m"], None);
    eventually("first tick", || {
        get(&agent.address, "/-/ready")
            .ok()
            .filter(|(code, _)| *code == 200)
    });
    let (theirs, ours) = (scrape(&peer), agent.scrape());
    let (theirs, ours) = (label_names(&theirs), label_names(&ours));
    let shared = theirs
        .iter()
        .filter_map(|(family, labels)| Some((family, labels, ours.get(family)?)));
    let missing: Vec<_> = shared
        .flat_map(|(family, theirs, ours)| {
            theirs.difference(ours).map(move |label| (family, label))
        })
        .collect();
    assert!(missing.is_empty(), "missing labels: {missing:?}");
}
