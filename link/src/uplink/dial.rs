//! QUIC first, TCP where nobody answers it, and QUIC again when it gets through.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use super::link::{self, Carrier, Link, LinkError};

/// Times in a row that nobody answers QUIC before TCP is tried too.
const SILENCES_MAX: u32 = 2;

/// What is known of the ways to each address.
#[derive(Debug, Default)]
pub(super) struct Dial {
    /// How often QUIC was not answered since it last was.
    silences: BTreeMap<String, u32>,
}

impl Dial {
    /// Connects over QUIC, or over TCP where QUIC has got no answer repeatedly.
    pub(super) async fn connect(
        &mut self,
        address: &str,
        tls: &Arc<rustls::ClientConfig>,
    ) -> Result<Link, LinkError> {
        let error = match link::connect(address, tls, Carrier::Quic).await {
            Err(error) if error.is_silence() => error,
            other => {
                self.silences.remove(address);
                return other;
            }
        };
        let silences = self.silences.entry(address.to_owned()).or_default();
        *silences = silences.saturating_add(1);
        if *silences < SILENCES_MAX {
            return Err(error);
        }
        match link::connect(address, tls, Carrier::Tcp).await {
            Ok(link) => {
                tracing::warn!(address, %error, "nobody answers QUIC: sending over TCP");
                Ok(link)
            }
            Err(over_tcp) => {
                tracing::debug!(address, error = %over_tcp, "no TCP connection either");
                Err(error)
            }
        }
    }

    /// QUIC has been seen to get through: it is tried alone again.
    pub(super) fn forget_silence(&mut self, address: &str) {
        self.silences.remove(address);
    }
}

/// Returns when a connection over QUIC could be made; tried each `interval`.
pub(super) async fn quic_gets_through(
    address: &str,
    tls: &Arc<rustls::ClientConfig>,
    interval: Duration,
) {
    loop {
        sleep(interval).await;
        match link::connect(address, tls, Carrier::Quic).await {
            Ok(link) => return link.close(b"probe"),
            Err(error) => tracing::debug!(address, %error, "QUIC does not get through"),
        }
    }
}
