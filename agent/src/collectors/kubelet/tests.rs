use super::*;
use crate::collect::Due;
use crate::collectors::testing::Bench;

const PODS: &str = r#"{"kind":"PodList","items":[{
  "metadata":{"name":"web","namespace":"shop","uid":"u1","labels":{"app.kubernetes.io/name":"web","secret":"x"},
    "ownerReferences":[{"kind":"ReplicaSet","name":"web-1","controller":true}],"creationTimestamp":"2026-11-22T07:49:30Z"},
  "spec":{"nodeName":"node-a","restartPolicy":"Always","containers":[{"name":"app","image":"i:1","resources":{"limits":{"memory":"64Mi"},"requests":{"cpu":"50m","nvidia.com/gpu":"2","odd":"zz"}}}],
    "initContainers":[{"name":"side","image":"s:1"}],"volumes":[{"name":"v","persistentVolumeClaim":{"claimName":"data"}},{"name":"w"}]},
  "status":{"phase":"Running","qosClass":"Burstable","hostIP":"10.0.0.1","podIP":"10.1.0.2","conditions":[{"type":"Ready","status":"False"},{"type":"PodScheduled","status":"True"},{"type":"PodResizePending","status":"True","reason":"Deferred"}],
    "containerStatuses":[{"name":"app","containerID":"containerd://abc","image":"docker.io/i:1","ready":true,"restartCount":3,
      "state":{"running":{"startedAt":"2026-11-22T07:49:31Z"}},"lastState":{"terminated":{"exitCode":137,"reason":"OOMKilled","containerID":"containerd://old"}},
      "resources":{"limits":{"memory":"128Mi"},"requests":{"cpu":"100m"}}}],
    "initContainerStatuses":[{"name":"side","state":{"waiting":{"reason":"PodInitializing"}}}]}}]}"#;

const SUMMARY: &str = r#"{"node":{"fs":{"usedBytes":5}},"pods":[
  {"podRef":{"name":"web","namespace":"shop","uid":"u0"},"startTime":"2026-11-22T07:00:00Z","ephemeral-storage":{"usedBytes":1}},
  {"podRef":{"name":"web","namespace":"shop","uid":"u1"},"startTime":"2026-11-22T08:00:00Z","ephemeral-storage":{"usedBytes":7},
   "containers":[{"name":"app","rootfs":{"usedBytes":3,"capacityBytes":9},"logs":{"usedBytes":2}}],
   "volume":[{"name":"v","usedBytes":4,"pvcRef":{"name":"data","namespace":"shop"}},{"name":"w","usedBytes":6}]},
  {"podRef":{"name":"new","namespace":"shop","uid":"u2"},"containers":null}]}"#;

fn data() -> KubeletData {
    let data = KubeletData::default();
    data.set_pods(serde_json::from_str(PODS).unwrap());
    data.set_summary(Some(serde_json::from_str(SUMMARY).unwrap()));
    data
}

fn collector(data: &KubeletData) -> Kubelet {
    Kubelet::new(
        data.clone(),
        "node-a".to_owned(),
        vec!["app.kubernetes.io/name".to_owned()],
    )
}

#[test]
fn pods_have_kube_state_metrics_series() {
    let mut bench = Bench::new();
    bench.collect(&mut collector(&data()));
    let pod = [
        ("namespace", "shop"),
        ("pod", "web"),
        ("uid", "u1"),
        ("job", "kube-state-metrics"),
    ];
    let value = |name: &str, more: &[(&str, &str)]| bench.value(name, &[&pod[..], more].concat());
    let info = [
        ("node", "node-a"),
        ("created_by_kind", "ReplicaSet"),
        ("host_network", "false"),
        ("pod_ip", "10.1.0.2"),
    ];
    assert_eq!(value("kube_pod_info", &info), Some(1.0));
    assert_eq!(
        value(
            "kube_pod_owner",
            &[("owner_name", "web-1"), ("owner_is_controller", "true")]
        ),
        Some(1.0)
    );
    assert_eq!(
        value("kube_pod_status_phase", &[("phase", "Running")]),
        Some(1.0)
    );
    assert_eq!(
        value("kube_pod_status_phase", &[("phase", "Failed")]),
        Some(0.0)
    );
    assert_eq!(
        value("kube_pod_status_ready", &[("condition", "false")]),
        Some(1.0)
    );
    assert_eq!(
        value("kube_pod_status_scheduled", &[("condition", "true")]),
        Some(1.0)
    );
    assert_eq!(
        value(
            "kube_pod_labels",
            &[
                ("label_app_kubernetes_io_name", "web"),
                ("label_secret", "")
            ]
        ),
        Some(1.0)
    );
    for (class, want) in [("Burstable", 1.0), ("Guaranteed", 0.0)] {
        assert_eq!(
            value("kube_pod_status_qos_class", &[("qos_class", class)]),
            Some(want)
        );
    }
    assert_eq!(
        value(
            "kube_pod_status_resize",
            &[("status", "pending"), ("reason", "Deferred")]
        ),
        Some(1.0)
    );
    let claim = [("volume", "v"), ("persistentvolumeclaim", "data")];
    assert_eq!(
        value("kube_pod_spec_volumes_persistentvolumeclaims_info", &claim),
        Some(1.0)
    );
}

#[test]
fn containers_have_kube_state_metrics_series() {
    let mut bench = Bench::new();
    bench.collect(&mut collector(&data()));
    let check = |name: &str, label: &str, is: &str, want: f64| {
        assert_eq!(
            bench.value(name, &[("pod", "web"), (label, is)]),
            Some(want),
            "{name}"
        );
    };
    check(
        "kube_pod_container_status_restarts_total",
        "container",
        "app",
        3.0,
    );
    check("kube_pod_container_status_running", "container", "app", 1.0);
    check(
        "kube_pod_container_status_last_terminated_reason",
        "reason",
        "OOMKilled",
        1.0,
    );
    check(
        "kube_pod_container_status_last_terminated_exitcode",
        "container",
        "app",
        137.0,
    );
    check(
        "kube_pod_init_container_status_waiting_reason",
        "reason",
        "PodInitializing",
        1.0,
    );
}

#[test]
fn resources_in_force_win_over_the_spec() {
    let mut bench = Bench::new();
    bench.collect(&mut collector(&data()));
    let requests = |resource| {
        bench.value(
            "kube_pod_container_resource_requests",
            &[("resource", resource)],
        )
    };
    assert_eq!(
        (requests("cpu"), requests("nvidia_com_gpu")),
        (Some(0.1), None)
    );
    let limit = [("resource", "memory"), ("unit", "byte"), ("node", "node-a")];
    assert_eq!(
        bench.value("kube_pod_container_resource_limits", &limit),
        Some(134_217_728.0)
    );
    assert_eq!(
        bench.value("kube_pod_container_resource_limits", &[("resource", "cpu")]),
        None,
        "unset is absent"
    );
}

#[test]
fn younger_pod_of_one_name_has_the_storage_values() {
    let mut bench = Bench::new();
    bench.collect(&mut collector(&data()));
    let value = |name: &str, labels: &[(&str, &str)]| bench.value(name, labels);
    assert_eq!(
        value(
            "kubelet_pod_ephemeral_storage_used_bytes",
            &[("pod", "web")]
        ),
        Some(7.0)
    );
    let claim = [
        ("persistentvolumeclaim", "data"),
        ("namespace", "shop"),
        ("metrics_path", "/metrics"),
    ];
    assert_eq!(value("kubelet_volume_stats_used_bytes", &claim), Some(4.0));
    assert_eq!(
        value("kubelet_pod_volume_stats_used_bytes", &[("volume", "w")]),
        Some(6.0)
    );
    assert_eq!(
        value("container_fs_usage_bytes", &[("container", "app")]),
        Some(3.0)
    );
    assert_eq!(
        value(
            "kubelet_container_log_filesystem_used_bytes",
            &[("container", "app")]
        ),
        Some(2.0)
    );
    assert_eq!(
        value("kubelet_node_fs_used_bytes", &[("filesystem", "node")]),
        Some(5.0)
    );
    assert_eq!(value("kubelet_node_fs_capacity_bytes", &[]), None);
}

#[test]
fn series_end_with_their_objects() {
    let mut bench = Bench::new();
    let data = data();
    let mut kubelet = collector(&data);
    bench.collect(&mut kubelet);
    assert!(bench.series_count() > 30);
    data.set_summary(None);
    data.set_pods(serde_json::from_str(r#"{"kind":"PodList","items":null}"#).unwrap());
    bench.collect(&mut kubelet);
    assert_eq!(bench.series_count(), 0);
}

#[test]
fn other_documents_are_not_parsed_as_empty_lists() {
    for other in ["{}", r#"{"kind":"Status","status":"Failure"}"#] {
        assert!(serde_json::from_str::<PodList>(other).is_err());
    }
    assert!(serde_json::from_str::<Summary>("{}").is_err());
}

#[test]
fn change_is_stored_at_the_next_tick_and_the_rest_every_30_seconds() {
    let pods = |phase: &str| {
        let text = format!(
            r#"{{"items":[{{"metadata":{{"name":"p","namespace":"s","uid":"u"}},"status":{{"phase":"{phase}"}}}}]}}"#
        );
        serde_json::from_str(&text).unwrap()
    };
    let mut bench = Bench::new();
    let data = KubeletData::default();
    let mut kubelet = collector(&data);
    data.set_pods(pods("Pending"));
    bench.collect_due(&mut kubelet, Due::at(0, 10_000));
    data.set_pods(pods("Running"));
    bench.collect_due(&mut kubelet, Due::at(1, 10_000));
    let phase = |bench: &Bench, phase| bench.value("kube_pod_status_phase", &[("phase", phase)]);
    assert_eq!(phase(&bench, "Running"), Some(1.0));
    assert_eq!(phase(&bench, "Pending"), Some(0.0));
    assert_eq!(phase(&bench, "Failed"), None, "unchanged");
    bench.collect_due(&mut kubelet, Due::at(2, 10_000));
    assert_eq!(phase(&bench, "Running"), None, "unchanged");
    bench.collect_due(&mut kubelet, Due::at(3, 10_000));
    assert_eq!(phase(&bench, "Running"), Some(1.0));
    assert_eq!(phase(&bench, "Failed"), Some(0.0));
}

/// As in a recorded API server: the mirror of this pod was created at 2026-11-30T09:00:50Z.
#[test]
fn static_pod_was_created_when_the_kubelet_saw_it() {
    for seen in [
        "2026-11-30T09:00:50.940078681Z",
        "2026-11-30T10:00:50.940078681+01:00",
    ] {
        let text = format!(
            r#"{{"items":[{{"metadata":{{"name":"static-web-node-a","namespace":"default","uid":"u","annotations":{{
              "kubernetes.io/config.source":"file","kubernetes.io/config.seen":"{seen}"}}}}}}]}}"#
        );
        let mut bench = Bench::new();
        let data = KubeletData::default();
        data.set_pods(serde_json::from_str(&text).unwrap());
        bench.collect(&mut collector(&data));
        assert_eq!(bench.value("kube_pod_created", &[]), Some(1_796_029_250.0));
    }
}

#[test]
fn unreadable_words_are_absent_and_counted_once_per_answer() {
    const ODD: &str = r#"{"items":[{
      "metadata":{"name":"odd","namespace":"shop","uid":"u","creationTimestamp":"yesterday"},
      "spec":{"containers":[{"name":"app","resources":{"requests":{"cpu":"abc","memory":"64Mi"},"limits":{"cpu":"1 core"}}}]},
      "status":{"startTime":"2026-11-22T07:49:30Z",
        "containerStatuses":[{"name":"app","state":{"running":{"startedAt":"07:49"}}}],
        "ephemeralContainerStatuses":[{"name":"debug","state":{"running":{"startedAt":""}}}]}}]}"#;
    let mut bench = Bench::new();
    let data = KubeletData::default();
    let mut kubelet = collector(&data);
    data.set_pods(serde_json::from_str(ODD).unwrap());
    bench.collect(&mut kubelet);
    let present = |bench: &Bench, name: &str, labels: &[(&str, &str)]| bench.value(name, labels);
    let cpu = [("resource", "cpu")];
    for (name, labels) in [
        ("kube_pod_container_resource_requests", &cpu[..]),
        ("kube_pod_container_resource_limits", &cpu[..]),
        ("kube_pod_container_state_started", &[]),
        ("kube_pod_created", &[]),
    ] {
        assert_eq!(present(&bench, name, labels), None, "{name}");
    }
    let memory = [("resource", "memory")];
    let requested = present(&bench, "kube_pod_container_resource_requests", &memory);
    assert_eq!(requested, Some(67_108_864.0));
    assert!(present(&bench, "kube_pod_start_time", &[]).is_some());
    assert_eq!(bench.not_understood("/pods"), Some(5.0));

    // A new summary does not count the words of the same pods again.
    let summary = r#"{"node":{},"pods":[{"podRef":{"name":"odd"},"startTime":"soon"}]}"#;
    data.set_summary(Some(serde_json::from_str(summary).unwrap()));
    bench.collect(&mut kubelet);
    bench.collect(&mut kubelet);
    assert_eq!(bench.not_understood("/pods"), Some(5.0));
    assert_eq!(bench.not_understood("/stats/summary"), Some(1.0));
    data.set_pods(serde_json::from_str(ODD).unwrap());
    bench.collect(&mut kubelet);
    assert_eq!(bench.not_understood("/pods"), Some(5.0), "the same answer");
    let other = ODD.replace("07:49\"", "07:50\"");
    data.set_pods(serde_json::from_str(&other).unwrap());
    bench.collect(&mut kubelet);
    assert_eq!(bench.not_understood("/pods"), Some(10.0));
    assert_eq!(bench.not_understood("/stats/summary"), Some(1.0));
}

#[test]
fn resize_is_reported_with_and_without_conditions() {
    let resized = |status: &str| {
        let mut bench = Bench::new();
        let data = KubeletData::default();
        let pods = format!(r#"{{"items":[{{"metadata":{{"name":"p"}},"status":{status}}}]}}"#);
        data.set_pods(serde_json::from_str(&pods).unwrap());
        bench.collect(&mut collector(&data));
        let mut found: Vec<(String, String, f64)> = Vec::new();
        for (id, value) in bench.table.current() {
            let labels = &bench.table.def(id).unwrap().labels;
            if labels.metric_name() == Some("kube_pod_status_resize") {
                let label = |name| labels.get(name).unwrap_or_default().to_owned();
                found.push((label("status"), label("reason"), value));
            }
        }
        found
    };
    let state = |status: &str, reason: &str| vec![(status.to_owned(), reason.to_owned(), 1.0)];
    assert_eq!(resized(r#"{"resize":""}"#), []);
    for reason in ["Proposed", "Deferred", "Infeasible"] {
        let status = format!(r#"{{"resize":"{reason}"}}"#);
        assert_eq!(resized(&status), state("pending", reason));
    }
    assert_eq!(
        resized(r#"{"resize":"InProgress"}"#),
        state("in_progress", "")
    );
    // If both are present, the condition has more detail.
    let both = r#"{"resize":"InProgress","conditions":[{"type":"PodResizePending","status":"True","reason":"Infeasible"}]}"#;
    assert_eq!(resized(both), state("pending", "Infeasible"));
}

#[test]
fn new_answers_are_stored_at_once_and_unchanged_ones_every_30_seconds() {
    let (mut bench, data) = (Bench::new(), KubeletData::default());
    let mut kubelet = collector(&data);
    let mut ticks = Vec::new();
    for tick in 0..9 {
        if tick == 2 {
            data.set_pods(serde_json::from_str(PODS).unwrap());
            bench.collect(&mut kubelet);
        }
        bench.collect_due(&mut kubelet, Due::at(tick, 10_000));
        if bench.value("kube_pod_info", &[]).is_some() {
            ticks.push(tick);
        }
    }
    assert_eq!(
        ticks,
        [2, 3, 6],
        "the scrape before tick 2 took nothing from it"
    );
}

#[test]
fn static_pods_belong_to_their_node() {
    for (source, kind, name) in [("file", "Node", "node-a"), ("api", "", "")] {
        let mut bench = Bench::new();
        let data = KubeletData::default();
        let pods = format!(
            r#"{{"items":[{{"metadata":{{"name":"p","annotations":{{"kubernetes.io/config.source":"{source}","x":"y"}}}}}}]}}"#
        );
        data.set_pods(serde_json::from_str(&pods).unwrap());
        bench.collect(&mut collector(&data));
        let owner = [("owner_kind", kind), ("owner_name", name)];
        assert_eq!(bench.value("kube_pod_owner", &owner), Some(1.0), "{source}");
        let creator = [("created_by_kind", kind), ("created_by_name", name)];
        assert_eq!(
            bench.value("kube_pod_info", &creator),
            Some(1.0),
            "{source}"
        );
    }
}
