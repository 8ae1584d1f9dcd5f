//! Decisions over answers in the shapes that the API server gives.

use super::*;

/// The answer of a 1.30 or newer server for the projected token of an agent's pod.
const AGENT: &str = r#"{
  "kind": "TokenReview", "apiVersion": "authentication.k8s.io/v1",
  "metadata": {"creationTimestamp": null},
  "spec": {"token": "x", "audiences": ["tidemark"]},
  "status": {
    "authenticated": true,
    "user": {
      "username": "system:serviceaccount:tidemark:tidemark-agent",
      "uid": "0a2d4b1e-1c7e-4f57-9d0b-1b8e5a3f7c10",
      "groups": ["system:serviceaccounts", "system:serviceaccounts:tidemark", "system:authenticated"],
      "extra": {
        "authentication.kubernetes.io/credential-id": ["JTI=7ee52be0-9045-4653-aa5e-0da57b8dccdc"],
        "authentication.kubernetes.io/node-name": ["node-a"],
        "authentication.kubernetes.io/node-uid": ["b0330b4d-ee6a-4363-a0fc-22336fda7899"],
        "authentication.kubernetes.io/pod-name": ["tidemark-agent-x7k2p"],
        "authentication.kubernetes.io/pod-uid": ["5f0f1c7a-1f4a-4e47-9a34-6f1d8c0b2e11"]
      }
    },
    "audiences": ["tidemark"]
  }
}"#;

/// An expired or foreign token: no user, an error.
const EXPIRED: &str = r#"{"kind": "TokenReview", "apiVersion": "authentication.k8s.io/v1",
  "status": {"user": {}, "error": "[invalid bearer token, service account token has expired]"}}"#;

fn policy() -> JoinPolicy {
    JoinPolicy::service_account("tidemark", "tidemark-agent")
}

fn review(text: &str) -> TokenReview {
    serde_json::from_str(text).unwrap()
}

#[track_caller]
fn check(text: &str, node: &str, want: Result<&str, JoinDenied>) {
    let got = policy()
        .decide(&review(text), node)
        .map(|admitted| admitted.node);
    assert_eq!(got, want.map(str::to_owned));
}

#[test]
fn agent_gets_its_own_node() {
    check(AGENT, "node-a", Ok("node-a"));
    let admitted = policy().decide(&review(AGENT), "node-a").unwrap();
    assert_eq!(admitted.pod, "tidemark-agent-x7k2p");
}

#[test]
fn agent_gets_no_other_node() {
    for claimed in ["node-b", "", "node-a ", "NODE-A"] {
        let want = JoinDenied::OtherNode {
            pod: "tidemark-agent-x7k2p".to_owned(),
            node: "node-a".to_owned(),
            claimed: claimed.to_owned(),
        };
        check(AGENT, claimed, Err(want));
    }
}

#[test]
fn expired_token_is_denied_with_the_servers_reason() {
    let error = "[invalid bearer token, service account token has expired]".to_owned();
    check(
        EXPIRED,
        "node-a",
        Err(JoinDenied::NotAuthenticated { error }),
    );
}

#[test]
fn answer_without_status_is_denied() {
    for text in ["{}", r#"{"status": null}"#, r#"{"status": {}}"#] {
        let error = String::new();
        check(text, "node-a", Err(JoinDenied::NotAuthenticated { error }));
    }
}

#[test]
fn token_for_the_api_server_is_denied() {
    let other = AGENT.replace(
        r#""audiences": ["tidemark"]
  }"#,
        r#""audiences": ["https://kubernetes.default.svc"]
  }"#,
    );
    let audiences = vec!["https://kubernetes.default.svc".to_owned()];
    check(
        &other,
        "node-a",
        Err(JoinDenied::WrongAudience { audiences }),
    );
    let none = AGENT.replace(
        r#",
    "audiences": ["tidemark"]
  }"#,
        "}",
    );
    let audiences = vec![];
    check(
        &none,
        "node-a",
        Err(JoinDenied::WrongAudience { audiences }),
    );
}

#[test]
fn other_accounts_are_denied() {
    for username in [
        "system:serviceaccount:tidemark:default",
        "system:serviceaccount:evil:tidemark-agent",
        "system:serviceaccount:tidemark:tidemark-agent2",
        "system:node:node-a",
        "kubernetes-admin",
    ] {
        let text = AGENT.replace("system:serviceaccount:tidemark:tidemark-agent", username);
        let username = username.to_owned();
        check(&text, "node-a", Err(JoinDenied::NotAnAgent { username }));
    }
}

#[test]
fn token_without_node_is_denied() {
    let username = "system:serviceaccount:tidemark:tidemark-agent".to_owned();
    let older = AGENT.replace("authentication.kubernetes.io/node-name", "other");
    check(
        &older,
        "node-a",
        Err(JoinDenied::NoNode {
            username: username.clone(),
        }),
    );
    let two = AGENT.replace(r#"["node-a"]"#, r#"["node-a", "node-b"]"#);
    check(&two, "node-a", Err(JoinDenied::NoNode { username }));
}

struct Recorded(Option<&'static str>);

impl TokenReviewer for Recorded {
    async fn review(&self, token: &str) -> Result<TokenReview, ReviewError> {
        assert_eq!(token, "good", "tokens arrive trimmed");
        match self.0 {
            Some(text) => Ok(review(text)),
            None => Err(ReviewError("no route to host".into())),
        }
    }
}

#[tokio::test]
async fn api_server_that_is_away_leaves_it_undecided() {
    let admit =
        |answer, token| async move { policy().admit(&Recorded(answer), token, "node-a").await };
    assert_eq!(admit(Some(AGENT), "good\n").await.unwrap().node, "node-a");
    let error = admit(None, "good").await.unwrap_err();
    assert!(error.is_retryable());
    assert!(
        !admit(Some(EXPIRED), "good")
            .await
            .unwrap_err()
            .is_retryable()
    );
}

#[tokio::test]
async fn token_size_is_bounded_before_the_server_is_asked() {
    for token in [
        String::new(),
        " \n".to_owned(),
        "x".repeat(TOKEN_BYTES_MAX + 1),
    ] {
        let error = policy()
            .admit(&Recorded(None), &token, "node-a")
            .await
            .unwrap_err();
        assert!(matches!(
            error,
            JoinError::Denied(JoinDenied::TokenSize { .. })
        ));
    }
}

#[test]
fn request_names_our_audience() {
    assert_eq!(
        serde_json::to_value(TokenReviewRequest::new("t")).unwrap(),
        serde_json::json!({
            "apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview",
            "spec": {"token": "t", "audiences": ["tidemark"]}
        })
    );
}

#[test]
fn kinds_of_tokens_are_told_apart() {
    assert!(is_service_account_token(
        "eyJhbGciOiJSUzI1NiJ9.eyJhdWQiOlsidGlkZW1hcmsiXX0.c2ln"
    ));
    for other in [
        "",
        "tm1.abc.def",
        "eyJhbGciOiJSUzI1NiJ9.x",
        "abcdef.0123456789abcdef",
    ] {
        assert!(!is_service_account_token(other), "{other}");
    }
}
