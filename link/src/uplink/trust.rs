//! Tells a certificate that one end does not trust from other reasons why a connection fails.

use std::error::Error;
use std::io;

use quinn::ConnectionError;
use rustls::AlertDescription;

/// TLS alerts (RFC 8446, 6.2) with which an end rejects the other end's certificate.
const CERTIFICATE_ALERTS: [AlertDescription; 7] = [
    AlertDescription::BadCertificate,
    AlertDescription::CertificateRevoked,
    AlertDescription::CertificateExpired,
    AlertDescription::CertificateUnknown,
    AlertDescription::UnknownCA,
    AlertDescription::AccessDenied,
    AlertDescription::DecryptError,
];
/// Base of QUIC's error codes for TLS alerts (RFC 9001, 4.8).
const QUIC_CRYPTO_ERROR: u64 = 0x100;

/// Returns whether `error` says that one of the ends rejected the other's certificate.
pub(super) fn is_rejected_certificate(error: &io::Error) -> bool {
    // `io::Error::source` skips the error that it wraps.
    let mut cause = error
        .get_ref()
        .map(|inner| -> &(dyn Error + 'static) { inner });
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<rustls::Error>() {
            return is_rejection_of_tls(error);
        }
        if let Some(error) = error.downcast_ref::<ConnectionError>() {
            return is_rejection_of_quic(error);
        }
        cause = error.source();
    }
    false
}

fn is_rejection_of_tls(error: &rustls::Error) -> bool {
    match error {
        rustls::Error::InvalidCertificate(_) => true,
        rustls::Error::AlertReceived(alert) => CERTIFICATE_ALERTS.contains(alert),
        _ => false,
    }
}

fn is_rejection_of_quic(error: &ConnectionError) -> bool {
    let code = match error {
        // We rejected the aggregator's certificate.
        ConnectionError::TransportError(error) => u64::from(error.code),
        // The aggregator rejected ours.
        ConnectionError::ConnectionClosed(close) => u64::from(close.error_code),
        _ => return false,
    };
    let mut alerts = CERTIFICATE_ALERTS.into_iter().map(u8::from);
    alerts.any(|alert| code == QUIC_CRYPTO_ERROR + u64::from(alert))
}

#[cfg(test)]
mod tests {
    use rustls::CertificateError;

    use super::*;

    fn tls(error: rustls::Error) -> io::Error {
        io::Error::new(io::ErrorKind::InvalidData, error)
    }

    #[test]
    fn rejections_by_either_end_are_told_from_other_failures() {
        let unknown = CertificateError::UnknownIssuer;
        assert!(is_rejected_certificate(&tls(
            rustls::Error::InvalidCertificate(unknown)
        )));
        let alert = |alert| tls(rustls::Error::AlertReceived(alert));
        assert!(is_rejected_certificate(&alert(AlertDescription::UnknownCA)));
        assert!(!is_rejected_certificate(&alert(
            AlertDescription::HandshakeFailure
        )));
        let quic = |error: ConnectionError| io::Error::from(error);
        assert!(!is_rejected_certificate(&quic(ConnectionError::TimedOut)));
        assert!(!is_rejected_certificate(&io::Error::other("reset")));
    }
}
