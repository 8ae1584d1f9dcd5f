//! Formats values like Go's `fmt` package: `Sprint` and `Sprintf`.

use super::float::{Notation, format_float};
use super::gotime::{STRING_LAYOUT, format_duration, format_time};
use super::value::Value;

/// Formats one value like `fmt.Sprint`.
#[must_use]
pub(super) fn print_value(value: &Value) -> String {
    match value {
        Value::Nil => "<nil>".to_owned(),
        Value::Bool(value) => value.to_string(),
        Value::Int(value) => value.to_string(),
        Value::Float(value) => format_float(*value, Notation::General, None),
        Value::Text(text) | Value::Html(text) => text.to_string(),
        Value::Duration(nanos) => format_duration(*nanos),
        Value::Time(time) => format_time(time, STRING_LAYOUT),
        Value::List(kind, _) | Value::Map(kind, _) if kind.print.is_some() => {
            kind.print.map_or_else(String::new, |print| print(value))
        }
        Value::List(_, items) => format!("[{}]", joined(items.iter())),
        Value::Struct(_, fields) => {
            format!("{{{}}}", joined(fields.iter().map(|(_, value)| value)))
        }
        Value::Map(_, map) => {
            let pairs: Vec<String> = map
                .iter()
                .map(|(key, value)| format!("{key}:{}", print_value(value)))
                .collect();
            format!("map[{}]", pairs.join(" "))
        }
    }
}

fn joined<'a>(values: impl Iterator<Item = &'a Value>) -> String {
    values.map(print_value).collect::<Vec<_>>().join(" ")
}

/// Formats values like `fmt.Sprint`, with a space between two operands if neither is a string.
#[must_use]
pub(super) fn sprint(values: &[Value]) -> String {
    let mut out = String::new();
    for (index, value) in values.iter().enumerate() {
        let is_text = |value: &Value| matches!(value, Value::Text(_) | Value::Html(_));
        if index > 0 && !is_text(value) && !is_text(&values[index - 1]) {
            out.push(' ');
        }
        out.push_str(&print_value(value));
    }
    out
}

/// The flags, width and precision of one verb.
#[derive(Debug, Default)]
struct Spec {
    minus: bool,
    plus: bool,
    sharp: bool,
    space: bool,
    zero: bool,
    width: Option<usize>,
    precision: Option<usize>,
}

/// Widths and precisions above this print `%!(BADWIDTH)` (Go: `tooLarge`).
const NUMBER_MAX: usize = 1_000_000;
/// Maximum padding of one verb. Go would pad to a million.
const WIDTH_MAX: usize = 4096;

struct Formatter<'a> {
    args: &'a [Value],
    next: usize,
    reordered: bool,
    out: String,
}

/// Formats like `fmt.Sprintf`, including its error notes such as `%!d(float64=5)`.
#[must_use]
pub(super) fn sprintf(format: &str, args: &[Value]) -> String {
    let mut formatter = Formatter {
        args,
        next: 0,
        reordered: false,
        out: String::with_capacity(format.len() + 16),
    };
    let mut chars = format.chars().peekable();
    while let Some(c) = chars.next() {
        if c == '%' {
            formatter.directive(&mut chars);
        } else {
            formatter.out.push(c);
        }
    }
    if !formatter.reordered && formatter.next < args.len() {
        let rest: Vec<String> = args.iter().skip(formatter.next).map(extra).collect();
        formatter
            .out
            .push_str(&format!("%!(EXTRA {})", rest.join(", ")));
    }
    formatter.out
}

fn extra(value: &Value) -> String {
    match value {
        Value::Nil => "<nil>".to_owned(),
        value => format!("{}={}", value.type_name(), print_value(value)),
    }
}

type Chars<'a> = std::iter::Peekable<std::str::Chars<'a>>;

impl Formatter<'_> {
    fn directive(&mut self, chars: &mut Chars<'_>) {
        let mut spec = Spec::default();
        while let Some(&c) = chars.peek() {
            match c {
                '-' => spec.minus = true,
                '+' => spec.plus = true,
                '#' => spec.sharp = true,
                ' ' => spec.space = true,
                '0' => spec.zero = true,
                _ => break,
            }
            chars.next();
        }
        spec.zero &= !spec.minus;
        self.index(chars);
        spec.width = self.number(chars, &mut spec.minus, "%!(BADWIDTH)");
        if chars.peek() == Some(&'.') {
            chars.next();
            self.index(chars);
            let mut ignored = false;
            spec.precision = self.number(chars, &mut ignored, "%!(BADPREC)").or(Some(0));
        }
        self.index(chars);
        let Some(verb) = chars.next() else {
            self.out.push_str("%!(NOVERB)");
            return;
        };
        if verb == '%' {
            self.out.push('%');
            return;
        }
        let Some(value) = self.args.get(self.next) else {
            self.out.push_str(&format!("%!{verb}(MISSING)"));
            return;
        };
        self.next += 1;
        self.out.push_str(&spec.format(verb, value));
    }

    /// Parses `[n]`, the index of the next argument, starting at 1.
    fn index(&mut self, chars: &mut Chars<'_>) {
        if chars.peek() != Some(&'[') {
            return;
        }
        chars.next();
        let text: String = std::iter::from_fn(|| chars.next_if(|&c| c != ']')).collect();
        chars.next();
        self.reordered = true;
        self.next = text
            .parse::<usize>()
            .ok()
            .and_then(|n| n.checked_sub(1))
            .unwrap_or(usize::MAX - 1);
    }

    /// Parses a number, or takes it from the next argument if written as `*`.
    fn number(&mut self, chars: &mut Chars<'_>, minus: &mut bool, bad: &str) -> Option<usize> {
        if chars.next_if_eq(&'*').is_some() {
            let arg = self.args.get(self.next);
            self.next = self.next.saturating_add(1);
            if let Some(&Value::Int(n)) = arg
                && n.unsigned_abs() <= NUMBER_MAX as u64
            {
                *minus |= n < 0;
                return Some(n.unsigned_abs() as usize);
            }
            self.out.push_str(bad);
            return None;
        }
        let text: String = std::iter::from_fn(|| chars.next_if(char::is_ascii_digit)).collect();
        text.parse().ok().filter(|&n: &usize| n <= NUMBER_MAX)
    }
}

impl Spec {
    fn format(&self, verb: char, value: &Value) -> String {
        if verb == 'T' {
            return self.pad(value.type_name().to_owned());
        }
        match (verb, value) {
            ('v', Value::Float(number)) => self.float(*number, Notation::General),
            ('v', Value::Text(text)) if self.sharp => self.pad(quote(text)),
            ('v', Value::Int(number)) => self.integer(*number, 10, false),
            ('v', value) => self.pad(print_value(value)),
            ('t', Value::Bool(_)) => self.pad(print_value(value)),
            (_, Value::Int(number)) => self.integer_verb(verb, *number, value),
            // Integer verbs print a duration as a number; `%s` and `%q` print its text.
            ('s' | 'q', Value::Duration(_) | Value::Time(_)) => {
                self.text_verb(verb, &print_value(value), value)
            }
            (_, Value::Duration(number)) => self.integer_verb(verb, *number, value),
            (_, Value::Float(number)) => self.float_verb(verb, *number, value),
            (_, Value::Text(text) | Value::Html(text)) => self.text_verb(verb, text, value),
            ('s' | 'q' | 'x' | 'X', Value::List(kind, _) | Value::Map(kind, _))
                if kind.print.is_some() =>
            {
                self.text_verb(verb, &print_value(value), value)
            }
            (_, Value::List(_, items)) => {
                let parts: Vec<String> = items.iter().map(|item| self.format(verb, item)).collect();
                format!("[{}]", parts.join(" "))
            }
            (_, Value::Map(_, map)) => {
                let key = |key: &String| self.format(verb, &Value::text(key.as_str()));
                let parts: Vec<String> = map
                    .iter()
                    .map(|(k, v)| format!("{}:{}", key(k), self.format(verb, v)))
                    .collect();
                format!("map[{}]", parts.join(" "))
            }
            _ => bad_verb(verb, value),
        }
    }

    fn integer_verb(&self, verb: char, number: i64, value: &Value) -> String {
        match verb {
            'd' => self.integer(number, 10, false),
            'x' => self.integer(number, 16, false),
            'X' => self.integer(number, 16, true),
            'o' | 'O' => self.integer(number, 8, verb == 'O'),
            'b' => self.integer(number, 2, false),
            'c' => self.pad(
                u32::try_from(number)
                    .ok()
                    .and_then(char::from_u32)
                    .unwrap_or('\u{fffd}')
                    .to_string(),
            ),
            'q' => {
                let c = u32::try_from(number)
                    .ok()
                    .and_then(char::from_u32)
                    .unwrap_or('\u{fffd}');
                self.pad(format!("'{}'", c.escape_debug()))
            }
            'U' => self.pad(format!("U+{number:04X}")),
            _ => bad_verb(verb, value),
        }
    }

    fn integer(&self, number: i64, base: u32, upper: bool) -> String {
        let magnitude = number.unsigned_abs();
        let digits = match (base, upper) {
            (16, false) => format!("{magnitude:x}"),
            (16, true) => format!("{magnitude:X}"),
            (8, _) => format!("{magnitude:o}"),
            (2, _) => format!("{magnitude:b}"),
            _ => magnitude.to_string(),
        };
        let prefix = match (base, upper) {
            (16, false) if self.sharp => "0x",
            (16, true) if self.sharp => "0X",
            (8, true) => "0o",
            (8, false) if self.sharp => "0",
            (2, _) if self.sharp => "0b",
            _ => "",
        };
        let digits = match self.precision {
            Some(0) if number == 0 => String::new(),
            Some(precision) => format!("{digits:0>width$}", width = precision.min(WIDTH_MAX)),
            None => digits,
        };
        let zero = self.zero && self.precision.is_none();
        self.signed(number < 0, &format!("{prefix}{digits}"), zero)
    }

    fn float_verb(&self, verb: char, number: f64, value: &Value) -> String {
        match verb {
            'e' | 'E' => self.with_case(verb, self.float(number, Notation::Exponent)),
            'f' | 'F' => self.float(number, Notation::Fixed),
            'g' | 'G' => self.with_case(verb, self.float(number, Notation::General)),
            _ => bad_verb(verb, value),
        }
    }

    fn with_case(&self, verb: char, text: String) -> String {
        if verb.is_ascii_uppercase() && !text.contains("Inf") && !text.contains("NaN") {
            text.to_uppercase()
        } else {
            text
        }
    }

    fn float(&self, number: f64, notation: Notation) -> String {
        let precision = match (self.precision, notation) {
            (Some(precision), _) => Some(precision.min(WIDTH_MAX)),
            (None, Notation::General) => None,
            (None, _) => Some(6),
        };
        let text = format_float(number, notation, precision);
        if number.is_nan() {
            let sign = if self.plus { "+" } else { "" };
            return self.pad(format!("{sign}{text}"));
        }
        let digits = text.trim_start_matches(['+', '-']);
        if number.is_infinite() && !self.plus && number > 0.0 {
            return self.pad("+Inf".to_owned());
        }
        self.signed(
            text.starts_with('-'),
            digits,
            self.zero && number.is_finite(),
        )
    }

    /// Prepends the sign and pads with zeros after it.
    fn signed(&self, negative: bool, digits: &str, zero: bool) -> String {
        let sign = match negative {
            true => "-",
            false if self.plus => "+",
            false if self.space => " ",
            false => "",
        };
        let width = self.width.unwrap_or(0).min(WIDTH_MAX);
        if zero && !self.minus {
            let missing = width.saturating_sub(sign.len() + digits.len());
            return format!("{sign}{}{digits}", "0".repeat(missing));
        }
        self.pad(format!("{sign}{digits}"))
    }

    fn text_verb(&self, verb: char, text: &str, value: &Value) -> String {
        let cut: String = match self.precision {
            Some(precision) => text.chars().take(precision).collect(),
            None => text.to_owned(),
        };
        match verb {
            's' | 'v' => self.pad(cut),
            'q' if self.sharp && !cut.contains('`') => self.pad(format!("`{cut}`")),
            'q' => self.pad(quote(&cut)),
            'x' => self.pad(cut.bytes().map(|b| format!("{b:02x}")).collect()),
            'X' => self.pad(cut.bytes().map(|b| format!("{b:02X}")).collect()),
            _ => bad_verb(verb, value),
        }
    }

    fn pad(&self, text: String) -> String {
        let width = self.width.unwrap_or(0).min(WIDTH_MAX);
        let missing = width.saturating_sub(text.chars().count());
        if missing == 0 {
            return text;
        }
        match (self.minus, self.zero) {
            (true, _) => format!("{text}{}", " ".repeat(missing)),
            (false, true) => format!("{}{text}", "0".repeat(missing)),
            (false, false) => format!("{}{text}", " ".repeat(missing)),
        }
    }
}

fn bad_verb(verb: char, value: &Value) -> String {
    match value {
        Value::Nil => format!("%!{verb}(<nil>)"),
        value => format!("%!{verb}({}={})", value.type_name(), print_value(value)),
    }
}

/// Quotes like Go's `strconv.Quote`.
#[must_use]
pub fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{b}' => out.push_str("\\v"),
            '\u{c}' => out.push_str("\\f"),
            c if (c as u32) < 0x20 || c == '\u{7f}' => {
                out.push_str(&format!("\\x{:02x}", c as u32));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(format: &str, args: &[Value], want: &str) {
        assert_eq!(sprintf(format, args), want, "{format}");
    }

    #[test]
    fn numbers() {
        let f = Value::Float;
        check(
            "%.2f|%5.1f|%-8.1f|%08.3f|%+.1f",
            &[f(1.0), f(2.25), f(3.0), f(-3.5), f(4.0)],
            "1.00|  2.2|3.0     |-003.500|+4.0",
        );
        check(
            "%.4g %g %e %v",
            &[f(12_345.678), f(1e6), f(1.5), f(0.1)],
            "1.235e+04 1e+06 1.500000e+00 0.1",
        );
        check(
            "%d %5d|%-5d|%05d %x %#X %b",
            &[
                Value::Int(42),
                Value::Int(-7),
                Value::Int(7),
                Value::Int(-7),
                Value::Int(255),
                Value::Int(255),
                Value::Int(5),
            ],
            "42    -7|7    |-0007 ff 0XFF 101",
        );
        check("%0.0f", &[f(1.5)], "2");
        check(
            "%f %5.1f %v",
            &[f(f64::INFINITY), f(f64::NAN), f(f64::NEG_INFINITY)],
            "+Inf   NaN -Inf",
        );
    }

    #[test]
    fn text_and_misuse() {
        check(
            "%s %q %.2s %5s|%-5s|",
            &[
                "a".into(),
                "b\"".into(),
                "xyz".into(),
                "r".into(),
                "l".into(),
            ],
            "a \"b\\\"\" xy     r|l    |",
        );
        check("%d", &[Value::Float(5.0)], "%!d(float64=5)");
        check("%d %d", &[Value::Int(1)], "1 %!d(MISSING)");
        check("x", &[Value::Int(1)], "x%!(EXTRA int=1)");
        check("100%", &[], "100%!(NOVERB)");
        check("100%%", &[], "100%");
        check("%[2]s %[1]s", &["a".into(), "b".into()], "b a");
        check("%*d", &[Value::Int(4), Value::Int(1)], "   1");
        check("%s", &[Value::Duration(1_500_000_000)], "1.5s");
    }
}
