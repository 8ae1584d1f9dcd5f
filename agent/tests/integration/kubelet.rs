//! A kubelet that replays recordings over TLS, with the refusals and failures of a real one.

use std::convert::Infallible;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use agent::kube::metrics::Families;
use agent::kube::verify::Trust;
use agent::kube::{KubeletClient, KubeletData, KubeletError, KubeletOptions, poll};
use bytes::Bytes;
use common::telemetry::Registry;
use http::{Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustls::ServerConfig;
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::recorded::fixture;
use crate::support::{Agent, eventually, name_of};

const TOKEN: &str = "good-token";
const RUNNING_PODS: &str = "kubelet_running_pods";

/// How the kubelet answers an authorized request.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Mood {
    Good,
    Hangs,
    Torn,
    Nonsense,
    Overloaded,
    /// An answer beyond the size limit.
    Huge,
}

/// The replayed kubelet.
struct Kubelet {
    url: String,
    cert_pem: String,
    mood: Arc<Mutex<Mood>>,
}

async fn answer(
    request: Request<Incoming>,
    mood: Mood,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let reply = |status: StatusCode, kind: &str, body: Vec<u8>| {
        Response::builder()
            .status(status)
            .header(header::CONTENT_TYPE, kind)
            .body(Full::new(Bytes::from(body)))
            .unwrap()
    };
    let token = request
        .headers()
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .unwrap_or("");
    // Texts recorded in auth/matrix.txt.
    if token == "Bearer no-rights" {
        let said = "Forbidden (user=system:serviceaccount:monitoring:nobody, verb=get, resource=nodes, subresource(s)=[pods proxy])\n";
        return Ok(reply(
            StatusCode::FORBIDDEN,
            "text/plain; charset=utf-8",
            said.into(),
        ));
    }
    if token != format!("Bearer {TOKEN}") {
        return Ok(reply(
            StatusCode::UNAUTHORIZED,
            "text/plain; charset=utf-8",
            b"Unauthorized".into(),
        ));
    }
    let body = match request.uri().path() {
        "/pods" => fixture("v1-full", "pods.json.gz"),
        "/stats/summary" => fixture("v1-full", "stats-summary.json.gz"),
        "/metrics" => fixture("v1-full", "metrics.prom.gz"),
        _ => {
            return Ok(reply(
                StatusCode::NOT_FOUND,
                "text/plain; charset=utf-8",
                b"404 page not found\n".into(),
            ));
        }
    };
    match mood {
        Mood::Good => Ok(reply(StatusCode::OK, "application/json", body)),
        Mood::Hangs => std::future::pending().await,
        Mood::Torn => Ok(reply(
            StatusCode::OK,
            "application/json",
            body[..body.len() / 2].to_vec(),
        )),
        Mood::Nonsense => Ok(reply(
            StatusCode::OK,
            "application/json",
            b"{\"kind\":\"Status\"}".into(),
        )),
        Mood::Huge => Ok(reply(
            StatusCode::OK,
            "application/json",
            vec![b' '; (64 << 20) + 1],
        )),
        Mood::Overloaded => Ok(reply(
            StatusCode::SERVICE_UNAVAILABLE,
            "text/plain",
            Vec::new(),
        )),
    }
}

impl Kubelet {
    /// Starts it with a self-signed certificate for a host name, as kubelets do.
    async fn start(host: &str) -> Self {
        let made = rcgen::generate_simple_self_signed([host.to_owned()]).unwrap();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
        let config =
            ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_no_client_auth()
                .with_single_cert(vec![made.cert.der().clone()], key)
                .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://{}", listener.local_addr().unwrap());
        let mood = Arc::new(Mutex::new(Mood::Good));
        let (acceptor, shared) = (TlsAcceptor::from(Arc::new(config)), Arc::clone(&mood));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, mood) = (acceptor.clone(), *shared.lock().unwrap());
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else {
                        return;
                    };
                    let service = service_fn(move |request| answer(request, mood));
                    let (Ok(()) | Err(_)) = http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        Self {
            url,
            cert_pem: made.cert.pem(),
            mood,
        }
    }

    fn set(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }

    fn options(&self, dir: &Path, token: &str) -> KubeletOptions {
        std::fs::write(dir.join("token"), format!("{token}\n")).unwrap();
        std::fs::write(dir.join("kubelet.crt"), &self.cert_pem).unwrap();
        let trust = Trust {
            pinned_file: Some(dir.join("kubelet.crt")),
            node: "node-a".to_owned(),
            ..Trust::default()
        };
        KubeletOptions {
            timeout: Duration::from_secs(2),
            ..KubeletOptions::new(self.url.clone(), dir.join("token"), trust)
        }
    }
}

fn client(options: KubeletOptions) -> KubeletClient {
    KubeletClient::new(options).unwrap()
}

#[tokio::test]
async fn pinned_certificate_is_accepted_and_another_refused() {
    let dir = tempfile::tempdir().unwrap();
    let kubelet = Kubelet::start("another-name").await;
    let options = kubelet.options(dir.path(), TOKEN);
    assert!(client(options.clone()).get("/pods").await.unwrap().len() > 1000);
    let stranger = Kubelet::start("another-name").await;
    let error = client(KubeletOptions {
        url: stranger.url.clone(),
        ..options
    })
    .get("/pods")
    .await
    .unwrap_err();
    assert_eq!(error.kind(), "connect", "{error:?}");
}

#[tokio::test]
async fn pinned_certificate_may_be_replaced_while_the_agent_runs() {
    let dir = tempfile::tempdir().unwrap();
    let before = Kubelet::start("node-a").await;
    let after = Kubelet::start("node-a").await;
    let mut options = after.options(dir.path(), TOKEN);
    std::fs::write(dir.path().join("kubelet.crt"), &before.cert_pem).unwrap();
    options.url.clone_from(&after.url);
    let client = client(options);
    assert_eq!(client.get("/pods").await.unwrap_err().kind(), "connect");
    std::fs::write(dir.path().join("kubelet.crt"), &after.cert_pem).unwrap();
    assert!(client.get("/pods").await.is_ok());
}

#[tokio::test]
async fn any_certificate_is_accepted_only_with_the_flag() {
    let dir = tempfile::tempdir().unwrap();
    let kubelet = Kubelet::start("another-name").await;
    let mut options = kubelet.options(dir.path(), TOKEN);
    options.trust = Trust {
        anybody: true,
        node: "node-a".to_owned(),
        ..Trust::default()
    };
    assert!(client(options.clone()).get("/pods").await.is_ok());
    // A trusted file does not disable the flag. Without the flag, a stranger is refused.
    options.trust = Trust {
        ca_file: Some(dir.path().join("kubelet.crt")),
        node: "node-a".to_owned(),
        ..Trust::default()
    };
    assert_eq!(
        client(options).get("/pods").await.unwrap_err().kind(),
        "connect"
    );
}

#[tokio::test]
async fn answers_are_bounded() {
    let dir = tempfile::tempdir().unwrap();
    let kubelet = Kubelet::start("node-a").await;
    kubelet.set(Mood::Huge);
    let options = KubeletOptions {
        timeout: Duration::from_secs(60),
        ..kubelet.options(dir.path(), TOKEN)
    };
    let error = client(options).get("/pods").await.unwrap_err();
    let KubeletError::Http(source) = &error else {
        panic!("{error:?}");
    };
    assert!(source.to_string().contains("limit"), "{source}");
}

/// Runs the real agent beside a kubelet in `mood` until `check` holds.
async fn beside(mood: Mood, check: impl Fn(&Agent) -> bool + Send + 'static) {
    beside_with(TOKEN, mood, check).await;
}

async fn beside_with(
    shown: &'static str,
    mood: Mood,
    check: impl Fn(&Agent) -> bool + Send + 'static,
) {
    let kubelet = Kubelet::start("node-a").await;
    kubelet.set(mood);
    let run = move || {
        let dir = tempfile::tempdir().unwrap();
        let (token, pinned) = (dir.path().join("token"), dir.path().join("kubelet.crt"));
        std::fs::write(&token, shown).unwrap();
        std::fs::write(&pinned, &kubelet.cert_pem).unwrap();
        let token = format!("--kubelet.token-file={}", token.display());
        let pinned = format!("--kubelet.pinned-cert-file={}", pinned.display());
        let url = format!("--kubelet.url={}", kubelet.url);
        let agent = Agent::start(dir.path(), &["--interval=1s", &url, &token, &pinned], None);
        eventually("what is awaited of the agent", || {
            check(&agent).then_some(())
        });
    };
    tokio::task::spawn_blocking(run).await.unwrap();
}

#[tokio::test]
async fn sampling_goes_on_while_the_kubelet_hangs() {
    beside(Mood::Hangs, |agent| {
        let scrape = agent.scrape();
        // No answer has arrived and no request has failed: the first one is still open.
        assert!(
            !scrape
                .keys()
                .any(|series| name_of(series) == "agent_kubelet_errors_total")
        );
        scrape
            .get("{__name__=\"agent_sampler_ticks_total\"}")
            .is_some_and(|&ticks| ticks >= 4.0)
    })
    .await;
}

#[tokio::test]
async fn refusals_are_reported_and_the_node_is_sampled() {
    for (token, status) in [("expired", "401"), ("no-rights", "403")] {
        beside_with(token, Mood::Good, move |agent| {
            let scrape = agent.scrape();
            let log = agent.log.lock().unwrap().clone();
            let refused = |path: &&str| {
                let errors = format!(
                    "{{__name__=\"agent_kubelet_errors_total\", kind=\"refused\", path=\"{path}\"}}"
                );
                let line = |line: &&str| {
                    line.contains("level=WARN")
                        && line.contains(&format!("path={path}"))
                        && line.contains(&format!("refused with {status}"))
                        && !line.contains(token)
                };
                scrape.contains_key(&errors) && log.lines().any(|text| line(&text))
            };
            let ticks = scrape.get("{__name__=\"agent_sampler_ticks_total\"}");
            ["/pods", "/stats/summary", "/metrics"].iter().all(refused)
                && ticks.is_some_and(|&ticks| ticks >= 2.0)
                && scrape.contains_key("{__name__=\"node_load1\"}")
        })
        .await;
    }
}

#[tokio::test]
async fn failing_kubelet_is_reported() {
    beside(Mood::Torn, |agent| {
        let scrape = agent.scrape();
        let log = agent.log.lock().unwrap().clone();
        ["/pods", "/stats/summary", "/metrics"].iter().all(|path| {
            let up = scrape.get(&format!(
                "{{__name__=\"agent_kubelet_up\", path=\"{path}\"}}"
            ));
            let told = |line: &&str| {
                line.contains("level=WARN")
                    && line.contains("kubelet unavailable")
                    && line.contains(&format!("path={path}"))
            };
            up == Some(&0.0) && log.lines().filter(told).count() == 1
        })
    })
    .await;
}

#[tokio::test]
async fn authority_must_sign_for_the_nodes_name() {
    let dir = tempfile::tempdir().unwrap();
    for (host, want) in [("node-a", true), ("node-b", false)] {
        let kubelet = Kubelet::start(host).await;
        let mut options = kubelet.options(dir.path(), TOKEN);
        options.trust = Trust {
            ca_file: Some(dir.path().join("kubelet.crt")),
            node: "node-a".to_owned(),
            ..Trust::default()
        };
        assert_eq!(client(options).get("/pods").await.is_ok(), want, "{host}");
    }
}

/// As deployed: the cluster's authority, and the certificate that the kubelet signed itself.
#[tokio::test]
async fn authority_or_the_pinned_certificate_suffices() {
    let dir = tempfile::tempdir().unwrap();
    let signed = Kubelet::start("127.0.0.1").await;
    let own = Kubelet::start("another-name").await;
    let stranger = Kubelet::start("node-a").await;
    let mut options = own.options(dir.path(), TOKEN);
    let ca = dir.path().join("ca.crt");
    std::fs::write(&ca, &signed.cert_pem).unwrap();
    options.trust.ca_file = Some(ca);
    let answers = async |kubelet: &Kubelet| {
        let options = KubeletOptions {
            url: kubelet.url.clone(),
            ..options.clone()
        };
        client(options).get("/pods").await.is_ok()
    };
    assert!(answers(&own).await, "pinned");
    assert!(answers(&signed).await, "signed for the node's address");
    assert!(!answers(&stranger).await, "the right name is not enough");
    // The kubelet has not created its own certificate yet.
    std::fs::remove_file(dir.path().join("kubelet.crt")).unwrap();
    assert!(answers(&signed).await);
    assert!(!answers(&own).await);
}

#[tokio::test]
async fn refusals_and_bad_answers_have_distinct_error_kinds() {
    let dir = tempfile::tempdir().unwrap();
    let kubelet = Kubelet::start("node-a").await;
    for (token, status, said) in [
        ("bad", 401, "Unauthorized"),
        (
            "no-rights",
            403,
            "resource=nodes, subresource(s)=[pods proxy]",
        ),
    ] {
        let error = client(kubelet.options(dir.path(), token))
            .get("/pods")
            .await
            .unwrap_err();
        let KubeletError::Refused {
            status: got,
            said: text,
        } = &error
        else {
            panic!("{error:?}")
        };
        assert!(got.as_u16() == status && text.contains(said), "{error}");
    }
    let good = kubelet.options(dir.path(), TOKEN);
    assert_eq!(
        client(good.clone())
            .get("/nonsense")
            .await
            .unwrap_err()
            .kind(),
        "status"
    );
    kubelet.set(Mood::Hangs);
    assert_eq!(
        client(good.clone()).get("/pods").await.unwrap_err().kind(),
        "timeout"
    );
    kubelet.set(Mood::Overloaded);
    assert_eq!(
        client(good.clone()).get("/pods").await.unwrap_err().kind(),
        "status"
    );
    std::fs::remove_file(dir.path().join("token")).unwrap();
    assert_eq!(
        client(good.clone()).get("/pods").await.unwrap_err().kind(),
        "config"
    );
    let nobody = KubeletOptions {
        trust: Trust::default(),
        ..good
    };
    assert_eq!(KubeletClient::new(nobody).unwrap_err().kind(), "config");
}

#[tokio::test]
async fn replaced_token_is_read_again() {
    let dir = tempfile::tempdir().unwrap();
    let kubelet = Kubelet::start("node-a").await;
    let client = client(kubelet.options(dir.path(), "old"));
    assert_eq!(client.get("/pods").await.unwrap_err().kind(), "refused");
    std::fs::write(dir.path().join("token"), TOKEN).unwrap();
    assert!(client.get("/pods").await.is_ok());
}

/// Polls until `check` holds. Each state of the kubelet gets its own poller, which asks at its start.
async fn polled(
    kubelet: &Kubelet,
    dir: &Path,
    data: &KubeletData,
    check: impl Fn(&KubeletData, &str) -> bool,
) {
    let (registry, stop) = (Registry::default(), CancellationToken::new());
    let poller = {
        let (client, data, registry, stop) = (
            client(kubelet.options(dir, TOKEN)),
            data.clone(),
            registry.clone(),
            stop.clone(),
        );
        let families = Families::new(&[RUNNING_PODS.to_owned()]).unwrap();
        tokio::spawn(async move { poll(client, data, &families, &registry, stop).await })
    };
    let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
    loop {
        let mut metrics = String::new();
        registry.render(&mut metrics);
        if check(data, &metrics) {
            break;
        }
        assert!(tokio::time::Instant::now() < deadline, "{metrics}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    stop.cancel();
    poller.await.unwrap();
}

#[tokio::test]
async fn names_outlive_a_failing_kubelet_and_values_do_not() {
    let dir = tempfile::tempdir().unwrap();
    let kubelet = Kubelet::start("node-a").await;
    let data = KubeletData::default();
    polled(&kubelet, dir.path(), &data, |data, metrics| {
        data.latest().summary.is_some()
            && metrics.contains("agent_kubelet_up{path=\"/pods\"} 1")
            && metrics.contains("agent_kubelet_up{path=\"/metrics\"} 1")
    })
    .await;
    let metrics = data.metrics().1.unwrap();
    let found = metrics.samples.iter();
    let found: Vec<(&str, f64)> = found
        .map(|one| (one.labels.metric_name().unwrap(), one.value))
        .collect();
    assert_eq!(found, [(RUNNING_PODS, 15.0)]);
    let names = data.names.current();
    assert!(names.pods.len() >= 16 && names.containers.len() >= 16);
    assert!(
        names
            .pods
            .values()
            .any(|pod| pod.pod == "host-net" && pod.host_network)
    );
    for (mood, kind) in [
        (Mood::Torn, "malformed"),
        (Mood::Nonsense, "malformed"),
        (Mood::Hangs, "timeout"),
    ] {
        kubelet.set(mood);
        let want = format!("agent_kubelet_errors_total{{path=\"/pods\",kind=\"{kind}\"}} 1");
        polled(&kubelet, dir.path(), &data, |_, metrics| {
            metrics.contains(&want) && metrics.contains("agent_kubelet_up{path=\"/pods\"} 0")
        })
        .await;
        assert_eq!(
            data.names.current().pods.len(),
            names.pods.len(),
            "{mood:?}"
        );
    }
    kubelet.set(Mood::Torn);
    polled(&kubelet, dir.path(), &data, |data, _| {
        data.latest().summary.is_none() && matches!(data.metrics(), (2.., None))
    })
    .await;
}
