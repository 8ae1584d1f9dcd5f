//! One SMTP session.

use std::time::Duration;

use lettre::Message;
use lettre::transport::smtp::client::{
    AsyncSmtpConnection, Certificate, CertificateStore, Identity, TlsParameters,
    TlsVersion as LettreTlsVersion,
};
use lettre::transport::smtp::commands::Ehlo;
use lettre::transport::smtp::extension::ClientId;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use tidemark_alerting::notify::message::{LoadedMailServer, Verdict};
use tidemark_alerting::notify::receiver::{TlsOptions, TlsVersion};

use super::auth::{self, Mechanism};

/// The port with implicit TLS (RFC 8314).
const IMPLICIT_TLS_PORT: u16 = 465;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(60);

/// Hands `message` to `server`.
pub(super) async fn send(server: &LoadedMailServer, message: &Message) -> Result<(), Verdict> {
    let mut connection = connect(server).await?;
    let sent = converse(&mut connection, server, message).await;
    // The message is accepted or refused already; QUIT may fail.
    connection.abort().await;
    sent
}

async fn converse(
    connection: &mut AsyncSmtpConnection,
    server: &LoadedMailServer,
    message: &Message,
) -> Result<(), Verdict> {
    if !server.username.is_empty() {
        log_in(connection, server).await?;
    }
    let text = message.formatted();
    let sending = connection.send(message.envelope(), &text);
    sending.await.map(drop).map_err(verdict)
}

/// Returns whether an SMTP error is permanent.
fn verdict(error: lettre::transport::smtp::Error) -> Verdict {
    let reason = crate::report::chain(&error);
    if error.is_permanent() || error.is_client() {
        Verdict::Failed(reason)
    } else {
        Verdict::Retry(reason)
    }
}

/// A connection that is as secure as it is meant to be.
async fn connect(server: &LoadedMailServer) -> Result<AsyncSmtpConnection, Verdict> {
    let (host, port) = address(&server.smarthost).map_err(Verdict::Failed)?;
    let parameters = parameters(host, &server.tls).map_err(Verdict::Failed)?;
    let hello = ClientId::Domain(server.hello.clone());
    let is_implicit = server.implicit_tls.unwrap_or(port == IMPLICIT_TLS_PORT);
    let first = is_implicit.then(|| parameters.clone());
    let connecting = AsyncSmtpConnection::connect_tokio1(
        (host, port),
        Some(CONNECT_TIMEOUT),
        &hello,
        first,
        None,
    );
    let mut connection = connecting.await.map_err(verdict)?;
    if connection.can_starttls() {
        let upgrade = connection.starttls(parameters, &hello);
        upgrade.await.map_err(verdict)?;
    } else if server.require_tls && !is_implicit {
        connection.abort().await;
        let reason = "the server has no STARTTLS, which require_tls asks for";
        return Err(Verdict::Failed(reason.to_owned()));
    }
    Ok(connection)
}

fn address(smarthost: &str) -> Result<(&str, u16), String> {
    let (host, port) = smarthost.rsplit_once(':').ok_or("smarthost has no port")?;
    let port = port
        .parse()
        .map_err(|_| format!("smarthost {smarthost:?} has a bad port"))?;
    Ok((host.trim_start_matches('[').trim_end_matches(']'), port))
}

/// Authenticates with the first offered mechanism for which credentials are configured. Skips authentication if the
/// server offers none.
async fn log_in(
    connection: &mut AsyncSmtpConnection,
    server: &LoadedMailServer,
) -> Result<(), Verdict> {
    // The library keeps only the mechanisms that it implements itself.
    let greeting = Ehlo::new(ClientId::Domain(server.hello.clone()));
    let offer = connection.command(greeting).await.map_err(verdict)?;
    let offered = auth::offered(offer.message());
    if offered.is_empty() {
        return Ok(());
    }
    let Some(mechanism) = Mechanism::choose(&offered, server) else {
        let reason = format!(
            "no usable authentication: the server offers {}; PLAIN and LOGIN need auth_password, CRAM-MD5 needs auth_secret",
            offered.join(", ")
        );
        return Err(Verdict::Failed(reason));
    };
    let mut response = connection
        .command(format!("{}\r\n", mechanism.opening(server)))
        .await
        .map_err(verdict)?;
    let mut step = 0;
    while response.has_code(334) {
        let challenge = response.first_line().unwrap_or_default();
        let answer = mechanism.answer(server, step, challenge);
        let answer = answer.map_err(Verdict::Failed)?;
        let command = format!("{answer}\r\n");
        response = connection.command(command).await.map_err(verdict)?;
        step += 1;
    }
    Ok(())
}

fn parameters(host: &str, options: &TlsOptions) -> Result<TlsParameters, String> {
    let text = |error: lettre::transport::smtp::Error| crate::report::chain(&error);
    let name = options.server_name.clone();
    if options.max_version == Some(TlsVersion::Tls12) {
        return Err("max_version TLS12 is not supported for mail".to_owned());
    }
    let min_version = match options.min_version {
        Some(TlsVersion::Tls13) => LettreTlsVersion::Tlsv13,
        Some(TlsVersion::Tls12) | None => LettreTlsVersion::Tlsv12,
    };
    let mut builder = TlsParameters::builder(name.unwrap_or_else(|| host.to_owned()))
        .set_min_tls_version(min_version)
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
