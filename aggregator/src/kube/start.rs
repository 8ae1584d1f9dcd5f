//! Starts what there is to start: nothing, or the watches and their writer.

use std::sync::Arc;

use common::clock::Clock;
use common::telemetry::Registry;
use tidemark_storage::Store;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::source::ApiServer;

/// Why the cluster's state can't be had. Files or settings are wrong: waiting will not help.
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

/// What else the watches and their writer need.
#[derive(Debug)]
pub struct Surroundings<'a> {
    /// Where series go.
    pub store: &'a Store,
    /// The time of rows.
    pub clock: Arc<dyn Clock>,
    /// Label `cluster` of the series, if any.
    pub cluster: Option<&'a str>,
    /// Ends it all.
    pub cancel: CancellationToken,
    /// For our own metrics.
    pub registry: &'a Registry,
    /// Waits for the tasks.
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

    /// How often the cluster's state is written (kube-prometheus scrapes kube-state-metrics as often).
    const INTERVAL: Duration = Duration::from_secs(30);
    /// Series of one kind; a node has about 45, a replica set 7.
    const SERIES_PER_KIND_MAX: usize = 1_000_000;

    /// How often the authority's certificate is published again, in case somebody removed it.
    const PUBLISH_INTERVAL: Duration = Duration::from_secs(600);
    /// How soon it is tried again when the server refused or was away.
    const PUBLISH_RETRY: Duration = Duration::from_secs(10);

    /// The API server, followed. Clones share the connection.
    pub type Kubernetes = ApiClient;

    impl ApiClient {
        /// Keeps the authority's certificate where agents mount it from, until `cancel`. Says once when that fails,
        /// and when it works again.
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
                        tracing::info!(
                            config_map = CA_CONFIG_MAP,
                            "the CA certificate is published"
                        );
                    }
                    Err(error) if was != Some(false) => {
                        let error = common::report::chain(error);
                        tracing::warn!(
                            error,
                            config_map = CA_CONFIG_MAP,
                            "can't publish the CA certificate"
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

    /// Follows the API server until cancelled. `None` when there is none.
    ///
    /// # Errors
    /// Files or settings that can't be used. A server that is away is no error: the watches wait for it.
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
                tracing::error!(%error, "writer of the cluster's state failed");
            }
        });
        tracing::info!(server = client.authority(), "Kubernetes is watched");
        Ok(Some(client))
    }
}

#[cfg(not(feature = "kubernetes"))]
mod without_client {
    use tokio_util::sync::CancellationToken;

    use super::{ApiServer, StartError, Surroundings};
    use crate::kube::join::{ReviewError, TokenReview, TokenReviewer};

    /// There is none in this build.
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

    /// Says that this build has no client.
    ///
    /// # Errors
    /// A kubeconfig was given. To run inside a cluster is no error, but is said.
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
                tracing::warn!(%error, "the cluster's API server is not watched");
                Ok(None)
            }
        }
    }
}
