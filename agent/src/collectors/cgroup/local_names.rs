//! Container names that docker and podman store on disk. Only root can read them, except those of a user's own
//! podman.

use std::fs::OpenOptions;
use std::io::Read as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use serde::Deserialize;

use crate::read_errors::{ReadErrorId, ReadErrors};

/// Upper bound on the size of such a file. Podman's list takes about 500 bytes per container.
const FILE_BYTES_MAX: u64 = 16 << 20;
/// Podman's lists below a storage directory: permanent containers, and those started with `--rm`.
const PODMAN_FILES: [&str; 2] = [
    "overlay-containers/containers.json",
    "overlay-containers/volatile-containers.json",
];

/// Looks up names.
#[derive(Debug)]
pub struct LocalNames {
    root: PathBuf,
    docker_fault: ReadErrorId,
    podman_fault: ReadErrorId,
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
    /// JSON inside a JSON string.
    #[serde(default)]
    metadata: String,
}

#[derive(Deserialize, Default)]
struct PodmanMetadata {
    #[serde(rename = "image-name", default)]
    image: String,
}

/// A user in whose slice a container runs.
struct User {
    uid: u32,
    home: PathBuf,
}

impl LocalNames {
    /// Names below the host's root.
    #[must_use]
    pub fn new(root: &Path, errors: &mut ReadErrors) -> Self {
        Self {
            root: root.to_owned(),
            docker_fault: errors.file("docker/config.v2.json"),
            podman_fault: errors.file("podman/containers.json"),
        }
    }

    /// Name and image of the container whose cgroup is at `path`; `None` if they can't be read.
    pub fn look_up(
        &self,
        id: &str,
        path: &str,
        errors: &mut ReadErrors,
    ) -> Option<(String, String)> {
        self.docker(id, errors)
            .or_else(|| {
                let storage = self.root.join("var/lib/containers/storage");
                self.podman(&storage, None, id, errors)
            })
            .or_else(|| {
                let user = self.user_of(path)?;
                let storage = user.home.join(".local/share/containers/storage");
                self.podman(&storage, Some(user.uid), id, errors)
            })
    }

    // An unreadable file is not an error: the runtime is not installed, or the file belongs to root.
    fn docker(&self, id: &str, errors: &mut ReadErrors) -> Option<(String, String)> {
        let containers = self.root.join("var/lib/docker/containers");
        let text = read(&containers.join(id).join("config.v2.json"), None)?;
        let config = serde_json::from_slice(&text).ok();
        let config: DockerConfig = errors.parsed(self.docker_fault, config)?;
        let name = config.name.trim_start_matches('/').to_owned();
        Some((name, config.config.image))
    }

    fn podman(
        &self,
        storage: &Path,
        owner: Option<u32>,
        id: &str,
        errors: &mut ReadErrors,
    ) -> Option<(String, String)> {
        let found = PODMAN_FILES.into_iter().find_map(|file| {
            let text = read(&storage.join(file), owner)?;
            let containers = serde_json::from_slice(&text).ok();
            let containers: Vec<PodmanContainer> = errors.parsed(self.podman_fault, containers)?;
            let mut containers = containers.into_iter();
            containers.find(|container| container.id == id)
        })?;
        let metadata = match &*found.metadata {
            "" => PodmanMetadata::default(),
            text => {
                let metadata = serde_json::from_str(text).ok();
                errors
                    .parsed(self.podman_fault, metadata)
                    .unwrap_or_default()
            }
        };
        let name = found.names.into_iter().next().unwrap_or_default();
        Some((name, metadata.image))
    }

    /// The user in whose slice (`user-1000.slice`) a cgroup is, with the home directory from the host's etc/passwd.
    fn user_of(&self, path: &str) -> Option<User> {
        let number = |part: &str| {
            let number = part.strip_prefix("user-")?.strip_suffix(".slice")?;
            number.parse::<u32>().ok()
        };
        let uid = path.split('/').find_map(number)?;
        let accounts = read(&self.root.join("etc/passwd"), None)?;
        let accounts = String::from_utf8(accounts).ok()?;
        // name:password:UID:GID:comment:home:shell
        let home = accounts.lines().find_map(|line| {
            let mut fields = line.split(':');
            let is_user = fields.nth(2)?.parse() == Ok(uid);
            fields.nth(2).filter(|_| is_user)
        })?;
        Some(User {
            uid,
            home: self.root.join(home.trim_start_matches('/')),
        })
    }
}

/// Reads a regular file that a user controls. Bounded, without following links or waiting for a pipe. The file must
/// belong to the user, or a link in the home directory could make the agent read what only root may.
fn read(path: &Path, owner: Option<u32>) -> Option<Vec<u8>> {
    let flags = OFlag::O_NONBLOCK | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let mut options = OpenOptions::new();
    let file = options
        .read(true)
        .custom_flags(flags.bits())
        .open(path)
        .ok()?;
    let metadata = file.metadata().ok()?;
    let is_owners = owner.is_none_or(|owner| metadata.uid() == owner);
    if !metadata.is_file() || !is_owners || metadata.len() > FILE_BYTES_MAX {
        return None;
    }
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{chown, symlink};

    use nix::sys::stat::Mode;
    use nix::unistd::mkfifo;

    use super::*;
    use crate::collectors::cgroup::identity::Identity;
    use crate::collectors::cgroup::labels::outside;

    const ID: &str = "2532e47d7f0892daead43a4e788ad25ed1800a6f4bfc0aedef1c57e6fc4b43cb";

    fn labels(path: &str, others: &[(&'static str, &str)]) -> Vec<(&'static str, String)> {
        let others = others
            .iter()
            .map(|(name, value)| (*name, (*value).to_owned()));
        std::iter::once(("id", path.to_owned()))
            .chain(others)
            .collect()
    }

    #[test]
    fn names_of_docker_and_podman_are_read_if_readable() {
        let dir = tempfile::tempdir().unwrap();
        let mut errors = ReadErrors::default();
        let local = LocalNames::new(dir.path(), &mut errors);
        let alone = Identity::Container {
            pod_uid: None,
            container_id: ID.to_owned(),
        };
        let mut shown = |local: &LocalNames| outside(&alone, "/c", local, &mut errors).unwrap();
        assert_eq!(shown(&local), labels("/c", &[("name", ID)]));
        let storage = dir
            .path()
            .join("var/lib/containers/storage/overlay-containers");
        fs::create_dir_all(&storage).unwrap();
        let text = format!(
            r#"[{{"id":"{ID}","names":["db"],"metadata":"{{\"image-name\":\"pg:16\"}}"}}]"#
        );
        fs::write(storage.join("containers.json"), text).unwrap();
        assert_eq!(
            shown(&local),
            labels("/c", &[("name", "db"), ("image", "pg:16")])
        );
        let docker = dir.path().join("var/lib/docker/containers").join(ID);
        fs::create_dir_all(&docker).unwrap();
        fs::write(
            docker.join("config.v2.json"),
            r#"{"Name":"/web","Config":{"Image":"nginx"}}"#,
        )
        .unwrap();
        assert_eq!(
            shown(&local),
            labels("/c", &[("name", "web"), ("image", "nginx")])
        );
        assert_eq!(errors.total(), 0, "what is not there is no fault");
    }

    #[test]
    fn damaged_files_of_docker_and_podman_are_counted() {
        let dir = tempfile::tempdir().unwrap();
        let mut errors = ReadErrors::default();
        let local = LocalNames::new(dir.path(), &mut errors);
        let alone = Identity::Container {
            pod_uid: None,
            container_id: ID.to_owned(),
        };
        let storage = dir
            .path()
            .join("var/lib/containers/storage/overlay-containers");
        fs::create_dir_all(&storage).unwrap();
        let by_id = labels("/c", &[("name", ID)]);
        let torn = format!(r#"[{{"id":"{ID}","na"#);
        let no_metadata = format!(r#"[{{"id":"{ID}","names":["db"],"metadata":"{{im"}}]"#);
        let by_name = labels("/c", &[("name", "db")]);
        for (text, want) in [(torn, by_id.clone()), (no_metadata, by_name)] {
            fs::write(storage.join("containers.json"), text).unwrap();
            let before = errors.total();
            let shown = outside(&alone, "/c", &local, &mut errors);
            assert_eq!(shown.as_ref(), Some(&want));
            assert_eq!(errors.total(), before + 1);
        }
        fs::remove_file(storage.join("containers.json")).unwrap();
        let docker = dir.path().join("var/lib/docker/containers").join(ID);
        fs::create_dir_all(&docker).unwrap();
        fs::write(docker.join("config.v2.json"), r#"{"Name":7}"#).unwrap();
        let before = errors.total();
        assert_eq!(outside(&alone, "/c", &local, &mut errors), Some(by_id));
        assert_eq!(errors.total(), before + 1);
    }

    fn list(name: &str) -> String {
        format!(r#"[{{"id":"{ID}","names":["{name}"],"metadata":"{{\"image-name\":\"pg:16\"}}"}}]"#)
    }

    #[test]
    fn containers_started_with_rm_and_those_of_users_have_their_names() {
        let dir = tempfile::tempdir().unwrap();
        let mut errors = ReadErrors::default();
        let local = LocalNames::new(dir.path(), &mut errors);
        let write = |path: &str, text: &str| {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let name = |path: &str| {
            let mut errors = ReadErrors::default();
            let found = local.look_up(ID, path, &mut errors);
            found.map(|(name, _)| name)
        };
        let system = "/machine.slice/libpod-x.scope";
        let storage = "var/lib/containers/storage/overlay-containers";
        write(&format!("{storage}/containers.json"), "[]");
        write(
            &format!("{storage}/volatile-containers.json"),
            &list("once"),
        );
        assert_eq!(name(system).as_deref(), Some("once"));
        fs::remove_file(dir.path().join(storage).join("volatile-containers.json")).unwrap();
        assert_eq!(name(system), None);
        // The user who runs the test owns the file.
        let uid = nix::unistd::geteuid().as_raw();
        let of_user =
            format!("/user.slice/user-{uid}.slice/user@{uid}.service/user.slice/libpod-x.scope");
        let accounts = format!(
            "odd\nother:x:4000000:1::/home/other:\nann:x:{uid}:100:Ann,,,:/home/ann:/bin/sh\n"
        );
        write("etc/passwd", &accounts);
        let in_home = "home/ann/.local/share/containers/storage/overlay-containers/containers.json";
        write(in_home, &list("mine"));
        assert_eq!(name(&of_user).as_deref(), Some("mine"));
        assert_eq!(name(system), None, "not in a user's slice");
        let path = dir.path().join(in_home);
        // A pipe would block, and a link would lead elsewhere.
        fs::rename(&path, path.with_extension("kept")).unwrap();
        symlink("containers.kept", &path).unwrap();
        assert_eq!(name(&of_user), None);
        fs::remove_file(&path).unwrap();
        mkfifo(&path, Mode::S_IRWXU).unwrap();
        assert_eq!(name(&of_user), None);
        fs::remove_file(&path).unwrap();
        fs::rename(path.with_extension("kept"), &path).unwrap();
        assert_eq!(name(&of_user).as_deref(), Some("mine"));
        if nix::unistd::geteuid().is_root() {
            chown(&path, Some(4_000_000), None).unwrap();
            assert_eq!(name(&of_user), None, "a file of somebody else");
        }
    }
}
