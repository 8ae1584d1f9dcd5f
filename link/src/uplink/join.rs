//! Requests the first certificate of a node.

use std::sync::Arc;
use std::time::Duration;

use common::identity::LeafRequest;
use common::identity::tls::{JoinTrust, join_config};
use common::wire::Frame;
use rustls_pki_types::CertificateDer;
use tokio::time::timeout;

use super::dial::Dial;
use super::identity::NodeCredentials;
use super::link::LinkError;
use super::session::SessionError;

const TIMEOUT: Duration = Duration::from_secs(20);

/// Shows the token to an aggregator that `trust` verifies, and returns the certificate that it issues.
pub(super) async fn join(
    dial: &mut Dial,
    address: &str,
    node: &str,
    credential: &str,
    trust: JoinTrust,
) -> Result<NodeCredentials, SessionError> {
    let tls = Arc::new(join_config(trust)?);
    let mut link = dial.connect(address, &tls).await?;
    let request = LeafRequest::new()?;
    let frame = Frame::Join {
        token: credential,
        node,
        request: request.request(),
    };
    link.write(&frame).await?;
    let answer = timeout(TIMEOUT, link.receive.read()).await;
    let answer = answer.map_err(|_| LinkError::Timeout(TIMEOUT))??;
    let Frame::Issued { chain, roots } = answer else {
        return Err(LinkError::Unexpected(answer.name().to_owned()).into());
    };
    let owned = |list: Vec<&[u8]>| -> Vec<CertificateDer<'static>> {
        list.into_iter()
            .map(|der| CertificateDer::from(der.to_vec()))
            .collect()
    };
    let (chain, roots) = (owned(chain), owned(roots));
    link.close(b"joined");
    Ok(NodeCredentials {
        own: request.with_chain(chain)?,
        roots,
        renewable: true,
    })
}
