//! Label sets from packed bytes that came from disk.

use common::model::Labels;

use crate::bytes::{Malformed, Reader};

/// Reads what [`Labels::as_packed`] wrote, trusting nothing.
///
/// # Errors
/// The bytes are cut short, no text, or not in order.
pub(crate) fn parse_packed(bytes: &[u8]) -> Result<Labels, Malformed> {
    let mut reader = Reader::new(bytes);
    let mut pairs: Vec<(&str, &str)> = Vec::with_capacity(16);
    while !reader.is_empty() {
        let header = reader.take(6)?;
        let name_bytes = usize::from(u16::from_le_bytes([header[0], header[1]]));
        let value_bytes = u32::from_le_bytes([header[2], header[3], header[4], header[5]]);
        let name = text(reader.take(name_bytes)?)?;
        let value = text(reader.take(value_bytes as usize)?)?;
        if value.is_empty() || pairs.last().is_some_and(|&(last, _)| last >= name) {
            return Err(Malformed);
        }
        pairs.push((name, value));
    }
    Ok(Labels::from_sorted(pairs))
}

fn text(bytes: &[u8]) -> Result<&str, Malformed> {
    std::str::from_utf8(bytes).map_err(|_| Malformed)
}
