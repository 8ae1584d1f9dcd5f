//! Test of joining in Kubernetes: the real agent with a projected service-account token, the real aggregator, and an API
//! server on loopback that answers like a real one (recorded TokenReviews of 1.3x).

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use base64::Engine as _;
use common::telemetry::Registry;
use http_body_util::BodyExt as _;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::ServerConfig;
use rustls_pki_types::PrivateKeyDer;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use aggregator::http::server::{Server, ServerOptions};

use crate::agents::agent::{Agent, binary};
use crate::agents::{number, quic_address};
use crate::harness::{Aggregator, PATIENCE, eventually};
use crate::process::Process;

/// The token of the aggregator's own service account.
const OWN_TOKEN: &str = "aggregators-own-token";
/// Tokens of agents' pods, with the three parts of JSON web tokens.
const GOOD: &str = "eyJhbGciOiJSUzI1NiJ9.eyJub2RlIjoibm9kZS1hIn0.c2lnbmF0dXJl";
const EXPIRED: &str = "eyJhbGciOiJSUzI1NiJ9.eyJub2RlIjoibm9kZS1vbGQifQ.c2lnbmF0dXJl";

/// The requests that the API server received, and how it behaves.
#[derive(Debug, Default)]
struct World {
    /// How many more reviews it answers with 503.
    failures_left: u32,
    reviews: u32,
    /// A request that the aggregator must not send.
    wrong: Vec<String>,
}

/// The API server, with HTTPS like a real one. Ends with the test.
struct ApiServer {
    world: Arc<Mutex<World>>,
    stop: CancellationToken,
    kubeconfig: String,
}

impl ApiServer {
    fn start() -> Self {
        let world = Arc::<Mutex<World>>::default();
        let stop = CancellationToken::new();
        let (tls, ca_pem) = tls();
        let (told, address) = std::sync::mpsc::channel();
        let (router, stopped) = (
            Router::new()
                .fallback(answer)
                .with_state(Arc::clone(&world)),
            stop.clone(),
        );
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let options = ServerOptions {
                    tls: Some(tls),
                    connections_max: 100,
                    read_timeout: PATIENCE,
                };
                let any = "127.0.0.1:0".parse().unwrap();
                let server = Server::bind(any, options, &Registry::default())
                    .await
                    .unwrap();
                told.send(server.local_address().unwrap()).unwrap();
                server.serve(router, stopped).await;
            });
        });
        let server = format!("https://{}", address.recv().unwrap());
        let ca = base64::engine::general_purpose::STANDARD.encode(ca_pem);
        let kubeconfig = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "c",
            "clusters": [{"name": "k", "cluster": {"server": server, "certificate-authority-data": ca}}],
            "users": [{"name": "u", "user": {"token": OWN_TOKEN}}],
            "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u", "namespace": "tidemark"}}],
        });
        Self {
            world,
            stop,
            kubeconfig: kubeconfig.to_string(),
        }
    }

    fn with<T>(&self, look: impl FnOnce(&mut World) -> T) -> T {
        look(&mut self.world.lock().unwrap())
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Returns a certificate for 127.0.0.1 and its authority.
fn tls() -> (Arc<ServerConfig>, String) {
    let ca_key = KeyPair::generate().unwrap();
    let mut ca = CertificateParams::new(Vec::new()).unwrap();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca_pem = ca.self_signed(&ca_key).unwrap().pem();
    let issuer = Issuer::from_params(&ca, &ca_key);
    let key = KeyPair::generate().unwrap();
    let names = vec!["127.0.0.1".to_owned()];
    let certificate = CertificateParams::new(names)
        .unwrap()
        .signed_by(&key, &issuer)
        .unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        );
    (Arc::new(config.unwrap()), ca_pem)
}

fn reply(status: u16, body: &Value) -> Response {
    let response = Response::builder()
        .status(status)
        .header("content-type", "application/json");
    response.body(Body::from(body.to_string())).unwrap()
}

async fn answer(State(world): State<Arc<Mutex<World>>>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let path = head.uri.path();
    let is_watch = head
        .uri
        .query()
        .is_some_and(|query| query.contains("watch=true"));
    let shown = head
        .headers
        .get("authorization")
        .and_then(|value| value.to_str().ok());
    if shown != Some(&format!("Bearer {OWN_TOKEN}")) {
        world
            .lock()
            .unwrap()
            .wrong
            .push(format!("{path} with {shown:?}"));
        return reply(
            401,
            &json!({"kind": "Status", "status": "Failure", "code": 401}),
        );
    }
    if path == "/apis/authentication.k8s.io/v1/tokenreviews" {
        return review(&world, &serde_json::from_slice(&body).unwrap());
    }
    if is_watch {
        // Nothing changes in this cluster.
        std::future::pending::<()>().await;
    }
    let items = match path {
        "/api/v1/namespaces" => json!([{
            "apiVersion": "v1", "kind": "Namespace",
            "metadata": {"name": "shop", "uid": "d0a7cf1c-9f0f-44a8-a7f4-14ad5a9f6d5c", "resourceVersion": "1",
                "creationTimestamp": "2026-08-20T10:00:00Z"},
            "status": {"phase": "Active"},
        }]),
        _ => json!([]),
    };
    reply(
        200,
        &json!({"kind": "List", "apiVersion": "v1", "metadata": {"resourceVersion": "1"}, "items": items}),
    )
}

fn review(world: &Mutex<World>, request: &Value) -> Response {
    let mut world = world.lock().unwrap();
    world.reviews += 1;
    if request["spec"]["audiences"] != json!(["tidemark"]) {
        world
            .wrong
            .push(format!("review for {}", request["spec"]["audiences"]));
    }
    if world.failures_left > 0 {
        world.failures_left -= 1;
        return reply(
            503,
            &json!({"kind": "Status", "status": "Failure", "code": 503, "message": "etcd is away"}),
        );
    }
    let status = if request["spec"]["token"] == GOOD {
        json!({
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
                    "authentication.kubernetes.io/pod-uid": ["5f0f1c7a-1f4a-4e47-9a34-6f1d8c0b2e11"],
                },
            },
            "audiences": ["tidemark"],
        })
    } else {
        json!({"user": {}, "error": "[invalid bearer token, service account token has expired]"})
    };
    let answer = json!({"kind": "TokenReview", "apiVersion": "authentication.k8s.io/v1", "spec": request["spec"], "status": status});
    reply(201, &answer)
}

/// The pod of an agent: its files and its process.
struct Pod {
    _process: Process,
    dir: tempfile::TempDir,
}

impl Pod {
    /// Starts the agent as deploy/base/agent does: with token, published certificate and node name.
    fn start(node: &str, token: &str, ca_pem: &str, address: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        write_token(dir.path(), token);
        fs::write(path("ca.crt"), ca_pem).unwrap();
        let process = Process::start(
            Command::new(binary())
                .args(["--aggregator.address", address, "--node.name", node])
                .args(["--interval=1s", "--web.listen-address=127.0.0.1:0"])
                .arg(format!("--join.token-file={}", path("token").display()))
                .arg(format!("--tls.ca-file={}", path("ca.crt").display()))
                .arg(format!("--spool.path={}", path("spool").display()))
                .stdout(Stdio::null())
                .stderr(File::create(path("log")).unwrap()),
        );
        Self {
            _process: process,
            dir,
        }
    }

    fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap()
    }

    fn refused(&self, code: &str) {
        eventually("refusal", || {
            let log = self.log();
            let told = log
                .lines()
                .any(|line| line.contains("refused") && line.contains(code));
            told.then_some(())
        });
    }
}

/// Replaces the projected token as the kubelet does.
fn write_token(dir: &Path, token: &str) {
    let new = dir.join("token.new");
    fs::write(&new, format!("{token}\n")).unwrap();
    fs::rename(new, dir.join("token")).unwrap();
}

/// Starts an aggregator that uses the API server. Returns it with its address for agents.
fn follow(api: &ApiServer, files: &Path, flags: &[&str]) -> (Aggregator, String) {
    let kubeconfig = files.join("config");
    fs::write(&kubeconfig, &api.kubeconfig).unwrap();
    let flag = format!("--kubernetes.kubeconfig={}", kubeconfig.display());
    let mut aggregator = Aggregator::start_with(&[&[&*flag], flags].concat());
    let address = quic_address(&mut aggregator);
    (aggregator, address)
}

/// Dashboards of several clusters select by this label: series of the API server get it from the aggregator's configuration,
/// series of nodes from the agent's flag.
#[test]
fn series_of_cluster_and_node_carry_the_clusters_name() {
    let api = ApiServer::start();
    let files = tempfile::tempdir().unwrap();
    let config = files.path().join("tidemark.yml");
    fs::write(&config, "global:\n  external_labels: {cluster: east}\n").unwrap();
    let flag = format!("--config.file={}", config.display());
    let (aggregator, address) = follow(&api, files.path(), &[&flag]);
    eventually("kube_* of the cluster", || {
        let phase =
            r#"kube_namespace_status_phase{namespace="shop",phase="Active",cluster="east"}"#;
        number(&aggregator, phase)
    });
    let without = number(
        &aggregator,
        r#"count({__name__=~"kube_.+",cluster!="east"})"#,
    );
    assert_eq!(without, None);
    let flags = ["--node.name=node-a", "--cluster.name=east"];
    let dir = tempfile::tempdir().unwrap();
    let agent = Agent::start_with(dir, &[&aggregator], &address, &flags);
    eventually("data of the node", || {
        number(&aggregator, r#"node_load1{node="node-a",cluster="east"}"#)
    });
    let without = r#"count({node="node-a",job!="agent",cluster!="east"})"#;
    assert_eq!(number(&aggregator, without), None);
    agent.stop();
}

#[test]
fn agents_join_with_their_service_account_token() {
    let api = ApiServer::start();
    let files = tempfile::tempdir().unwrap();
    let (aggregator, address) = follow(&api, files.path(), &[]);
    // Inside a cluster the aggregator publishes it as a ConfigMap, which the pods mount.
    let ca_pem = fs::read_to_string(aggregator.dir.path().join("data/pki/ca.pem")).unwrap();
    let up = |node: &str| number(&aggregator, &format!("up{{job=\"agent\",node=\"{node}\"}}"));

    // The API server fails at first; then the token is valid.
    api.with(|world| world.failures_left = 1);
    let pod = Pod::start("node-a", GOOD, &ca_pem, &address);
    eventually("data of the node", || {
        number(&aggregator, "node_load1{node=\"node-a\"}")
    });
    eventually("up of the node", || up("node-a").filter(|&up| up == 1.0));
    assert!(api.with(|world| world.reviews) >= 2);
    assert!(
        !pod.log().contains(GOOD) && !aggregator.log().contains(GOOD),
        "tokens stay out of logs"
    );

    // The same token is not valid for another node.
    let liar = Pod::start("node-b", GOOD, &ca_pem, &address);
    liar.refused("token");
    assert_eq!(up("node-b"), None);

    // An expired token is refused; the agent uses the replaced one without a restart.
    let late = Pod::start("node-a", EXPIRED, &ca_pem, &address);
    late.refused("token");
    let reviews = api.with(|world| world.reviews);
    drop(pod);
    write_token(late.dir.path(), GOOD);
    eventually("connection with the new token", || {
        late.log()
            .lines()
            .find(|line| line.contains("connected"))
            .map(|_| ())
    });
    assert!(api.with(|world| world.reviews) > reviews);
    assert_eq!(api.with(|world| world.wrong.clone()), Vec::<String>::new());
}
