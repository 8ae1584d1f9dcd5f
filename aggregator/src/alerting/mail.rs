//! Mail over SMTP.

use lettre::message::header::{ContentType, HeaderName, HeaderValue};
use lettre::message::{Mailbox, Mailboxes, MultiPart, SinglePart};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{
    Certificate, CertificateStore, Identity, Tls, TlsParameters,
};
use lettre::transport::smtp::extension::ClientId;
use lettre::{AsyncSmtpTransport, AsyncTransport as _, Message, Tokio1Executor};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use tidemark_alerting::notify::message::{MailMessage, Verdict};
use tidemark_alerting::notify::receiver::TlsOptions;

/// The port on which TLS comes before SMTP.
const IMPLICIT_TLS_PORT: u16 = 465;

/// Sends a mail once.
pub(super) async fn send(mail: &MailMessage) -> Verdict {
    let (message, transport) = match (message(mail), transport(mail)) {
        (Ok(message), Ok(transport)) => (message, transport),
        (Err(reason), _) | (_, Err(reason)) => return Verdict::Failed(reason),
    };
    match transport.send(message).await {
        Ok(_) => Verdict::Sent,
        Err(error) if error.is_permanent() => Verdict::Failed(crate::report::chain(&error)),
        Err(error) => Verdict::Retry(crate::report::chain(&error)),
    }
}

fn message(mail: &MailMessage) -> Result<Message, String> {
    let from: Mailbox = mail
        .from
        .parse()
        .map_err(|error| format!("sender {:?}: {error}", mail.from))?;
    let to: Mailboxes = mail
        .to
        .parse()
        .map_err(|error| format!("recipients {:?}: {error}", mail.to))?;
    let mut builder = Message::builder()
        .from(from)
        .subject(&mail.subject)
        .message_id(None)
        .date_now();
    for mailbox in to {
        builder = builder.to(mailbox);
    }
    for (name, value) in &mail.headers {
        let name = HeaderName::new_from_ascii(name.clone())
            .map_err(|_| format!("bad header name {name:?}"))?;
        builder = builder.raw_header(HeaderValue::new(name, value.clone()));
    }
    let text = SinglePart::builder()
        .header(ContentType::TEXT_PLAIN)
        .body(mail.text.clone());
    let html = SinglePart::builder()
        .header(ContentType::TEXT_HTML)
        .body(mail.html.clone());
    let built = match (mail.text.is_empty(), mail.html.is_empty()) {
        (false, true) => builder.singlepart(text),
        (true, false) => builder.singlepart(html),
        _ => builder.multipart(MultiPart::alternative().singlepart(text).singlepart(html)),
    };
    built.map_err(|error| error.to_string())
}

fn transport(mail: &MailMessage) -> Result<AsyncSmtpTransport<Tokio1Executor>, String> {
    let (host, port) = mail
        .smarthost
        .rsplit_once(':')
        .ok_or("smarthost has no port")?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let port: u16 = port
        .parse()
        .map_err(|_| format!("smarthost {:?} has a bad port", mail.smarthost))?;
    let parameters = parameters(host, &mail.tls)?;
    let tls = match (port, mail.require_tls) {
        (IMPLICIT_TLS_PORT, _) => Tls::Wrapper(parameters),
        (_, true) => Tls::Required(parameters),
        (_, false) => Tls::Opportunistic(parameters),
    };
    let mut builder = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(host)
        .port(port)
        .hello_name(ClientId::Domain(mail.hello.clone()))
        .tls(tls);
    if !mail.username.is_empty() {
        let password = mail.password.expose().to_owned();
        builder = builder.credentials(Credentials::new(mail.username.clone(), password));
    }
    Ok(builder.build())
}

fn parameters(host: &str, options: &TlsOptions) -> Result<TlsParameters, String> {
    let text = |error: lettre::transport::smtp::Error| crate::report::chain(&error);
    let name = options.server_name.clone();
    let mut builder = TlsParameters::builder(name.unwrap_or_else(|| host.to_owned()))
        .dangerous_accept_invalid_certs(options.insecure_skip_verify)
        .dangerous_accept_invalid_hostnames(options.insecure_skip_verify);
    if let Some(pem) = &options.ca_pem {
        builder = builder.certificate_store(CertificateStore::None);
        for one in CertificateDer::pem_slice_iter(pem.as_bytes()) {
            let der = one.map_err(|error| error.to_string())?;
            let certificate = Certificate::from_der(der.to_vec()).map_err(text)?;
            builder = builder.add_root_certificate(certificate);
        }
    }
    match (&options.cert_pem, &options.key_pem) {
        (Some(cert), Some(key)) => {
            let identity = Identity::from_pem(cert.as_bytes(), key.expose().as_bytes());
            builder = builder.identify_with(identity.map_err(text)?);
        }
        (None, None) => {}
        _ => return Err("a client certificate needs both certificate and key".to_owned()),
    }
    builder.build().map_err(text)
}
