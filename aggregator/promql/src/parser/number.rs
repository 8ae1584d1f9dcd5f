//! Parses numbers and durations like Prometheus.

use super::ast::NumberLiteral;
use super::stream::{Parsed, Parser};
use super::token::{Token, TokenKind};

impl Parser<'_> {
    /// Converts a token that is a number or a duration.
    pub(crate) fn number_literal(&self, token: &Token) -> Parsed<NumberLiteral> {
        let duration = token.kind == TokenKind::Duration;
        let value = if duration {
            match parse_duration_ms(&token.text) {
                Ok(ms) => ms as f64 / 1000.0,
                Err(message) => return self.fail(token.span(), message),
            }
        } else {
            match parse_number(&token.text) {
                Ok(value) => value,
                Err(reason) => {
                    let text = super::quote::go_quote(&token.text);
                    let message = format!(
                        "error parsing number: strconv.ParseFloat: parsing {text}: {reason}"
                    );
                    return self.fail(token.span(), message);
                }
            }
        };
        Ok(NumberLiteral {
            value,
            duration,
            span: token.span(),
        })
    }
}

/// Parses a number: an integer with Go's prefixes (`0x`, a leading `0` for octal) and underscores, or else a float.
pub(crate) fn parse_number(text: &str) -> Result<f64, &'static str> {
    if let Some(integer) = parse_integer(text) {
        return Ok(integer as f64);
    }
    let plain;
    let digits = if text.contains('_') {
        if !underscores_separate_digits(text) {
            return Err("invalid syntax");
        }
        plain = text.replace('_', "");
        &plain
    } else {
        text
    };
    let value: f64 = digits.parse().map_err(|_| "invalid syntax")?;
    // Rust rounds numbers that are too large to infinity. Infinities in the query have letters and no digits.
    if value.is_infinite() && digits.contains(|char: char| char.is_ascii_digit()) {
        return Err("value out of range");
    }
    Ok(value)
}

fn parse_integer(text: &str) -> Option<i64> {
    if !underscores_separate_digits(text) {
        return None;
    }
    let lower = text.to_ascii_lowercase().replace('_', "");
    if let Some(hex) = lower.strip_prefix("0x") {
        return i64::from_str_radix(hex, 16).ok();
    }
    match lower.strip_prefix('0') {
        Some(octal) if !octal.is_empty() => i64::from_str_radix(octal, 8).ok(),
        _ => lower.parse().ok(),
    }
}

fn underscores_separate_digits(text: &str) -> bool {
    let bytes = text.as_bytes();
    let is_digit = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_hexdigit);
    bytes.iter().enumerate().all(|(index, &byte)| {
        let before = index.checked_sub(1).and_then(|index| bytes.get(index));
        let after_prefix = index == 2 && bytes.starts_with(b"0x");
        byte != b'_' || ((is_digit(before) || after_prefix) && is_digit(bytes.get(index + 1)))
    })
}

/// Parses a float like Go's `strconv.ParseFloat`, which accepts underscores between digits, and hexadecimal floats with an
/// exponent. Returns `None` for numbers that are too large, too.
#[must_use]
pub fn parse_go_float(text: &str) -> Option<f64> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let signed = unsigned.len() < text.len();
    let plain = unsigned.trim_start_matches(|char: char| char.is_ascii_digit() || char == '.');
    if signed && unsigned.eq_ignore_ascii_case("nan") || !underscores_separate_digits(text) {
        return None;
    }
    let digits = unsigned.replace('_', "");
    let hex = digits.strip_prefix("0x").or(digits.strip_prefix("0X"));
    let value = match hex {
        Some(hex) => parse_hex_float(hex)?,
        None => digits.parse().ok()?,
    };
    if f64::is_infinite(value) && plain.len() < unsigned.len() {
        return None;
    }
    Some(if text.starts_with('-') { -value } else { value })
}

/// Parses `1.8p-3`, what follows the prefix of a hexadecimal float.
fn parse_hex_float(text: &str) -> Option<f64> {
    let (mantissa, exponent) = text.split_once(['p', 'P'])?;
    let mut exponent: i32 = exponent.parse().ok()?;
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits: String = [whole, fraction].concat();
    // Digits beyond 64 bits are beyond the precision of a float, too.
    let (head, tail) = digits.split_at_checked(16).unwrap_or((&digits, ""));
    if !tail.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let head_value = u64::from_str_radix(head, 16).ok()?;
    let beyond = i32::try_from(tail.len()).ok()? - i32::try_from(fraction.len()).ok()?;
    exponent = exponent.saturating_add(beyond.saturating_mul(4));
    Some(head_value as f64 * 2_f64.powi(exponent))
}

/// Parses a duration such as `1h30m`; returns milliseconds (`model.ParseDuration`).
///
/// # Errors
/// A unit is unknown, repeated or in the wrong order, or the duration exceeds 292 years.
pub fn parse_duration_ms(text: &str) -> Result<i64, String> {
    const UNITS: [(&str, i64); 7] = [
        ("y", 365 * 86_400_000),
        ("w", 7 * 86_400_000),
        ("d", 86_400_000),
        ("h", 3_600_000),
        ("m", 60_000),
        ("s", 1000),
        ("ms", 1),
    ];
    let invalid = || {
        format!(
            "not a valid duration string: {}",
            super::quote::go_quote(text)
        )
    };
    match text {
        "0" => return Ok(0),
        "" => return Err("empty duration string".to_owned()),
        _ => {}
    }
    let mut rest = text;
    let mut total: i64 = 0;
    let mut next_unit = 0;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, tail) = rest.split_at_checked(digits).ok_or_else(invalid)?;
        let letters = tail
            .bytes()
            .take_while(|byte| !byte.is_ascii_digit())
            .count();
        let (unit, tail) = tail.split_at_checked(letters).ok_or_else(invalid)?;
        let number: i64 = number.parse().map_err(|_| invalid())?;
        if unit.is_empty() {
            return Err(invalid());
        }
        let Some(index) = UNITS.iter().position(|&(name, _)| name == unit) else {
            let (unit, text) = (super::quote::go_quote(unit), super::quote::go_quote(text));
            return Err(format!("unknown unit {unit} in duration {text}"));
        };
        if index < next_unit {
            return Err(invalid());
        }
        let out_of_range = || "duration out of range".to_owned();
        total = number
            .checked_mul(UNITS[index].1)
            .and_then(|part| total.checked_add(part))
            // Prometheus counts nanoseconds in 64 bits.
            .filter(|total| total.checked_mul(1_000_000).is_some())
            .ok_or_else(out_of_range)?;
        next_unit = index + 1;
        rest = tail;
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_follow_go() {
        let cases = [
            ("1_000", Ok(1000.0)),
            ("010", Ok(8.0)),
            ("08", Ok(8.0)),
            ("0x1F", Ok(31.0)),
            (".5", Ok(0.5)),
            ("2.", Ok(2.0)),
            ("1e3", Ok(1000.0)),
            ("Inf", Ok(f64::INFINITY)),
            ("1e309", Err("value out of range")),
            ("0x", Err("invalid syntax")),
        ];
        for (text, want) in cases {
            assert_eq!(parse_number(text), want, "{text}");
        }
        assert!(parse_number("nAn").is_ok_and(f64::is_nan));
    }

    #[test]
    fn floats_follow_go() {
        let cases = [
            ("1_0", Some(10.0)),
            ("0x1p-2", Some(0.25)),
            ("-0X1.8p1", Some(-3.0)),
            ("0x10", None),
            ("+Inf", Some(f64::INFINITY)),
            ("infinity", Some(f64::INFINITY)),
            ("1e309", None),
            ("-nan", None),
            ("_1", None),
            ("two", None),
            ("", None),
            (" 1", None),
        ];
        for (text, want) in cases {
            assert_eq!(parse_go_float(text), want, "{text}");
        }
        assert!(parse_go_float("NaN").is_some_and(f64::is_nan));
    }

    #[test]
    fn durations_need_descending_units() {
        assert_eq!(parse_duration_ms("1h30m"), Ok(5_400_000));
        assert_eq!(parse_duration_ms("1y2w3d4h5m6s7ms"), Ok(33_019_506_007));
        for bad in ["1m1h", "1m1m", "5", "m", "1h30", "99999999999999999999s"] {
            let text = format!("not a valid duration string: \"{bad}\"");
            assert_eq!(parse_duration_ms(bad), Err(text));
        }
        let unknown = "unknown unit \"x\" in duration \"1x\"".to_owned();
        assert_eq!(parse_duration_ms("1x"), Err(unknown));
        let out = Err("duration out of range".to_owned());
        assert_eq!(parse_duration_ms("293y"), out);
    }
}
