//! Identifies a cgroup by its path: pod, container, systemd unit.
//!
//! Paths are parsed from their last component, so prefixes (`/kubelet/…`, `/docker/<id>/…` in kind) do not matter.
//! Both cgroup drivers are supported: `/kubepods/burstable/pod<UID>/<id>` and `/kubepods.slice/…-pod<UID with
//! _>.slice/<runtime>-<id>.scope`.

/// The kind of a cgroup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Identity {
    /// The whole machine.
    Root,
    /// A pod. Its UID has dashes; that of a static pod is 32 hex digits.
    Pod {
        /// The UID.
        uid: String,
    },
    /// A container or a pod's sandbox.
    Container {
        /// UID of its pod; `None` outside Kubernetes.
        pod_uid: Option<String>,
        /// 64 hex digits.
        container_id: String,
    },
    /// A systemd unit or any other cgroup.
    Unit,
    /// A descendant of a container, a helper of the runtime, or a mount unit. Counted in its parent and not shown.
    Hidden,
}

/// Bytes of a container ID.
const CONTAINER_ID_LEN: usize = 64;

impl Identity {
    /// Identifies the cgroup at `path`, which starts with a slash.
    #[must_use]
    pub fn of(path: &str) -> Self {
        let mut components = path
            .split('/')
            .filter(|component| !component.is_empty())
            .rev();
        let Some(last) = components.next() else {
            return Self::Root;
        };
        if last.ends_with(".mount") {
            return Self::Hidden;
        }
        if let Some(uid) = pod_uid(last) {
            return Self::Pod { uid };
        }
        let mut above = components;
        let parent = above.next();
        if let Some(uid) = parent.and_then(pod_uid) {
            return match container_id(last) {
                Some(id) => Self::Container {
                    pod_uid: Some(uid),
                    container_id: id.to_owned(),
                },
                None => Self::Hidden,
            };
        }
        let mut chain = parent.into_iter().chain(above).peekable();
        let is_podman_pod = is_podman_pod(last, chain.peek().copied());
        let mut below_container = false;
        while let Some(component) = chain.next() {
            let is_pod = self::is_podman_pod(component, chain.peek().copied());
            below_container |=
                !is_pod && (pod_uid(component).is_some() || container_id(component).is_some());
        }
        match container_id(last) {
            _ if below_container => Self::Hidden,
            Some(id) if !is_podman_pod => Self::Container {
                pod_uid: None,
                container_id: id.to_owned(),
            },
            None if is_helper(last) => Self::Hidden,
            _ => Self::Unit,
        }
    }

    /// Whether descendants of the cgroup at `path` may be shown, so that it must be listed and watched.
    ///
    /// A container outside of pods may be a whole node (kind, nested Kubernetes) with pods of its own.
    #[must_use]
    pub fn may_have_shown_below(&self, path: &str) -> bool {
        match self {
            Self::Root | Self::Pod { .. } | Self::Unit => true,
            Self::Container { pod_uid, .. } => pod_uid.is_none(),
            Self::Hidden => {
                let mut components = path.rsplit('/');
                let last = components.next().unwrap_or_default();
                let is_in_pod = components.next().and_then(pod_uid).is_some();
                !is_in_pod && !last.ends_with(".mount") && !is_helper(last)
            }
        }
    }
}

/// The pod of processes in the cgroup at `path`, at any depth below the pod's: CRI-O with crun has
/// `…/crio-<id>.scope/container`, and virtual machines (Kata) have names of their own.
#[must_use]
pub fn pod_of_processes(path: &str) -> Option<String> {
    path.rsplit('/').find_map(pod_uid)
}

/// Whether the pod of processes at `path` has the UID `uid`. Does not allocate.
#[must_use]
pub fn is_pod_of_processes(path: &str, uid: &str) -> bool {
    let is_same = |(found, wanted)| found == wanted || (found == b'_' && wanted == b'-');
    path.rsplit('/').find_map(written_uid).is_some_and(|found| {
        found.len() == uid.len() && found.bytes().zip(uid.bytes()).all(is_same)
    })
}

/// The pod UID in one path component.
fn pod_uid(component: &str) -> Option<String> {
    written_uid(component).map(|uid| uid.replace('_', "-"))
}

/// The pod UID as the component spells it.
fn written_uid(component: &str) -> Option<&str> {
    let uid = match component.strip_suffix(".slice") {
        // Dashes separate the parts of a systemd slice's name, so the UID has underscores instead.
        Some(slice) => slice.rsplit('-').next()?.strip_prefix("pod")?,
        None => component.strip_prefix("pod")?,
    };
    is_uid(uid.as_bytes()).then_some(uid)
}

fn is_uid(uid: &[u8]) -> bool {
    let is_hex = |part: &[u8]| part.iter().all(u8::is_ascii_hexdigit);
    match uid.len() {
        32 => is_hex(uid),
        36 => {
            let mut parts = uid.split(|byte| b"-_".contains(byte));
            [8, 4, 4, 4, 12].iter().all(|&len| {
                parts
                    .next()
                    .is_some_and(|part| part.len() == len && is_hex(part))
            })
        }
        _ => false,
    }
}

/// The container ID in one path component: `<id>` or `<runtime>-<id>`, with or without `.scope`.
fn container_id(component: &str) -> Option<&str> {
    let name = component.strip_suffix(".scope").unwrap_or(component);
    let id = name.rsplit('-').next()?;
    let is_id = id.len() == CONTAINER_ID_LEN && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    (is_id && !is_helper(component)).then_some(id)
}

/// Whether the cgroup below `parent` is a pod of podman (driver cgroupfs), whose bare ID looks like a container's.
fn is_podman_pod(component: &str, parent: Option<&str>) -> bool {
    parent == Some("libpod_parent") && !component.starts_with("libpod-")
}

/// Whether this is conmon or another helper process that the runtime runs beside a container.
fn is_helper(component: &str) -> bool {
    component.split('-').any(|part| part == "conmon")
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "2532e47d7f0892daead43a4e788ad25ed1800a6f4bfc0aedef1c57e6fc4b43cb";
    const UID: &str = "2fc932ce-fdcc-454b-97bd-aadfdeb4c340";
    const HASH: &str = "9805375b2da49fd5ea132c28453631d7";

    #[track_caller]
    fn check(path: &str, want: Identity) {
        assert_eq!(Identity::of(path), want, "{path}");
    }

    fn pod(uid: &str) -> Identity {
        Identity::Pod {
            uid: uid.to_owned(),
        }
    }

    fn container(uid: Option<&str>) -> Identity {
        Identity::Container {
            pod_uid: uid.map(str::to_owned),
            container_id: ID.to_owned(),
        }
    }

    #[test]
    fn pods_of_both_drivers_and_any_prefix() {
        let under = UID.replace('-', "_");
        check("/", Identity::Root);
        check(&format!("/kubepods/burstable/pod{UID}"), pod(UID));
        check(&format!("/kubepods/pod{UID}"), pod(UID));
        check(&format!("/kubepods/burstable/pod{HASH}"), pod(HASH));
        check(
            &format!(
                "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{under}.slice"
            ),
            pod(UID),
        );
        check(
            &format!("/kubepods.slice/kubepods-pod{under}.slice"),
            pod(UID),
        );
        check(
            &format!("/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{HASH}.slice"),
            pod(HASH),
        );
        check(
            &format!(
                "/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-besteffort.slice/kubelet-kubepods-besteffort-pod{under}.slice"
            ),
            pod(UID),
        );
        check(
            &format!("/docker/{ID}/kubelet/kubepods/besteffort/pod{UID}"),
            pod(UID),
        );
    }

    #[test]
    fn containers_of_all_runtimes() {
        let (systemd, plain) = (
            format!(
                "/kubepods.slice/kubepods-pod{}.slice",
                UID.replace('-', "_")
            ),
            format!("/kubepods/pod{UID}"),
        );
        for name in [
            format!("cri-containerd-{ID}.scope"),
            format!("crio-{ID}.scope"),
            format!("crio-{ID}"),
            format!("docker-{ID}.scope"),
        ] {
            check(&format!("{systemd}/{name}"), container(Some(UID)));
        }
        for name in [ID.to_owned(), format!("crio-{ID}")] {
            check(&format!("{plain}/{name}"), container(Some(UID)));
        }
        check(&format!("/docker/{ID}"), container(None));
        check(&format!("/system.slice/docker-{ID}.scope"), container(None));
        check(
            &format!("/machine.slice/libpod-{ID}.scope"),
            container(None),
        );
    }

    #[test]
    fn helpers_mounts_and_descendants_of_containers_are_hidden() {
        let pod = format!("/kubepods/pod{UID}");
        for path in [
            format!("{pod}/crio-conmon-{ID}.scope"),
            format!("{pod}/{ID}/container"),
            format!("{pod}/{ID}/docker/{ID}"),
            format!("{pod}/short"),
            format!("/machine.slice/libpod-conmon-{ID}.scope"),
            format!("/docker/{ID}/init.scope"),
            "/system.slice/run-user.mount".to_owned(),
        ] {
            check(&path, Identity::Hidden);
        }
    }

    #[test]
    fn containers_of_podman_in_and_outside_of_its_pods() {
        let pod = "5f".repeat(32);
        for path in [
            format!("/libpod_parent/libpod-{ID}"),
            format!("/libpod_parent/{pod}/libpod-{ID}"),
            format!("/machine.slice/machine-libpod_pod_{pod}.slice/libpod-{ID}.scope"),
            format!("/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{ID}.scope"),
        ] {
            check(&path, container(None));
            check(&format!("{path}/container"), Identity::Hidden);
        }
        check(&format!("/libpod_parent/{pod}"), Identity::Unit);
        for path in [
            format!("/libpod_parent/libpod-conmon-{ID}"),
            "/libpod_parent/conmon".to_owned(),
        ] {
            check(&path, Identity::Hidden);
        }
        let slice = format!("machine-libpod_pod_{pod}.slice");
        check(&format!("/machine.slice/{slice}"), Identity::Unit);
    }

    #[test]
    fn everything_else_is_a_unit() {
        check("/system.slice/nginx.service", Identity::Unit);
        check("/kubepods", Identity::Unit);
        check("/kubepods.slice/kubepods-burstable.slice", Identity::Unit);
        check(
            "/process_api/32ce7e9b6ca0c346f2066c4f2101a7ad",
            Identity::Unit,
        );
        check("/podinfo", Identity::Unit);
    }

    proptest::proptest! {
        #[test]
        fn no_path_panics(path: String) {
            let _identity = Identity::of(&path);
        }
    }
}
