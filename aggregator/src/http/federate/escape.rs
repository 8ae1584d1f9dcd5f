//! Names of UTF-8 for scrapers that know only the old alphabet (`model/metric.go`: `EscapeName`).

/// Escaping of names that are not identifiers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Escaping {
    /// As it is, quoted.
    AllowUtf8,
    /// `_` in place of what is not allowed.
    Underscores,
    /// `_dot_` for a dot, `__` for an underscore and for the rest.
    Dots,
    /// `U__` and the hexadecimal number of each character that is not allowed.
    Values,
}

impl Escaping {
    /// The scheme that the `escaping` parameter of an `Accept` header names.
    #[must_use]
    pub(super) fn parse(text: &str) -> Option<Self> {
        [Self::AllowUtf8, Self::Underscores, Self::Dots, Self::Values]
            .into_iter()
            .find(|scheme| scheme.as_str() == text)
    }

    /// Its name.
    #[must_use]
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::AllowUtf8 => "allow-utf-8",
            Self::Underscores => "underscores",
            Self::Dots => "dots",
            Self::Values => "values",
        }
    }

    /// The name as it is written.
    #[must_use]
    pub(super) fn apply(self, name: &str) -> String {
        if name.is_empty() || self == Self::AllowUtf8 || is_legacy_name(name) {
            return name.to_owned();
        }
        let mut out = String::with_capacity(name.len() + 8);
        if self == Self::Values {
            out.push_str("U__");
        }
        for (at, char) in name.char_indices() {
            let allowed = char.is_ascii_alphabetic()
                || matches!(char, '_' | ':')
                || (char.is_ascii_digit() && at > 0);
            match (self, char) {
                (Self::Dots | Self::Values, '_') => out.push_str("__"),
                (Self::Dots, '.') => out.push_str("_dot_"),
                _ if allowed => out.push(char),
                (Self::Dots, _) => out.push_str("__"),
                (Self::Values, _) => out.push_str(&format!("_{:x}_", u32::from(char))),
                _ => out.push('_'),
            }
        }
        out
    }
}

/// Whether a metric name needs neither quotes nor escapes.
#[must_use]
pub(super) fn is_legacy_name(name: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b':';
    name.bytes().all(allowed) && !name.starts_with(|c: char| c.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_escaped_by_each_scheme() {
        for (name, utf8, underscores, dots, values) in [
            ("up", "up", "up", "up", "up"),
            ("a_b", "a_b", "a_b", "a_b", "a_b"),
            ("a_b.c", "a_b.c", "a_b_c", "a__b_dot_c", "U__a__b_2e_c"),
            ("a.b", "a.b", "a_b", "a_dot_b", "U__a_2e_b"),
            ("1x", "1x", "_x", "__x", "U___31_x"),
            ("h\u{f6}_", "h\u{f6}_", "h__", "h____", "U__h_f6___"),
        ] {
            assert_eq!(Escaping::AllowUtf8.apply(name), utf8);
            assert_eq!(Escaping::Underscores.apply(name), underscores);
            assert_eq!(Escaping::Dots.apply(name), dots);
            assert_eq!(Escaping::Values.apply(name), values);
        }
    }
}
