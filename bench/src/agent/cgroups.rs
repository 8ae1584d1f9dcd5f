//! Real cgroups of pods and containers, as a kubelet creates them with cgroup v1, each with a real process.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, bail};

const ROOT: &str = "/sys/fs/cgroup";
const CONTROLLERS: [&str; 5] = ["cpu", "cpuacct", "memory", "blkio", "pids"];

/// The cgroups of a node full of pods. Dropping removes them and kills their processes.
#[derive(Debug)]
pub(super) struct Cgroups {
    /// Parents before their children.
    directories: Vec<PathBuf>,
    processes: Vec<Child>,
}

impl Cgroups {
    /// Creates `containers` containers in `pods` pods. One in ten works; with `are_all_busy`, all do.
    ///
    /// # Errors
    /// The process is not root, cgroup v1 is missing, or a real kubelet's cgroups exist.
    pub(super) fn new(pods: usize, containers: usize, are_all_busy: bool) -> Result<Self> {
        let mut cgroups = Self {
            directories: Vec::new(),
            processes: Vec::new(),
        };
        if Path::new(ROOT).join("memory/kubepods").try_exists()? {
            bail!("{ROOT}/memory/kubepods is there already");
        }
        cgroups.make("kubepods")?;
        cgroups.make("kubepods/burstable")?;
        for pod in 0..pods.min(containers) {
            cgroups.make(&pod_path(pod))?;
        }
        for container in 0..containers {
            let pod = pod_path(container % pods);
            let path = format!("{pod}/{container:064x}");
            cgroups.make(&path)?;
            cgroups.run(
                &path,
                (are_all_busy || container % 10 == 0).then_some(container),
            )?;
        }
        Ok(cgroups)
    }

    fn make(&mut self, path: &str) -> Result<()> {
        for controller in CONTROLLERS {
            let directory = Path::new(ROOT).join(controller).join(path);
            fs::create_dir(&directory).with_context(|| format!("make {}", directory.display()))?;
            self.directories.push(directory);
        }
        Ok(())
    }

    /// Starts a process that first moves itself into the cgroup. Without a number it sleeps, as most containers do; with one it
    /// works at intervals, and its work and memory depend on the number.
    fn run(&mut self, path: &str, busy: Option<usize>) -> Result<()> {
        let join: String = CONTROLLERS
            .iter()
            .map(|controller| format!("echo $$ > {ROOT}/{controller}/{path}/cgroup.procs; "))
            .collect();
        let work = match busy {
            Some(number) => format!(
                "b=; while :; do i=0; while [ $i -lt {} ]; do i=$((i+1)); b=${{b}}0123456789abcdef; done; [ ${{#b}} -lt 100000 ] || b=; sleep 1; done",
                300 + number % 300
            ),
            None => "exec sleep 100000".to_owned(),
        };
        let child = Command::new("/bin/sh")
            .args(["-c", &format!("set -e; {join}{work}")])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .context("start a process in a cgroup")?;
        self.processes.push(child);
        Ok(())
    }
}

fn pod_path(pod: usize) -> String {
    format!("kubepods/burstable/pod{pod:08x}-0000-4000-8000-{pod:012x}")
}

impl Drop for Cgroups {
    fn drop(&mut self) {
        for process in &mut self.processes {
            // Fails only if the process has ended.
            process.kill().ok();
            process.wait().ok();
        }
        for directory in self.directories.iter().rev() {
            remove(directory);
        }
    }
}

/// Removes a cgroup after its last process has ended; a busy process may leave a child.
fn remove(directory: &Path) {
    for _ in 0..300 {
        match fs::remove_dir(directory) {
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
            _ => return,
        }
    }
}

/// A memory cgroup for one program, to measure the kernel memory charged to it.
#[derive(Debug)]
pub(super) struct MemoryCgroup {
    directory: PathBuf,
}

impl MemoryCgroup {
    /// Creates the cgroup.
    ///
    /// # Errors
    /// The process is not root, or cgroup v1 has no memory controller.
    pub(super) fn new(name: &str) -> Result<Self> {
        let name = format!("tidemark-bench-{}-{name}", std::process::id());
        let directory = Path::new(ROOT).join("memory").join(name);
        fs::create_dir(&directory).with_context(|| format!("make {}", directory.display()))?;
        Ok(Self { directory })
    }

    /// Returns a command that runs `program` in the cgroup.
    pub(super) fn command(&self, program: &Path) -> Command {
        let mut command = Command::new("/bin/sh");
        let procs = self.directory.join("cgroup.procs");
        let script = format!("echo $$ > {}; exec \"$0\" \"$@\"", procs.display());
        command.args(["-c", &script]).arg(program);
        command
    }

    /// Returns the kernel memory charged to the cgroup, in bytes.
    ///
    /// # Errors
    /// The kernel does not count it.
    pub(super) fn kernel_bytes(&self) -> Result<u64> {
        let path = self.directory.join("memory.kmem.usage_in_bytes");
        let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        text.trim().parse().context("kernel memory")
    }
}

impl Drop for MemoryCgroup {
    fn drop(&mut self) {
        remove(&self.directory);
    }
}
