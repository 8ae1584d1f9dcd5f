//! Which nodes may join with a service-account token: the API server reviews it, and a policy decides.
//!
//! An agent presents the token that Kubernetes mounted into its pod, issued for the audience `tidemark` only. The API
//! server reviews it (TokenReview). The answer names the service account and, for tokens bound to a pod, the node that
//! the pod runs on. A certificate is issued for exactly that node. Kubernetes reports the node since 1.30 (feature `ServiceAccountTokenPodNodeInfo`, general since 1.32).

use std::collections::BTreeMap;
use std::future::Future;

use serde::{Deserialize, Serialize};

use super::object::or_default;

/// The audience of join tokens.
pub const AUDIENCE: &str = "tidemark";
/// Longest token. Those of the API server are below 2 KiB.
pub const TOKEN_BYTES_MAX: usize = 16 << 10;
/// Key of the node in the answer (`k8s.io/apiserver/pkg/authentication/serviceaccount`).
const NODE_NAME: &str = "authentication.kubernetes.io/node-name";
/// Key of the pod in the answer.
const POD_NAME: &str = "authentication.kubernetes.io/pod-name";

/// Returns whether a join token is a JSON web token of Kubernetes, rather than one of `tidemarkctl cert token`.
#[must_use]
pub fn is_service_account_token(token: &str) -> bool {
    token.starts_with("eyJ") && token.bytes().filter(|&byte| byte == b'.').count() == 2
}

/// The body of a review request.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TokenReviewRequest<'a> {
    api_version: &'static str,
    kind: &'static str,
    spec: ReviewSpec<'a>,
}

#[derive(Debug, Clone, Serialize)]
struct ReviewSpec<'a> {
    token: &'a str,
    audiences: [&'a str; 1],
}

impl<'a> TokenReviewRequest<'a> {
    /// Asks to review `token` for [`AUDIENCE`].
    #[must_use]
    pub const fn new(token: &'a str) -> Self {
        Self {
            api_version: "authentication.k8s.io/v1",
            kind: "TokenReview",
            spec: ReviewSpec {
                token,
                audiences: [AUDIENCE],
            },
        }
    }
}

/// The API server's answer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct TokenReview {
    /// The result.
    #[serde(default, deserialize_with = "or_default")]
    pub status: ReviewStatus,
}

/// The result of a review.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct ReviewStatus {
    /// Whether the token is valid.
    pub authenticated: bool,
    /// The user of the token.
    pub user: ReviewedUser,
    /// Which of the requested audiences it is valid for. Empty from a server that does not support audiences: such a token is
    /// valid for the API server itself.
    #[serde(deserialize_with = "or_default")]
    pub audiences: Vec<String>,
    /// Why it could not be reviewed.
    pub error: String,
}

/// The user of a token.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct ReviewedUser {
    /// `system:serviceaccount:NAMESPACE:NAME` for service accounts.
    pub username: String,
    /// Further attributes, by key.
    #[serde(deserialize_with = "or_default")]
    pub extra: BTreeMap<String, Vec<String>>,
}

/// A node that may join.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admitted {
    /// The node that a certificate may be issued for.
    pub node: String,
    /// The pod that asked, for the log.
    pub pod: String,
}

/// Why a token does not allow joining. The messages contain only what the holder of the token knows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JoinDenied {
    /// The token is empty or longer than [`TOKEN_BYTES_MAX`].
    #[error("token of {bytes} bytes")]
    TokenSize {
        /// Its length.
        bytes: usize,
    },
    /// The API server does not know the token, or it has expired.
    #[error("token is not authenticated: {error:?}")]
    NotAuthenticated {
        /// The API server's message.
        error: String,
    },
    /// The token is for another audience.
    #[error("token is not for audience {AUDIENCE:?} but for {audiences:?}")]
    WrongAudience {
        /// Its audiences.
        audiences: Vec<String>,
    },
    /// The token belongs to a user or another service account.
    #[error("{username:?} is not an agent's service account")]
    NotAnAgent {
        /// The user of a token.
        username: String,
    },
    /// The token is not bound to a pod, or Kubernetes is older than 1.30.
    #[error(
        "token of {username:?} names no node; it must be bound to a pod, by Kubernetes 1.30 or newer"
    )]
    NoNode {
        /// The user of a token.
        username: String,
    },
    /// The agent claims to be another node.
    #[error("pod {pod:?} runs on node {node:?} and asks for a certificate of node {claimed:?}")]
    OtherNode {
        /// The pod.
        pod: String,
        /// The node that it runs on.
        node: String,
        /// The node that it claims to run on.
        claimed: String,
    },
}

/// Why a token could not be reviewed. The agent may retry.
#[derive(Debug, thiserror::Error)]
#[error("ask the API server to review a token")]
pub struct ReviewError(#[source] pub Box<dyn std::error::Error + Send + Sync>);

/// Why a node may not join.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// The token does not allow it.
    #[error("join denied")]
    Denied(#[from] JoinDenied),
    /// The token could not be reviewed.
    #[error("join can't be decided")]
    Undecided(#[from] ReviewError),
}

impl JoinError {
    /// Returns whether the same request may succeed later.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        matches!(self, Self::Undecided(_))
    }
}

/// Reviews tokens: the API server, or recorded answers in tests.
pub trait TokenReviewer: Send + Sync {
    /// Reviews `token` for [`AUDIENCE`].
    fn review(&self, token: &str) -> impl Future<Output = Result<TokenReview, ReviewError>> + Send;
}

/// The service accounts whose pods may join.
#[derive(Debug, Clone)]
pub struct JoinPolicy {
    usernames: Vec<String>,
}

impl JoinPolicy {
    /// Creates a policy that admits pods of one service account.
    #[must_use]
    pub fn service_account(namespace: &str, name: &str) -> Self {
        Self {
            usernames: vec![format!("system:serviceaccount:{namespace}:{name}")],
        }
    }

    /// Returns the policy for the agents of `deploy/`: `tidemark-agent` in the aggregator's own namespace.
    #[must_use]
    pub fn agents_in(namespace: &str) -> Self {
        Self::service_account(namespace, "tidemark-agent")
    }

    /// Decides on a review. `claimed_node` is the node that the agent claims to run on.
    ///
    /// # Errors
    /// The reason why the token does not allow joining.
    pub fn decide(&self, review: &TokenReview, claimed_node: &str) -> Result<Admitted, JoinDenied> {
        let ReviewStatus {
            authenticated,
            user,
            audiences,
            error,
        } = &review.status;
        if !authenticated {
            return Err(JoinDenied::NotAuthenticated {
                error: error.clone(),
            });
        }
        if !audiences.iter().any(|audience| audience == AUDIENCE) {
            return Err(JoinDenied::WrongAudience {
                audiences: audiences.clone(),
            });
        }
        let username = user.username.clone();
        if !self.usernames.contains(&username) {
            return Err(JoinDenied::NotAnAgent { username });
        }
        // Two values would be no identity.
        let Some([node]) = user.extra.get(NODE_NAME).map(Vec::as_slice) else {
            return Err(JoinDenied::NoNode { username });
        };
        let pod = user.extra.get(POD_NAME).and_then(|names| names.first());
        let (node, pod) = (node.clone(), pod.cloned().unwrap_or_default());
        if node != claimed_node {
            let claimed = claimed_node.to_owned();
            return Err(JoinDenied::OtherNode { pod, node, claimed });
        }
        Ok(Admitted { node, pod })
    }

    /// Reviews a token and decides.
    ///
    /// # Errors
    /// The join is denied, or can't be decided now.
    pub async fn admit<R: TokenReviewer>(
        &self,
        reviewer: &R,
        token: &str,
        claimed_node: &str,
    ) -> Result<Admitted, JoinError> {
        let token = token.trim_ascii();
        if token.is_empty() || token.len() > TOKEN_BYTES_MAX {
            let bytes = token.len();
            return Err(JoinDenied::TokenSize { bytes }.into());
        }
        let review = reviewer.review(token).await?;
        Ok(self.decide(&review, claimed_node)?)
    }
}

/// Identifies nodes through the API server.
#[derive(Debug, Clone)]
pub struct Admission {
    kubernetes: super::Kubernetes,
    policy: JoinPolicy,
}

impl Admission {
    /// Combines a reviewer and a policy.
    #[must_use]
    pub const fn new(kubernetes: super::Kubernetes, policy: JoinPolicy) -> Self {
        Self { kubernetes, policy }
    }

    /// See [`JoinPolicy::admit`].
    ///
    /// # Errors
    /// The join is denied, or can't be decided now.
    pub async fn admit(&self, token: &str, claimed_node: &str) -> Result<Admitted, JoinError> {
        self.policy
            .admit(&self.kubernetes, token, claimed_node)
            .await
    }
}

#[cfg(test)]
mod tests;
