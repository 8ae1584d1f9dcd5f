//! Selects the API server: the flag `--kubernetes.kubeconfig`.

use std::path::PathBuf;

/// Where the address and credentials of the API server come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ApiServer {
    /// There is no API server.
    Off,
    /// The environment of a pod: two variables and the files of a service account.
    InCluster,
    /// The current context of a kubeconfig file.
    Kubeconfig(PathBuf),
}

impl ApiServer {
    /// Parses the flag: `none`, a file, or absent, which selects the cluster of this pod if there is one.
    /// `service_host` is the value of `KUBERNETES_SERVICE_HOST`.
    #[must_use]
    pub fn from_flag(flag: Option<&str>, service_host: Option<&str>) -> Self {
        match flag {
            Some("none") => Self::Off,
            Some(file) if !file.is_empty() => Self::Kubeconfig(PathBuf::from(file)),
            _ if service_host.is_some_and(|host| !host.is_empty()) => Self::InCluster,
            _ => Self::Off,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flag_takes_precedence_over_the_pods_cluster() {
        let inside = Some("10.96.0.1");
        assert_eq!(ApiServer::from_flag(None, None), ApiServer::Off);
        assert_eq!(ApiServer::from_flag(None, Some("")), ApiServer::Off);
        assert_eq!(ApiServer::from_flag(None, inside), ApiServer::InCluster);
        assert_eq!(ApiServer::from_flag(Some(""), inside), ApiServer::InCluster);
        assert_eq!(ApiServer::from_flag(Some("none"), inside), ApiServer::Off);
        assert_eq!(
            ApiServer::from_flag(Some("/a/b"), inside),
            ApiServer::Kubeconfig("/a/b".into())
        );
    }
}
