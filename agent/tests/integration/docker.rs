//! Real Docker containers: Debian's daemon in its own directory, an image built from scratch, and the agent's values
//! compared with the kernel's files.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::{Agent, Killed, Scrape, eventually, is_root, skip};

/// Holds some memory and then uses a little CPU forever. Linked statically, since the image has nothing else.
const PROGRAM: &str = r#"
fn main() {
    let mut held = vec![0_u8; 24 << 20];
    for byte in held.iter_mut().step_by(4096) {
        *byte = 1;
    }
    let mut sum = 0_u64;
    loop {
        for byte in &held {
            sum = sum.wrapping_add(u64::from(*byte));
        }
        std::hint::black_box(sum);
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}
"#;

/// A Docker daemon. Ends with the test, as do its containers.
struct Docker {
    daemon: Killed,
    bin: PathBuf,
    dir: tempfile::TempDir,
}

/// Where `scripts/peers` keeps Docker's programs.
fn programs() -> Option<PathBuf> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/peers");
    let output = Command::new(script).stderr(Stdio::null()).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let variable = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        Some(PathBuf::from(line.trim_matches('\'')))
    };
    variable("PEER_DOCKERD=")?;
    variable("PEERS_BIN=")
}

impl Docker {
    /// Returns `None`, with a notice, if Docker can't be fetched or started.
    fn start(test: &str) -> Option<Self> {
        if !is_root() {
            skip(test, "dockerd needs root");
            return None;
        }
        let Some(bin) = programs() else {
            skip(test, "the package docker.io can't be had (scripts/peers)");
            return None;
        };
        let dir = tempfile::Builder::new().prefix("tmd").tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        fs::write(path("daemon.json"), "{}").unwrap();
        let flag = |name: &str, value: PathBuf| format!("--{name}={}", value.display());
        let child = Command::new(bin.join("dockerd"))
            .env("PATH", search_path(&bin))
            .arg(flag("config-file", path("daemon.json")))
            // Where the agent looks for names if this directory is the host's root.
            .arg(flag("data-root", path("var/lib/docker")))
            .arg(flag("exec-root", path("x")))
            .arg(flag("pidfile", path("pid")))
            .arg(format!("--host=unix://{}", path("s").display()))
            .args([
                "--storage-driver=vfs",
                "--exec-opt=native.cgroupdriver=cgroupfs",
            ])
            .args([
                "--iptables=false",
                "--ip6tables=false",
                "--ip-forward=false",
                "--ip-masq=false",
            ])
            .args(["--bridge=none", "--userland-proxy=false"])
            .stdout(Stdio::null())
            .stderr(File::create(path("log")).unwrap())
            .spawn()
            .unwrap();
        let mut docker = Self {
            daemon: Killed(child),
            bin,
            dir,
        };
        let started = eventually("dockerd", || {
            if docker.try_run(&["version"]).status.success() {
                return Some(true);
            }
            docker.daemon.0.try_wait().unwrap().map(|_status| false)
        });
        if started {
            return Some(docker);
        }
        let log = fs::read_to_string(docker.dir.path().join("log")).unwrap();
        let last: Vec<&str> = log.lines().rev().take(5).collect();
        skip(
            test,
            &format!("dockerd does not start on this machine: {last:#?}"),
        );
        None
    }

    fn try_run(&self, args: &[&str]) -> Output {
        let socket = self.dir.path().join("s");
        Command::new(self.bin.join("docker"))
            .env("DOCKER_HOST", format!("unix://{}", socket.display()))
            .env("DOCKER_CONFIG", self.dir.path().join("config"))
            .env("DOCKER_BUILDKIT", "0")
            .args(args)
            .output()
            .unwrap()
    }

    /// Runs a command of the client and returns its output.
    #[track_caller]
    fn run(&self, args: &[&str]) -> String {
        let output = self.try_run(args);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "docker {args:?}: {said}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// Builds the image `tidemark-test` from an empty one.
    fn build_image(&self) {
        let folder = self.dir.path().join("image");
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("work.rs"), PROGRAM).unwrap();
        let built = Command::new("rustc")
            .args(["-O", "-C", "target-feature=+crt-static", "work.rs"])
            .current_dir(&folder)
            .status();
        assert!(built.unwrap().success(), "a static program");
        let text = "FROM scratch\nCOPY work /work\nUSER 65534:65534\nENTRYPOINT [\"/work\"]\n";
        fs::write(folder.join("Dockerfile"), text).unwrap();
        self.run(&[
            "build",
            "-q",
            "-t",
            "tidemark-test:1",
            folder.to_str().unwrap(),
        ]);
    }

    /// Starts a container and returns its ID.
    fn start_container(&self, name: &str, flags: &[&str]) -> String {
        let common = [
            "run",
            "-d",
            "--name",
            name,
            "--network=none",
            "--read-only",
            "--cap-drop=ALL",
        ];
        let args: Vec<&str> = common
            .iter()
            .chain(flags)
            .copied()
            .chain(["tidemark-test:1"])
            .collect();
        self.run(&args)
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        // Some may have been removed. The daemon stops the others and unmounts their file systems.
        let names = self.try_run(&["ps", "-aq"]).stdout;
        for name in String::from_utf8_lossy(&names).split_whitespace() {
            let _removed = self.try_run(&["rm", "-f", name]);
        }
        let pid = Pid::from_raw(i32::try_from(self.daemon.0.id()).unwrap());
        if kill(pid, Signal::SIGTERM).is_ok() {
            let _status = self.daemon.0.wait();
        }
    }
}

fn search_path(bin: &Path) -> String {
    let rest = std::env::var("PATH").unwrap_or_default();
    format!("{}:{rest}:/usr/sbin:/sbin", bin.display())
}

/// The kernel's values of a container.
struct Cgroup {
    id: String,
    is_v1: bool,
}

impl Cgroup {
    fn of(id: &str) -> Self {
        let root = Path::new("/sys/fs/cgroup");
        Self {
            id: id.to_owned(),
            is_v1: !root.join("cgroup.controllers").try_exists().unwrap(),
        }
    }

    fn read(&self, controller: &str, file: &str) -> String {
        let tree = if self.is_v1 { controller } else { "" };
        let path = Path::new("/sys/fs/cgroup")
            .join(tree)
            .join("docker")
            .join(&self.id)
            .join(file);
        fs::read_to_string(path).unwrap()
    }

    fn number(&self, controller: &str, file: &str) -> f64 {
        self.read(controller, file).trim().parse().unwrap()
    }

    fn keyed(&self, controller: &str, file: &str, key: &str) -> f64 {
        let text = self.read(controller, file);
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(key)?.strip_prefix(' '));
        line.unwrap().parse().unwrap()
    }

    /// The expected values by series name.
    fn expected(&self) -> Vec<(&'static str, f64)> {
        let (usage, inactive, cpu_seconds) = if self.is_v1 {
            (
                self.number("memory", "memory.usage_in_bytes"),
                self.keyed("memory", "memory.stat", "total_inactive_file"),
                self.number("cpuacct", "cpuacct.usage") / 1e9,
            )
        } else {
            (
                self.number("", "memory.current"),
                self.keyed("", "memory.stat", "inactive_file"),
                self.keyed("", "cpu.stat", "usage_usec") / 1e6,
            )
        };
        let cached = if self.is_v1 { "total_cache" } else { "file" };
        vec![
            ("container_cpu_usage_seconds_total", cpu_seconds),
            ("container_memory_usage_bytes", usage),
            (
                "container_memory_working_set_bytes",
                (usage - inactive).max(0.0),
            ),
            (
                "container_memory_cache",
                self.keyed("memory", "memory.stat", cached),
            ),
            ("container_spec_memory_limit_bytes", f64::from(64 << 20)),
            ("container_spec_cpu_quota", 50_000.0),
            ("container_spec_cpu_period", 100_000.0),
            ("container_threads", self.number("pids", "pids.current")),
        ]
    }
}

/// The value of a series of the container with that name.
fn value(scrape: &Scrape, series: &str, name: &str) -> Option<f64> {
    let has =
        |labels: &str, name: &str, value: &str| labels.contains(&format!("{name}=\"{value}\""));
    let mut found = scrape
        .iter()
        .filter(|(labels, _)| has(labels, "__name__", series) && has(labels, "name", name));
    let value = found.next().map(|(_, value)| *value);
    assert!(found.next().is_none(), "{series} of {name} is there twice");
    value
}

#[test]
fn docker_containers_have_their_names_and_the_kernels_numbers() {
    let Some(docker) = Docker::start("Docker") else {
        return;
    };
    docker.build_image();
    let web = docker.start_container("web", &["--memory=64m", "--cpus=0.5"]);
    let cgroup = Cgroup::of(&web);
    eventually("memory of the container", || {
        (cgroup.expected()[1].1 > 24e6).then_some(())
    });
    // Counters of a frozen container don't move, so they can be compared exactly.
    docker.run(&["pause", "web"]);

    let own = tempfile::tempdir().unwrap();
    let rootfs = format!("--path.rootfs={}", docker.dir.path().display());
    let agent = Agent::start(own.path(), &["--interval=1s", &rootfs], None);
    let scrape = eventually("the container", || {
        let scrape = agent.scrape();
        value(&scrape, "container_cpu_usage_seconds_total", "web").map(|_| scrape)
    });
    for (series, want) in cgroup.expected() {
        assert_eq!(value(&scrape, series, "web"), Some(want), "{series}");
    }
    let labels = scrape
        .keys()
        .find(|labels| labels.contains("name=\"web\""))
        .unwrap();
    assert!(
        labels.contains("image=\"tidemark-test:1\"")
            && labels.contains(&format!("id=\"/docker/{web}\"")),
        "{labels}"
    );

    // The container moves on, another one starts, one goes.
    docker.run(&["unpause", "web"]);
    let before = value(&scrape, "container_cpu_usage_seconds_total", "web").unwrap();
    docker.start_container("second", &[]);
    eventually(
        "the second container, and more CPU time of the first",
        || {
            let scrape = agent.scrape();
            let more = value(&scrape, "container_cpu_usage_seconds_total", "web")? > before;
            (more && value(&scrape, "container_memory_usage_bytes", "second")? > 0.0).then_some(())
        },
    );
    docker.run(&["rm", "-f", "second"]);
    eventually("end of the second container", || {
        let gone = value(&agent.scrape(), "container_memory_usage_bytes", "second").is_none();
        gone.then_some(())
    });
}
