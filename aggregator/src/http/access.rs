//! What a route requires of a request before its handler runs: a known user, an open store, an enabled switch.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use http::{Method, StatusCode};

use super::auth::Auth;
use super::error::ApiError;
use super::path;
use super::state::Api;
use crate::config::Flags;

/// Who may call a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Everybody, without credentials. No route is open today: like exporter-toolkit, this server asks for
    /// credentials on every path, including the probes.
    Open,
    /// Users, to read samples, state or configuration.
    Read,
    /// Users, to add samples, alerts or silences.
    Write,
    /// Users, to delete data or to control the process; the switch must be enabled.
    Admin(AdminSwitch),
}

/// The flag that enables an administrative route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AdminSwitch {
    /// `--web.enable-admin-api`
    AdminApi,
    /// `--web.enable-lifecycle`
    Lifecycle,
}

impl AdminSwitch {
    /// # Errors
    /// The switch is off, in Prometheus' words.
    fn check(self, flags: &Flags) -> Result<(), ApiError> {
        match self {
            Self::AdminApi if flags.enable_admin_api => Ok(()),
            // Prometheus answers 500 here, not 503.
            Self::AdminApi => Err(ApiError::unavailable("admin APIs disabled")
                .with_status(StatusCode::INTERNAL_SERVER_ERROR)),
            Self::Lifecycle if flags.enable_lifecycle => Ok(()),
            Self::Lifecycle => Err(ApiError::text(
                StatusCode::FORBIDDEN,
                "Lifecycle API is not enabled.",
            )),
        }
    }
}

/// When a route answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Availability {
    /// Also while the log is replayed and during shutdown.
    Always,
    /// Only while the server is ready; else 503.
    WhenReady,
}

/// Which protocol a path belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PathKind {
    /// Under `/api/v1/`. As in Prometheus, `HEAD` is not answered there, and `OPTIONS` on any path.
    ApiV1,
    /// Any other path.
    Other,
}

/// Requirements of one route.
#[derive(Debug, Clone)]
pub struct Guard {
    /// Shared state of the server.
    pub api: Api,
    /// Known users.
    pub auth: Arc<Auth>,
    /// Who may call the route.
    pub access: Access,
    /// When the route answers.
    pub availability: Availability,
    /// Which protocol the route belongs to.
    pub kind: PathKind,
}

impl Guard {
    /// Runs the handler if the request meets all requirements.
    pub async fn check(State(guard): State<Self>, mut request: Request, next: Next) -> Response {
        match guard.admit(&mut request).await {
            Ok(None) => next.run(request).await,
            Ok(Some(response)) => response,
            Err(error) => error.into_response(),
        }
    }

    /// Returns a response if the request needs no handler.
    async fn admit(&self, request: &mut Request) -> Result<Option<Response>, ApiError> {
        if self.access != Access::Open
            && let Some(challenge) = self.auth.authenticate(request).await
        {
            return Ok(Some(challenge));
        }
        // A parameter of a route, such as `{name}`, also matches an empty segment.
        if let Some(redirect) = path::redirect_to_clean(request.uri()) {
            return Ok(Some(redirect));
        }
        let method = request.method();
        if self.kind == PathKind::ApiV1 && method == Method::HEAD {
            return Err(wrong_method_error());
        }
        if self.availability == Availability::WhenReady && !self.api.is_ready() {
            return Err(ApiError::not_ready());
        }
        // Other methods get 405 from the router, whether or not the switch is on.
        if let Access::Admin(switch) = self.access
            && matches!(*method, Method::POST | Method::PUT)
        {
            switch.check(&self.api.flags)?;
        }
        Ok(None)
    }
}

/// Go's answer to a method that a path does not support.
pub(super) fn wrong_method_error() -> ApiError {
    ApiError::text(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed\n")
}
