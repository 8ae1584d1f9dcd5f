//! What a cgroup is called: cAdvisor's labels, from names where they are known.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::entry::CgroupLabels;
use super::identity::Identity;
use super::names::Names;
use crate::faults::{FaultId, Faults};

/// How a cgroup is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shown {
    /// With these labels.
    As(CgroupLabels),
    /// Not at all: a pod's sandbox, whose cost is inside the pod's.
    Hidden,
    /// By its UID or ID only, because the kubelet does not know it (yet).
    Nameless(CgroupLabels),
}

/// Labels of the cgroup at `path` in Kubernetes.
///
/// `is_pause` is asked only where names do not tell.
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
                // A pod's child that is none of its containers is its sandbox.
                _ => Shown::Hidden,
            }
        }
        _ => Shown::Hidden,
    }
}

/// Labels of a cgroup that is no part of a pod. `None` for pods and their containers.
#[must_use]
pub fn outside(
    identity: &Identity,
    path: &str,
    runtimes: &LocalNames,
    faults: &mut Faults,
) -> Option<CgroupLabels> {
    match identity {
        Identity::Root => Some(labels(path, &[])),
        Identity::Unit { name } => {
            let is_unit = [".service", ".scope"]
                .iter()
                .any(|suffix| name.ends_with(suffix));
            Some(labels(path, &[("name", if is_unit { name } else { "" })]))
        }
        Identity::Container {
            pod_uid: None,
            container_id,
        } => {
            let (name, image) = runtimes.look_up(container_id, faults).unwrap_or_default();
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

/// Names that docker and podman keep on disk; readable to root only.
#[derive(Debug)]
pub struct LocalNames {
    docker: PathBuf,
    docker_fault: FaultId,
    podman: PathBuf,
    podman_fault: FaultId,
}

#[derive(Deserialize)]
struct DockerConfig {
    #[serde(rename = "Name", default)]
    name: String,
    #[serde(rename = "Config", default)]
    config: DockerImage,
}

#[derive(Deserialize, Default)]
struct DockerImage {
    #[serde(rename = "Image", default)]
    image: String,
}

#[derive(Deserialize)]
struct PodmanContainer {
    id: String,
    #[serde(default)]
    names: Vec<String>,
    /// JSON in a string.
    #[serde(default)]
    metadata: String,
}

#[derive(Deserialize, Default)]
struct PodmanMetadata {
    #[serde(rename = "image-name", default)]
    image: String,
}

impl LocalNames {
    /// Names below the host's root.
    #[must_use]
    pub fn new(root: &Path, faults: &mut Faults) -> Self {
        Self {
            docker: root.join("var/lib/docker/containers"),
            docker_fault: faults.file("docker/config.v2.json"),
            podman: root.join("var/lib/containers/storage/overlay-containers/containers.json"),
            podman_fault: faults.file("podman/containers.json"),
        }
    }

    /// Name and image of a container; `None` where they can't be read.
    fn look_up(&self, id: &str, faults: &mut Faults) -> Option<(String, String)> {
        self.docker(id, faults).or_else(|| self.podman(id, faults))
    }

    // A file that can't be read belongs to a runtime that is not there, or to root: no fault.
    fn docker(&self, id: &str, faults: &mut Faults) -> Option<(String, String)> {
        let text = std::fs::read(self.docker.join(id).join("config.v2.json")).ok()?;
        let config = serde_json::from_slice(&text).ok();
        let config: DockerConfig = faults.parsed(self.docker_fault, config)?;
        Some((
            config.name.trim_start_matches('/').to_owned(),
            config.config.image,
        ))
    }

    fn podman(&self, id: &str, faults: &mut Faults) -> Option<(String, String)> {
        let text = std::fs::read(&self.podman).ok()?;
        let containers = serde_json::from_slice(&text).ok();
        let containers: Vec<PodmanContainer> = faults.parsed(self.podman_fault, containers)?;
        let mut found = containers
            .into_iter()
            .find(|container| container.id == id)?;
        let metadata = match &*found.metadata {
            "" => PodmanMetadata::default(),
            text => {
                let metadata = serde_json::from_str(text).ok();
                faults
                    .parsed(self.podman_fault, metadata)
                    .unwrap_or_default()
            }
        };
        let name = if found.names.is_empty() {
            String::new()
        } else {
            found.names.swap_remove(0)
        };
        Some((name, metadata.image))
    }
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

    #[test]
    fn docker_and_podman_names_are_read_where_they_can_be() {
        let dir = tempfile::tempdir().unwrap();
        let mut faults = Faults::default();
        let local = LocalNames::new(dir.path(), &mut faults);
        let alone = Identity::Container {
            pod_uid: None,
            container_id: ID.to_owned(),
        };
        let mut shown = |local: &LocalNames| outside(&alone, "/c", local, &mut faults).unwrap();
        assert_eq!(shown(&local), labels("/c", &[("name", ID)]));
        let storage = dir
            .path()
            .join("var/lib/containers/storage/overlay-containers");
        std::fs::create_dir_all(&storage).unwrap();
        let text = format!(
            r#"[{{"id":"{ID}","names":["db"],"metadata":"{{\"image-name\":\"pg:16\"}}"}}]"#
        );
        std::fs::write(storage.join("containers.json"), text).unwrap();
        assert_eq!(
            shown(&local),
            labels("/c", &[("name", "db"), ("image", "pg:16")])
        );
        let docker = dir.path().join("var/lib/docker/containers").join(ID);
        std::fs::create_dir_all(&docker).unwrap();
        std::fs::write(
            docker.join("config.v2.json"),
            r#"{"Name":"/web","Config":{"Image":"nginx"}}"#,
        )
        .unwrap();
        assert_eq!(
            shown(&local),
            labels("/c", &[("name", "web"), ("image", "nginx")])
        );
        assert_eq!(faults.total(), 0, "what is not there is no fault");
    }

    #[test]
    fn damaged_files_of_docker_and_podman_are_counted() {
        let dir = tempfile::tempdir().unwrap();
        let mut faults = Faults::default();
        let local = LocalNames::new(dir.path(), &mut faults);
        let alone = Identity::Container {
            pod_uid: None,
            container_id: ID.to_owned(),
        };
        let storage = dir
            .path()
            .join("var/lib/containers/storage/overlay-containers");
        std::fs::create_dir_all(&storage).unwrap();
        let by_id = labels("/c", &[("name", ID)]);
        let torn = format!(r#"[{{"id":"{ID}","na"#);
        let no_metadata = format!(r#"[{{"id":"{ID}","names":["db"],"metadata":"{{im"}}]"#);
        let by_name = labels("/c", &[("name", "db")]);
        for (text, want) in [(torn, by_id.clone()), (no_metadata, by_name)] {
            std::fs::write(storage.join("containers.json"), text).unwrap();
            let before = faults.total();
            let shown = outside(&alone, "/c", &local, &mut faults);
            assert_eq!(shown.as_ref(), Some(&want));
            assert_eq!(faults.total(), before + 1);
        }
        std::fs::remove_file(storage.join("containers.json")).unwrap();
        let docker = dir.path().join("var/lib/docker/containers").join(ID);
        std::fs::create_dir_all(&docker).unwrap();
        std::fs::write(docker.join("config.v2.json"), r#"{"Name":7}"#).unwrap();
        let before = faults.total();
        assert_eq!(outside(&alone, "/c", &local, &mut faults), Some(by_id));
        assert_eq!(faults.total(), before + 1);
    }
}
