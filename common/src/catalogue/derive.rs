//! Macros for expressions that many metrics share. They name what the table imports.

/// Which rows of cAdvisor's series are which object.
macro_rules! of {
    (container, $before:literal, $name:literal, $more:literal, $after:literal) => {
        concat!("sum by (namespace, pod, container) (", $before, $name, "{container!=\"\"", $more, "}", $after, ")")
    };
    (pod, $before:literal, $name:literal, $more:literal, $after:literal) => {
        concat!("sum by (namespace, pod) (", $before, $name, "{pod!=\"\",container=\"\"", $more, "}", $after, ")")
    };
    (node, $before:literal, $name:literal, $more:literal, $after:literal) => {
        concat!("sum by (node) (", $before, $name, "{id=\"/\"", $more, "}", $after, ")")
    };
    (system, $before:literal, $name:literal, $more:literal, $after:literal) => {
        of!("sum", system, $before, $name, $more, $after)
    };
    ($how:literal, system, $before:literal, $name:literal, $more:literal, $after:literal) => {
        concat!(
            $how, " by (node, container) (label_replace(label_replace(label_replace(",
            $before, $name, "{id=~\"/kubepods([.]slice)?|/system[.]slice/(kubelet|containerd|crio|docker)[.]service\"", $more, "}", $after,
            ", \"container\", \"pods\", \"id\", \"/kubepods.*\")",
            ", \"container\", \"kubelet\", \"id\", \".*/kubelet[.]service\")",
            ", \"container\", \"docker-daemon\", \"id\", \".*/(containerd|crio|docker)[.]service\"))"
        )
    };
}

/// A series of cgroups for the four objects that have a cgroup, with something done to it.
macro_rules! cgroup {
    ($name:literal) => {
        cgroup!("", $name, "", "")
    };
    ($before:literal, $name:literal, $more:literal, $after:literal) => {
        &[
            by(Node, Agent, of!(node, $before, $name, $more, $after)),
            by(
                SystemContainer,
                Agent,
                of!(system, $before, $name, $more, $after),
            ),
            by(Pod, Agent, of!(pod, $before, $name, $more, $after)),
            by(
                PodContainer,
                Agent,
                of!(container, $before, $name, $more, $after),
            ),
        ]
    };
}

/// Cgroups, and sums of pods above them.
macro_rules! cgroup_summed {
    ($before:literal, $name:literal, $after:literal) => {
        &[
            by(
                Cluster,
                Agent,
                concat!(
                    "sum(",
                    $before,
                    $name,
                    "{pod!=\"\",container=\"\"}",
                    $after,
                    ")"
                ),
            ),
            by(
                Namespace,
                Agent,
                concat!(
                    "sum by (namespace) (",
                    $before,
                    $name,
                    "{pod!=\"\",container=\"\"}",
                    $after,
                    ")"
                ),
            ),
            by(Node, Agent, of!(node, $before, $name, "", $after)),
            by(
                SystemContainer,
                Agent,
                of!(system, $before, $name, "", $after),
            ),
            by(Pod, Agent, of!(pod, $before, $name, "", $after)),
            by(
                PodContainer,
                Agent,
                of!(container, $before, $name, "", $after),
            ),
        ]
    };
}

/// Requests or limits of one resource, with their sums; what a pod asks for that is on no node yet is in none of these.
macro_rules! resource {
    ($name:literal, $resource:literal, $factor:literal) => {
        &[
            by(
                Cluster,
                Kubelet,
                concat!(
                    "sum(",
                    $name,
                    "{node!=\"\",resource=\"",
                    $resource,
                    "\"})",
                    $factor
                ),
            ),
            by(
                Namespace,
                Kubelet,
                concat!(
                    "sum by (namespace) (",
                    $name,
                    "{node!=\"\",resource=\"",
                    $resource,
                    "\"})",
                    $factor
                ),
            ),
            by(
                Node,
                Kubelet,
                concat!(
                    "sum by (node) (",
                    $name,
                    "{node!=\"\",resource=\"",
                    $resource,
                    "\"})",
                    $factor
                ),
            ),
            by(
                Pod,
                Kubelet,
                concat!(
                    "sum by (namespace, pod) (",
                    $name,
                    "{resource=\"",
                    $resource,
                    "\"})",
                    $factor
                ),
            ),
            by(
                PodContainer,
                Kubelet,
                concat!(
                    "sum by (namespace, pod, container) (",
                    $name,
                    "{resource=\"",
                    $resource,
                    "\"})",
                    $factor
                ),
            ),
        ]
    };
}

/// What the API server says of a node.
macro_rules! of_node {
    ($name:literal, $resource:literal, $factor:literal) => {
        &[by(
            Node,
            ApiServer,
            concat!(
                "sum by (node) (",
                $name,
                "{resource=\"",
                $resource,
                "\"})",
                $factor
            ),
        )]
    };
}

/// Traffic: of pods by their namespaces, of nodes by the interfaces that lead outside.
macro_rules! network {
    ($before:literal, $pod:literal, $node:literal, $after:literal) => {
        &[
            by(
                Node,
                Agent,
                concat!(
                    "sum by (node) (",
                    $before,
                    $node,
                    "{device!~\"lo|(veth|docker|cni|cali|flannel|br-).*\"}",
                    $after,
                    ")"
                ),
            ),
            by(
                Pod,
                Agent,
                concat!(
                    "sum by (namespace, pod) (",
                    $before,
                    $pod,
                    "{pod!=\"\"}",
                    $after,
                    ")"
                ),
            ),
        ]
    };
}

/// A number of file systems: the node's root, containers' writable layers, pods' volumes.
macro_rules! filesystem {
    ($node:literal, $container:literal, $volume:literal $(, $more:expr)?) => {
        &[
            by(
                Node,
                Agent,
                concat!(
                    "label_replace(sum by (node) (",
                    $node,
                    "), \"resource_id\", \"/\", \"\", \"\")"
                ),
            ),
            by(
                PodContainer,
                Kubelet,
                concat!(
                    "label_replace(sum by (namespace, pod, container) (",
                    $container,
                    "{container!=\"\"}), \"resource_id\", \"/\", \"\", \"\")"
                ),
            ),
            by(
                Pod,
                Kubelet,
                concat!(
                    "label_replace(sum by (namespace, pod, volume) (",
                    $volume,
                    "), \"resource_id\", \"Volume:$1\", \"volume\", \"(.*)\")"
                ),
            ),
            $($more,)?
        ]
    };
}

/// Block I/O by device.
macro_rules! disk {
    ($before:literal, $name:literal, $after:literal) => {
        &[
            by(
                Node,
                Agent,
                concat!(
                    "label_replace(sum by (node, device) (",
                    $before,
                    $name,
                    "{id=\"/\"}",
                    $after,
                    "), \"resource_id\", \"$1\", \"device\", \"(.*)\")"
                ),
            ),
            by(
                Pod,
                Agent,
                concat!(
                    "label_replace(sum by (namespace, pod, device) (",
                    $before,
                    $name,
                    "{pod!=\"\",container=\"\"}",
                    $after,
                    "), \"resource_id\", \"$1\", \"device\", \"(.*)\")"
                ),
            ),
            by(
                PodContainer,
                Agent,
                concat!(
                    "label_replace(sum by (namespace, pod, container, device) (",
                    $before,
                    $name,
                    "{container!=\"\"}",
                    $after,
                    "), \"resource_id\", \"$1\", \"device\", \"(.*)\")"
                ),
            ),
        ]
    };
}
