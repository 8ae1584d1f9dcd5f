//! Starts the watches and their writer, if there is an API server.

use std::sync::Arc;

use common::clock::Clock;
use common::telemetry::Registry;
use tidemark_storage::Store;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::source::ApiServer;

/// Why the watches could not start. Files or settings are wrong: retrying does not help.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A kubeconfig was given to a build that can't use it.
    #[error("this build has no Kubernetes client (cargo feature `kubernetes`)")]
    NotBuilt,
    /// The client can't be set up.
    #[cfg(feature = "kubernetes")]
    #[error("set up the Kubernetes client")]
    Connect(#[from] super::client::ConnectError),
}

/// The environment of the watches and their writer.
#[derive(Debug)]
pub struct Surroundings<'a> {
    /// The store for the series.
    pub store: &'a Store,
    /// The clock for the timestamps of rows.
    pub clock: Arc<dyn Clock>,
    /// The label `cluster` of the series, if any.
    pub cluster: Option<&'a str>,
    /// Stops all tasks.
    pub cancel: CancellationToken,
    /// The registry of own metrics.
    pub registry: &'a Registry,
    /// Tracks the tasks.
    pub tasks: &'a TaskTracker,
}

#[cfg(feature = "kubernetes")]
pub use with_client::{Kubernetes, start};

#[cfg(not(feature = "kubernetes"))]
pub use without_client::{Kubernetes, start};

#[cfg(feature = "kubernetes")]
mod with_client {
    use std::time::Duration;

    use tokio_util::sync::CancellationToken;

    use super::{ApiServer, StartError, Surroundings};
    use crate::kube::client::{ApiClient, CA_CONFIG_MAP, Patience};
    use crate::kube::cluster::{self, ClusterOptions};
    use crate::kube::series::BaseLabels;

    /// Time between rows, as kube-prometheus scrapes kube-state-metrics.
    const INTERVAL: Duration = Duration::from_secs(30);
    /// Most series of one kind. A node has about 45, a replica set 7.
    const SERIES_PER_KIND_MAX: usize = 1_000_000;

    /// Time until the authority's certificate is published again, in case it was removed.
    const PUBLISH_INTERVAL: Duration = Duration::from_secs(600);
    /// Time until a failed publication is retried.
    const PUBLISH_RETRY: Duration = Duration::from_secs(10);

    /// A client of the watched API server. Clones share the connection.
    pub type Kubernetes = ApiClient;

    impl ApiClient {
        /// Keeps the authority's certificate published for agents until `cancel`. Logs when that begins to fail, and when it
        /// works again.
        pub async fn keep_ca_published(&self, certificate_pem: &str, cancel: CancellationToken) {
            let mut published = None;
            loop {
                let result = tokio::select! {
                    () = cancel.cancelled() => return,
                    result = self.publish_ca(certificate_pem) => result,
                };
                let was = published.replace(result.is_ok());
                match &result {
                    Ok(()) if was != Some(true) => {
                        tracing::info!(config_map = CA_CONFIG_MAP, "published the CA certificate");
                    }
                    Err(error) if was != Some(false) => {
                        let error = common::report::chain(error);
                        tracing::warn!(
                            error,
                            config_map = CA_CONFIG_MAP,
                            "cannot publish the CA certificate"
                        );
                    }
                    _ => {}
                }
                let pause = if result.is_ok() {
                    PUBLISH_INTERVAL
                } else {
                    PUBLISH_RETRY
                };
                tokio::select! {
                    () = cancel.cancelled() => return,
                    () = tokio::time::sleep(pause) => {}
                }
            }
        }
    }

    /// Watches the API server until cancelled. Returns `None` if there is none.
    ///
    /// # Errors
    /// Files or settings can't be used. An unreachable server is not an error: the watches wait for it.
    pub async fn start(
        server: &ApiServer,
        around: Surroundings<'_>,
    ) -> Result<Option<Kubernetes>, StartError> {
        let Some(client) = ApiClient::new(server, Patience::default()).await? else {
            return Ok(None);
        };
        let options = ClusterOptions {
            interval: INTERVAL,
            base: BaseLabels::new(client.authority(), around.cluster),
            series_per_kind_max: SERIES_PER_KIND_MAX,
        };
        let (changes, writer) = cluster::start(
            around.store,
            &options,
            around.clock,
            around.cancel.clone(),
            around.registry,
        );
        let watching = client.clone();
        around.tasks.spawn(async move {
            watching
                .watch(&options.base, &changes, &around.cancel)
                .await;
            if let Err(error) = writer.await {
                tracing::error!(
                    error = common::report::chain(&error),
                    "writer of the cluster's state panicked"
                );
            }
        });
        tracing::info!(server = client.authority(), "watching Kubernetes");
        Ok(Some(client))
    }
}

#[cfg(not(feature = "kubernetes"))]
mod without_client {
    use tokio_util::sync::CancellationToken;

    use super::{ApiServer, StartError, Surroundings};
    use crate::kube::join::{ReviewError, TokenReview, TokenReviewer};

    /// This build has no client.
    #[derive(Debug, Clone)]
    pub struct Kubernetes {
        never: std::convert::Infallible,
    }

    impl Kubernetes {
        /// Never called: there is no value of this type.
        #[must_use]
        pub fn namespace(&self) -> &str {
            match self.never {}
        }

        /// Never called: there is no value of this type.
        pub async fn keep_ca_published(&self, _certificate_pem: &str, _cancel: CancellationToken) {
            match self.never {}
        }
    }

    impl TokenReviewer for Kubernetes {
        async fn review(&self, _token: &str) -> Result<TokenReview, ReviewError> {
            match self.never {}
        }
    }

    /// Reports that this build has no client.
    ///
    /// # Errors
    /// A kubeconfig was given. Running inside a cluster is only logged.
    pub async fn start(
        server: &ApiServer,
        around: Surroundings<'_>,
    ) -> Result<Option<Kubernetes>, StartError> {
        let _ = around;
        match server {
            ApiServer::Off => Ok(None),
            ApiServer::Kubeconfig(_) => Err(StartError::NotBuilt),
            ApiServer::InCluster => {
                let error = StartError::NotBuilt;
                tracing::warn!(
                    error = common::report::chain(&error),
                    "not watching the cluster's API server"
                );
                Ok(None)
            }
        }
    }
}
