//! Mail to a real SMTP server: PyPI's and Debian's aiosmtpd, with STARTTLS and a password that is sent (LOGIN) or
//! is not (CRAM-MD5).

use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use super::alertmanager::ours;
use super::python::python;
use crate::harness::{eventually, now_ms};
use crate::http;
use crate::process::{Process, free_port};

/// Takes mails, prints each as a line of JSON. Arguments: port, certificate, key.
const SERVER: &str = r#"
import base64, email, hmac, json, ssl, sys, time
from email import policy
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, LoginPassword
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[2], sys.argv[3])
class Sink:
    async def auth_CRAM__MD5(self, server, args):
        challenge = b"<%d.%d@here>" % (time.time_ns(), server.session.peer[1])
        answer = await server.challenge_auth(challenge)
        user, digest = answer.decode().split(" ")
        want = hmac.new(b"never sent", challenge, "md5").hexdigest()
        return AuthResult(success=hmac.compare_digest(digest, want), auth_data=user + " by CRAM-MD5", handled=False)
    async def handle_DATA(self, server, session, envelope):
        mail = email.message_from_bytes(envelope.content, policy=policy.default)
        if "refuse" in str(mail["Subject"]):
            return "554 not here"
        parts = {part.get_content_type(): part.get_content() for part in mail.walk() if not part.is_multipart()}
        print(json.dumps({
            "from": envelope.mail_from, "to": envelope.rcpt_tos, "subject": str(mail["Subject"]),
            "extra": str(mail["X-Team"]), "tls": session.ssl is not None, "user": session.auth_data,
            "parts": parts,
        }), flush=True)
        return "250 kept"
def check(server, session, envelope, mechanism, data):
    good = isinstance(data, LoginPassword) and data.password == b"secret"
    return AuthResult(success=good, auth_data=data.login.decode() if good else None, handled=False)
controller = Controller(Sink(), hostname="127.0.0.1", port=int(sys.argv[1]), tls_context=context,
    require_starttls=True, auth_required=True, authenticator=check)
controller.start()
time.sleep(600)
"#;

/// The SMTP server: its files, its port.
struct Smtp {
    _process: Process,
    dir: tempfile::TempDir,
    port: u16,
}

impl Smtp {
    fn start(python: &Path) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let path = |name: &str| dir.path().join(name);
        std::fs::write(path("cert.pem"), certificate.pem()).unwrap();
        std::fs::write(path("key.pem"), key.serialize_pem()).unwrap();
        let port = free_port();
        let process = Process::start(
            Command::new(python)
                .args(["-c", SERVER, &port.to_string()])
                .arg(path("cert.pem"))
                .arg(path("key.pem"))
                .stdout(std::fs::File::create(path("mails")).unwrap())
                .stderr(Stdio::inherit()),
        );
        eventually("SMTP server", || {
            std::net::TcpStream::connect(("127.0.0.1", port)).ok()
        });
        Self {
            _process: process,
            dir,
            port,
        }
    }

    fn mails(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.dir.path().join("mails")).unwrap();
        let whole = text.lines().filter(|line| line.ends_with('}'));
        whole
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    /// Receivers with the right password, a wrong one, one that is not sent, a wrong one of that kind, and a subject
    /// that the server refuses.
    fn config(&self) -> String {
        let receiver = |name: &str, proof: &str, more: &str| {
            format!(
                "- name: {name}\n  email_configs: [{{to: 'ops@example.org, Duty <duty@example.org>', {proof}, \
                 tls_config: {{ca_file: {}/cert.pem}}, headers: {{X-Team: '{{{{ .CommonLabels.team }}}}'}}, send_resolved: true{more}}}]\n",
                self.dir.path().display()
            )
        };
        format!(
            "global: {{smtp_smarthost: '127.0.0.1:{}', smtp_from: am@example.org, smtp_auth_username: me}}\n\
             route: {{receiver: good, group_wait: 0s, group_interval: 1s, group_by: [alertname], routes: [\
             {{receiver: wrong, matchers: [alertname=Wrong]}}, {{receiver: refused, matchers: [alertname=Refused]}}, \
             {{receiver: hidden, matchers: [alertname=Hidden]}}, {{receiver: hidden-wrong, matchers: [alertname=HiddenWrong]}}]}}\n\
             receivers:\n{}{}{}{}{}",
            self.port,
            receiver(
                "good",
                "auth_password: secret",
                ", text: '{{ len .Alerts }} for {{ .Receiver }}'"
            ),
            receiver("wrong", "auth_password: guess", ""),
            receiver("refused", "auth_password: secret", "")
                .replace("X-Team", "Subject: refuse, X-Team"),
            receiver("hidden", "auth_secret: never sent", ""),
            receiver("hidden-wrong", "auth_secret: guess", ""),
        )
    }
}

#[test]
fn mails_arrive_over_starttls_with_passwords() {
    let Some(python) = python("aiosmtpd", "aiosmtpd") else {
        return;
    };
    let smtp = Smtp::start(&python);
    let side = ours(&|_| smtp.config());
    let time = tidemark_alerting::notify::message::format_time(now_ms());
    for name in ["A", "Wrong", "Refused", "Hidden", "HiddenWrong"] {
        let body = serde_json::json!([{"labels": {"alertname": name, "team": "blue & red"}, "startsAt": time}]);
        let headers = [("content-type", "application/json")];
        let body = body.to_string();
        let answer = http::request(
            &side.address,
            "POST",
            "/api/v2/alerts",
            &headers,
            body.as_bytes(),
        );
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    let of = |name: &str| {
        let subject = format!("[FIRING:1] {name} (blue & red)");
        let mut mails = smtp.mails().into_iter();
        mails.find(|mail| mail["subject"] == subject)
    };
    let mail = eventually("mail", || of("A"));
    assert_eq!(mail["from"], "am@example.org");
    assert_eq!(
        mail["to"],
        serde_json::json!(["ops@example.org", "duty@example.org"])
    );
    assert_eq!(mail["subject"], "[FIRING:1] A (blue & red)");
    assert_eq!(
        (&mail["extra"], &mail["user"]),
        (&Value::from("blue & red"), &Value::from("me"))
    );
    assert_eq!(mail["tls"], true);
    assert_eq!(
        mail["parts"]["text/plain"].as_str().unwrap().trim(),
        "1 for good"
    );
    let html = mail["parts"]["text/html"].as_str().unwrap();
    assert!(html.contains("blue &amp; red"), "{html}");
    let hidden = eventually("mail by CRAM-MD5", || of("Hidden"));
    assert_eq!(hidden["user"], "me by CRAM-MD5");
    // A wrong password and a refusal are final, counted, and nobody's mail.
    let failed = |receiver: &str| {
        let metrics = http::request(&side.address, "GET", "/metrics", &[], b"").text();
        let wanted = format!("receiver=\"{receiver}\"");
        let line = metrics.lines().find(|line| {
            line.starts_with("aggregator_notifications_failed_total") && line.contains(&wanted)
        });
        line.is_some_and(|line| !line.ends_with(" 0"))
    };
    eventually("three failures", || {
        (failed("wrong") && failed("refused") && failed("hidden-wrong")).then_some(())
    });
    assert_eq!(smtp.mails().len(), 2);
}
