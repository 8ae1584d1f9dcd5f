//! Macros for expressions that many metrics share. They use the table's imports.

/// Selects and sums cAdvisor's series of one kind of object.
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

/// A cgroup series, transformed, for the four kinds of object that have a cgroup.
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

/// Like [`cgroup!`], with the sums over the pods of a namespace and of the cluster.
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

/// Requests or limits of one resource, and their sums. Sums exclude pods that are not scheduled yet.
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

/// A resource of a node as the API server reports it.
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

/// Network traffic of pods, and of nodes without their virtual interfaces.
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

/// A property of file systems: the node's root, containers' writable layers, pods' volumes.
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
