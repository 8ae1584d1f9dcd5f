//! Translates Go's regular expressions into the syntax of the `regex` crate.
//!
//! Both are RE2, but classes such as `\d` are ASCII-only in Go, some characters that are literal in Go are operators in
//! the crate, and error messages differ. The translator parses the pattern like Go's `regexp/syntax` (flags
//! `Perl|DotNL`), reports the first error as Go does, and writes an equivalent, unambiguous pattern.

use super::RegexError;

/// Maximum repetition count, nested counts multiplied.
const REPEAT_MAX: u32 = 1000;
/// Maximum nesting depth of groups.
const HEIGHT_MAX: usize = 250;

const BAD_RANGE: &str = "invalid character class range";
const BAD_REPEAT: &str = "invalid repeat count";

/// Translates a pattern.
///
/// # Errors
/// The pattern is not valid in Go.
pub(super) fn translate(pattern: &str) -> Result<String, RegexError> {
    let mut translator = Translator {
        pattern,
        at: 0,
        out: String::with_capacity(pattern.len() + 8),
        groups: Vec::new(),
        last_repeats: 1,
        can_repeat: false,
    };
    translator.run()?;
    Ok(translator.out)
}

/// An open group.
struct Group {
    /// Maximum repetition count inside.
    repeats: u32,
}

struct Translator<'p> {
    pattern: &'p str,
    at: usize,
    out: String,
    groups: Vec<Group>,
    /// Repetition count of the last item, nested counts multiplied.
    last_repeats: u32,
    /// Whether there is an item for an operator to repeat.
    can_repeat: bool,
}

impl<'p> Translator<'p> {
    fn rest(&self) -> &'p str {
        self.pattern.get(self.at..).unwrap_or_default()
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn bump(&mut self) -> Option<char> {
        let char = self.peek()?;
        self.at += char.len_utf8();
        Some(char)
    }

    fn accept(&mut self, char: char) -> bool {
        let hit = self.peek() == Some(char);
        if hit {
            self.bump();
        }
        hit
    }

    /// Returns an error about the text from `start` to here.
    fn error<T>(&self, code: &str, start: usize) -> Result<T, RegexError> {
        let text = self.pattern.get(start..self.at).unwrap_or_default();
        fail(code, text)
    }

    fn run(&mut self) -> Result<(), RegexError> {
        // Start of the repetition operator that directly precedes this position.
        let mut last_repetition: Option<usize> = None;
        while let Some(char) = self.peek() {
            let start = self.at;
            let mut repetition = None;
            match char {
                '*' | '+' | '?' => {
                    self.bump();
                    self.repeat(start, last_repetition, 1)?;
                    repetition = Some(start);
                }
                '{' => match self.counts() {
                    Some((min, max)) => {
                        let too_many = min > REPEAT_MAX
                            || max.is_some_and(|max| max > REPEAT_MAX || max < min);
                        if too_many {
                            return self.error(BAD_REPEAT, start);
                        }
                        let most = max.unwrap_or(min).max(min);
                        self.repeat(start, last_repetition, most.max(1))?;
                        repetition = Some(start);
                    }
                    None => {
                        self.bump();
                        self.literal('{');
                    }
                },
                '(' => self.open(start)?,
                ')' => self.close()?,
                '|' => {
                    self.bump();
                    self.out.push('|');
                    self.can_repeat = false;
                }
                '[' => self.class(start)?,
                '\\' => self.escape(start)?,
                '.' | '^' | '$' => {
                    self.bump();
                    self.out.push(char);
                    self.item(1);
                }
                _ => {
                    self.bump();
                    self.literal(char);
                }
            }
            last_repetition = repetition;
        }
        if self.groups.is_empty() {
            Ok(())
        } else {
            fail("missing closing )", self.pattern)
        }
    }

    fn literal(&mut self, char: char) {
        push_literal(&mut self.out, char);
        self.item(1);
    }

    /// Records that a repeatable item was written.
    fn item(&mut self, repeats: u32) {
        self.can_repeat = true;
        self.last_repeats = repeats;
        self.inside(repeats);
    }

    fn inside(&mut self, repeats: u32) {
        if let Some(group) = self.groups.last_mut() {
            group.repeats = group.repeats.max(repeats);
        }
    }

    /// Handles a repetition operator from `start` to here that repeats at most `count` times.
    fn repeat(
        &mut self,
        start: usize,
        last_repetition: Option<usize>,
        count: u32,
    ) -> Result<(), RegexError> {
        self.accept('?');
        if let Some(last) = last_repetition {
            return self.error("invalid nested repetition operator", last);
        }
        if !self.can_repeat {
            return self.error("missing argument to repetition operator", start);
        }
        let repeats = self.last_repeats.saturating_mul(count);
        if repeats > REPEAT_MAX {
            return self.error(BAD_REPEAT, start);
        }
        let operator = self.pattern.get(start..self.at).unwrap_or_default();
        self.out.push_str(operator);
        self.item(repeats);
        Ok(())
    }

    /// Reads `{n}`, `{n,}` or `{n,m}`; anything else is literal and stays unread.
    fn counts(&mut self) -> Option<(u32, Option<u32>)> {
        let (inside, _) = self.rest().strip_prefix('{')?.split_once('}')?;
        let number = |text: &str| {
            let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            // Go does not accept a leading zero here.
            let plain = digits && (text.len() == 1 || !text.starts_with('0'));
            plain.then(|| text.parse().unwrap_or(u32::MAX))
        };
        let counts = match inside.split_once(',') {
            None => {
                let count = number(inside)?;
                (count, Some(count))
            }
            Some((min, "")) => (number(min)?, None),
            Some((min, max)) => (number(min)?, Some(number(max)?)),
        };
        self.at += inside.len() + 2;
        Some(counts)
    }

    fn open(&mut self, start: usize) -> Result<(), RegexError> {
        if self.rest().starts_with("(?") {
            return self.special_group(start);
        }
        self.bump();
        self.open_group("(")
    }

    fn open_group(&mut self, text: &str) -> Result<(), RegexError> {
        self.out.push_str(text);
        if self.groups.len() >= HEIGHT_MAX {
            return fail("expression nests too deeply", self.pattern);
        }
        self.groups.push(Group { repeats: 1 });
        self.can_repeat = false;
        Ok(())
    }

    fn close(&mut self) -> Result<(), RegexError> {
        self.bump();
        let Some(group) = self.groups.pop() else {
            return fail("unexpected )", self.pattern);
        };
        self.out.push(')');
        self.item(group.repeats);
        Ok(())
    }

    fn special_group(&mut self, start: usize) -> Result<(), RegexError> {
        const BAD_NAME: &str = "invalid named capture";
        let rest = self.rest();
        let prefix = ["(?P<", "(?<"]
            .into_iter()
            .find(|prefix| rest.len() > prefix.len() && rest.starts_with(prefix));
        if let Some(prefix) = prefix {
            let Some((head, _)) = rest.split_once('>') else {
                return fail(BAD_NAME, rest);
            };
            self.at += head.len() + 1;
            let name = head.strip_prefix(prefix).unwrap_or_default();
            let valid = |byte: u8| byte == b'_' || byte.is_ascii_alphanumeric();
            if name.is_empty() || !name.bytes().all(valid) {
                return self.error(BAD_NAME, start);
            }
            // The crate does not accept a leading digit; only templates see the name.
            let name = if name.starts_with(|char: char| char.is_ascii_digit()) {
                format!("(?P<_{name}>")
            } else {
                format!("(?P<{name}>")
            };
            return self.open_group(&name);
        }
        self.at += 2;
        self.flags(start)
    }

    /// `(?i)`, `(?i-s:…`
    fn flags(&mut self, start: usize) -> Result<(), RegexError> {
        let mut negative = false;
        let mut flag_seen = false;
        let (mut on, mut off) = (String::new(), String::new());
        while let Some(char) = self.bump() {
            match char {
                'i' | 'm' | 's' | 'U' => {
                    let list = if negative { &mut off } else { &mut on };
                    if !list.contains(char) {
                        list.push(char);
                    }
                    flag_seen = true;
                }
                '-' if !negative => {
                    negative = true;
                    flag_seen = false;
                }
                ':' | ')' if !negative || flag_seen => {
                    on.retain(|char| !off.contains(char));
                    let minus = if off.is_empty() { "" } else { "-" };
                    let flags = format!("(?{on}{minus}{off}");
                    if char == ':' {
                        return self.open_group(&format!("{flags}:"));
                    }
                    if !(on.is_empty() && off.is_empty()) {
                        self.out.push_str(&flags);
                        self.out.push(')');
                    }
                    // In Go, the item before a group of flags stays repeatable.
                    return Ok(());
                }
                _ => break,
            }
        }
        self.error("invalid or unsupported Perl syntax", start)
    }

    fn escape(&mut self, start: usize) -> Result<(), RegexError> {
        let mut chars = self.rest().chars().skip(1);
        match chars.next() {
            Some('A') => self.assertion("\\A"),
            Some('z') => self.assertion("\\z"),
            Some('b') => self.assertion("(?-u:\\b)"),
            // The crate's ASCII form could match between the bytes of a character.
            Some('B') => self.assertion("\\B"),
            Some('C') => {
                self.at += 2;
                return self.error("invalid escape sequence", start);
            }
            Some('Q') => {
                let text = self.rest().get(2..).unwrap_or_default();
                let (literal, end) = match text.split_once("\\E") {
                    Some((literal, _)) => (literal, literal.len() + 4),
                    None => (text, text.len() + 2),
                };
                for char in literal.chars() {
                    self.literal(char);
                }
                self.at += end;
            }
            _ => {
                if let Some(class) = self.class_escape()? {
                    self.out.push('[');
                    self.out.push_str(&class);
                    self.out.push(']');
                    self.item(1);
                } else {
                    let char = self.char_escape()?;
                    self.literal(char);
                }
            }
        }
        Ok(())
    }

    fn assertion(&mut self, text: &str) {
        self.at += 2;
        self.out.push_str(text);
        self.item(1);
    }

    /// Reads a class such as `\d` or `\pL` and returns it as the inside of brackets; reads nothing otherwise.
    fn class_escape(&mut self) -> Result<Option<String>, RegexError> {
        let start = self.at;
        let rest = self.rest();
        let class = match rest.as_bytes() {
            [b'\\', b'd', ..] => "0-9",
            [b'\\', b'D', ..] => "[^0-9]",
            [b'\\', b's', ..] => "\\t\\n\\x0c\\r\\x20",
            [b'\\', b'S', ..] => "[^\\t\\n\\x0c\\r\\x20]",
            [b'\\', b'w', ..] => "0-9A-Za-z_",
            [b'\\', b'W', ..] => "[^0-9A-Za-z_]",
            [b'\\', b'p' | b'P', ..] => return self.unicode_class(start).map(Some),
            _ => return Ok(None),
        };
        self.at += 2;
        Ok(Some(class.to_owned()))
    }

    fn unicode_class(&mut self, start: usize) -> Result<String, RegexError> {
        let mut negative = self.rest().starts_with("\\P");
        self.at += 2;
        let name = match self.bump() {
            Some('{') => {
                let Some((name, _)) = self.rest().split_once('}') else {
                    let text = self.pattern.get(start..).unwrap_or_default();
                    return fail(BAD_RANGE, text);
                };
                self.at += name.len() + 1;
                name.to_owned()
            }
            Some(char) => char.to_string(),
            None => String::new(),
        };
        let name = match name.strip_prefix('^') {
            Some(name) => {
                negative = !negative;
                name
            }
            None => &name,
        };
        let letters = name
            .bytes()
            .all(|byte| byte == b'_' || byte.is_ascii_alphabetic());
        let class = format!("\\{}{{{name}}}", if negative { 'P' } else { 'p' });
        // Only the spelling of the Unicode standard is accepted; the crate accepts more.
        let known = letters
            && name.starts_with(|char: char| char.is_ascii_uppercase())
            && regex_syntax::Parser::new().parse(&class).is_ok();
        if known {
            Ok(class)
        } else {
            self.error(BAD_RANGE, start)
        }
    }

    /// Reads an escape of a single character.
    fn char_escape(&mut self) -> Result<char, RegexError> {
        let start = self.at;
        self.bump();
        let Some(char) = self.bump() else {
            return fail("trailing backslash at end of expression", "");
        };
        let value = match char {
            'a' => Some('\u{7}'),
            'f' => Some('\u{c}'),
            'n' => Some('\n'),
            'r' => Some('\r'),
            't' => Some('\t'),
            'v' => Some('\u{b}'),
            'x' => self.hex(),
            // A single digit is a back reference, which RE2 does not support.
            '1'..='7' if !matches!(self.peek(), Some('0'..='7')) => None,
            '0'..='7' => {
                let mut code = char.to_digit(8).unwrap_or(0);
                for _ in 0..2 {
                    let Some(digit) = self.peek().and_then(|char| char.to_digit(8)) else {
                        break;
                    };
                    self.bump();
                    code = code * 8 + digit;
                }
                char::from_u32(code)
            }
            _ if char.is_ascii() && !char.is_ascii_alphanumeric() => Some(char),
            _ => None,
        };
        match value {
            Some(value) => Ok(value),
            None => self.error("invalid escape sequence", start),
        }
    }

    fn hex(&mut self) -> Option<char> {
        let first = self.bump()?;
        if first != '{' {
            let high = first.to_digit(16);
            let low = self.bump()?.to_digit(16);
            return char::from_u32(high? * 16 + low?);
        }
        let mut code = None;
        loop {
            let char = self.bump()?;
            if char == '}' {
                return code.and_then(char::from_u32);
            }
            let next = code.unwrap_or(0) * 16 + char.to_digit(16)?;
            if next > u32::from(char::MAX) {
                return None;
            }
            code = Some(next);
        }
    }

    fn class(&mut self, start: usize) -> Result<(), RegexError> {
        self.bump();
        self.out.push('[');
        if self.accept('^') {
            self.out.push('^');
        }
        let mut first = true;
        while first || self.peek() != Some(']') {
            first = false;
            if self.rest().starts_with("[:")
                && let Some((name, _)) = self.rest().split_once(":]")
            {
                let name_start = self.at;
                self.at += name.len() + 2;
                self.posix_class(name, name_start)?;
                continue;
            }
            if let Some(class) = self.class_escape()? {
                self.out.push_str(&class);
                continue;
            }
            self.class_range(start)?;
        }
        self.bump();
        self.out.push(']');
        self.item(1);
        Ok(())
    }

    /// Translates `[:alpha` or `[:^alpha`, after its end was read.
    fn posix_class(&mut self, name: &str, start: usize) -> Result<(), RegexError> {
        const NAMES: [&str; 14] = [
            "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print",
            "punct", "space", "upper", "word", "xdigit",
        ];
        let plain = name.trim_start_matches("[:");
        let plain = plain.strip_prefix('^').unwrap_or(plain);
        if !NAMES.contains(&plain) {
            return self.error(BAD_RANGE, start);
        }
        self.out.push_str(name);
        self.out.push_str(":]");
        Ok(())
    }

    fn class_range(&mut self, class_start: usize) -> Result<(), RegexError> {
        let start = self.at;
        let low = self.class_char(class_start)?;
        push_literal(&mut self.out, low);
        let is_range = self.rest().starts_with('-')
            && self.rest().len() >= 2
            && !self.rest().starts_with("-]");
        if is_range {
            self.bump();
            let high = self.class_char(class_start)?;
            if high < low {
                return self.error(BAD_RANGE, start);
            }
            self.out.push('-');
            push_literal(&mut self.out, high);
        }
        Ok(())
    }

    fn class_char(&mut self, class_start: usize) -> Result<char, RegexError> {
        match self.peek() {
            None => self.error("missing closing ]", class_start),
            Some('\\') => self.char_escape(),
            Some(char) => {
                self.bump();
                Ok(char)
            }
        }
    }
}

fn fail<T>(code: &str, text: &str) -> Result<T, RegexError> {
    Err(RegexError {
        message: format!("{code}: `{text}`"),
    })
}

/// Writes a character as a literal, inside and outside brackets.
fn push_literal(out: &mut String, char: char) {
    if char.is_ascii_punctuation() && char != '_' && char != '<' && char != '>' {
        out.push('\\');
    }
    out.push(char);
}
