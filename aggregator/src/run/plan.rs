//! Everything that can be checked before the start: flags, files, rules.

use crate::config::settings::SettingsError;
use crate::config::{ConfigFile, Flags, Settings, WebConfig, WebConfigError};

/// Why the configuration was refused.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// The settings are invalid.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The web configuration file is invalid.
    #[error("--web.config.file")]
    Web(#[from] WebConfigError),
    /// Rules or notifications are invalid.
    #[error(transparent)]
    Alerting(#[from] crate::alerting::PlanError),
    /// Anybody on the network could read and write.
    #[error(
        "--web.listen-address {0} can be reached from other machines: it needs authentication \
         (--web.config.file with basic_auth_users, or client_auth_type RequireAndVerifyClientCert)"
    )]
    OpenToStrangers(std::net::SocketAddr),
}

/// The checked configuration.
#[derive(Debug)]
pub struct Plan {
    /// The command line.
    pub flags: Flags,
    /// The configuration file.
    pub file: ConfigFile,
    /// The settings from both.
    pub settings: Settings,
    /// TLS and authentication of HTTP.
    pub web: WebConfig,
    /// Rules and notifications.
    pub alerting: crate::alerting::Plan,
}

impl Plan {
    /// Checks everything that can be checked before the start.
    ///
    /// # Errors
    /// See [`PlanError`].
    pub fn new(flags: Flags, file: ConfigFile) -> Result<Self, Box<PlanError>> {
        let settings = Settings::new(&flags, &file).map_err(PlanError::from)?;
        let web = match &flags.web_config_file {
            Some(path) => WebConfig::load(path).map_err(PlanError::from)?,
            None => WebConfig::default(),
        };
        let address = settings.web_listen;
        if !address.ip().is_loopback() && !web.authenticates() {
            return Err(PlanError::OpenToStrangers(address).into());
        }
        let alerting = crate::alerting::Plan::load(
            &file,
            flags.config_file.as_deref(),
            settings.promql_features(),
        )
        .map_err(PlanError::from)?;
        for name in file.without_effect() {
            tracing::warn!(section = name, "configuration section has no effect");
        }
        Ok(Self {
            flags,
            file,
            settings,
            web,
            alerting,
        })
    }

    /// Returns whether to exit after the check.
    #[must_use]
    pub const fn check_only(&self) -> bool {
        self.flags.check_config
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(address: &str) -> Result<Plan, Box<PlanError>> {
        let flags = Flags::from_args(["x", "--web.listen-address", address]).unwrap();
        Plan::new(flags, ConfigFile::default())
    }

    #[test]
    fn open_address_needs_authentication() {
        assert!(plan("127.0.0.1:0").is_ok());
        assert!(plan("[::1]:0").is_ok());
        let error = plan(":9090").unwrap_err().to_string();
        assert!(
            error.contains("0.0.0.0:9090") && error.contains("basic_auth_users"),
            "{error}"
        );
    }
}
