//! Whether SELinux is enabled, and its mode.

use super::{AS_IS, FoundSeries, read};
use crate::collectors::node::Roots;

pub(super) fn search(roots: &Roots) -> Vec<FoundSeries> {
    let enforce = roots.sys.join("fs/selinux/enforce");
    let is_on = read(&enforce).is_some();
    let enabled = FoundSeries::gauge(
        "node_selinux_enabled",
        "SELinux is enabled, 1 is true, 0 is false",
        &[],
    );
    let mut found = vec![enabled.constant(f64::from(u8::from(is_on)))];
    if is_on {
        let config = read(&roots.root.join("etc/selinux/config"));
        let mode = config.as_deref().and_then(configured_mode).unwrap_or(-1.0);
        let configured = FoundSeries::gauge(
            "node_selinux_config_mode",
            "Configured SELinux enforcement mode",
            &[],
        );
        let current = FoundSeries::gauge(
            "node_selinux_current_mode",
            "Current SELinux enforcement mode",
            &[],
        );
        found.push(configured.constant(mode));
        found.push(current.number(enforce, AS_IS));
    }
    found
}

/// `SELINUX=enforcing` is 1, permissive 0, anything else -1.
fn configured_mode(config: &str) -> Option<f64> {
    let mode = config
        .lines()
        .find_map(|line| line.trim().strip_prefix("SELINUX="))?;
    Some(match mode.trim().to_ascii_lowercase().as_str() {
        "enforcing" => 1.0,
        "permissive" => 0.0,
        _ => -1.0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mode_is_that_of_the_file() {
        assert_eq!(
            configured_mode("# x\nSELINUX=enforcing\nSELINUXTYPE=targeted\n"),
            Some(1.0)
        );
        assert_eq!(configured_mode("SELINUX=Permissive\n"), Some(0.0));
        assert_eq!(configured_mode("SELINUX=disabled\n"), Some(-1.0));
        assert_eq!(configured_mode("SELINUXTYPE=targeted\n"), None);
    }
}
