//! Validates configured URLs like Alertmanager: Go's `url.Parse` plus checks of scheme and host.

/// Checks that `text` is an http or https URL with a host.
///
/// # Errors
/// Returns the reason why the URL is invalid.
pub(super) fn check(text: &str) -> Result<(), &'static str> {
    if text.chars().any(char::is_control) {
        return Err("invalid control character in URL");
    }
    let is_http = |scheme: &str| {
        ["http", "https"]
            .iter()
            .any(|http| scheme.eq_ignore_ascii_case(http))
    };
    let Some((scheme, rest)) = text.split_once(':').filter(|(scheme, _)| is_http(scheme)) else {
        return Err("unsupported scheme of URL, want http or https");
    };
    let missing = "missing host for URL";
    let rest = rest.strip_prefix("//").ok_or(missing)?;
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at_checked(end).ok_or(missing)?;
    let host = authority
        .rsplit_once('@')
        .map_or(authority, |(_, host)| host);
    check_host(host)?;
    let end = path.find(['?', '#']).unwrap_or(path.len());
    debug_assert!(!scheme.is_empty(), "is_http accepts no empty scheme");
    check_escapes(path.get(..end).unwrap_or_default())
}

fn check_host(host: &str) -> Result<(), &'static str> {
    let invalid = "invalid host in URL";
    let after_name = match host.strip_prefix('[') {
        Some(rest) => rest.split_once(']').ok_or(invalid)?.1,
        None => host
            .find(':')
            .map_or("", |at| host.get(at..).unwrap_or_default()),
    };
    if host.is_empty() {
        return Err("missing host for URL");
    }
    if host
        .chars()
        .any(|c| c.is_whitespace() || "<>\"^`{}|\\".contains(c))
    {
        return Err(invalid);
    }
    let is_port = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit());
    match after_name.strip_prefix(':') {
        Some(port) if is_port(port) => Ok(()),
        None if after_name.is_empty() => Ok(()),
        _ => Err("invalid port in URL"),
    }
}

fn check_escapes(path: &str) -> Result<(), &'static str> {
    let is_escape = |after: &str| {
        let mut bytes = after.bytes();
        let mut is_hex = || bytes.next().is_some_and(|byte| byte.is_ascii_hexdigit());
        is_hex() && is_hex()
    };
    let mut parts = path.split('%');
    parts.next();
    if parts.all(is_escape) {
        Ok(())
    } else {
        Err("invalid URL escape")
    }
}
