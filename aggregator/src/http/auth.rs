//! Basic authentication with bcrypt hashes, as exporter-toolkit's web.yml has it.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::{Request, State};
use axum::middleware::Next;
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

/// Verified pairs that are remembered, so that bcrypt is paid once and not for each request.
const REMEMBERED_MAX: usize = 256;
/// Hashes worked on at one time: each costs about 0.1 s of CPU, and strangers can ask for them.
const HASHING_MAX: usize = 2;
/// Compared with when the user is unknown, so that the answer takes as long as for a known one. A match would not
/// admit: that takes a known user besides.
const NOBODY: &str = "$2b$10$N9qo8uLOickgx2ZMRZoMyeIjZAgcfl7p92ldGxad68LJZdL17lhWy";

/// Who sends a request: one of the users of the web configuration, whose password was good.
#[derive(Debug, Clone)]
pub struct User(pub Arc<str>);

/// Users and their hashes.
#[derive(Debug)]
pub struct Auth {
    users: BTreeMap<String, String>,
    /// SHA-256 of user, hash and password that were verified.
    verified: Mutex<HashSet<[u8; 32]>>,
    hashing: Semaphore,
    refused: Arc<Counter>,
}

impl Auth {
    /// Lets in who is in `users`; everybody when it is empty.
    #[must_use]
    pub fn new(users: BTreeMap<String, String>, registry: &Registry) -> Self {
        Self {
            users,
            verified: Mutex::default(),
            hashing: Semaphore::new(HASHING_MAX),
            refused: UNAUTHORIZED.register(registry, &[]),
        }
    }

    /// The user, when the password is good.
    async fn admits(&self, headers: &HeaderMap) -> Option<User> {
        let (user, password) = credentials(headers)?;
        let known = self.users.get(&user);
        let hash = known.map_or(NOBODY, String::as_str).to_owned();
        let mut digest = ring::digest::Context::new(&ring::digest::SHA256);
        for part in [&user, &hash, &password] {
            digest.update(&(part.len() as u64).to_le_bytes());
            digest.update(part.as_bytes());
        }
        let mut key = [0_u8; 32];
        key.copy_from_slice(digest.finish().as_ref());
        if self.remembered().contains(&key) {
            return Some(User(user.into()));
        }
        let _permit = self.hashing.acquire().await.ok()?;
        let verify = move || bcrypt::verify(password, &hash).unwrap_or(false);
        let matches = tokio::task::spawn_blocking(verify).await.unwrap_or(false);
        let admitted = matches && known.is_some();
        if admitted {
            let mut verified = self.remembered();
            if verified.len() >= REMEMBERED_MAX {
                verified.clear();
            }
            verified.insert(key);
        }
        admitted.then(|| User(user.into()))
    }

    fn remembered(&self) -> std::sync::MutexGuard<'_, HashSet<[u8; 32]>> {
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

/// Turns strangers away. Handlers find the [`User`] among the request's extensions.
pub async fn require(State(auth): State<Arc<Auth>>, mut request: Request, next: Next) -> Response {
    if auth.users.is_empty() {
        return next.run(request).await;
    }
    if let Some(user) = auth.admits(request.headers()).await {
        request.extensions_mut().insert(user);
        return next.run(request).await;
    }
    auth.refused.inc();
    let challenge = [(header::WWW_AUTHENTICATE, "Basic")];
    (StatusCode::UNAUTHORIZED, challenge, "Unauthorized\n").into_response()
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
        assert_eq!(auth.remembered().len(), 1);
    }
}
