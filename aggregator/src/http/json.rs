//! Writes JSON straight into the buffer of a streamed response.

use std::io::Write as _;

use common::model::Labels;

/// Appends a quoted string.
pub fn string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    let mut rest = text.as_bytes();
    while let Some(at) = rest.iter().position(|&b| needs_escape(b)) {
        out.extend_from_slice(&rest[..at]);
        escape(out, rest[at]);
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
    out.push(b'"');
}

const fn needs_escape(byte: u8) -> bool {
    byte < 0x20 || byte == b'"' || byte == b'\\'
}

fn escape(out: &mut Vec<u8>, byte: u8) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    match byte {
        b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
        b'\n' => out.extend_from_slice(b"\\n"),
        b'\r' => out.extend_from_slice(b"\\r"),
        b'\t' => out.extend_from_slice(b"\\t"),
        _ => {
            let (high, low) = (HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]);
            out.extend_from_slice(&[b'\\', b'u', b'0', b'0', high, low]);
        }
    }
}

/// Appends an integer.
pub fn integer(out: &mut Vec<u8>, mut value: u64) {
    let mut digits = [0_u8; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// Appends milliseconds as seconds: three decimals, or none when whole (Prometheus
/// `util/jsonutil/marshal.go`).
pub fn timestamp(out: &mut Vec<u8>, timestamp_ms: i64) {
    if timestamp_ms < 0 {
        out.push(b'-');
    }
    let magnitude = timestamp_ms.unsigned_abs();
    integer(out, magnitude / 1000);
    let fraction = (magnitude % 1000) as u16;
    if fraction != 0 {
        let digit = |n: u16| b'0' + (n % 10) as u8;
        out.extend_from_slice(&[
            b'.',
            digit(fraction / 100),
            digit(fraction / 10),
            digit(fraction),
        ]);
    }
}

/// Appends a float in Go's shortest form, without quotes: exponent only below 1e-6 and from 1e21 on.
pub fn float(out: &mut Vec<u8>, value: f64) {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    let magnitude = value.abs();
    if value.is_nan() {
        out.extend_from_slice(b"NaN");
    } else if value.is_infinite() {
        out.extend_from_slice(if value > 0.0 { b"+Inf" } else { b"-Inf" });
    } else if magnitude < EXACT && value.trunc() == value {
        if value.is_sign_negative() {
            out.push(b'-');
        }
        integer(out, magnitude as u64);
    } else if (1e-6..1e21).contains(&magnitude) {
        // Writing to a vector can't fail.
        write!(out, "{value}").unwrap_or_default();
    } else {
        exponential(out, value);
    }
}

/// Appends the exponential form. Rust formats `1e-7`, Go `1e-07`.
fn exponential(out: &mut Vec<u8>, value: f64) {
    let start = out.len();
    write!(out, "{value:e}").unwrap_or_default();
    let Some(at) = out[start..].iter().position(|&b| b == b'e') else {
        return;
    };
    let exponent = out.split_off(start + at + 1);
    let (sign, digits) = match exponent.split_first() {
        Some((b'-', digits)) => (b'-', digits),
        _ => (b'+', exponent.as_slice()),
    };
    out.push(sign);
    if digits.len() < 2 {
        out.push(b'0');
    }
    out.extend_from_slice(digits);
}

/// Appends `"value"`, the form of a sample's value.
pub fn quoted_float(out: &mut Vec<u8>, value: f64) {
    out.push(b'"');
    float(out, value);
    out.push(b'"');
}

/// Appends `[seconds,"value"]`.
pub fn point(out: &mut Vec<u8>, timestamp_ms: i64, value: f64) {
    out.push(b'[');
    timestamp(out, timestamp_ms);
    out.push(b',');
    quoted_float(out, value);
    out.push(b']');
}

/// Appends labels as an object.
pub fn labels(out: &mut Vec<u8>, labels: &Labels) {
    out.push(b'{');
    for (index, (name, value)) in labels.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        string(out, name);
        out.push(b':');
        string(out, value);
    }
    out.push(b'}');
}

/// Appends a list of strings.
pub fn strings<'a>(out: &mut Vec<u8>, list: impl IntoIterator<Item = &'a str>) {
    out.push(b'[');
    for (index, text) in list.into_iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        string(out, text);
    }
    out.push(b']');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn floats_have_gos_form() {
        // Right: what Go's strconv.FormatFloat gives for the rule of Prometheus' marshaller.
        for (value, want) in [
            (0.0, "0"),
            (-0.0, "-0"),
            (1.5, "1.5"),
            (-3.0, "-3"),
            (0.1 + 0.2, "0.30000000000000004"),
            (1e20, "100000000000000000000"),
            (1e21, "1e+21"),
            (1.5e300, "1.5e+300"),
            (1e-6, "0.000001"),
            (1e-7, "1e-07"),
            (-2.5e-10, "-2.5e-10"),
            (5e-324, "5e-324"),
            (9_007_199_254_740_993.0, "9007199254740992"),
            (f64::NAN, "NaN"),
            (f64::INFINITY, "+Inf"),
            (f64::NEG_INFINITY, "-Inf"),
        ] {
            assert_eq!(text(|out| float(out, value)), want);
        }
    }

    #[test]
    fn timestamps_have_three_decimals_or_none() {
        for (ms, want) in [
            (0, "0"),
            (1_435_781_430_781, "1435781430.781"),
            (1500, "1.500"),
            (1001, "1.001"),
            (-1500, "-1.500"),
            (-1, "-0.001"),
            (i64::MIN, "-9223372036854775.808"),
        ] {
            assert_eq!(text(|out| timestamp(out, ms)), want);
        }
    }

    #[test]
    fn strings_survive_a_round_trip() {
        for value in [
            "",
            "a\"b\\c",
            "\u{0}\u{1f}\n\t\r",
            "ü\u{2028}</x>",
            "\u{7f}",
        ] {
            let json = text(|out| string(out, value));
            assert_eq!(
                serde_json::from_str::<String>(&json).unwrap(),
                value,
                "{json}"
            );
        }
    }
}
