//! Kubernetes quantities: `100m`, `24632892Ki`, `1e3`.

/// Parses a quantity into its base unit (cores, bytes, pieces); `None` if the text is not a quantity.
///
/// Rounds up to thousandths, as kube-state-metrics does by calling `MilliValue`
/// (apimachinery `resource.Quantity`: `<signedNumber><suffix>`).
#[must_use]
pub fn parse(text: &str) -> Option<f64> {
    let digits_end = text
        .find(|c: char| !matches!(c, '0'..='9' | '.' | '+' | '-'))
        .unwrap_or(text.len());
    let (number, suffix) = text.split_at_checked(digits_end)?;
    let number: f64 = number.parse().ok().filter(|n: &f64| n.is_finite())?;
    let scaled = match suffix {
        "" => number,
        "n" => (number / 1e6).ceil() / 1e3,
        "u" => (number / 1e3).ceil() / 1e3,
        "m" => number / 1e3,
        "k" => number * 1e3,
        "M" => number * 1e6,
        "G" => number * 1e9,
        "T" => number * 1e12,
        "P" => number * 1e15,
        "E" => number * 1e18,
        "Ki" => number * f64::from(1 << 10),
        "Mi" => number * f64::from(1 << 20),
        "Gi" => number * f64::from(1 << 30),
        "Ti" => number * (1_u64 << 40) as f64,
        "Pi" => number * (1_u64 << 50) as f64,
        "Ei" => number * (1_u64 << 60) as f64,
        exponent => {
            let power = exponent.strip_prefix(['e', 'E'])?;
            let power: i32 = power.parse().ok().filter(|p| (-30..=30).contains(p))?;
            number * 10_f64.powi(power)
        }
    };
    Some(scaled)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, want: Option<f64>) {
        assert_eq!(parse(text), want, "{text:?}");
    }

    #[test]
    fn every_suffix_has_its_factor() {
        check("2", Some(2.0));
        check("0", Some(0.0));
        check("100m", Some(0.1));
        check("1.5", Some(1.5));
        check("24632892Ki", Some(25_224_081_408.0));
        check("1Mi", Some(1_048_576.0));
        check("1.5Gi", Some(1_610_612_736.0));
        check("1Ei", Some(1_152_921_504_606_846_976.0));
        check("3k", Some(3000.0));
        check("12E", Some(12e18));
        check("1e3", Some(1000.0));
        check("1E3", Some(1000.0));
        check("5e-1", Some(0.5));
        check("+7", Some(7.0));
        check("-3", Some(-3.0));
    }

    #[test]
    fn fractions_of_a_thousandth_are_rounded_up() {
        check("1u", Some(0.001));
        check("1500u", Some(0.002));
        check("999999n", Some(0.001));
    }

    #[test]
    fn invalid_quantities_are_none() {
        for text in [
            "", "Ki", "abc", "1 Ki", "1ki", "1e", "1e99", "--1", "1.2.3", "ü", "1ü", "NaN", "inf",
        ] {
            check(text, None);
        }
    }
}
