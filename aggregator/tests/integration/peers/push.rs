//! Alerts pushed to real Alertmanagers: one behind client certificates and a password, one open; one of them dies.

use std::path::Path;
use std::process::{Command, Stdio};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use serde_json::Value;

use super::peer;
use crate::alerting::Webhook;
use crate::harness::{Aggregator, eventually};
use crate::http;
use crate::process::{Process, free_port};

const PASSWORD: &str = "open sesame";

/// An authority, and certificates of it for 127.0.0.1 and for a client, as files.
fn make_certificates(dir: &Path) {
    let ca_key = KeyPair::generate().unwrap();
    let mut ca = CertificateParams::new(Vec::new()).unwrap();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    std::fs::write(dir.join("ca.pem"), ca.self_signed(&ca_key).unwrap().pem()).unwrap();
    let issuer = Issuer::from_params(&ca, &ca_key);
    for name in ["server", "client"] {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        params.extended_key_usages = vec![
            rcgen::ExtendedKeyUsagePurpose::ServerAuth,
            rcgen::ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let certificate = params.signed_by(&key, &issuer).unwrap();
        std::fs::write(dir.join(format!("{name}.pem")), certificate.pem()).unwrap();
        std::fs::write(dir.join(format!("{name}.key")), key.serialize_pem()).unwrap();
    }
}

fn start(program: &Path, dir: &Path, name: &str, port: u16, web: Option<&Path>) -> Process {
    let mut command = Command::new(program);
    command
        .arg(format!(
            "--config.file={}",
            dir.join(format!("{name}.yml")).display()
        ))
        .arg(format!("--storage.path={}", dir.join(name).display()))
        .arg(format!("--web.listen-address=127.0.0.1:{port}"))
        .arg("--cluster.listen-address=")
        .stdout(Stdio::null())
        .stderr(std::fs::File::create(dir.join(format!("{name}.log"))).unwrap());
    if let Some(web) = web {
        command.arg(format!("--web.config.file={}", web.display()));
    }
    let process = Process::start(&mut command);
    eventually("listening Alertmanager", || {
        std::net::TcpStream::connect(("127.0.0.1", port)).ok()
    });
    process
}

fn alertmanager_config(webhook: &Webhook, path: &str) -> String {
    format!(
        "route: {{receiver: r, group_by: [alertname], group_wait: 100ms, group_interval: 1s, repeat_interval: 1h}}\n\
         receivers: [{{name: r, webhook_configs: [{{url: 'http://{}/{path}'}}]}}]\n",
        webhook.address
    )
}

const RULES: &str = "
groups:
- name: g
  interval: 500ms
  rules:
  - {alert: A, expr: vector(1), labels: {sev: page}, annotations: {s: 'is {{ $value }}'}}
  - {alert: B, expr: 'label_replace(vector(2), \"i\", \"x\", \"\", \"\")'}
";

/// Name, start and fingerprint of each alert that an open Alertmanager has.
fn alerts(port: u16) -> Vec<(String, String, String)> {
    let address = format!("127.0.0.1:{port}");
    let answer = http::request(&address, "GET", "/api/v2/alerts", &[], b"").json();
    let text =
        |alert: &Value, path: &str| alert.pointer(path).unwrap().as_str().unwrap().to_owned();
    let mut alerts: Vec<_> = answer
        .as_array()
        .unwrap()
        .iter()
        .map(|alert| {
            (
                text(alert, "/labels/alertname"),
                text(alert, "/startsAt"),
                text(alert, "/fingerprint"),
            )
        })
        .collect();
    alerts.sort();
    alerts
}

/// What waits behind a certificate and a password.
fn lock(dir: &Path) -> std::path::PathBuf {
    let hash = bcrypt::hash(PASSWORD, 5).unwrap();
    let web = dir.join("web.yml");
    let text = "tls_server_config: {cert_file: server.pem, key_file: server.key, client_ca_file: ca.pem, client_auth_type: RequireAndVerifyClientCert}";
    std::fs::write(
        &web,
        format!("{text}\nbasic_auth_users: {{me: '{hash}'}}\n"),
    )
    .unwrap();
    web
}

/// Starts us with both Alertmanagers and a recorder as targets.
fn start_ours(dir: &Path, (open, locked): (u16, u16), webhook: &Webhook) -> Aggregator {
    let ours = tempfile::tempdir().unwrap();
    // Files are looked for beside the configuration, which is not where the server runs.
    let folder = ours.path().join("conf");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("rules.yml"), RULES).unwrap();
    std::fs::write(folder.join("password"), format!("{PASSWORD}\n")).unwrap();
    for name in ["ca.pem", "client.pem", "client.key"] {
        std::fs::copy(dir.join(name), folder.join(name)).unwrap();
    }
    let config = format!(
        "global: {{external_labels: {{dc: x}}}}\nrule_files: [rules.yml]\nalerting:\n\
         \x20 alert_relabel_configs: [{{source_labels: [sev], regex: page, target_label: sev, replacement: loud}}]\n\
         \x20 alertmanagers:\n\
         \x20 - static_configs: [{{targets: ['127.0.0.1:{open}']}}]\n\
         \x20 - scheme: https\n\
         \x20   static_configs: [{{targets: ['127.0.0.1:{locked}']}}]\n\
         \x20   basic_auth: {{username: me, password_file: password}}\n\
         \x20   tls_config: {{ca_file: ca.pem, cert_file: client.pem, key_file: client.key}}\n\
         \x20 - static_configs: [{{targets: ['{}']}}]\n\
         \x20   path_prefix: /bearer\n\
         \x20   authorization: {{credentials: token-of-ours}}\n",
        webhook.address
    );
    std::fs::write(folder.join("c.yml"), config).unwrap();
    let file = format!("--config.file={}", folder.join("c.yml").display());
    Aggregator::start_in(ours, &[file.as_str(), "--rules.alert.resend-delay=3s"])
}

#[test]
fn alerts_reach_every_alertmanager_and_come_back_after_its_death() {
    let Some(program) = peer("ALERTMANAGER") else {
        return;
    };
    let webhook = Webhook::start();
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path();
    make_certificates(at);
    for name in ["open", "locked"] {
        std::fs::write(
            at.join(format!("{name}.yml")),
            alertmanager_config(&webhook, name),
        )
        .unwrap();
    }
    let web = lock(at);
    let (open, locked) = (free_port(), free_port());
    let first = start(program, at, "open", open, None);
    let _second = start(program, at, "locked", locked, Some(&web));
    let aggregator = start_ours(at, (open, locked), &webhook);
    let before = eventually("both alerts", || {
        Some(alerts(open)).filter(|all| all.len() == 2)
    });
    let told = |path: &str| webhook.at(path).len();
    eventually("word from both", || {
        (told("/open") == 2 && told("/locked") == 2).then_some(())
    });
    // Start and labels are ours: the relabelled one, the external one.
    let bodies = webhook.at("/locked");
    let of_a = bodies
        .iter()
        .find(|body| body["groupLabels"]["alertname"] == "A")
        .unwrap();
    let alert = &of_a["alerts"][0];
    assert_eq!(
        alert["labels"],
        serde_json::json!({"alertname": "A", "dc": "x", "sev": "loud"})
    );
    assert_eq!(alert["annotations"]["s"], "is 1");
    let (_, starts_at, fingerprint) = &before[0];
    assert_eq!(alert["fingerprint"], fingerprint.as_str());
    // Compared as times: the webhook's has no trailing zeros, the API's always three digits.
    assert_eq!(
        millis(alert["startsAt"].as_str().unwrap()),
        millis(starts_at)
    );
    let data = aggregator.get("/api/v1/alerts").data();
    let active = data["alerts"].as_array().unwrap().iter();
    let active: Vec<i64> = active
        .map(|one| millis(one["activeAt"].as_str().unwrap()))
        .collect();
    assert!(
        active.contains(&millis(starts_at)),
        "{active:?} {starts_at}"
    );
    let tokens = webhook.authorizations("/bearer/api/v2/alerts");
    assert!(!tokens.is_empty() && tokens.iter().all(|token| token == "Bearer token-of-ours"));
    // The open one dies without warning; the other goes on hearing. What it had comes back as it was.
    drop(first);
    let heard = webhook.at("/bearer/api/v2/alerts").len();
    eventually("more sendings", || {
        (webhook.at("/bearer/api/v2/alerts").len() > heard + 1).then_some(())
    });
    let _third = start(program, at, "open", open, None);
    let after = eventually("both alerts again", || {
        Some(alerts(open)).filter(|all| all.len() == 2)
    });
    assert_eq!(after, before);
    // Its memory of what it told is gone: at most once more each.
    std::thread::sleep(std::time::Duration::from_secs(3));
    assert!(told("/open") <= 4, "{}", told("/open"));
    assert_eq!(told("/locked"), 2);
    drop(aggregator);
}

fn millis(time: &str) -> i64 {
    time.parse::<jiff::Timestamp>().unwrap().as_millisecond()
}
