//! Wires the parts together, starts them and shuts them down.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;

use anyhow::Context as _;
use common::clock::SystemClock;
use common::telemetry::{Registry, register_process_metrics};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tidemark_link::spool::{self, Receiver, SpoolHandle, SpoolOptions};
use tidemark_link::uplink::{self, IdentityFiles, UplinkConfig};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::collect::Collectors;
use crate::collectors;
use crate::collectors::own::OwnMetrics;
use crate::config::Config;
use crate::kube::metrics::Families;
use crate::kube::verify::Trust;
use crate::kube::{self, KubeletClient, KubeletData, KubeletOptions};
use crate::sampler::{self, Sampler, SamplerHandle};
use crate::schema::{NodeIdentity, Schema};
use crate::web::Web;

/// A configuration that was checked against this machine.
#[derive(Debug)]
pub struct Plan {
    config: Config,
    node: String,
    collectors: Collectors,
    kubelet: Option<Kubelet>,
}

/// Client of the node's kubelet, its answers, and the families of its own metrics to pass on.
#[derive(Debug)]
struct Kubelet {
    client: KubeletClient,
    data: KubeletData,
    families: Families,
}

impl Plan {
    /// Checks the configuration against this machine.
    ///
    /// # Errors
    /// A setting cannot work here; the error names it.
    pub fn new(mut config: Config) -> anyhow::Result<Self> {
        let node = node_name(&config).context("--node.name")?;
        config.node_name = Some(node.clone());
        anyhow::ensure!(
            !config.mirror || config.aggregator_addresses.len() >= 2,
            "--mirror needs two of --aggregator.address"
        );
        anyhow::ensure!(
            config.join_token_files.len() <= if config.mirror { 2 } else { 1 },
            "--join.token-file is given once, with --mirror twice at most"
        );
        let kubelet = kubelet(&config, &node)?;
        let collectors = collectors::build(
            &config.build_context(kubelet.as_ref().map(|kubelet| &kubelet.data)),
        )?;
        Ok(Self {
            config,
            node,
            collectors,
            kubelet,
        })
    }

    /// Returns whether to exit after the check.
    #[must_use]
    pub const fn check_only(&self) -> bool {
        self.config.check_config
    }
}

/// Determines the name of this node: the flag, else `NODE_NAME`, else the host name.
fn node_name(config: &Config) -> anyhow::Result<String> {
    let name = match &config.node_name {
        Some(name) => name.clone(),
        None => match std::env::var("NODE_NAME") {
            Ok(name) if !name.is_empty() => name,
            _ => nix::unistd::gethostname()?
                .into_string()
                .map_err(|_| anyhow::anyhow!("the host name is not UTF-8"))?,
        },
    };
    let is_good = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
    anyhow::ensure!(
        (1..=253).contains(&name.len()) && name.chars().all(is_good),
        "{name:?} is not a node name: letters, digits, dots, dashes and underscores, at most 253"
    );
    Ok(name)
}

/// Creates the client of the node's kubelet if its URL is set.
fn kubelet(config: &Config, node: &str) -> anyhow::Result<Option<Kubelet>> {
    if config.kubelet_url.is_empty() {
        return Ok(None);
    }
    let trust = Trust {
        ca_file: config.kubelet_ca_file.clone(),
        pinned_file: config.kubelet_pinned_cert_file.clone(),
        anybody: config.kubelet_insecure_skip_verify,
        node: node.to_owned(),
    };
    let options = KubeletOptions::new(
        config.kubelet_url.clone(),
        config.kubelet_token_file.clone(),
        trust,
    );
    let families = if config.collectors.is_on(collectors::KUBELET_METRICS) {
        Families::new(&config.kubelet_metrics)?
    } else {
        Families::default()
    };
    Ok(Some(Kubelet {
        client: KubeletClient::new(options)?,
        data: KubeletData::default(),
        families,
    }))
}

/// Reads namespace and name of the agent's own pod from the downward API.
fn own_pod() -> Option<(String, String)> {
    let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
    Some((variable("POD_NAMESPACE")?, variable("POD_NAME")?))
}

/// Runs the agent until it is stopped.
///
/// # Errors
/// A part cannot be started or gave up.
pub fn run(plan: Plan) -> anyhow::Result<()> {
    raise_descriptor_limit();
    // One thread is enough for one connection and an occasional scrape. Sampling has its own thread.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(run_async(plan))
}

/// Raises the limit of open files: the agent keeps up to ten descriptors per cgroup.
fn raise_descriptor_limit() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    if let Err(error) = raised {
        tracing::warn!(
            error = common::report::chain(&error),
            "cannot raise the limit of open files; on a large node some cgroups will be absent"
        );
    }
}

async fn run_async(plan: Plan) -> anyhow::Result<()> {
    let registry = Registry::default();
    register_process_metrics(&registry);
    let Plan {
        config,
        node,
        collectors,
        kubelet,
    } = plan;
    let spool_options = SpoolOptions {
        path: config.spool_path.clone(),
        bytes_max: config.spool_size,
        receivers: receivers(&config),
        sync_each_tick: false,
    };
    let (spool, spool_handle) = spool::open(spool_options, &registry)?;
    let web = Web::bind(config.web_listen_address)
        .await
        .with_context(|| format!("listen on {}", config.web_listen_address))?;
    tracing::info!(address = %web.local_address()?, "serving /metrics");
    let schema = Schema::new(NodeIdentity {
        node: node.clone(),
        pod: own_pod(),
        cluster: config.cluster_name.clone(),
    });
    let sampler = Sampler {
        collectors,
        schema,
        spool,
        interval: config.interval,
        clock: Arc::new(SystemClock),
        own: OwnMetrics::new(registry.clone()),
    };
    let (sampler, thread) =
        sampler::start(sampler, &registry).context("start the sampling thread")?;
    tracing::info!(node, interval = ?config.interval, "sampling");
    let (stop, drain) = (CancellationToken::new(), CancellationToken::new());
    watch_signals(&stop)?;
    let mut tasks = JoinSet::new();
    tasks.spawn(serve_web(
        web,
        sampler.clone(),
        registry.clone(),
        drain.clone(),
    ));
    if let Some(kubelet) = kubelet {
        tasks.spawn(ask_kubelet(kubelet, registry.clone(), drain.clone()));
    }
    if config.aggregator_addresses.is_empty() {
        tracing::info!("no --aggregator.address; ticks stay in the spool");
    } else {
        for &receiver in receivers(&config) {
            let uplink = uplink_config(&config, &node, receiver);
            let spool = spool_handle.for_receiver(receiver);
            tasks.spawn(send(uplink, spool, drain.clone(), registry.clone()));
        }
    }
    let outcome = supervise(&mut tasks, (&stop, &drain), &sampler, thread).await;
    tracing::info!("stopped");
    outcome
}

/// Waits until a signal arrives or a part gives up, then stops the others in order: the sampler takes a last tick and syncs the
/// spool, then the uplinks send the rest within their grace period.
async fn supervise(
    tasks: &mut JoinSet<anyhow::Result<()>>,
    (stop, drain): (&CancellationToken, &CancellationToken),
    sampler: &SamplerHandle,
    thread: JoinHandle<()>,
) -> anyhow::Result<()> {
    let mut outcome = Ok(());
    tokio::select! {
        () = stop.cancelled() => tracing::info!("stopping"),
        Some(done) = tasks.join_next() => outcome = flatten(done),
    }
    let sampler = sampler.clone();
    let ended = tokio::task::spawn_blocking(move || {
        sampler.stop();
        thread.join()
    });
    if !matches!(ended.await, Ok(Ok(()))) {
        outcome = outcome.and(Err(anyhow::anyhow!("the sampling thread panicked")));
    }
    drain.cancel();
    while let Some(done) = tasks.join_next().await {
        outcome = outcome.and(flatten(done));
    }
    outcome
}

fn flatten(done: Result<anyhow::Result<()>, tokio::task::JoinError>) -> anyhow::Result<()> {
    done.map_err(anyhow::Error::from)
        .and_then(|outcome| outcome)
}

async fn serve_web(
    web: Web,
    sampler: SamplerHandle,
    registry: Registry,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    web.serve(sampler, registry, stop).await;
    Ok(())
}

async fn ask_kubelet(
    Kubelet {
        client,
        data,
        families,
    }: Kubelet,
    registry: Registry,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    kube::poll(client, data, &families, &registry, stop).await;
    Ok(())
}

async fn send(
    config: UplinkConfig,
    spool: SpoolHandle,
    stop: CancellationToken,
    registry: Registry,
) -> anyhow::Result<()> {
    uplink::run(config, spool, stop, &registry)
        .await
        .context("uplink")
}

/// Returns who receives every tick.
fn receivers(config: &Config) -> &'static [Receiver] {
    match config.mirror {
        true => &Receiver::ALL,
        false => &[Receiver::Primary],
    }
}

/// Configures the uplink of one receiver. With a mirror, the addresses belong to the two receivers in turn.
fn uplink_config(config: &Config, node_name: &str, receiver: Receiver) -> UplinkConfig {
    let addresses = config.aggregator_addresses.iter();
    let tokens = &config.join_token_files;
    let index = receiver.index();
    UplinkConfig {
        addresses: addresses
            .skip(index)
            .step_by(receivers(config).len())
            .cloned()
            .collect(),
        node_name: node_name.to_owned(),
        interval: config.interval,
        identity: IdentityFiles {
            // The two receivers may have different authorities.
            state_path: match receiver {
                Receiver::Primary => config.spool_path.clone(),
                Receiver::Mirror => config.spool_path.join("mirror"),
            },
            join_token_file: tokens.get(index).or_else(|| tokens.first()).cloned(),
            ca_file: config.tls_ca_file.clone(),
            cert_and_key_files: config
                .tls_cert_file
                .clone()
                .zip(config.tls_key_file.clone()),
        },
        newest_first_after: config.newest_first_after,
        quic_probe_interval: config.quic_probe_interval,
        shutdown_grace_period: config.shutdown_grace_period,
    }
}

/// Cancels `stop` on SIGTERM and SIGINT.
fn watch_signals(stop: &CancellationToken) -> io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let stop = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            () = stop.cancelled() => {}
        }
        stop.cancel();
    });
    Ok(())
}
