//! Formats floats like Go's `strconv.FormatFloat`.

/// The notations of `strconv.FormatFloat` that templates can produce.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notation {
    /// `-d.dddde±dd`
    Exponent,
    /// `-ddd.dddd`
    Fixed,
    /// Exponent notation if the exponent is below -4 or at least the precision, fixed notation otherwise.
    General,
}

/// Formats `value`. `precision: None` uses the fewest digits that parse back to the same value.
#[must_use]
pub fn format_float(value: f64, notation: Notation, precision: Option<usize>) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    match notation {
        Notation::Exponent => Digits::rounded(value, precision.map(|p| p + 1)).exponent(precision),
        Notation::Fixed => match precision {
            Some(precision) => format!("{value:.precision$}"),
            None => format!("{value}"),
        },
        Notation::General => general(value, precision),
    }
}

/// Formats as `%g`. The digits that remain after rounding determine the notation.
fn general(value: f64, precision: Option<usize>) -> String {
    let wanted = precision.map(|p| p.max(1));
    let mut digits = Digits::rounded(value, wanted);
    digits.trim();
    let count = digits.text.len();
    let exponent = digits.exponent;
    // Without a precision, Go chooses the notation as if it were 6 (strconv/ftoa.go, case 'g').
    let mut bound = match wanted {
        None => 6,
        Some(p) => p as i32,
    };
    if wanted.is_some() && bound > count as i32 && count as i32 > exponent {
        bound = count as i32;
    }
    if exponent < -4 || exponent >= bound {
        return digits.exponent(Some(count - 1));
    }
    digits.fixed()
}

/// The significant digits of a finite number and the decimal exponent of the first digit.
struct Digits {
    negative: bool,
    text: String,
    exponent: i32,
}

impl Digits {
    /// Rounds to `count` digits, or to as many as an exact round trip needs.
    fn rounded(value: f64, count: Option<usize>) -> Self {
        let text = match count {
            Some(count) => format!("{value:.*e}", count.saturating_sub(1)),
            None => format!("{value:e}"),
        };
        let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        Self {
            negative: mantissa.starts_with('-'),
            text: mantissa.chars().filter(char::is_ascii_digit).collect(),
            exponent: exponent.parse().unwrap_or(0),
        }
    }

    fn trim(&mut self) {
        let len = self.text.trim_end_matches('0').len().max(1);
        self.text.truncate(len);
        if self.text == "0" {
            self.exponent = 0;
        }
    }

    fn sign(&self) -> &'static str {
        if self.negative { "-" } else { "" }
    }

    fn exponent(&self, precision: Option<usize>) -> String {
        let (first, rest) = self.text.split_at(1);
        let rest = match precision {
            Some(precision) => format!("{rest:0<precision$}"),
            None => rest.to_owned(),
        };
        let dot = if rest.is_empty() { "" } else { "." };
        let sign = if self.exponent < 0 { '-' } else { '+' };
        format!(
            "{}{first}{dot}{rest}e{sign}{:02}",
            self.sign(),
            self.exponent.abs()
        )
    }

    fn fixed(&self) -> String {
        let sign = self.sign();
        let Ok(whole) = usize::try_from(self.exponent) else {
            let zeros = "0".repeat(self.exponent.unsigned_abs() as usize - 1);
            return format!("{sign}0.{zeros}{}", self.text);
        };
        if self.text.len() <= whole + 1 {
            let zeros = "0".repeat(whole + 1 - self.text.len());
            return format!("{sign}{}{zeros}", self.text);
        }
        let (before, after) = self.text.split_at(whole + 1);
        format!("{sign}{before}.{after}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(value: f64, notation: Notation, precision: Option<usize>, want: &str) {
        assert_eq!(format_float(value, notation, precision), want);
    }

    #[test]
    fn shortest_general_form_is_gos() {
        for (value, want) in [
            (12_345_678.0, "1.2345678e+07"),
            (0.000_012_34, "1.234e-05"),
            (1_000_000.0, "1e+06"),
            (999_999.0, "999999"),
            (135.3563, "135.3563"),
            (-5.0, "-5"),
            (0.0, "0"),
            (-0.0, "-0"),
            (0.0001, "0.0001"),
            (100.0, "100"),
            (1e21, "1e+21"),
            (f64::INFINITY, "+Inf"),
            (f64::NEG_INFINITY, "-Inf"),
            (f64::NAN, "NaN"),
        ] {
            check(value, Notation::General, None, want);
        }
    }

    #[test]
    fn precision_bounds_the_digits() {
        check(12_345.678, Notation::General, Some(4), "1.235e+04");
        check(100.0, Notation::General, Some(4), "100");
        check(0.5, Notation::General, Some(20), "0.5");
        check(11.771_848_678_588_867, Notation::General, Some(4), "11.77");
        check(2.5, Notation::Fixed, Some(0), "2");
        check(1e22, Notation::Fixed, None, "10000000000000000000000");
        check(12_345.678, Notation::Exponent, None, "1.2345678e+04");
        check(0.0, Notation::Exponent, None, "0e+00");
        check(1.0, Notation::Exponent, Some(3), "1.000e+00");
    }
}
