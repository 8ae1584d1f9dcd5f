//! Parsers of kernel text, which neither allocate nor panic nor check UTF-8.
//!
//! Each returns `None` for input that it cannot parse; the caller counts that under the file's name. A number that does not fit its
//! type is never wrapped or clamped.

/// Splits `data` into lines without line ends. The last line need not have one.
pub fn lines(data: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = data;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let (line, tail) = match rest.iter().position(|&byte| byte == b'\n') {
            Some(end) => (rest.get(..end)?, rest.get(end + 1..)?),
            None => (rest, rest.get(rest.len()..)?),
        };
        rest = tail;
        Some(line)
    })
}

/// Splits `line` into words separated by whitespace.
pub fn words(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(|byte| byte.is_ascii_whitespace())
        .filter(|word| !word.is_empty())
}

/// Parses all of `word` as an unsigned decimal number.
#[must_use]
pub fn integer(word: &[u8]) -> Option<u64> {
    if word.is_empty() {
        return None;
    }
    word.iter().try_fold(0_u64, |number, &byte| {
        let digit = byte.checked_sub(b'0').filter(|&digit| digit <= 9)?;
        number.checked_mul(10)?.checked_add(u64::from(digit))
    })
}

/// Parses all of `word` as a decimal number with an optional minus sign.
#[must_use]
pub fn signed(word: &[u8]) -> Option<i64> {
    match word.strip_prefix(b"-") {
        Some(digits) => 0_i64.checked_sub_unsigned(integer(digits)?),
        None => i64::try_from(integer(word)?).ok(),
    }
}

/// Parses all of `word` as a hexadecimal number without prefix.
#[must_use]
pub fn hexadecimal(word: &[u8]) -> Option<u64> {
    if word.is_empty() || word.len() > 16 {
        return None;
    }
    word.iter().try_fold(0_u64, |number, &byte| {
        let digit = (byte as char).to_digit(16)?;
        Some(number << 4 | u64::from(digit))
    })
}

/// Parses all of `word` as a finite decimal fraction (`0.53`, `12`, `-1.5e3`).
#[must_use]
pub fn decimal(word: &[u8]) -> Option<f64> {
    let number: f64 = std::str::from_utf8(word).ok()?.parse().ok()?;
    number.is_finite().then_some(number)
}

/// Parses `data`, without surrounding whitespace, as one number, for files with a single value.
#[must_use]
pub fn single(data: &[u8]) -> Option<u64> {
    integer(data.trim_ascii())
}

/// Parses a single value that may be negative. The caller handles words for "no limit" such as `max` beforehand.
#[must_use]
pub fn single_signed(data: &[u8]) -> Option<i64> {
    signed(data.trim_ascii())
}

/// Parses a flat keyed file, with a key and a number on each line. A line of another form yields `None`.
pub fn flat_keyed(data: &[u8]) -> impl Iterator<Item = Option<(&[u8], i64)>> {
    lines(data)
        .filter(|line| !line.trim_ascii().is_empty())
        .map(|line| {
            let mut words = words(line);
            let (key, value) = (words.next()?, signed(words.next()?)?);
            words.next().is_none().then_some((key, value))
        })
}

/// Converts a word to text for labels. Bytes that are not UTF-8 become U+FFFD.
#[must_use]
pub fn text(word: &[u8]) -> String {
    String::from_utf8_lossy(word).into_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn numbers_fill_the_word_or_are_none() {
        assert_eq!(integer(b"18446744073709551615"), Some(u64::MAX));
        for bad in [
            &b""[..],
            b"18446744073709551616",
            b"-1",
            b"+1",
            b"1 ",
            b"0x1",
            b"12a",
        ] {
            assert_eq!(integer(bad), None, "{bad:?}");
        }
        assert_eq!(signed(b"-9223372036854775808"), Some(i64::MIN));
        assert_eq!(signed(b"9223372036854775808"), None);
        assert_eq!(hexadecimal(b"00ff"), Some(255));
        assert_eq!(hexadecimal(b"fffffffffffffffff"), None);
        assert_eq!(decimal(b"0.53"), Some(0.53));
        assert_eq!(decimal(b"inf"), None);
        assert_eq!(single(b" 42\n"), Some(42));
    }

    #[test]
    fn lines_and_words_keep_order_and_drop_blanks() {
        let got: Vec<_> = lines(b"a\n\nb").collect();
        assert_eq!(got, [&b"a"[..], b"", b"b"]);
        let got: Vec<_> = words(b"  x\t y ").collect();
        assert_eq!(got, [&b"x"[..], b"y"]);
    }

    #[test]
    fn flat_keyed_reports_torn_lines() {
        let got: Vec<_> = flat_keyed(b"a 1\nb\nc 2 3\nd -4\n").collect();
        assert_eq!(
            got,
            [Some((&b"a"[..], 1)), None, None, Some((&b"d"[..], -4))]
        );
    }

    proptest! {
        #[test]
        fn no_input_panics(data: Vec<u8>) {
            for line in lines(&data) {
                for word in words(line) {
                    prop_assert!(!word.is_empty());
                    let _numbers = (integer(word), signed(word), hexadecimal(word), decimal(word));
                }
            }
            let _pairs = flat_keyed(&data).count();
        }

        #[test]
        fn formatted_numbers_parse_back(number: i64, positive: u64) {
            prop_assert_eq!(signed(number.to_string().as_bytes()), Some(number));
            prop_assert_eq!(integer(positive.to_string().as_bytes()), Some(positive));
            prop_assert_eq!(hexadecimal(format!("{positive:x}").as_bytes()), Some(positive));
        }
    }
}
