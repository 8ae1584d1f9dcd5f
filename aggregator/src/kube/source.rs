//! Which API server: the flag `--kubernetes.kubeconfig`.

use std::path::PathBuf;

/// Where the API server and the credentials for it are found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ApiServer {
    /// There is none.
    Off,
    /// What Kubernetes gives every pod: two environment variables, and a service account's files.
    InCluster,
    /// A kubeconfig file; its current context counts.
    Kubeconfig(PathBuf),
}

impl ApiServer {
    /// Reads the flag's value: `none`, a file, or nothing, which means the cluster that we run in if we do.
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
    fn flag_wins_over_the_cluster_around_us() {
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
