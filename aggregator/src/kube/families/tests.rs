//! Tests of each kind, from the API server's JSON to the lines of kube-state-metrics.

use std::collections::BTreeSet;

use serde::Deserialize;

use super::*;
use crate::kube::series::{BaseLabels, Describe, Description};

#[derive(Deserialize)]
struct List<T> {
    items: Vec<T>,
}

/// Returns the lines without the labels that all series have.
fn lines<D: Describe>(object: &D) -> Vec<String> {
    let base = BaseLabels::new("api", None);
    let (series, malformed) = Description::of(object, &base).finish();
    assert_eq!(malformed, 0);
    let known: BTreeSet<&str> = FAMILIES.iter().map(|(name, _)| *name).collect();
    let mut lines = Vec::new();
    for (labels, value) in series {
        let name = labels.metric_name().unwrap();
        assert!(known.contains(name), "{name} is missing in FAMILIES");
        assert_eq!(labels.get("job"), Some("kube-state-metrics"));
        assert_eq!(labels.get("instance"), Some("api"));
        let own = labels.filtered(|name| !["__name__", "job", "instance"].contains(&name));
        let own: Vec<String> = own
            .iter()
            .map(|(name, value)| format!("{name}={value:?}"))
            .collect();
        lines.push(format!("{name}{{{}}} {value}", own.join(",")));
    }
    lines.sort();
    lines
}

#[track_caller]
fn check<D: Describe>(json: &str, want: &[&str]) {
    let object: D = serde_json::from_str(json).unwrap();
    let got = lines(&object);
    let mut want: Vec<String> = want.iter().map(|line| (*line).to_owned()).collect();
    want.sort();
    assert_eq!(got, want, "got\n{}", got.join("\n"));
}

#[test]
fn families_are_sorted_and_named_once() {
    assert!(FAMILIES.is_sorted_by(|a, b| a.0 < b.0));
}

#[test]
fn recorded_node() {
    let text = include_str!("../../../tests/fixtures/kube/nodes-v1.json");
    let nodes: List<Node> = serde_json::from_str(text).unwrap();
    let got = lines(&nodes.items[0]);
    let mut want = vec![
        r#"kube_node_created{node="node-a"} 1795333719"#.to_owned(),
        r#"kube_node_info{container_runtime_version="containerd://2.1.9+unknown",internal_ip="10.88.0.1",kernel_version="6.18.44",kubelet_version="v1.36.2",kubeproxy_version="deprecated",node="node-a",os_image="Debian GNU/Linux 12 (bookworm)",system_uuid="3d1219c7c4c5404aaa1f6d2a48adfda4"} 1"#.to_owned(),
        r#"kube_node_spec_unschedulable{node="node-a"} 0"#.to_owned(),
        r#"kube_node_status_addresses{address="10.88.0.1",node="node-a",type="InternalIP"} 1"#.to_owned(),
        r#"kube_node_status_addresses{address="node-a",node="node-a",type="Hostname"} 1"#.to_owned(),
    ];
    for (condition, holds) in [
        ("MemoryPressure", false),
        ("DiskPressure", false),
        ("PIDPressure", false),
        ("Ready", true),
    ] {
        for (status, value) in [("true", holds), ("false", !holds), ("unknown", false)] {
            let value = u8::from(value);
            want.push(format!(r#"kube_node_status_condition{{condition="{condition}",node="node-a",status="{status}"}} {value}"#));
        }
    }
    for (family, storage, memory) in [
        ("allocatable", "267847642337", "25224081408"),
        ("capacity", "270553174016", "25276510208"),
    ] {
        for (resource, unit, value) in [
            ("cpu", "core", "2"),
            ("ephemeral_storage", "byte", storage),
            ("hugepages_1Gi", "byte", "0"),
            ("hugepages_2Mi", "byte", "0"),
            ("memory", "byte", memory),
            ("pods", "integer", "110"),
        ] {
            want.push(format!(r#"kube_node_status_{family}{{node="node-a",resource="{resource}",unit="{unit}"}} {value}"#));
        }
    }
    want.sort();
    assert_eq!(got, want, "got\n{}", got.join("\n"));
}

#[test]
fn node_with_taints_roles_and_devices() {
    let json = r#"{"metadata": {"name": "n", "labels": {"node-role.kubernetes.io/control-plane": "", "x": "y"}},
        "spec": {"podCIDR": "10.0.0.0/24", "providerID": "aws:///i-1", "unschedulable": true,
                 "taints": [{"key": "k", "effect": "NoSchedule", "timeAdded": null}]},
        "status": {"capacity": {"nvidia.com/gpu": "4", "attachable-volumes-aws-ebs": "39"},
                   "conditions": [{"type": "Ready", "status": "Unknown"}]}}"#;
    check::<Node>(
        json,
        &[
            r#"kube_node_info{kubeproxy_version="deprecated",node="n",pod_cidr="10.0.0.0/24",provider_id="aws:///i-1"} 1"#,
            r#"kube_node_role{node="n",role="control-plane"} 1"#,
            r#"kube_node_spec_taint{effect="NoSchedule",key="k",node="n"} 1"#,
            r#"kube_node_spec_unschedulable{node="n"} 1"#,
            r#"kube_node_status_capacity{node="n",resource="attachable_volumes_aws_ebs",unit="byte"} 39"#,
            r#"kube_node_status_capacity{node="n",resource="nvidia_com_gpu",unit="integer"} 4"#,
            r#"kube_node_status_condition{condition="Ready",node="n",status="false"} 0"#,
            r#"kube_node_status_condition{condition="Ready",node="n",status="true"} 0"#,
            r#"kube_node_status_condition{condition="Ready",node="n",status="unknown"} 1"#,
        ],
    );
}

#[test]
fn namespace_and_its_phase() {
    check::<Namespace>(
        r#"{"metadata": {"name": "batch", "creationTimestamp": "1970-01-01T00:01:00Z"},
            "spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Terminating"}}"#,
        &[
            r#"kube_namespace_created{namespace="batch"} 60"#,
            r#"kube_namespace_status_phase{namespace="batch",phase="Active"} 0"#,
            r#"kube_namespace_status_phase{namespace="batch",phase="Terminating"} 1"#,
        ],
    );
}

#[test]
fn replica_set_with_and_without_owner() {
    let owned = r#"{"metadata": {"name": "web-1", "namespace": "shop", "generation": 2,
        "ownerReferences": [{"kind": "Deployment", "name": "web", "controller": true}]},
        "spec": {"replicas": 3}, "status": {"replicas": 3, "readyReplicas": 2, "observedGeneration": 2}}"#;
    check::<ReplicaSet>(
        owned,
        &[
            r#"kube_replicaset_metadata_generation{namespace="shop",replicaset="web-1"} 2"#,
            r#"kube_replicaset_owner{namespace="shop",owner_is_controller="true",owner_kind="Deployment",owner_name="web",replicaset="web-1"} 1"#,
            r#"kube_replicaset_spec_replicas{namespace="shop",replicaset="web-1"} 3"#,
            r#"kube_replicaset_status_observed_generation{namespace="shop",replicaset="web-1"} 2"#,
            r#"kube_replicaset_status_ready_replicas{namespace="shop",replicaset="web-1"} 2"#,
            r#"kube_replicaset_status_replicas{namespace="shop",replicaset="web-1"} 3"#,
        ],
    );
    let free: ReplicaSet =
        serde_json::from_str(r#"{"metadata": {"name": "r", "namespace": "n"}}"#).unwrap();
    let owner = r#"kube_replicaset_owner{namespace="n",replicaset="r"} 1"#.to_owned();
    assert!(
        lines(&free).contains(&owner),
        "owner_kind is empty, so it is absent"
    );
}

#[test]
fn failed_job_names_the_reason() {
    check::<Job>(
        r#"{"metadata": {"name": "j", "namespace": "n"}, "spec": {"completions": 1, "parallelism": 1},
            "status": {"failed": 3, "startTime": "1970-01-01T00:00:10Z", "conditions": [
                {"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded"},
                {"type": "FailureTarget", "status": "True"}]}}"#,
        &[
            r#"kube_job_failed{condition="false",job_name="j",namespace="n"} 0"#,
            r#"kube_job_failed{condition="true",job_name="j",namespace="n"} 1"#,
            r#"kube_job_failed{condition="unknown",job_name="j",namespace="n"} 0"#,
            r#"kube_job_info{job_name="j",namespace="n"} 1"#,
            r#"kube_job_owner{job_name="j",namespace="n"} 1"#,
            r#"kube_job_spec_completions{job_name="j",namespace="n"} 1"#,
            r#"kube_job_spec_parallelism{job_name="j",namespace="n"} 1"#,
            r#"kube_job_status_active{job_name="j",namespace="n"} 0"#,
            r#"kube_job_status_failed{job_name="j",namespace="n",reason="BackoffLimitExceeded"} 1"#,
            r#"kube_job_status_failed{job_name="j",namespace="n",reason="DeadlineExceeded"} 0"#,
            r#"kube_job_status_failed{job_name="j",namespace="n",reason="Evicted"} 0"#,
            r#"kube_job_status_start_time{job_name="j",namespace="n"} 10"#,
            r#"kube_job_status_succeeded{job_name="j",namespace="n"} 0"#,
        ],
    );
}

#[test]
fn job_that_failed_a_pod_but_not_itself() {
    let job: Job = serde_json::from_str(
        r#"{"metadata": {"name": "j", "namespace": "n"}, "status": {"failed": 2, "active": 1}}"#,
    )
    .unwrap();
    let failed: Vec<_> = lines(&job)
        .into_iter()
        .filter(|line| line.contains("failed"))
        .collect();
    assert_eq!(
        failed,
        [r#"kube_job_status_failed{job_name="j",namespace="n"} 2"#]
    );
}

#[test]
fn deployment_conditions_have_bounded_reasons() {
    check::<Deployment>(
        r#"{"metadata": {"name": "web", "namespace": "n", "generation": 7}, "spec": {"replicas": 3},
            "status": {"observedGeneration": 6, "replicas": 4, "updatedReplicas": 1, "readyReplicas": 3,
                       "availableReplicas": 2, "unavailableReplicas": 2, "conditions": [
                {"type": "Progressing", "status": "True", "reason": "ReplicaSetUpdated"},
                {"type": "Odd", "status": "False", "reason": "made up by somebody"}]}}"#,
        &[
            r#"kube_deployment_metadata_generation{deployment="web",namespace="n"} 7"#,
            r#"kube_deployment_spec_paused{deployment="web",namespace="n"} 0"#,
            r#"kube_deployment_spec_replicas{deployment="web",namespace="n"} 3"#,
            r#"kube_deployment_status_condition{condition="Odd",deployment="web",namespace="n",reason="unknown",status="false"} 1"#,
            r#"kube_deployment_status_condition{condition="Odd",deployment="web",namespace="n",reason="unknown",status="true"} 0"#,
            r#"kube_deployment_status_condition{condition="Odd",deployment="web",namespace="n",reason="unknown",status="unknown"} 0"#,
            r#"kube_deployment_status_condition{condition="Progressing",deployment="web",namespace="n",reason="ReplicaSetUpdated",status="false"} 0"#,
            r#"kube_deployment_status_condition{condition="Progressing",deployment="web",namespace="n",reason="ReplicaSetUpdated",status="true"} 1"#,
            r#"kube_deployment_status_condition{condition="Progressing",deployment="web",namespace="n",reason="ReplicaSetUpdated",status="unknown"} 0"#,
            r#"kube_deployment_status_observed_generation{deployment="web",namespace="n"} 6"#,
            r#"kube_deployment_status_replicas_available{deployment="web",namespace="n"} 2"#,
            r#"kube_deployment_status_replicas_ready{deployment="web",namespace="n"} 3"#,
            r#"kube_deployment_status_replicas_unavailable{deployment="web",namespace="n"} 2"#,
            r#"kube_deployment_status_replicas_updated{deployment="web",namespace="n"} 1"#,
            r#"kube_deployment_status_replicas{deployment="web",namespace="n"} 4"#,
        ],
    );
}

#[test]
fn daemon_set_and_stateful_set() {
    let set: DaemonSet = serde_json::from_str(
        r#"{"metadata": {"name": "d", "namespace": "n", "generation": 1},
            "status": {"currentNumberScheduled": 5, "desiredNumberScheduled": 6, "numberAvailable": 4,
                       "numberMisscheduled": 1, "numberReady": 3, "numberUnavailable": 2,
                       "observedGeneration": 9, "updatedNumberScheduled": 7}}"#,
    )
    .unwrap();
    let values: Vec<String> = lines(&set)
        .iter()
        .map(|line| {
            line.replace(r#"{daemonset="d",namespace="n"}"#, "")
                .replace("kube_daemonset_", "")
        })
        .collect();
    assert_eq!(
        values,
        [
            "metadata_generation 1",
            "status_current_number_scheduled 5",
            "status_desired_number_scheduled 6",
            "status_number_available 4",
            "status_number_misscheduled 1",
            "status_number_ready 3",
            "status_number_unavailable 2",
            "status_observed_generation 9",
            "status_updated_number_scheduled 7",
        ]
    );
    let set: StatefulSet = serde_json::from_str(
        r#"{"metadata": {"name": "s", "namespace": "n", "generation": 1}, "spec": {"replicas": 3},
            "status": {"availableReplicas": 1, "currentReplicas": 2, "currentRevision": "s-1", "observedGeneration": 4,
                       "readyReplicas": 5, "replicas": 6, "updateRevision": "s-2", "updatedReplicas": 7}}"#,
    )
    .unwrap();
    let values: Vec<String> = lines(&set)
        .iter()
        .map(|line| {
            line.replace(r#","#, "")
                .replace(r#"namespace="n""#, "")
                .replace(r#"statefulset="s""#, "")
        })
        .collect();
    assert_eq!(
        values,
        [
            "kube_statefulset_metadata_generation{} 1",
            "kube_statefulset_replicas{} 3",
            r#"kube_statefulset_status_current_revision{revision="s-1"} 1"#,
            "kube_statefulset_status_observed_generation{} 4",
            "kube_statefulset_status_replicas_available{} 1",
            "kube_statefulset_status_replicas_current{} 2",
            "kube_statefulset_status_replicas_ready{} 5",
            "kube_statefulset_status_replicas_updated{} 7",
            "kube_statefulset_status_replicas{} 6",
            r#"kube_statefulset_status_update_revision{revision="s-2"} 1"#,
        ]
    );
}

#[test]
fn quota_keeps_its_resource_names() {
    check::<ResourceQuota>(
        r#"{"metadata": {"name": "q", "namespace": "n"}, "spec": {"hard": {"requests.cpu": "4"}},
            "status": {"hard": {"requests.cpu": "4", "count/jobs.batch": "10"}, "used": {"requests.cpu": "1500m"}}}"#,
        &[
            r#"kube_resourcequota{namespace="n",resource="count/jobs.batch",resourcequota="q",type="hard"} 10"#,
            r#"kube_resourcequota{namespace="n",resource="requests.cpu",resourcequota="q",type="hard"} 4"#,
            r#"kube_resourcequota{namespace="n",resource="requests.cpu",resourcequota="q",type="used"} 1.5"#,
        ],
    );
}

#[test]
fn volume_and_its_claim() {
    check::<PersistentVolume>(
        r#"{"metadata": {"name": "pv"}, "spec": {"capacity": {"storage": "1Gi"}, "claimRef": {"name": "c", "namespace": "n"}},
            "status": {"phase": "Bound"}}"#,
        &[
            r#"kube_persistentvolume_capacity_bytes{persistentvolume="pv"} 1073741824"#,
            r#"kube_persistentvolume_claim_ref{claim_namespace="n",name="c",persistentvolume="pv"} 1"#,
            r#"kube_persistentvolume_status_phase{persistentvolume="pv",phase="Available"} 0"#,
            r#"kube_persistentvolume_status_phase{persistentvolume="pv",phase="Bound"} 1"#,
            r#"kube_persistentvolume_status_phase{persistentvolume="pv",phase="Failed"} 0"#,
            r#"kube_persistentvolume_status_phase{persistentvolume="pv",phase="Pending"} 0"#,
            r#"kube_persistentvolume_status_phase{persistentvolume="pv",phase="Released"} 0"#,
        ],
    );
    check::<PersistentVolumeClaim>(
        r#"{"metadata": {"name": "c", "namespace": "n"},
            "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}, "volumeName": "pv"},
            "status": {"phase": "Pending"}}"#,
        &[
            r#"kube_persistentvolumeclaim_access_mode{access_mode="ReadWriteOnce",namespace="n",persistentvolumeclaim="c"} 1"#,
            r#"kube_persistentvolumeclaim_info{namespace="n",persistentvolumeclaim="c",storageclass="<none>",volumename="pv"} 1"#,
            r#"kube_persistentvolumeclaim_resource_requests_storage_bytes{namespace="n",persistentvolumeclaim="c"} 1073741824"#,
            r#"kube_persistentvolumeclaim_status_phase{namespace="n",persistentvolumeclaim="c",phase="Bound"} 0"#,
            r#"kube_persistentvolumeclaim_status_phase{namespace="n",persistentvolumeclaim="c",phase="Lost"} 0"#,
            r#"kube_persistentvolumeclaim_status_phase{namespace="n",persistentvolumeclaim="c",phase="Pending"} 1"#,
        ],
    );
}

#[test]
fn autoscaler_and_disruption_budget() {
    check::<HorizontalPodAutoscaler>(
        r#"{"metadata": {"name": "h", "namespace": "n"}, "spec": {"maxReplicas": 5},
            "status": {"currentReplicas": 2, "desiredReplicas": 3}}"#,
        &[
            r#"kube_horizontalpodautoscaler_metadata_generation{horizontalpodautoscaler="h",namespace="n"} 0"#,
            r#"kube_horizontalpodautoscaler_spec_max_replicas{horizontalpodautoscaler="h",namespace="n"} 5"#,
            r#"kube_horizontalpodautoscaler_spec_min_replicas{horizontalpodautoscaler="h",namespace="n"} 1"#,
            r#"kube_horizontalpodautoscaler_status_current_replicas{horizontalpodautoscaler="h",namespace="n"} 2"#,
            r#"kube_horizontalpodautoscaler_status_desired_replicas{horizontalpodautoscaler="h",namespace="n"} 3"#,
        ],
    );
    check::<PodDisruptionBudget>(
        r#"{"metadata": {"name": "b", "namespace": "n"}, "spec": {"minAvailable": "50%"},
            "status": {"currentHealthy": 1, "desiredHealthy": 2, "disruptionsAllowed": 0, "expectedPods": 3, "observedGeneration": 4}}"#,
        &[
            r#"kube_poddisruptionbudget_status_current_healthy{namespace="n",poddisruptionbudget="b"} 1"#,
            r#"kube_poddisruptionbudget_status_desired_healthy{namespace="n",poddisruptionbudget="b"} 2"#,
            r#"kube_poddisruptionbudget_status_expected_pods{namespace="n",poddisruptionbudget="b"} 3"#,
            r#"kube_poddisruptionbudget_status_observed_generation{namespace="n",poddisruptionbudget="b"} 4"#,
            r#"kube_poddisruptionbudget_status_pod_disruptions_allowed{namespace="n",poddisruptionbudget="b"} 0"#,
        ],
    );
}

const UNSCHEDULED: &str = r#"{"metadata": {"name": "p", "namespace": "n", "uid": "u",
        "ownerReferences": [{"kind": "ReplicaSet", "name": "r", "controller": true}]},
    "spec": {"containers": [{"name": "c", "image": "i:1", "env": [{"name": "A", "value": "secret"}],
             "resources": {"requests": {"cpu": "100m", "memory": "16Mi"}, "limits": {"memory": "16Mi"}}}]},
    "status": {"phase": "Pending", "qosClass": "Burstable", "conditions": [
        {"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}]}}"#;

#[test]
fn pod_without_node() {
    let pod: Pod = serde_json::from_str(UNSCHEDULED).unwrap();
    let got = lines(&pod);
    for want in [
        r#"kube_pod_info{created_by_kind="ReplicaSet",created_by_name="r",host_network="false",namespace="n",pod="p",uid="u"} 1"#,
        r#"kube_pod_owner{namespace="n",owner_is_controller="true",owner_kind="ReplicaSet",owner_name="r",pod="p",uid="u"} 1"#,
        r#"kube_pod_container_resource_requests{container="c",namespace="n",pod="p",resource="cpu",uid="u",unit="core"} 0.1"#,
        r#"kube_pod_container_resource_requests{container="c",namespace="n",pod="p",resource="memory",uid="u",unit="byte"} 16777216"#,
        r#"kube_pod_container_resource_limits{container="c",namespace="n",pod="p",resource="memory",uid="u",unit="byte"} 16777216"#,
        r#"kube_pod_status_phase{namespace="n",phase="Pending",pod="p",uid="u"} 1"#,
        r#"kube_pod_status_phase{namespace="n",phase="Running",pod="p",uid="u"} 0"#,
        r#"kube_pod_status_scheduled{condition="false",namespace="n",pod="p",uid="u"} 1"#,
        r#"kube_pod_status_unschedulable{namespace="n",pod="p",uid="u"} 1"#,
    ] {
        assert!(
            got.contains(&want.to_owned()),
            "{want} is missing in\n{}",
            got.join("\n")
        );
    }
    assert!(!got.concat().contains("secret"));
    assert!(!got.iter().any(
        |line| line.starts_with("kube_pod_container_resource_limits") && line.contains("cpu")
    ));
}

#[test]
fn pod_with_a_node_is_left_to_the_agent() {
    let scheduled = UNSCHEDULED.replace(r#""spec": {"#, r#""spec": {"nodeName": "node-a", "#);
    check::<Pod>(&scheduled, &[]);
}

#[test]
fn invalid_quantities_and_times_are_counted() {
    let json = r#"{"metadata": {"name": "n", "creationTimestamp": "yesterday"}, "status": {"capacity": {"cpu": "many", "memory": "1Ki"}}}"#;
    let node: Node = serde_json::from_str(json).unwrap();
    let base = BaseLabels::new("api", None);
    let (series, malformed) = Description::of(&node, &base).finish();
    assert_eq!(malformed, 2);
    let named = |name| {
        series
            .iter()
            .filter(|(labels, _)| labels.metric_name() == Some(name))
            .count()
    };
    assert_eq!(named("kube_node_status_capacity"), 1);
    assert_eq!(named("kube_node_created"), 0);
}
