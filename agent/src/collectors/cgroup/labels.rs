//! cAdvisor's labels of a cgroup.

use super::entry::CgroupLabels;
use super::identity::Identity;
use super::local_names::LocalNames;
use super::names::Names;
use crate::read_errors::ReadErrors;

/// How a cgroup is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shown {
    /// With these labels.
    As(CgroupLabels),
    /// Hidden: a pod's sandbox, which is counted in its pod.
    Hidden,
    /// By UID or ID only, because the kubelet does not know it (yet).
    Nameless(CgroupLabels),
}

/// Labels of the cgroup at `path` in Kubernetes.
///
/// `is_pause` is called only if the names do not decide.
pub fn kubernetes(
    identity: &Identity,
    path: &str,
    names: &Names,
    is_pause: impl FnOnce() -> bool,
) -> Shown {
    match identity {
        Identity::Pod { uid } => match names.pods.get(uid) {
            Some(pod) => Shown::As(labels(
                path,
                &[("namespace", &pod.namespace), ("pod", &pod.pod)],
            )),
            None => Shown::Nameless(labels(path, &[("uid", uid)])),
        },
        Identity::Container {
            pod_uid: Some(uid),
            container_id,
        } => {
            match (names.pods.get(uid), names.containers.get(container_id)) {
                (Some(pod), Some(container)) => Shown::As(labels(
                    path,
                    &[
                        ("name", container_id),
                        ("namespace", &pod.namespace),
                        ("pod", &pod.pod),
                        ("container", &container.container),
                        ("image", &container.image),
                    ],
                )),
                (None, _) if !is_pause() => {
                    Shown::Nameless(labels(path, &[("name", container_id), ("uid", uid)]))
                }
                // A child of a pod that is not one of its containers is its sandbox.
                _ => Shown::Hidden,
            }
        }
        _ => Shown::Hidden,
    }
}

/// Labels of a cgroup outside of pods. `None` for pods and their containers.
#[must_use]
pub fn outside(
    identity: &Identity,
    path: &str,
    runtimes: &LocalNames,
    errors: &mut ReadErrors,
) -> Option<CgroupLabels> {
    match identity {
        Identity::Root => Some(labels(path, &[])),
        // cAdvisor names containers only. Rules and dashboards select them by `name!=""`.
        Identity::Unit => Some(labels(path, &[])),
        Identity::Container {
            pod_uid: None,
            container_id,
        } => {
            let found = runtimes.look_up(container_id, path, errors);
            let (name, image) = found.unwrap_or_default();
            let name = if name.is_empty() { container_id } else { &name };
            Some(labels(path, &[("name", name), ("image", &image)]))
        }
        _ => None,
    }
}

fn labels(path: &str, others: &[(&'static str, &str)]) -> CgroupLabels {
    let others = others.iter().filter(|(_, value)| !value.is_empty());
    let mut labels = vec![("id", path.to_owned())];
    labels.extend(others.map(|(name, value)| (*name, (*value).to_owned())));
    labels
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collectors::cgroup::names::{ContainerNames, PodNames};

    const ID: &str = "2532e47d7f0892daead43a4e788ad25ed1800a6f4bfc0aedef1c57e6fc4b43cb";

    fn names() -> Names {
        let mut names = Names::default();
        let pod = PodNames {
            namespace: "shop".to_owned(),
            pod: "web".to_owned(),
            host_network: false,
        };
        names.pods.insert("u".to_owned(), pod);
        let container = ContainerNames {
            pod_uid: "u".to_owned(),
            container: "main".to_owned(),
            image: "img:1".to_owned(),
            start_seconds: None,
        };
        names.containers.insert(ID.to_owned(), container);
        names
    }

    fn container(pod_uid: &str, id: &str) -> Identity {
        Identity::Container {
            pod_uid: Some(pod_uid.to_owned()),
            container_id: id.to_owned(),
        }
    }

    #[test]
    fn pods_have_no_container_and_no_image() {
        let shown = kubernetes(
            &Identity::Pod {
                uid: "u".to_owned(),
            },
            "/p",
            &names(),
            || panic!("not asked"),
        );
        let want = labels("/p", &[("namespace", "shop"), ("pod", "web")]);
        assert_eq!(shown, Shown::As(want));
    }

    #[test]
    fn child_of_a_known_pod_without_a_name_is_its_sandbox() {
        let sandbox = "f".repeat(64);
        assert_eq!(
            kubernetes(&container("u", &sandbox), "/p/s", &names(), || false),
            Shown::Hidden
        );
        let Shown::As(shown) = kubernetes(&container("u", ID), "/p/c", &names(), || true) else {
            panic!()
        };
        assert_eq!(
            shown,
            labels(
                "/p/c",
                &[
                    ("name", ID),
                    ("namespace", "shop"),
                    ("pod", "web"),
                    ("container", "main"),
                    ("image", "img:1")
                ]
            )
        );
    }

    #[test]
    fn unknown_pods_are_shown_by_uid() {
        let shown = kubernetes(&container("v", ID), "/p/c", &names(), || false);
        assert_eq!(
            shown,
            Shown::Nameless(labels("/p/c", &[("name", ID), ("uid", "v")]))
        );
        assert_eq!(
            kubernetes(&container("v", ID), "/p/c", &names(), || true),
            Shown::Hidden
        );
    }
}
