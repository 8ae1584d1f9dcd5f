//! Basic authentication with bcrypt hashes, as in exporter-toolkit's `web.yml`.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::Request;
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use common::metric;
use common::telemetry::{Counter, MetricDef, Registry};
use http::{HeaderMap, StatusCode, header};
use tokio::sync::Semaphore;

const UNAUTHORIZED: MetricDef<Counter> = metric!(
    Counter,
    "aggregator_http_unauthorized_total",
    "HTTP requests without a valid user name and password."
);

/// Verified credentials that are remembered, so that bcrypt runs once and not for each request.
const VERIFIED_MAX: usize = 256;
/// Concurrent hash computations. Each takes about 0.1 s of CPU, and anybody can request one.
const HASHING_MAX: usize = 2;
/// Hash that is checked for an unknown user, so that the answer takes as long as for a known one. A match admits
/// nobody.
const UNKNOWN_USER_HASH: &str = "$2b$10$N9qo8uLOickgx2ZMRZoMyeIjZAgcfl7p92ldGxad68LJZdL17lhWy";

/// The authenticated sender of a request: a user of the web configuration.
#[derive(Debug, Clone)]
pub struct User(pub Arc<str>);

/// The users that may send requests.
#[derive(Debug)]
pub struct Auth {
    /// Password hashes by name; empty = no authentication.
    users: BTreeMap<String, String>,
    /// SHA-256 of each verified user, hash and password.
    verified: Mutex<HashSet<[u8; 32]>>,
    hashing: Semaphore,
    refused: Arc<Counter>,
}

impl Auth {
    /// Admits `users` only, or everybody if there are none.
    #[must_use]
    pub fn new(users: BTreeMap<String, String>, registry: &Registry) -> Self {
        Self {
            users,
            verified: Mutex::default(),
            hashing: Semaphore::new(HASHING_MAX),
            refused: UNAUTHORIZED.register(registry, &[]),
        }
    }

    /// Returns the user if the password is correct.
    async fn admits(&self, headers: &HeaderMap) -> Option<User> {
        let (user, password) = credentials(headers)?;
        let known = self.users.get(&user);
        let hash = known.map_or(UNKNOWN_USER_HASH, String::as_str).to_owned();
        let mut digest = ring::digest::Context::new(&ring::digest::SHA256);
        for part in [&user, &hash, &password] {
            digest.update(&(part.len() as u64).to_le_bytes());
            digest.update(part.as_bytes());
        }
        let mut key = [0_u8; 32];
        key.copy_from_slice(digest.finish().as_ref());
        if self.verified().contains(&key) {
            return Some(User(user.into()));
        }
        let _permit = self.hashing.acquire().await.ok()?;
        let verify = move || bcrypt::verify(password, &hash).unwrap_or(false);
        let matches = tokio::task::spawn_blocking(verify).await.unwrap_or(false);
        let admitted = matches && known.is_some();
        if admitted {
            let mut verified = self.verified();
            if verified.len() >= VERIFIED_MAX {
                verified.clear();
            }
            verified.insert(key);
        }
        admitted.then(|| User(user.into()))
    }

    /// Adds the [`User`] to the request's extensions. Returns the response to a request without valid credentials.
    pub async fn authenticate(&self, request: &mut Request) -> Option<Response> {
        if self.users.is_empty() {
            return None;
        }
        if let Some(user) = self.admits(request.headers()).await {
            request.extensions_mut().insert(user);
            return None;
        }
        self.refused.inc();
        let challenge = [(header::WWW_AUTHENTICATE, "Basic")];
        Some((StatusCode::UNAUTHORIZED, challenge, "Unauthorized\n").into_response())
    }

    fn verified(&self) -> std::sync::MutexGuard<'_, HashSet<[u8; 32]>> {
        self.verified.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn credentials(headers: &HeaderMap) -> Option<(String, String)> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, encoded) = value.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = String::from_utf8(STANDARD.decode(encoded.trim()).ok()?).ok()?;
    let (user, password) = decoded.split_once(':')?;
    Some((user.to_owned(), password.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(user: &str, password: &str) -> HeaderMap {
        let value = format!("Basic {}", STANDARD.encode(format!("{user}:{password}")));
        HeaderMap::from_iter([(header::AUTHORIZATION, value.parse().unwrap())])
    }

    #[tokio::test]
    async fn only_the_right_password_of_a_known_user_is_admitted() {
        let hash = bcrypt::hash("right", 4).unwrap();
        let users = BTreeMap::from([("ann".to_owned(), hash)]);
        let auth = Auth::new(users, &Registry::default());
        for _ in 0..2 {
            let user = auth.admits(&headers("ann", "right")).await;
            assert_eq!(user.map(|user| user.0).as_deref(), Some("ann"));
            for bad in [headers("ann", "wrong"), headers("bob", "right")] {
                assert!(auth.admits(&bad).await.is_none());
            }
            assert!(auth.admits(&HeaderMap::new()).await.is_none());
        }
        assert_eq!(auth.verified().len(), 1);
    }
}
