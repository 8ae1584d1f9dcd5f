//! Sizes as Prometheus writes them: `512MB`, `1GiB`, or plain bytes.

/// A text that is not a size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a valid size: {0:?} (a number, or a number with B, KB, MB, GB, TB, PB or EB)")]
pub struct SizeError(String);

/// Powers of 1024 for both spellings of a unit, as in Prometheus (`alecthomas/units`: `Base2Bytes`).
const UNITS: [(&str, u32); 7] = [
    ("B", 0),
    ("K", 10),
    ("M", 20),
    ("G", 30),
    ("T", 40),
    ("P", 50),
    ("E", 60),
];

/// Parses a number of bytes with an optional unit.
///
/// # Errors
/// The number or the unit is not valid, or the size exceeds 2^64 - 1 bytes.
pub fn parse(text: &str) -> Result<u64, SizeError> {
    let error = || SizeError(text.to_owned());
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let number: u64 = number.parse().map_err(|_| error())?;
    let shift = unit_shift(unit).ok_or_else(error)?;
    number.checked_mul(1 << shift).ok_or_else(error)
}

fn unit_shift(unit: &str) -> Option<u32> {
    if unit.is_empty() {
        return Some(0);
    }
    let (_, shift) = UNITS.iter().find(|(letter, _)| {
        unit.strip_prefix(letter)
            .is_some_and(|rest| matches!(rest, "" | "B" | "iB"))
    })?;
    Some(*shift)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_powers_of_1024() {
        assert_eq!(parse("0"), Ok(0));
        assert_eq!(parse("512MB"), Ok(512 << 20));
        assert_eq!(parse("512MiB"), Ok(512 << 20));
        assert_eq!(parse("2K"), Ok(2048));
        assert_eq!(parse("7B"), Ok(7));
        for bad in ["", "x", "1.5GB", "-1", "1XB", "16EB", "1 GB"] {
            assert_eq!(parse(bad), Err(SizeError(bad.to_owned())));
        }
    }
}
