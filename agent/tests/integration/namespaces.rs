//! Pods in network namespaces that the test creates, and traffic between them and the node.

use std::path::Path;
use std::process::{Command, Stdio};

use agent::collectors::node::Roots;

use crate::cgroups::{ROOT, Reader, TestCgroup, can_make_v1};
use crate::support::{Killed, eventually, skip};

const UID: &str = "0fae20de-60a3-4f13-bb4d-57951c6a86f8";

/// A network namespace and its link. Removed on drop.
struct Namespace(String);

impl Namespace {
    /// Returns `None`, with a notice, if namespaces can't be created.
    fn new(test: &str, name: String) -> Option<Self> {
        if !ip(&format!("netns add {name}")) {
            skip(test, "network namespaces can't be made");
            return None;
        }
        Some(Self(name))
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        ip(&format!("netns del {}", self.0));
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

/// The cgroups of a pod with a container.
fn pod(top: &str) -> TestCgroup {
    let (pod, id) = (format!("pod{UID}"), "c".repeat(64));
    let trees = ["cpuacct", "memory"];
    TestCgroup::new(Path::new(ROOT), &trees, top, &[&pod, &id])
}

/// A process in the pod, inside a network namespace.
fn start(pod: &TestCgroup, namespace: Option<&Namespace>) -> Killed {
    let inside = namespace.map(|namespace| format!("ip netns exec {} ", namespace.0));
    pod.run(&format!("exec {}sleep 1000", inside.unwrap_or_default()))
}

/// Runs a tick and returns interface and value of the pod's series in a network family.
fn read(reader: &mut Reader, pod: &TestCgroup, name: &str) -> Vec<(String, f64)> {
    reader.tick();
    let values = reader.values(pod, name).into_iter();
    let interface = |labels: &common::model::Labels| labels.get("interface").map(str::to_owned);
    values
        .map(|(labels, value)| (interface(&labels).unwrap_or_default(), value))
        .collect()
}

fn can_run(test: &str) -> bool {
    let has_ip = ip("-V");
    if !has_ip {
        skip(test, "needs the program ip");
    }
    has_ip && can_make_v1(test)
}

#[test]
fn traffic_of_a_pod_is_that_of_its_namespace() {
    if !can_run("traffic of a pod") {
        return;
    }
    let number = std::process::id();
    let namespace = format!("tidemark-{number}");
    let Some(inner) = Namespace::new("traffic of a pod", namespace.clone()) else {
        return;
    };
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
    let pod = pod("net");
    let _process = start(&pod, Some(&inner));
    let mut reader = Reader::new(&Roots::default());
    let before = eventually("the pod's interface", || {
        let values = read(&mut reader, &pod, "container_network_receive_bytes_total");
        (values.len() == 1 && values[0].0 == "eth0").then(|| values[0].1)
    });
    let socket = std::net::UdpSocket::bind(format!("{net}.1:0")).unwrap();
    eventually("100 packets of 1000 bytes", || {
        // The first packet may be dropped during address resolution.
        for _ in 0..100 {
            socket.send_to(&[0; 1000], format!("{net}.2:9")).unwrap();
        }
        let values = read(&mut reader, &pod, "container_network_receive_bytes_total");
        values
            .first()
            .filter(|(_, bytes)| bytes - before >= 100_000.0)
            .cloned()
    });
    let packets = read(&mut reader, &pod, "container_network_receive_packets_total");
    assert!(packets[0].1 >= 100.0, "{packets:?}");
}

#[test]
fn pod_in_the_nodes_namespace_has_the_nodes_interfaces() {
    if !can_run("a host-network pod") {
        return;
    }
    let pod = pod("hostnet");
    let _process = start(&pod, None);
    let mut reader = Reader::new(&Roots::default());
    let (found, _) = eventually("the node's interfaces", || {
        let received = read(&mut reader, &pod, "container_network_receive_bytes_total");
        received.into_iter().next()
    });
    assert_ne!(found, "lo");
}
