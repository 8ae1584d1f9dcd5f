//! The API client: the only user of the crate `kube`, which has a major release every few months.

mod watch;

use std::time::Duration;

use ::kube::config::{InClusterError, KubeConfigOptions, Kubeconfig, KubeconfigError};
use http::{Method, Request, header::CONTENT_TYPE};
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::cluster::{Changes, Failure};
use super::families::{
    DaemonSet, Deployment, HorizontalPodAutoscaler, Job, Namespace, Node, PersistentVolume,
    PersistentVolumeClaim, Pod, PodDisruptionBudget, ReplicaSet, ResourceQuota, StatefulSet,
};
use super::join::{ReviewError, TokenReview, TokenReviewRequest, TokenReviewer};
use super::series::BaseLabels;
use super::source::ApiServer;
use watch::Watch;

/// The ConfigMap that agents mount to verify the aggregator.
pub const CA_CONFIG_MAP: &str = "tidemark-ca";

/// Timeouts and backoff of the client.
#[derive(Debug, Clone)]
pub struct Patience {
    /// Timeout of one request, such as a page of a list.
    pub request: Duration,
    /// How long the server keeps a watch open, in whole seconds below 295.
    pub watch: Duration,
    /// Silence after which the connection of a watch counts as dead. Longer than `watch`.
    pub silence: Duration,
    /// Wait after the first failure; it doubles with each one.
    pub backoff_min: Duration,
    /// Longest wait after a failure.
    pub backoff_max: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            request: Duration::from_secs(60),
            watch: Duration::from_secs(240),
            silence: Duration::from_secs(250),
            backoff_min: Duration::from_millis(800),
            backoff_max: Duration::from_secs(30),
        }
    }
}

/// Why the client could not be set up. No request was sent: files or settings are wrong.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The kubeconfig can't be used.
    #[error("load kubeconfig")]
    Kubeconfig(#[source] Box<KubeconfigError>),
    /// The service account's files can't be used.
    #[error("load the pod's service account")]
    InCluster(#[source] Box<InClusterError>),
    /// The credentials or certificates can't be used.
    #[error("set up the API client")]
    Client(#[source] Box<::kube::Error>),
}

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// The server refused, or could not be reached.
    #[error("request to the API server")]
    Api(#[source] Box<::kube::Error>),
    /// There was no answer in time.
    #[error("no answer from the API server within {0:?}")]
    Timeout(Duration),
    /// The request could not be built.
    #[error("build request")]
    Request(#[from] http::Error),
    /// The body could not be serialized.
    #[error("serialize request body")]
    Body(#[from] serde_json::Error),
}

/// A client of one cluster's API server. Clones share connections and credentials, which are renewed as they change.
#[derive(Clone)]
pub struct ApiClient {
    client: ::kube::Client,
    authority: Box<str>,
    namespace: Box<str>,
    patience: Patience,
}

impl std::fmt::Debug for ApiClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ApiClient")
            .field("authority", &self.authority)
            .field("namespace", &self.namespace)
            .finish_non_exhaustive()
    }
}

impl ApiClient {
    /// Sets up a client, which connects with its first request. Returns `None` if there is no API server.
    ///
    /// # Errors
    /// Files or settings can't be used. An unreachable server is not an error here.
    pub async fn new(server: &ApiServer, patience: Patience) -> Result<Option<Self>, ConnectError> {
        let config = match server {
            ApiServer::Off => return Ok(None),
            ApiServer::InCluster => ::kube::Config::incluster()
                .map_err(|error| ConnectError::InCluster(Box::new(error)))?,
            ApiServer::Kubeconfig(path) => {
                let file = Kubeconfig::read_from(path)
                    .map_err(|error| ConnectError::Kubeconfig(Box::new(error)))?;
                ::kube::Config::from_custom_kubeconfig(file, &KubeConfigOptions::default())
                    .await
                    .map_err(|error| ConnectError::Kubeconfig(Box::new(error)))?
            }
        };
        Self::with_config(config, patience).map(Some)
    }

    fn with_config(mut config: ::kube::Config, patience: Patience) -> Result<Self, ConnectError> {
        config.connect_timeout = Some(patience.request);
        // The watches have their own backoff.
        config.default_retry = false;
        let namespace = config.default_namespace.as_str().into();
        let authority = config.cluster_url.authority();
        let authority = authority
            .map_or("kubernetes", |authority| authority.as_str())
            .into();
        let client = ::kube::Client::try_from(config)
            .map_err(|error| ConnectError::Client(Box::new(error)))?;
        Ok(Self {
            client,
            authority,
            namespace,
            patience,
        })
    }

    /// Returns host and port of the API server, the `instance` of its series.
    #[must_use]
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// Returns the namespace of this pod, or of the kubeconfig.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Watches all kinds until `cancel` and sends what changes to `changes`. Never gives up.
    pub async fn watch(&self, base: &BaseLabels, changes: &Changes, cancel: &CancellationToken) {
        let mut watches = JoinSet::new();
        macro_rules! watch {
            ($($kind:ty),* $(,)?) => {
                $(watches.spawn(self.watch_of::<$kind>(base, changes).run(cancel.clone()));)*
            };
        }
        watch!(
            DaemonSet,
            Deployment,
            HorizontalPodAutoscaler,
            Job,
            Namespace,
            Node,
            PersistentVolume,
            PersistentVolumeClaim,
            Pod,
            PodDisruptionBudget,
            ReplicaSet,
            ResourceQuota,
            StatefulSet,
        );
        while let Some(ended) = watches.join_next().await {
            if let Err(error) = ended {
                tracing::error!(
                    error = common::report::chain(&error),
                    "watch of the API server panicked"
                );
            }
        }
    }

    fn watch_of<D: super::series::Describe>(
        &self,
        base: &BaseLabels,
        changes: &Changes,
    ) -> Watch<D> {
        Watch::new(
            &self.client,
            base.clone(),
            changes.clone(),
            self.patience.clone(),
        )
    }

    /// Writes the authority's certificate to the ConfigMap that agents mount, created if necessary.
    ///
    /// # Errors
    /// The server refused, or could not be reached. Retry later.
    pub async fn publish_ca(&self, certificate_pem: &str) -> Result<(), RequestError> {
        let body = json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {
                "name": CA_CONFIG_MAP,
                "labels": {"app.kubernetes.io/part-of": "tidemark"},
            },
            "data": {"ca.crt": certificate_pem},
        });
        // Server-side apply creates or updates it, without touching fields of other managers.
        let uri = format!(
            "/api/v1/namespaces/{}/configmaps/{CA_CONFIG_MAP}?fieldManager=tidemark-aggregator&force=true",
            self.namespace
        );
        let request = Request::builder()
            .method(Method::PATCH)
            .uri(uri)
            .header(CONTENT_TYPE, "application/apply-patch+yaml")
            .body(serde_json::to_vec(&body)?)?;
        self.send::<serde_json::Value>(request).await.map(drop)
    }

    async fn send<T: serde::de::DeserializeOwned>(
        &self,
        request: Request<Vec<u8>>,
    ) -> Result<T, RequestError> {
        let limit = self.patience.request;
        match timeout(limit, self.client.request(request)).await {
            Ok(answer) => answer.map_err(|error| RequestError::Api(Box::new(error))),
            Err(_) => Err(RequestError::Timeout(limit)),
        }
    }

    async fn review_token(&self, token: &str) -> Result<TokenReview, RequestError> {
        let request = Request::builder()
            .method(Method::POST)
            .uri("/apis/authentication.k8s.io/v1/tokenreviews")
            .header(CONTENT_TYPE, "application/json")
            .body(serde_json::to_vec(&TokenReviewRequest::new(token))?)?;
        self.send(request).await
    }
}

impl TokenReviewer for ApiClient {
    async fn review(&self, token: &str) -> Result<TokenReview, ReviewError> {
        let review = self.review_token(token).await;
        review.map_err(|error| ReviewError(Box::new(error)))
    }
}

/// Classifies an error of the client.
fn failure(error: &::kube::Error) -> Failure {
    match error {
        ::kube::Error::Api(status) => failure_of_code(status.code),
        ::kube::Error::SerdeError(_)
        | ::kube::Error::FromUtf8(_)
        | ::kube::Error::LinesCodecMaxLineLengthExceeded => Failure::Malformed,
        _ => Failure::Connection,
    }
}

const fn failure_of_code(code: u16) -> Failure {
    match code {
        401 => Failure::Unauthorized,
        403 => Failure::Forbidden,
        404 => Failure::NotFound,
        410 => Failure::Expired,
        _ => Failure::Refused,
    }
}

#[cfg(test)]
mod fake;
#[cfg(test)]
mod tests;
