//! Quotes and unquotes text like Go (`strconv.Quote`, and Prometheus' `strutil.Unquote`).

use crate::format::put;

/// Puts text between double quotes, with Go's escapes (`%q`).
#[must_use]
pub fn go_quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for char in text.chars() {
        push_escaped(&mut out, char, '"');
    }
    out.push('"');
    out
}

/// Puts bytes between double quotes, with Go's escapes (`%q`); those that are not UTF-8 become `\xff`.
#[must_use]
pub fn go_quote_bytes(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len() + 2);
    out.push('"');
    for chunk in bytes.utf8_chunks() {
        for char in chunk.valid().chars() {
            push_escaped(&mut out, char, '"');
        }
        for byte in chunk.invalid() {
            put!(out, "\\x{byte:02x}");
        }
    }
    out.push('"');
    out
}

/// Puts a character between single quotes, with Go's escapes (`%q` of a rune).
#[must_use]
pub(crate) fn go_quote_char(char: char) -> String {
    let mut out = String::from('\'');
    push_escaped(&mut out, char, '\'');
    out.push('\'');
    out
}

fn push_escaped(out: &mut String, char: char, quote: char) {
    match char {
        '\\' => out.push_str("\\\\"),
        _ if char == quote => {
            out.push('\\');
            out.push(char);
        }
        '\u{7}' => out.push_str("\\a"),
        '\u{8}' => out.push_str("\\b"),
        '\u{c}' => out.push_str("\\f"),
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        '\u{b}' => out.push_str("\\v"),
        _ if is_printable(char) => out.push(char),
        _ => {
            let code = char as u32;
            if code < 0x80 {
                put!(out, "\\x{code:02x}");
            } else if code < 0x1_0000 {
                put!(out, "\\u{code:04x}");
            } else {
                put!(out, "\\U{code:08x}");
            }
        }
    }
}

/// Approximates Go's `strconv.IsPrint`: letters, marks, numbers, punctuation, symbols and the ASCII space. Rust's `Debug`
/// escapes characters by the same Unicode property, except quotes and combining marks.
fn is_printable(char: char) -> bool {
    match char {
        ' '..='~' => true,
        '\u{0}'..='\u{a0}' | '\u{ad}' => false,
        // Spaces and format characters, which Go does not print.
        '\u{1680}'
        | '\u{2000}'..='\u{200f}'
        | '\u{2028}'..='\u{202f}'
        | '\u{205f}'..='\u{206f}'
        | '\u{3000}'
        | '\u{feff}' => false,
        // Combining marks, which Go prints and `Debug` escapes.
        '\u{300}'..='\u{36f}' => true,
        _ => char.escape_debug().count() == 1,
    }
}

/// The error of a malformed literal.
pub(crate) const INVALID_SYNTAX: &str = "invalid syntax";

/// Returns the bytes of a string literal with its quotes: `"…"` and `'…'` with escapes, or `` `…` `` without. Escapes may
/// denote bytes that are not UTF-8.
pub(crate) fn unquote(literal: &str) -> Result<Vec<u8>, &'static str> {
    let bytes = literal.as_bytes();
    let (Some(&quote), Some(&last)) = (bytes.first(), bytes.last()) else {
        return Err(INVALID_SYNTAX);
    };
    if bytes.len() < 2 || quote != last {
        return Err(INVALID_SYNTAX);
    }
    let inner = bytes.get(1..bytes.len() - 1).unwrap_or_default();
    match quote {
        b'`' if inner.contains(&b'`') => Err(INVALID_SYNTAX),
        b'`' => Ok(inner.to_vec()),
        b'"' | b'\'' if inner.contains(&b'\n') => Err(INVALID_SYNTAX),
        b'"' | b'\'' => unescape(inner, quote),
        _ => Err(INVALID_SYNTAX),
    }
}

fn unescape(mut rest: &[u8], quote: u8) -> Result<Vec<u8>, &'static str> {
    let mut out = Vec::with_capacity(rest.len());
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        if byte == quote {
            return Err(INVALID_SYNTAX);
        }
        if byte != b'\\' {
            out.push(byte);
            continue;
        }
        let Some((&escape, tail)) = rest.split_first() else {
            return Err(INVALID_SYNTAX);
        };
        rest = tail;
        match escape {
            b'a' => out.push(7),
            b'b' => out.push(8),
            b'f' => out.push(12),
            b'n' => out.push(b'\n'),
            b'r' => out.push(b'\r'),
            b't' => out.push(b'\t'),
            b'v' => out.push(11),
            b'\\' => out.push(b'\\'),
            _ if escape == quote => out.push(quote),
            b'x' => out.push(take_digits(&mut rest, 2, 16, 0)? as u8),
            b'0'..=b'7' => {
                let code = take_digits(&mut rest, 2, 8, u32::from(escape - b'0'))?;
                out.push(u8::try_from(code).map_err(|_| INVALID_SYNTAX)?);
            }
            b'u' | b'U' => {
                let digits = if escape == b'u' { 4 } else { 8 };
                let code = take_digits(&mut rest, digits, 16, 0)?;
                let char = char::from_u32(code).ok_or(INVALID_SYNTAX)?;
                out.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes());
            }
            _ => return Err(INVALID_SYNTAX),
        }
    }
    Ok(out)
}

fn take_digits(rest: &mut &[u8], count: usize, base: u32, first: u32) -> Result<u32, &'static str> {
    let (digits, tail) = rest.split_at_checked(count).ok_or(INVALID_SYNTAX)?;
    *rest = tail;
    digits.iter().try_fold(first, |code, &digit| {
        let digit = char::from(digit).to_digit(base).ok_or(INVALID_SYNTAX)?;
        code.checked_mul(base)
            .and_then(|code| code.checked_add(digit))
            .ok_or(INVALID_SYNTAX)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_as_go_does() {
        assert_eq!(
            go_quote("a\"b\\\n\u{1}é\u{200b}"),
            r#""a\"b\\\n\x01é\u200b""#
        );
        assert_eq!(go_quote_bytes(b"a\xff"), r#""a\xff""#);
        assert_eq!(go_quote_char('\''), r"'\''");
        assert_eq!(go_quote_char('\u{fffd}'), "'\u{fffd}'");
    }

    #[test]
    fn strings_are_read_as_prometheus_reads_them() {
        let cases: [(&str, Result<&[u8], &str>); 9] = [
            (r#""a\n\x41\101\u00e9""#, Ok(b"a\nAA\xc3\xa9")),
            (r#""\xff""#, Ok(b"\xff")),
            (r#"'it\'s "x"'"#, Ok(b"it's \"x\"")),
            (r"`raw\n`", Ok(br"raw\n")),
            (r#""\400""#, Err(INVALID_SYNTAX)),
            (r#""\ud800""#, Err(INVALID_SYNTAX)),
            (r#""\'""#, Err(INVALID_SYNTAX)),
            (r#""\"#, Err(INVALID_SYNTAX)),
            ("\"", Err(INVALID_SYNTAX)),
        ];
        for (literal, want) in cases {
            assert_eq!(unquote(literal), want.map(<[u8]>::to_vec), "{literal}");
        }
    }
}
