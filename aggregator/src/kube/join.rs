//! Who may join from inside the cluster: the API server says whose token it is and on which node, we decide.
//!
//! An agent presents the token that Kubernetes mounted into its pod, made for the audience `tidemark` alone. The API
//! server reviews it (TokenReview); the answer names the service account and, for tokens that are bound to a pod, the
//! node that the pod runs on. A certificate is issued for exactly that node and for no other. Kubernetes fills the
//! node in since 1.30 (feature `ServiceAccountTokenPodNodeInfo`, general since 1.32).

use std::collections::BTreeMap;
use std::future::Future;

use serde::{Deserialize, Serialize};

use super::object::or_default;

/// The audience of join tokens.
pub const AUDIENCE: &str = "tidemark";
/// Bytes of a token; the API server's own are below 2 KiB.
pub const TOKEN_BYTES_MAX: usize = 16 << 10;
/// Where the answer names the node (`k8s.io/apiserver/pkg/authentication/serviceaccount`).
const NODE_NAME: &str = "authentication.kubernetes.io/node-name";
/// Where the answer names the pod.
const POD_NAME: &str = "authentication.kubernetes.io/pod-name";

/// Whether a join token is one of Kubernetes' (a JSON web token), rather than one of ours.
#[must_use]
pub fn is_service_account_token(token: &str) -> bool {
    token.starts_with("eyJ") && token.bytes().filter(|&byte| byte == b'.').count() == 2
}

/// The body of a request for a review.
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
    /// Asks about `token`, for our audience.
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
    /// What it found.
    #[serde(default, deserialize_with = "or_default")]
    pub status: ReviewStatus,
}

/// What the API server found out about a token.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct ReviewStatus {
    /// Whether the token is good.
    pub authenticated: bool,
    /// Whose it is.
    pub user: ReviewedUser,
    /// Which of the audiences asked for it is good for. Empty from a server that knows no audiences: such a token is
    /// good for the API server itself.
    #[serde(deserialize_with = "or_default")]
    pub audiences: Vec<String>,
    /// Why it could not be reviewed.
    pub error: String,
}

/// Whose token it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct ReviewedUser {
    /// `system:serviceaccount:NAMESPACE:NAME` for service accounts.
    pub username: String,
    /// More about it, by key.
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

/// Why a token does not admit. Nothing in it is unknown to whoever holds the token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JoinDenied {
    /// Longer than [`TOKEN_BYTES_MAX`], or empty.
    #[error("token of {bytes} bytes")]
    TokenSize {
        /// Its length.
        bytes: usize,
    },
    /// The API server does not know it, or it has expired.
    #[error("token is not authenticated: {error:?}")]
    NotAuthenticated {
        /// What the API server says.
        error: String,
    },
    /// Good for something else.
    #[error("token is not for audience {AUDIENCE:?} but for {audiences:?}")]
    WrongAudience {
        /// What for.
        audiences: Vec<String>,
    },
    /// A user, or another service account.
    #[error("{username:?} is not an agent's service account")]
    NotAnAgent {
        /// Whose token it is.
        username: String,
    },
    /// Not bound to a pod, or from before Kubernetes 1.30.
    #[error(
        "token of {username:?} names no node; it must be bound to a pod, by Kubernetes 1.30 or newer"
    )]
    NoNode {
        /// Whose token it is.
        username: String,
    },
    /// The agent claims to be another node.
    #[error("pod {pod:?} runs on node {node:?} and asks for a certificate of node {claimed:?}")]
    OtherNode {
        /// The pod.
        pod: String,
        /// Where it runs.
        node: String,
        /// Where it says it runs.
        claimed: String,
    },
}

/// Why a token could not be reviewed. The agent may try again.
#[derive(Debug, thiserror::Error)]
#[error("ask the API server to review a token")]
pub struct ReviewError(#[source] pub Box<dyn std::error::Error + Send + Sync>);

/// Why a node may not join, or not now.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// No.
    #[error("join denied")]
    Denied(#[from] JoinDenied),
    /// Unknown yet.
    #[error("join can't be decided")]
    Undecided(#[from] ReviewError),
}

impl JoinError {
    /// Whether the same request may succeed later.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        matches!(self, Self::Undecided(_))
    }
}

/// Asks whose token it is. The API server does; tests have recorded answers.
pub trait TokenReviewer: Send + Sync {
    /// Has `token` reviewed for our audience.
    fn review(&self, token: &str) -> impl Future<Output = Result<TokenReview, ReviewError>> + Send;
}

/// The service accounts whose pods may join.
#[derive(Debug, Clone)]
pub struct JoinPolicy {
    usernames: Vec<String>,
}

impl JoinPolicy {
    /// Admits pods of one service account.
    #[must_use]
    pub fn service_account(namespace: &str, name: &str) -> Self {
        Self {
            usernames: vec![format!("system:serviceaccount:{namespace}:{name}")],
        }
    }

    /// The service account of the agents in `deploy/`: `tidemark-agent` in the aggregator's own namespace.
    #[must_use]
    pub fn agents_in(namespace: &str) -> Self {
        Self::service_account(namespace, "tidemark-agent")
    }

    /// Decides by what the API server said. `claimed_node` is what the agent says it runs on.
    ///
    /// # Errors
    /// The reason for which the token does not admit.
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

    /// Has a token reviewed and decides.
    ///
    /// # Errors
    /// Denied, or not decidable now.
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

/// The API server as one that vouches for nodes.
#[derive(Debug, Clone)]
pub struct Admission {
    kubernetes: super::Kubernetes,
    policy: JoinPolicy,
}

impl Admission {
    /// Has `kubernetes` review tokens and decides by `policy`.
    #[must_use]
    pub const fn new(kubernetes: super::Kubernetes, policy: JoinPolicy) -> Self {
        Self { kubernetes, policy }
    }

    /// See [`JoinPolicy::admit`].
    ///
    /// # Errors
    /// Denied, or not decidable now.
    pub async fn admit(&self, token: &str, claimed_node: &str) -> Result<Admitted, JoinError> {
        self.policy
            .admit(&self.kubernetes, token, claimed_node)
            .await
    }
}

#[cfg(test)]
mod tests;
