//! Pods with network namespaces of their own, made by the test, and traffic between them and the node.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use agent::collect::{Collectors, Due};
use agent::collectors::cgroup::Cgroups;
use agent::collectors::node::Roots;
use agent::schema::Schema;
use agent::table::SeriesTable;

use crate::support::{Killed, eventually, is_root, skip};

const UID: &str = "0fae20de-60a3-4f13-bb4d-57951c6a86f8";

/// What a test made outside of its process; undone when dropped.
#[derive(Default)]
struct Cleanup {
    dirs: Vec<PathBuf>,
    namespace: Option<String>,
}

impl Drop for Cleanup {
    fn drop(&mut self) {
        if let Some(name) = &self.namespace {
            let (Ok(_) | Err(_)) = Command::new("ip").args(["netns", "del", name]).status();
        }
        for dir in self.dirs.iter().rev() {
            for _ in 0..100 {
                if fs::remove_dir(dir).is_ok() {
                    break;
                }
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
        }
    }
}

fn ip(args: &str) -> bool {
    let status = Command::new("ip")
        .args(args.split(' '))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    status.is_ok_and(|status| status.success())
}

/// A pod's and a container's directory in the trees of v1, and a process in it within the network namespace.
fn start_pod(cleanup: &mut Cleanup, parent: &str, namespace: Option<&str>) -> Killed {
    let id = "c".repeat(64);
    let mut join = String::new();
    for controller in ["cpuacct", "memory"] {
        let mut dir = Path::new("/sys/fs/cgroup").join(controller);
        for part in [parent, &format!("pod{UID}"), &id] {
            dir = dir.join(part);
            fs::create_dir(&dir).unwrap();
            cleanup.dirs.push(dir.clone());
        }
        join.push_str(&format!("echo $$ > {}/cgroup.procs; ", dir.display()));
    }
    let inside = namespace.map_or(String::new(), |name| format!("ip netns exec {name} "));
    let script = format!("{join}exec {inside}sleep 1000");
    let child = Command::new("/bin/sh")
        .args(["-c", &script])
        .stdout(Stdio::null())
        .spawn();
    Killed(child.unwrap())
}

struct Reader {
    collectors: Collectors,
    table: SeriesTable,
    schema: Schema,
    now_ms: i64,
}

impl Reader {
    fn new() -> Self {
        let mut collectors = Collectors::default();
        collectors
            .try_add(|faults| Cgroups::new(&Roots::default(), None, faults))
            .unwrap();
        Self {
            collectors,
            table: SeriesTable::default(),
            schema: Schema::for_node("n"),
            now_ms: 0,
        }
    }

    /// Values of a network family of the test's pod, by interface.
    fn read(&mut self, parent: &str, name: &str) -> Vec<(String, f64)> {
        self.now_ms += 60_000;
        self.table.begin_tick(self.now_ms);
        self.collectors
            .collect(&mut self.table, &mut self.schema, Due::ALL);
        let values = self.table.current().filter_map(|(id, value)| {
            let labels = &self.table.def(id)?.labels;
            let is_ours = labels.get("id").is_some_and(|id| id.contains(parent))
                && labels.metric_name() == Some(name);
            is_ours.then(|| (labels.get("interface").unwrap_or("").to_owned(), value))
        });
        values.collect()
    }
}

fn can_run(test: &str) -> bool {
    let can = is_root() && Path::new("/sys/fs/cgroup/memory").is_dir() && ip("-V");
    if !can {
        skip(
            test,
            "needs root, the controllers of cgroup v1 and the program ip",
        );
    }
    can
}

#[test]
fn traffic_of_a_pod_is_that_of_its_namespace() {
    if !can_run("traffic of a pod") {
        return;
    }
    let mut cleanup = Cleanup::default();
    let number = std::process::id();
    let namespace = format!("tidemark-{number}");
    if !ip(&format!("netns add {namespace}")) {
        return skip("traffic of a pod", "network namespaces can't be made");
    }
    cleanup.namespace = Some(namespace.clone());
    let (outer, net) = (
        format!("tm{}", number % 100_000),
        format!("10.213.{}", number % 250),
    );
    assert!(ip(&format!(
        "link add {outer} type veth peer name eth0 netns {namespace}"
    )));
    assert!(ip(&format!("addr add {net}.1/30 dev {outer}")) && ip(&format!("link set {outer} up")));
    assert!(
        ip(&format!("-n {namespace} addr add {net}.2/30 dev eth0"))
            && ip(&format!("-n {namespace} link set eth0 up"))
    );
    let parent = format!("tidemark-net-{number}");
    let _pod = start_pod(&mut cleanup, &parent, Some(&namespace));
    let mut reader = Reader::new();
    let before = eventually("the pod's interface", || {
        let values = reader.read(&parent, "container_network_receive_bytes_total");
        (values.len() == 1 && values[0].0 == "eth0").then(|| values[0].1)
    });
    let socket = std::net::UdpSocket::bind(format!("{net}.1:0")).unwrap();
    for _ in 0..100 {
        socket.send_to(&[0; 1000], format!("{net}.2:9")).unwrap();
    }
    eventually("100 packets of 1000 bytes", || {
        let values = reader.read(&parent, "container_network_receive_bytes_total");
        values
            .first()
            .filter(|(_, bytes)| bytes - before >= 100_000.0)
            .cloned()
    });
    let packets = reader.read(&parent, "container_network_receive_packets_total");
    assert!(packets[0].1 >= 100.0, "{packets:?}");
}

#[test]
fn pod_in_the_nodes_namespace_has_no_traffic_of_its_own() {
    if !can_run("a host-network pod") {
        return;
    }
    let mut cleanup = Cleanup::default();
    let parent = format!("tidemark-hostnet-{}", std::process::id());
    let _pod = start_pod(&mut cleanup, &parent, None);
    let mut reader = Reader::new();
    eventually("the pod", || {
        let processes = reader.read(&parent, "container_processes");
        processes
            .iter()
            .any(|(_, count)| *count == 1.0)
            .then_some(())
    });
    assert_eq!(
        reader.read(&parent, "container_network_receive_bytes_total"),
        []
    );
}
