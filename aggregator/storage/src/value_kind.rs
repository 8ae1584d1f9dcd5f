//! The kinds of values that a column can hold.
//!
//! A column gets its kind when it is defined and keeps it. The log names the kind in the record that defines the column,
//! a block in the directory entry of each chunk. Files keep the code as they have it ([`KindCode`]); code that works on
//! values asks for a [`ValueKind`] and gets an error that names the kind when a newer version wrote it.

/// The kind of a column's values.
///
/// Matches on it are exhaustive on purpose: a new kind must not compile until each layer handles it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) enum ValueKind {
    /// 64-bit floats, staleness markers included.
    #[default]
    Float,
}

/// A kind as it is stored in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct KindCode(pub(crate) u8);

/// A kind that a newer version wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("value kind {}{} is not supported by this version", .0, name_of(*.0))]
pub struct UnknownKind(u8);

/// Names the codes that are reserved for later kinds.
const fn name_of(code: u8) -> &'static str {
    match code {
        HISTOGRAM => " (histogram)",
        _ => "",
    }
}

const FLOAT: u8 = 0;
/// Reserved for native histograms. No version writes it yet.
pub(crate) const HISTOGRAM: u8 = 1;

impl ValueKind {
    /// The stored form.
    pub(crate) const fn code(self) -> KindCode {
        match self {
            Self::Float => KindCode(FLOAT),
        }
    }
}

impl KindCode {
    /// The kind that the code stands for.
    ///
    /// # Errors
    /// This version does not know the code.
    pub(crate) const fn kind(self) -> Result<ValueKind, UnknownKind> {
        match self.0 {
            FLOAT => Ok(ValueKind::Float),
            unknown => Err(UnknownKind(unknown)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_kind_is_named() {
        assert_eq!(KindCode(0).kind(), Ok(ValueKind::Float));
        let error = KindCode(HISTOGRAM).kind().unwrap_err();
        let want = "value kind 1 (histogram) is not supported by this version";
        assert_eq!(error.to_string(), want);
    }
}
