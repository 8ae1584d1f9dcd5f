//! Names of pods and containers as the kubelet reports them.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// A pod's names.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PodNames {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub pod: String,
    /// Whether it uses the node's network namespace.
    pub host_network: bool,
}

/// A container's names.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ContainerNames {
    /// UID of its pod.
    pub pod_uid: String,
    /// Its name in the pod.
    pub container: String,
    /// The image it runs.
    pub image: String,
    /// When it started, in seconds since the Unix epoch.
    pub start_seconds: Option<f64>,
}

/// All names known at one time.
#[derive(Debug, Default)]
pub struct Names {
    /// Grows with each change.
    pub generation: u64,
    /// By pod UID.
    pub pods: HashMap<String, PodNames>,
    /// By container ID.
    pub containers: HashMap<String, ContainerNames>,
}

#[derive(Debug)]
struct Shared {
    current: Mutex<Arc<Names>>,
    is_wanted: AtomicBool,
}

/// Publishes names to the sampling thread, which requests new ones when it finds a cgroup without a name.
#[derive(Debug, Clone)]
pub struct NamesHandle {
    shared: Arc<Shared>,
}

impl Default for NamesHandle {
    fn default() -> Self {
        let shared = Shared {
            current: Mutex::default(),
            is_wanted: AtomicBool::new(false),
        };
        Self {
            shared: Arc::new(shared),
        }
    }
}

impl NamesHandle {
    /// The newest names. Holds the lock only while it copies a pointer.
    #[must_use]
    pub fn current(&self) -> Arc<Names> {
        Arc::clone(
            &self
                .shared
                .current
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        )
    }

    /// Publishes names as the next generation.
    pub fn publish(&self, mut names: Names) {
        let mut current = self
            .shared
            .current
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        names.generation = current.generation + 1;
        *current = Arc::new(names);
    }

    /// Reports a pod or container without a name.
    pub fn want(&self) {
        self.shared.is_wanted.store(true, Ordering::Relaxed);
    }

    /// Whether [`Self::want`] was called since the last call.
    #[must_use]
    pub fn take_wanted(&self) -> bool {
        self.shared.is_wanted.swap(false, Ordering::Relaxed)
    }
}
