//! Label names in URL paths. Names that are not identifiers are escaped (`U__http_2e_status`).

/// Decodes Prometheus' value encoding (`model/metric.go`: `UnescapeName`). Returns a name that is not escaped, or not
/// correctly, unchanged.
#[must_use]
pub fn unescape(name: &str) -> String {
    name.strip_prefix("U__")
        .and_then(decode)
        .unwrap_or_else(|| name.to_owned())
}

fn decode(escaped: &str) -> Option<String> {
    let mut decoded = String::with_capacity(escaped.len());
    let mut rest = escaped;
    while let Some((plain, after)) = rest.split_once('_') {
        decoded.push_str(plain);
        if let Some(after) = after.strip_prefix('_') {
            decoded.push('_');
            rest = after;
            continue;
        }
        let (hex, after) = after.split_once('_')?;
        // Six digits cover all code points.
        if hex.is_empty() || hex.len() > 6 || !hex.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        decoded.push(char::from_u32(u32::from_str_radix(hex, 16).ok()?)?);
        rest = after;
    }
    decoded.push_str(rest);
    Some(decoded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escaped_names_are_decoded_and_bad_ones_kept() {
        for (name, want) in [
            ("job", "job"),
            ("U__http_2e_status", "http.status"),
            ("U__a__b", "a_b"),
            ("U___1f600_", "😀"),
            ("U__label_20_x_2e_", "label x."),
            ("U__bad_zz_", "U__bad_zz_"),
            ("U__bad_2e", "U__bad_2e"),
            ("U__surrogate_d800_", "U__surrogate_d800_"),
        ] {
            assert_eq!(unescape(name), want);
        }
    }
}
