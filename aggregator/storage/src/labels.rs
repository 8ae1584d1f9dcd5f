//! Label sets that came from disk.

use crate::bytes::Malformed;

/// Converts pairs to labels, and checks all requirements.
///
/// # Errors
/// A value is empty, or the names are not in order.
pub(crate) fn check_pairs(pairs: &[(&str, &str)]) -> Result<(), Malformed> {
    let ascend = pairs.is_sorted_by(|a, b| a.0 < b.0);
    let fit = |(name, value): &(&str, &str)| {
        !value.is_empty() && u16::try_from(name.len()).is_ok() && u32::try_from(value.len()).is_ok()
    };
    if ascend && pairs.iter().all(fit) {
        Ok(())
    } else {
        Err(Malformed)
    }
}
