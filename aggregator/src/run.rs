//! Wires the parts together, runs them, and stops them in reverse order.

pub mod plan;
pub mod reload;
pub mod signals;

use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};

use anyhow::Context as _;
use arc_swap::ArcSwap;
use axum::middleware;
use common::clock::{Clock, SystemClock};
use common::telemetry::Registry;
use tidemark_promql::{Engine, EngineOptions};
use tidemark_storage::{Store, StoreOptions, WalSync};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use self::plan::Plan;
use crate::alerting::{self, Alerting};
use crate::allocator::OwnMemory;
use crate::config::{ConfigFile, Flags, Settings};
use crate::http::auth::Auth;
use crate::http::inline::InlineRequests;
use crate::http::metrics::RequestMetrics;
use crate::http::query_limiter::QueryLimiter;
use crate::http::router::router;
use crate::http::server::{Server, ServerOptions, with_headers};
use crate::http::state::{Api, Core, ReloadAnswer, Shared};
use crate::ingest::{self, Ingest, IngestConfig};
use crate::kube::join::JoinPolicy;
use crate::kube::{self, Admission, ApiServer, Kubernetes, Surroundings};
use crate::pki::{AggregatorName, Pki, is_later_replica};
use crate::{metrics, remote_write, self_scrape};

/// Most reload requests that wait.
const RELOADS_MAX: usize = 4;

/// Runs the aggregator until a signal or `/-/quit` stops it.
///
/// # Errors
/// An address can't be bound, or a part can't be opened.
pub fn run(plan: Plan) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("tidemark")
        .build()
        .context("start the runtime")?;
    let grace = plan.flags.shutdown_grace_period;
    let result = runtime.block_on(serve(plan));
    // Threads that still block have had their grace period.
    runtime.shutdown_timeout(grace.min(std::time::Duration::from_secs(1)));
    result
}

async fn serve(plan: Plan) -> anyhow::Result<()> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let registry = metrics::registry();
    remote_write::metrics::register(&registry);
    let shutdown = CancellationToken::new();
    let (reload, reloads) = mpsc::channel(RELOADS_MAX);
    let api = shared(
        (plan.flags, plan.file, plan.settings),
        reload,
        Arc::clone(&clock),
        &registry,
        shutdown.clone(),
    );
    signals::watch(&api).context("watch signals")?;
    let tasks = TaskTracker::new();
    tasks.spawn(reload::serve(Arc::clone(&api), reloads, shutdown.clone()));

    // HTTP starts first, so that probes are answered while the log is replayed.
    let stop_http = CancellationToken::new();
    let (server, address) = bind(&api, &plan.web).await?;
    let headers = plan.web.headers.clone();
    let router = router(
        Arc::clone(&api),
        Arc::new(RequestMetrics::new(&api.registry)),
        Arc::new(Auth::new(plan.web.users.clone(), &registry)),
    )
    .layer(middleware::map_response(move |response| {
        let headers = headers.clone();
        async move { with_headers(response, &headers) }
    }));
    let http = tokio::spawn(server.serve(router, stop_http.clone()));

    let result = work(&api, address, plan.alerting, &tasks).await;

    // Reverse order of the start.
    api.ready.store(false, Ordering::Release);
    shutdown.cancel();
    stop_http.cancel();
    tasks.close();
    let grace = api.flags.shutdown_grace_period;
    if tokio::time::timeout(grace, http).await.is_err() {
        tracing::warn!(
            part = "http",
            "still running at the end of the grace period"
        );
    }
    if tokio::time::timeout(grace, tasks.wait()).await.is_err() {
        tracing::warn!(
            part = "tasks",
            "still running at the end of the grace period"
        );
    }
    close(&api).await?;
    tracing::info!("stopped");
    result
}

/// Creates the state shared by handlers, before the store is open. Reload requests go to `reload`.
pub fn shared(
    (flags, file, settings): (Flags, ConfigFile, Settings),
    reload: mpsc::Sender<oneshot::Sender<ReloadAnswer>>,
    clock: Arc<dyn Clock>,
    registry: &Registry,
    shutdown: CancellationToken,
) -> Api {
    Arc::new(Shared {
        query_limiter: QueryLimiter::new(
            flags.query_max_concurrency,
            file.limits.query_queue_max,
            registry,
        ),
        inline_requests: InlineRequests::default(),
        writes: Semaphore::new(file.limits.write_concurrency_max as usize),
        config: ArcSwap::from_pointee(file),
        core: OnceLock::new(),
        alerting: OnceLock::new(),
        ready: false.into(),
        reload,
        shutdown,
        started_ms: clock.now_ms(),
        config_loaded_ms: clock.now_ms().into(),
        config_good: true.into(),
        registry: registry.clone(),
        settings,
        flags,
        clock,
    })
}

async fn bind(api: &Api, web: &crate::config::WebConfig) -> anyhow::Result<(Server, SocketAddr)> {
    let options = ServerOptions {
        tls: web.tls.clone(),
        connections_max: api.flags.web_max_connections,
        read_timeout: api.flags.web_read_timeout,
    };
    let wanted = api.settings.web_listen;
    let server = Server::bind(wanted, options, &api.registry)
        .await
        .with_context(|| format!("listen on {wanted} (--web.listen-address)"))?;
    let address = server.local_address().context("read the bound address")?;
    tracing::info!(address = %address, tls = web.tls.is_some(), "HTTP is listening");
    Ok((server, address))
}

/// Opens the store, starts what depends on it, and waits for the end.
async fn work(
    api: &Api,
    address: SocketAddr,
    alerting: alerting::Plan,
    tasks: &TaskTracker,
) -> anyhow::Result<()> {
    let options = store_options(api);
    let path = options.path.clone();
    let clock = Arc::clone(&api.clock);
    let open = tokio::task::spawn_blocking(move || Store::open(options, clock));
    let store = tokio::select! {
        store = open => store.context("open the store")?.context("open the store")?,
        () = api.shutdown.cancelled() => return Ok(()),
    };
    tracing::info!(path = %path.display(), "store is open");
    let kubernetes = start_kubernetes(api, &store, tasks).await?;
    let ingest = start_ingest(api, &store, kubernetes, tasks).await?;
    let engine = Arc::new(Engine::new(engine_options(api)));
    let core = Core {
        store,
        engine,
        agents: ingest.agents(),
    };
    start_self_scrape(api, &core.store, address, tasks);
    let alerting = open_alerting(api, &core, alerting, address).await?;
    if api.core.set(core).is_err() || api.alerting.set(Arc::clone(&alerting)).is_err() {
        anyhow::bail!("store opened twice");
    }
    alerting.start(tasks, &api.shutdown);
    api.ready.store(true, Ordering::Release);
    tracing::info!("ready");
    api.shutdown.cancelled().await;
    tracing::info!("stopping");
    ingest.stopped().await;
    Ok(())
}

fn start_self_scrape(api: &Api, store: &Store, address: SocketAddr, tasks: &TaskTracker) {
    let interval = api.flags.self_scrape_interval;
    let (store, registry, stop) = (store.clone(), api.registry.clone(), api.shutdown.clone());
    if interval.is_zero() {
        tasks.spawn(self_scrape::update_figures(store, registry, stop));
    } else {
        let clock = Arc::clone(&api.clock);
        tasks.spawn(self_scrape::run(
            store, registry, clock, address, interval, stop,
        ));
    }
}

async fn start_kubernetes(
    api: &Api,
    store: &Store,
    tasks: &TaskTracker,
) -> anyhow::Result<Option<Kubernetes>> {
    let service_host = std::env::var("KUBERNETES_SERVICE_HOST").ok();
    let flag = api.flags.kubeconfig.as_deref();
    let external = &api.config.load().global.external_labels;
    let around = Surroundings {
        store,
        cluster: external.get("cluster").map(String::as_str),
        clock: Arc::clone(&api.clock),
        cancel: api.shutdown.clone(),
        registry: &api.registry,
        tasks,
    };
    kube::start(&ApiServer::from_flag(flag, service_host.as_deref()), around)
        .await
        .context("watch the Kubernetes API server (--kubernetes.kubeconfig)")
}

/// Opens the state of rules and notifications, without starting them.
async fn open_alerting(
    api: &Api,
    core: &Core,
    plan: alerting::Plan,
    address: SocketAddr,
) -> anyhow::Result<Arc<Alerting>> {
    let external_url = match api.flags.external_url.as_str() {
        url if url.contains("://") => url.trim_end_matches('/').to_owned(),
        _ => format!("http://{address}{}", api.settings.route_prefix),
    };
    let parts = alerting::Parts {
        store: core.store.clone(),
        engine: Arc::clone(&core.engine),
        clock: Arc::clone(&api.clock),
        external_url,
        series_max: api.config.load().limits.query_series_max,
        resend_delay: api.flags.rules_alert_resend_delay,
    };
    let (path, registry) = (api.settings.storage_path.clone(), api.registry.clone());
    tokio::task::spawn_blocking(move || Alerting::open(&path, plan, parts, &registry))
        .await
        .context("open the state of alerts")?
        .context("open the state of alerts")
}

/// Publishes the authority's certificate in this cluster, and lets agents join with service-account tokens.
fn admission(api: &Api, pki: &Pki, kubernetes: Kubernetes, tasks: &TaskTracker) -> Admission {
    if api.flags.kubeconfig.is_none() {
        let (publisher, pem) = (kubernetes.clone(), pki.roots_pem());
        let cancel = api.shutdown.clone();
        tasks.spawn(async move { publisher.keep_ca_published(&pem, cancel).await });
    }
    let policy = JoinPolicy::agents_in(kubernetes.namespace());
    Admission::new(kubernetes, policy)
}

async fn start_ingest(
    api: &Api,
    store: &Store,
    kubernetes: Option<Kubernetes>,
    tasks: &TaskTracker,
) -> anyhow::Result<Ingest> {
    let data_path = api.settings.storage_path.clone();
    let (clock, dev) = (Arc::clone(&api.clock), api.flags.dev);
    let name = AggregatorName::from(&api.config.load().tls);
    let pod = std::env::var("POD_NAME").ok();
    anyhow::ensure!(
        kubernetes.is_none() || name.authority.is_some() || !is_later_replica(pod.as_deref()),
        "{} is one of several replicas and would create its own certificate authority, which agents of the other replicas \
         do not trust: give all replicas the same one (tls.authority in the configuration file, deploy/overlays/replicas)",
        pod.unwrap_or_default(),
    );
    let open = move || -> anyhow::Result<Pki> {
        let pki = Pki::open(&data_path, name, clock)?;
        if dev {
            let token = pki.dev_join_token(&data_path)?;
            print_token(&token);
        }
        Ok(pki)
    };
    let pki = tokio::task::spawn_blocking(open)
        .await
        .context("open the certificates")?
        .context("open the certificates")?;
    let kubernetes = kubernetes.map(|kubernetes| admission(api, &pki, kubernetes, tasks));
    let limits = api.config.load().limits.clone();
    let config = IngestConfig {
        kubernetes,
        series_per_agent_max: limits.series_per_agent_max,
        new_series_per_minute: limits.new_series_per_agent_per_minute,
        ..IngestConfig::new(api.settings.quic_listen, pki)
    };
    let ingest = ingest::serve(
        config,
        store.clone(),
        Arc::clone(&api.clock),
        api.shutdown.clone(),
        &api.registry,
    )
    .await
    .context("start ingest (--quic.listen-address)")?;
    tracing::info!(address = %ingest.local_address(), "QUIC is listening");
    Ok(ingest)
}

/// Prints the token for the person who started a development server. The log must not contain it.
#[expect(
    clippy::print_stdout,
    reason = "the contract: --dev prints the join token"
)]
fn print_token(token: &str) {
    println!("join token: {token}");
}

fn store_options(api: &Api) -> StoreOptions {
    let settings = &api.settings;
    if let WalSync::Interval(interval) = settings.wal_sync {
        tracing::warn!(
            ?interval,
            "storage.wal_sync is interval: a power loss may lose samples acknowledged in that time"
        );
    }
    StoreOptions {
        path: settings.storage_path.clone(),
        retention: settings.retention,
        retention_bytes: settings.retention_bytes,
        memory_budget_bytes: settings.memory_budget_bytes,
        series_per_stream_max: api.config.load().limits.series_per_agent_max.into(),
        exemplars_max: settings.exemplars_max,
        wal_sync: settings.wal_sync,
        process_memory: Some(Arc::new(OwnMemory)),
    }
}

/// Returns the options of query evaluation, from flags and file.
#[must_use]
pub fn engine_options(api: &Api) -> EngineOptions {
    let settings = &api.settings;
    EngineOptions {
        lookback_delta: api.flags.query_lookback_delta,
        default_step: api.config.load().global.evaluation_interval.0,
        samples_max: api.flags.query_max_samples,
        features: settings.promql_features(),
        ..EngineOptions::default()
    }
}

async fn close(api: &Api) -> anyhow::Result<()> {
    let Some(core) = api.core.get().cloned() else {
        return Ok(());
    };
    tokio::task::spawn_blocking(move || core.store.close())
        .await
        .context("close the store")?
        .context("close the store")
}
