//! Series about a pod's containers, with kube-state-metrics' names and labels.

use super::{Sink, flag};
use crate::kube::api::{Container, ContainerStatus, Pod, Resources};
use crate::schema::{FamilyDef, Target, counter, gauge, info};

/// The families of one kind of container.
struct Families {
    info: FamilyDef,
    ready: FamilyDef,
    restarts: FamilyDef,
    waiting: FamilyDef,
    waiting_reason: FamilyDef,
    running: FamilyDef,
    terminated: FamilyDef,
    terminated_reason: FamilyDef,
    last_reason: FamilyDef,
    last_exit_code: FamilyDef,
    started: FamilyDef,
    requests: FamilyDef,
    limits: FamilyDef,
}

static MAIN: Families = Families {
    info: info(
        "kube_pod_container_info",
        "Information about a container in a pod.",
    ),
    ready: gauge(
        "kube_pod_container_status_ready",
        "Describes whether the containers readiness check succeeded.",
    ),
    restarts: counter(
        "kube_pod_container_status_restarts_total",
        "The number of container restarts per container.",
    ),
    waiting: gauge(
        "kube_pod_container_status_waiting",
        "Describes whether the container is currently in waiting state.",
    ),
    waiting_reason: gauge(
        "kube_pod_container_status_waiting_reason",
        "Describes the reason the container is currently in waiting state.",
    ),
    running: gauge(
        "kube_pod_container_status_running",
        "Describes whether the container is currently in running state.",
    ),
    terminated: gauge(
        "kube_pod_container_status_terminated",
        "Describes whether the container is currently in terminated state.",
    ),
    terminated_reason: gauge(
        "kube_pod_container_status_terminated_reason",
        "Describes the reason the container is currently in terminated state.",
    ),
    last_reason: gauge(
        "kube_pod_container_status_last_terminated_reason",
        "Describes the last reason the container was in terminated state.",
    ),
    last_exit_code: gauge(
        "kube_pod_container_status_last_terminated_exitcode",
        "Describes the exit code for the last container in terminated state.",
    ),
    started: gauge(
        "kube_pod_container_state_started",
        "Start time in unix timestamp for a pod container.",
    ),
    requests: gauge(
        "kube_pod_container_resource_requests",
        "The number of requested request resource by a container.",
    ),
    limits: gauge(
        "kube_pod_container_resource_limits",
        "The number of requested limit resource by a container.",
    ),
};

static INIT: Families = Families {
    info: info(
        "kube_pod_init_container_info",
        "Information about an init container in a pod.",
    ),
    ready: gauge(
        "kube_pod_init_container_status_ready",
        "Describes whether the init containers readiness check succeeded.",
    ),
    restarts: counter(
        "kube_pod_init_container_status_restarts_total",
        "The number of restarts for the init container.",
    ),
    waiting: gauge(
        "kube_pod_init_container_status_waiting",
        "Describes whether the init container is currently in waiting state.",
    ),
    waiting_reason: gauge(
        "kube_pod_init_container_status_waiting_reason",
        "Describes the reason the init container is currently in waiting state.",
    ),
    running: gauge(
        "kube_pod_init_container_status_running",
        "Describes whether the init container is currently in running state.",
    ),
    terminated: gauge(
        "kube_pod_init_container_status_terminated",
        "Describes whether the init container is currently in terminated state.",
    ),
    terminated_reason: gauge(
        "kube_pod_init_container_status_terminated_reason",
        "Describes the reason the init container is currently in terminated state.",
    ),
    last_reason: gauge(
        "kube_pod_init_container_status_last_terminated_reason",
        "Describes the last reason the init container was in terminated state.",
    ),
    last_exit_code: gauge(
        "kube_pod_init_container_status_last_terminated_exitcode",
        "Describes the exit code for the last init container in terminated state.",
    ),
    started: gauge(
        "kube_pod_init_container_state_started",
        "Start time in unix timestamp for a pod init container.",
    ),
    requests: gauge(
        "kube_pod_init_container_resource_requests",
        "The number of requested request resource by an init container.",
    ),
    limits: gauge(
        "kube_pod_init_container_resource_limits",
        "The number of requested limit resource by an init container.",
    ),
};

type Labels<'a> = Vec<(&'a str, &'a str)>;

/// Stores the series of all containers of a pod.
pub(super) fn store(pod: &Pod, node: &str, id: &[(&str, &str)], sink: &mut Sink<'_>) {
    let (spec, status) = (&pod.spec, &pod.status);
    for (families, specs, statuses) in [
        (&MAIN, &spec.containers, &status.container_statuses),
        (
            &INIT,
            &spec.init_containers,
            &status.init_container_statuses,
        ),
    ] {
        for container in specs {
            let mut labels = id.to_vec();
            labels.push(("container", &container.name));
            let status = statuses.iter().find(|status| status.name == container.name);
            store_resources(families, container, status, node, &labels, sink);
            if let Some(status) = status {
                store_status(families, container, status, &labels, sink);
            }
        }
    }
    // Start times of containers come from their cgroups, where unreadable ones can't be counted.
    for debugging in &status.ephemeral_container_statuses {
        sink.time(debugging.state.started_at());
    }
}

/// An in-place resize changes the status first. The spec may never follow.
fn store_resources(
    families: &'static Families,
    container: &Container,
    status: Option<&ContainerStatus>,
    node: &str,
    labels: &Labels<'_>,
    sink: &mut Sink<'_>,
) {
    let of_status = status.and_then(|status| status.resources.as_ref());
    let is_set =
        |resources: &&Resources| !resources.requests.is_empty() || !resources.limits.is_empty();
    let resources = of_status.filter(is_set).unwrap_or(&container.resources);
    for (family, quantities) in [
        (&families.requests, &resources.requests),
        (&families.limits, &resources.limits),
    ] {
        for (resource, quantity) in quantities {
            // An unset request or limit is absent, and so is an unreadable one.
            let Some(value) = sink.quantity(quantity) else {
                continue;
            };
            let resource_label = sanitize(resource);
            let own = [
                ("node", node),
                ("resource", &*resource_label),
                ("unit", unit(resource)),
            ];
            sink.set(
                Target::KubeState,
                family,
                &[labels, &own[..]].concat(),
                value,
            );
        }
    }
}

/// The unit that kube-state-metrics uses for a resource.
fn unit(resource: &str) -> &'static str {
    match resource {
        "cpu" => "core",
        "memory" | "storage" | "ephemeral-storage" => "byte",
        _ if resource.starts_with("hugepages-") || resource.starts_with("attachable-volumes-") => {
            "byte"
        }
        _ => "integer",
    }
}

fn sanitize(resource: &str) -> String {
    resource
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '_' })
        .collect()
}

fn store_status(
    families: &'static Families,
    container: &Container,
    status: &ContainerStatus,
    labels: &Labels<'_>,
    sink: &mut Sink<'_>,
) {
    sink.state(
        &families.info,
        &[
            labels,
            &[
                ("image", &*status.image),
                ("image_spec", &*container.image),
                ("image_id", &*status.image_id),
                ("container_id", &*status.container_id),
            ][..],
        ]
        .concat(),
    );
    let state = &status.state;
    for (family, value) in [
        (&families.ready, flag(status.ready)),
        (&families.restarts, status.restart_count as f64),
        (&families.waiting, flag(state.waiting.is_some())),
        (&families.running, flag(state.running.is_some())),
        (&families.terminated, flag(state.terminated.is_some())),
    ] {
        sink.set(Target::KubeState, family, labels, value);
    }
    let last = status.last_state.terminated.as_ref();
    for (family, reason) in [
        (
            &families.waiting_reason,
            state.waiting.as_ref().map(|waiting| &waiting.reason),
        ),
        (
            &families.terminated_reason,
            state
                .terminated
                .as_ref()
                .map(|terminated| &terminated.reason),
        ),
        (
            &families.last_reason,
            last.map(|terminated| &terminated.reason),
        ),
    ] {
        if let Some(reason) = reason.filter(|reason| !reason.is_empty()) {
            sink.state(family, &[labels, &[("reason", &**reason)][..]].concat());
        }
    }
    let started = sink.time(state.started_at());
    sink.set_some(Target::KubeState, &families.started, labels, started);
    sink.set_some(
        Target::KubeState,
        &families.last_exit_code,
        labels,
        last.map(|last| last.exit_code as f64),
    );
}
