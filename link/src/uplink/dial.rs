//! Connects over QUIC, falls back to TCP where QUIC gets no answer, and notices when QUIC works again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use common::report::chain;
use tokio::time::sleep;

use super::link::{self, Link, LinkError};
use crate::stream::Transport;

/// Consecutive timeouts of QUIC after which TCP is tried too.
const QUIC_TIMEOUTS_MAX: u32 = 2;

/// What is known about the transports to each address.
#[derive(Debug, Default)]
pub(super) struct Dial {
    /// Consecutive attempts over QUIC without an answer.
    quic_timeouts: BTreeMap<String, u32>,
}

impl Dial {
    /// Connects over QUIC, or over TCP where QUIC has repeatedly got no answer.
    pub(super) async fn connect(
        &mut self,
        address: &str,
        tls: &Arc<rustls::ClientConfig>,
    ) -> Result<Link, LinkError> {
        let error = match link::connect(address, tls, Transport::Quic).await {
            Err(error) if error.may_be_blocked_udp() => error,
            other => {
                self.quic_timeouts.remove(address);
                return other;
            }
        };
        let timeouts = self.quic_timeouts.entry(address.to_owned()).or_default();
        *timeouts = timeouts.saturating_add(1);
        if *timeouts < QUIC_TIMEOUTS_MAX {
            return Err(error);
        }
        match link::connect(address, tls, Transport::Tcp).await {
            Ok(link) => {
                let error = chain(&error);
                tracing::warn!(address, error, "QUIC gets no answer, using TCP");
                Ok(link)
            }
            // The certificate matters more than the transport that did not work either.
            Err(over_tcp) if over_tcp.is_untrusted() => Err(over_tcp),
            Err(over_tcp) => {
                let over_tcp = chain(&over_tcp);
                tracing::debug!(address, error = over_tcp, "cannot connect over TCP either");
                Err(error)
            }
        }
    }

    /// Makes the next attempts use QUIC only, after QUIC was seen to work.
    pub(super) fn reset_quic_timeouts(&mut self, address: &str) {
        self.quic_timeouts.remove(address);
    }
}

/// Tries to connect over QUIC every `interval` and returns when it works.
pub(super) async fn wait_for_quic(
    address: &str,
    tls: &Arc<rustls::ClientConfig>,
    interval: Duration,
) {
    loop {
        sleep(interval).await;
        match link::connect(address, tls, Transport::Quic).await {
            Ok(link) => return link.close(b"probe"),
            Err(error) => {
                let error = chain(&error);
                tracing::debug!(address, error, "QUIC still gets no answer");
            }
        }
    }
}
