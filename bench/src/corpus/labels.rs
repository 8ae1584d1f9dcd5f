//! Names of nodes, pods and containers, as in a real cluster.

use super::{Label, PODS_PER_NODE, Shape};

/// Applications of each namespace. Each has two deployments (`v1`, `v2`) of three pods.
pub const APPS: [&str; 10] = [
    "api", "auth", "cart", "catalog", "checkout", "payment", "search", "shipping", "user", "web",
];

/// Names of a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodNames {
    /// Namespace.
    pub namespace: String,
    /// Application, one of [`APPS`].
    pub app: &'static str,
    /// Full name.
    pub pod: String,
    /// UID.
    pub uid: String,
    /// Number of the pod in the cluster.
    pub number: usize,
}

impl PodNames {
    /// Returns pod `slot` of node `node`.
    #[must_use]
    pub fn of(shape: &Shape, node: usize, slot: usize) -> Self {
        let number = node * PODS_PER_NODE + slot;
        let namespaces = shape.namespaces();
        let within = number / namespaces;
        let app = APPS[within % APPS.len()];
        let version = within / APPS.len() % 2 + 1;
        let namespace = format!("team-{:02}", number % namespaces);
        let replica_set = hash(&[number as u64 % namespaces as u64, within as u64 % 20, 1]);
        let own = hash(&[number as u64, 2]);
        let pod = format!(
            "{app}-v{version}-{:09x}-{:05x}",
            replica_set >> 28,
            own >> 44
        );
        let (high, low) = (hash(&[number as u64, 3]), hash(&[number as u64, 4]));
        let uid = format!(
            "{:08x}-{:04x}-4{:03x}-a{:03x}-{:012x}",
            high >> 32,
            high >> 16 & 0xffff,
            high & 0xfff,
            low >> 52,
            low & 0xffff_ffff_ffff
        );
        Self {
            namespace,
            app,
            pod,
            uid,
            number,
        }
    }

    /// Returns the pod's cgroup.
    pub(super) fn cgroup(&self) -> String {
        let uid = self.uid.replace('-', "_");
        format!("/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{uid}.slice")
    }

    /// Returns the cgroup of a container.
    pub(super) fn container_cgroup(&self, container: usize) -> String {
        let part = |n: u64| hash(&[self.number as u64, container as u64, n]);
        let id = format!(
            "{:016x}{:016x}{:016x}{:016x}",
            part(5),
            part(6),
            part(7),
            part(8)
        );
        format!("{}/cri-containerd-{id}.scope", self.cgroup())
    }
}

/// Returns the host name of a node.
pub(super) fn node_name(node: usize) -> String {
    format!("node-{node:04}.eu-1.example.internal")
}

/// Returns the address of a node's agent.
pub(super) fn instance(node: usize) -> String {
    format!(
        "10.{}.{}.{}:9101",
        node / 60_000,
        node / 250 % 240,
        node % 250 + 1
    )
}

/// Returns the labels of all series of a node, for one job.
pub(super) fn common(job: &str, node: usize) -> Vec<Label> {
    vec![
        ("instance", instance(node)),
        ("job", job.to_owned()),
        ("node", node_name(node)),
    ]
}

/// Hashes its arguments.
pub(super) fn hash(parts: &[u64]) -> u64 {
    let mut state = 0x51_7c_c1_b7_27_22_0a_95_u64;
    for &part in parts {
        state ^= part.wrapping_add(0x9e37_79b9_7f4a_7c15);
        state = (state ^ (state >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        state = (state ^ (state >> 32)).wrapping_mul(0x94d0_49bb_1331_11eb);
    }
    state ^ (state >> 31)
}
