//! Lists one kind of object, then watches its changes, until cancelled.
//!
//! 1. List in pages, then watch from the list's version on.
//! 2. A watch that ends or breaks continues at the last version seen (bookmarks keep it recent), without a list.
//! 3. If the server has compacted that version (410), list again.
//!
//! The wait after a failure doubles each time, with jitter.

use std::borrow::Cow;
use std::fmt::Debug;
use std::pin::pin;
use std::time::Duration;

use ::kube::api::{Api, ApiResource, ListParams, WatchEvent, WatchParams};
use ::kube::core::DynamicResourceScope;
use futures_util::StreamExt as _;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use rand::Rng as _;
use serde::{Deserialize, Deserializer};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::{Patience, failure, failure_of_code};
use crate::kube::cluster::{Change, Changes, Failure};
use crate::kube::kind::Kind;
use crate::kube::series::{BaseLabels, Describe, Description};

/// Objects per page of a list.
const PAGE: u32 = 500;

/// An object with the metadata that the client needs.
#[derive(Debug, Clone)]
struct Watched<D> {
    metadata: ObjectMeta,
    object: D,
}

impl<'de, D: Describe> Deserialize<'de> for Watched<D> {
    fn deserialize<R: Deserializer<'de>>(deserializer: R) -> Result<Self, R::Error> {
        let object = D::deserialize(deserializer)?;
        let meta = object.meta();
        let metadata = ObjectMeta {
            name: Some(meta.name.clone()),
            resource_version: Some(meta.resource_version.clone()),
            ..ObjectMeta::default()
        };
        Ok(Self { metadata, object })
    }
}

impl<D: Describe> ::kube::Resource for Watched<D> {
    type DynamicType = ApiResource;
    type Scope = DynamicResourceScope;

    fn group(resource: &ApiResource) -> Cow<'_, str> {
        resource.group.as_str().into()
    }

    fn version(resource: &ApiResource) -> Cow<'_, str> {
        resource.version.as_str().into()
    }

    fn kind(resource: &ApiResource) -> Cow<'_, str> {
        resource.kind.as_str().into()
    }

    fn plural(resource: &ApiResource) -> Cow<'_, str> {
        resource.plural.as_str().into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

/// Why a watch stopped.
enum Stop {
    /// The server ended the watch as requested, or closed the connection. The version is still valid.
    Ended,
    /// A request failed.
    Failed(Failure, String),
    /// The receiver of changes is gone.
    Unheard,
}

impl From<::kube::Error> for Stop {
    fn from(error: ::kube::Error) -> Self {
        Self::Failed(failure(&error), common::report::chain(&error))
    }
}

/// The watch of one kind.
pub(super) struct Watch<D: Describe> {
    api: Api<Watched<D>>,
    base: BaseLabels,
    changes: Changes,
    patience: Patience,
    /// The version up to which all changes are known; `None` before a list.
    version: Option<String>,
}

impl<D: Describe> Watch<D> {
    pub(super) fn new(
        client: &::kube::Client,
        base: BaseLabels,
        changes: Changes,
        patience: Patience,
    ) -> Self {
        let resource = D::KIND.resource();
        let api_version = match resource.group {
            "" => resource.version.to_owned(),
            group => format!("{group}/{}", resource.version),
        };
        let resource = ApiResource {
            group: resource.group.to_owned(),
            version: resource.version.to_owned(),
            api_version,
            kind: resource.kind.to_owned(),
            plural: resource.plural.to_owned(),
        };
        Self {
            api: Api::all_with(client.clone(), &resource),
            base,
            changes,
            patience,
            version: None,
        }
    }

    /// Lists and watches until `cancel`, or until the receiver of changes is gone.
    pub(super) async fn run(mut self, cancel: CancellationToken) {
        let mut wait = self.patience.backoff_min;
        loop {
            let stop = tokio::select! {
                () = cancel.cancelled() => return,
                stop = self.list_and_follow(&mut wait) => stop,
            };
            if matches!(stop, Stop::Ended) {
                // A server that ends watches at once must not cause a busy loop.
                wait = self.patience.backoff_min;
            }
            let is_reported = match stop {
                Stop::Ended => true,
                Stop::Failed(reason, error) => {
                    if reason == Failure::Expired {
                        self.version = None;
                    }
                    self.tell(Change::Failed { reason, error }).await.is_ok()
                }
                Stop::Unheard => false,
            };
            if !is_reported {
                return;
            }
            let jittered = wait.mul_f64(rand::rng().random_range(0.5..1.0));
            tokio::select! {
                () = cancel.cancelled() => return,
                () = sleep(jittered) => {}
            }
            wait = wait.saturating_mul(2).min(self.patience.backoff_max);
        }
    }

    async fn list_and_follow(&mut self, wait: &mut Duration) -> Stop {
        let version = match self.version.clone() {
            Some(version) => version,
            None => match self.list().await {
                Ok(version) => version,
                Err(stop) => return stop,
            },
        };
        match self.follow(version, wait).await {
            Ok(()) => Stop::Ended,
            Err(stop) => stop,
        }
    }

    /// Lists all objects. Returns the version of the list.
    async fn list(&mut self) -> Result<String, Stop> {
        self.tell(Change::ListBegins).await?;
        let mut page = ListParams::default().limit(PAGE);
        let selector = D::KIND.resource().field_selector;
        if !selector.is_empty() {
            page = page.fields(selector);
        }
        loop {
            let list = self.in_time(self.api.list(&page)).await??;
            for object in list.items {
                self.applied(&object.object).await?;
            }
            match list.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => page.continue_token = Some(token),
                None => {
                    self.tell(Change::ListEnds).await?;
                    let version = list.metadata.resource_version.unwrap_or_default();
                    self.version = Some(version.clone());
                    return Ok(version);
                }
            }
        }
    }

    /// Watches changes after `version` until the server ends the watch.
    async fn follow(&mut self, version: String, wait: &mut Duration) -> Result<(), Stop> {
        let seconds = self.patience.watch.as_secs().clamp(1, 290) as u32;
        let mut params = WatchParams::default().timeout(seconds);
        let selector = D::KIND.resource().field_selector;
        if !selector.is_empty() {
            params = params.fields(selector);
        }
        let events = self.in_time(self.api.watch(&params, &version)).await??;
        let mut events = pin!(events);
        self.tell(Change::Following).await?;
        *wait = self.patience.backoff_min;
        // The server ends the watch by itself. Silence beyond that means a dead connection.
        let silence = self.patience.silence;
        loop {
            let event = match timeout(silence, events.next()).await {
                Ok(Some(event)) => event?,
                Ok(None) => return Ok(()),
                Err(_) => {
                    let error = format!("nothing from the API server for {silence:?}");
                    return Err(Stop::Failed(Failure::Connection, error));
                }
            };
            self.event(event).await?;
        }
    }

    async fn event(&mut self, event: WatchEvent<Watched<D>>) -> Result<(), Stop> {
        match event {
            WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                self.applied(&object.object).await?;
                self.version = object.metadata.resource_version;
            }
            WatchEvent::Deleted(object) => {
                let key = object.object.meta().key();
                self.tell(Change::Removed { key }).await?;
                self.version = object.metadata.resource_version;
            }
            WatchEvent::Bookmark(bookmark) => {
                self.version = Some(bookmark.metadata.resource_version);
            }
            WatchEvent::Error(status) => {
                let reason = failure_of_code(status.code);
                return Err(Stop::Failed(
                    reason,
                    format!("{} ({})", status.message, status.code),
                ));
            }
        }
        Ok(())
    }

    async fn applied(&self, object: &D) -> Result<(), Stop> {
        let (series, malformed) = Description::of(object, &self.base).finish();
        let key = object.meta().key();
        self.tell(Change::Applied {
            key,
            series,
            malformed,
        })
        .await
    }

    async fn tell(&self, change: Change) -> Result<(), Stop> {
        let kind: Kind = D::KIND;
        self.changes
            .send((kind, change))
            .await
            .map_err(|_| Stop::Unheard)
    }

    async fn in_time<F: Future>(&self, request: F) -> Result<F::Output, Stop> {
        let limit = self.patience.request;
        timeout(limit, request).await.map_err(|_| {
            Stop::Failed(
                Failure::Connection,
                format!("no answer from the API server within {limit:?}"),
            )
        })
    }
}
