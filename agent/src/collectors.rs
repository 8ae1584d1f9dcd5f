//! Everything the agent reads: the node, its cgroups, the kubelet.

pub mod cgroup;
pub mod node;
#[cfg(test)]
pub(crate) mod testing;
