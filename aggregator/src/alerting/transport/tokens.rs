//! Access tokens that a service asks for, requested with a secret and kept for their lifetime.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard};
use std::time::Instant;

use bytes::Bytes;
use common::secret::Secret;
use http::Method;
use tidemark_alerting::notify::message::{TokenRequest, Verdict};

use super::retry;
use crate::outbound::{HttpClient, RequestOptions};

/// Each token and when it was fetched, by the URL of its request.
type Tokens = HashMap<Secret<String>, (Secret<String>, Instant)>;

/// Cached tokens. The URLs come from the configuration, so they are few.
#[derive(Debug, Default)]
pub(super) struct AccessTokens {
    tokens: Mutex<Tokens>,
}

impl AccessTokens {
    /// Returns the cached token, or requests one.
    pub(super) async fn get(
        &self,
        client: &HttpClient,
        request: &TokenRequest,
        options: &RequestOptions,
    ) -> Result<Secret<String>, Verdict> {
        let known = self
            .tokens()
            .get(&request.url)
            .filter(|(_, since)| since.elapsed() < request.lifetime)
            .map(|(token, _)| token.clone());
        if let Some(token) = known {
            return Ok(token);
        }
        let response = client
            .request(Method::GET, request.url.expose(), options, Bytes::new())
            .await
            .map_err(|error| retry(&error))?;
        let token = (request.read)(response.status, &response.body)?;
        let fetched = (token.clone(), Instant::now());
        self.tokens().insert(request.url.clone(), fetched);
        Ok(token)
    }

    /// Drops the token of `request`; the next message requests another.
    pub(super) fn forget(&self, request: &TokenRequest) {
        self.tokens().remove(&request.url);
    }

    fn tokens(&self) -> MutexGuard<'_, Tokens> {
        common::sync::lock(&self.tokens)
    }
}
