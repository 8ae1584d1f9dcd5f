//! Readers of kernel text: bytes in, numbers out, no allocation, no panic, no UTF-8 check.
//!
//! Each returns `None` for what it cannot read; the caller counts that with the file's name. A number that does not
//! fit is unreadable, never wrapped or clamped.

/// The lines of `data`, without their line ends; a last line without line end counts.
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

/// The words of `line`: what lies between runs of blanks and tabs.
pub fn words(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(|byte| byte.is_ascii_whitespace())
        .filter(|word| !word.is_empty())
}

/// A decimal number that fills `word` wholly.
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

/// A decimal number with an optional minus sign that fills `word` wholly.
#[must_use]
pub fn signed(word: &[u8]) -> Option<i64> {
    match word.strip_prefix(b"-") {
        Some(digits) => 0_i64.checked_sub_unsigned(integer(digits)?),
        None => i64::try_from(integer(word)?).ok(),
    }
}

/// A hexadecimal number without prefix that fills `word` wholly.
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

/// A decimal fraction (`0.53`, `12`, `-1.5e3`) that fills `word` wholly.
#[must_use]
pub fn decimal(word: &[u8]) -> Option<f64> {
    let number: f64 = std::str::from_utf8(word).ok()?.parse().ok()?;
    number.is_finite().then_some(number)
}

/// The whole of `data`, blanks around it aside, as one number; for files that hold a single value.
#[must_use]
pub fn single(data: &[u8]) -> Option<u64> {
    integer(data.trim_ascii())
}

/// As [`single`], but `-1`, `max` and other words for "no limit" are an error the caller tells apart beforehand.
#[must_use]
pub fn single_signed(data: &[u8]) -> Option<i64> {
    signed(data.trim_ascii())
}

/// The pairs of a flat keyed file: a key, blanks, a number, per line. Lines of another form give `None`.
pub fn flat_keyed(data: &[u8]) -> impl Iterator<Item = Option<(&[u8], i64)>> {
    lines(data)
        .filter(|line| !line.trim_ascii().is_empty())
        .map(|line| {
            let mut words = words(line);
            let (key, value) = (words.next()?, signed(words.next()?)?);
            words.next().is_none().then_some((key, value))
        })
}

/// Words from the kernel as text, for labels; bytes that are no UTF-8 become U+FFFD.
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
        fn printed_numbers_come_back(number: i64, positive: u64) {
            prop_assert_eq!(signed(number.to_string().as_bytes()), Some(number));
            prop_assert_eq!(integer(positive.to_string().as_bytes()), Some(positive));
            prop_assert_eq!(hexadecimal(format!("{positive:x}").as_bytes()), Some(positive));
        }
    }
}
