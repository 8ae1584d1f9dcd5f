//! The functions built into every Go template.

use std::cmp::Ordering;

use super::functions::{Env, Function, fixed, text, variadic};
use super::printf::{print_value, sprint, sprintf};
use super::value::Value;

/// Go's built-in functions. The executor evaluates the arguments of `and` and `or` lazily.
pub(super) static BUILTINS: &[Function] = &[
    variadic("and", 1, |_, _| Err("evaluated by the executor".to_owned())),
    variadic("or", 1, |_, _| Err("evaluated by the executor".to_owned())),
    fixed("not", 1, |_, args| Ok(Value::Bool(!args[0].is_true()))),
    fixed("len", 1, length),
    variadic("index", 1, index),
    variadic("slice", 1, slice),
    variadic("print", 0, |_, args| Ok(Value::text(sprint(args)))),
    variadic("printf", 1, |_, args| {
        Ok(Value::text(sprintf(text(args, 0)?, &args[1..])))
    }),
    variadic("println", 0, println),
    variadic("html", 0, |_, args| {
        Ok(Value::text(escape_html(&evaluated(args))))
    }),
    variadic("js", 0, |_, args| {
        Ok(Value::text(escape_js(&evaluated(args))))
    }),
    variadic("urlquery", 0, |_, args| {
        Ok(Value::text(escape_query(&evaluated(args))))
    }),
    variadic("call", 1, |_, args| {
        Err(format!("non-function of type {}", args[0].type_name()))
    }),
    variadic("eq", 1, equal),
    fixed("ne", 2, |_, args| {
        Ok(Value::Bool(!same(&args[0], &args[1])?))
    }),
    fixed("lt", 2, |_, args| {
        Ok(Value::Bool(
            order(&args[0], &args[1])? == Some(Ordering::Less),
        ))
    }),
    fixed("le", 2, |_, args| {
        Ok(Value::Bool(matches!(
            order(&args[0], &args[1])?,
            Some(Ordering::Less | Ordering::Equal)
        )))
    }),
    fixed("gt", 2, |_, args| {
        Ok(Value::Bool(
            order(&args[0], &args[1])? == Some(Ordering::Greater),
        ))
    }),
    fixed("ge", 2, |_, args| {
        Ok(Value::Bool(matches!(
            order(&args[0], &args[1])?,
            Some(Ordering::Greater | Ordering::Equal)
        )))
    }),
];

fn println(_: &mut Env<'_>, args: &[Value]) -> Result<Value, String> {
    let words: Vec<String> = args.iter().map(print_value).collect();
    Ok(Value::text(format!("{}\n", words.join(" "))))
}

/// Converts the arguments of an escaper to text. A single string stays unchanged; anything else is formatted like
/// `print`.
fn evaluated(args: &[Value]) -> String {
    match args {
        [one] => print_value(one),
        args => sprint(args),
    }
}

fn length(_: &mut Env<'_>, args: &[Value]) -> Result<Value, String> {
    let length = match &args[0] {
        Value::Text(text) | Value::Html(text) => text.len(),
        Value::List(_, items) => items.len(),
        Value::Map(_, map) => map.len(),
        Value::Nil => return Err("len of nil pointer".to_owned()),
        other => return Err(format!("len of type {}", other.type_name())),
    };
    Ok(Value::Int(length as i64))
}

fn index(_: &mut Env<'_>, args: &[Value]) -> Result<Value, String> {
    let mut value = args[0].clone();
    for key in &args[1..] {
        value = match (&value, key) {
            (Value::List(_, items), Value::Int(n)) => {
                let item = usize::try_from(*n).ok().and_then(|n| items.get(n));
                item.cloned()
                    .ok_or_else(|| format!("reflect: slice index out of range: {n}"))?
            }
            (Value::Text(text), Value::Int(n)) => {
                let byte = usize::try_from(*n)
                    .ok()
                    .and_then(|n| text.as_bytes().get(n));
                Value::Int(i64::from(
                    *byte.ok_or_else(|| format!("index out of range: {n}"))?,
                ))
            }
            (Value::Map(kind, map), Value::Text(key)) => {
                let absent = if kind.text_elements {
                    Value::text("")
                } else {
                    Value::Nil
                };
                map.get(&**key).cloned().unwrap_or(absent)
            }
            (Value::List(..) | Value::Text(_), key) => {
                return Err(format!(
                    "cannot index slice/array with type {}",
                    key.type_name()
                ));
            }
            (Value::Map(..), key) => {
                return Err(format!(
                    "value has type {}; should be string",
                    key.type_name()
                ));
            }
            (Value::Nil, _) => return Err("index of untyped nil".to_owned()),
            (other, _) => return Err(format!("can't index item of type {}", other.type_name())),
        };
    }
    Ok(value)
}

fn slice(_: &mut Env<'_>, args: &[Value]) -> Result<Value, String> {
    let length = match &args[0] {
        Value::List(_, items) => items.len(),
        Value::Text(text) => text.len(),
        Value::Nil => return Err("slice of untyped nil".to_owned()),
        other => return Err(format!("can't slice item of type {}", other.type_name())),
    };
    if args.len() > 3 {
        return Err(format!("too many slice indexes: {}", args.len() - 1));
    }
    let bound = |index: usize, default: usize| match args.get(index) {
        None => Ok(default),
        Some(Value::Int(n)) => usize::try_from(*n)
            .ok()
            .filter(|&n| n <= length)
            .ok_or_else(|| format!("index out of range: {n}")),
        Some(other) => Err(format!(
            "cannot index slice/array with type {}",
            other.type_name()
        )),
    };
    let (start, end) = (bound(1, 0)?, bound(2, length)?);
    if start > end {
        return Err(format!("invalid slice index: {start} > {end}"));
    }
    Ok(match &args[0] {
        Value::List(kind, items) => Value::List(kind, items[start..end].into()),
        Value::Text(text) => {
            // Go slices bytes and may split a character. A partial character becomes the replacement character.
            let bytes = &text.as_bytes()[start..end];
            Value::text(String::from_utf8_lossy(bytes).into_owned())
        }
        _ => Value::Nil,
    })
}

fn equal(_: &mut Env<'_>, args: &[Value]) -> Result<Value, String> {
    if args.len() < 2 {
        return Err("missing argument for comparison".to_owned());
    }
    for other in &args[1..] {
        if same(&args[0], other)? {
            return Ok(Value::Bool(true));
        }
    }
    Ok(Value::Bool(false))
}

const INCOMPATIBLE: &str = "incompatible types for comparison";

fn same(a: &Value, b: &Value) -> Result<bool, String> {
    Ok(match (a, b) {
        (Value::Bool(a), Value::Bool(b)) => a == b,
        (Value::Int(a) | Value::Duration(a), Value::Int(b) | Value::Duration(b)) => a == b,
        (Value::Float(a), Value::Float(b)) => a == b,
        (Value::Text(a) | Value::Html(a), Value::Text(b) | Value::Html(b)) => a == b,
        (Value::Time(a), Value::Time(b)) => a.timestamp() == b.timestamp(),
        (Value::Nil, Value::Nil) => true,
        (Value::Nil, _) | (_, Value::Nil) => false,
        (Value::List(..) | Value::Map(..), _) | (_, Value::List(..) | Value::Map(..)) => {
            return Err(format!(
                "non-comparable type {}: {}",
                print_value(a),
                a.type_name()
            ));
        }
        _ => {
            return Err(format!(
                "{INCOMPATIBLE}: {} and {}",
                a.type_name(),
                b.type_name()
            ));
        }
    })
}

/// Compares two values. Returns `None` if either is NaN.
fn order(a: &Value, b: &Value) -> Result<Option<Ordering>, String> {
    Ok(match (a, b) {
        (Value::Int(a) | Value::Duration(a), Value::Int(b) | Value::Duration(b)) => Some(a.cmp(b)),
        (Value::Float(a), Value::Float(b)) => a.partial_cmp(b),
        (Value::Text(a), Value::Text(b)) => Some(a.cmp(b)),
        (Value::Bool(_), Value::Bool(_)) => return Err("invalid type for comparison".to_owned()),
        (Value::Nil | Value::List(..) | Value::Map(..) | Value::Struct(..), _) => {
            return Err("invalid type for comparison".to_owned());
        }
        _ => return Err(INCOMPATIBLE.to_owned()),
    })
}

/// Escapes like Go's `template.HTMLEscapeString`.
pub(super) fn escape_html(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '"' => out.push_str("&#34;"),
            '\'' => out.push_str("&#39;"),
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '\0' => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

fn escape_js(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\'' => out.push_str("\\'"),
            '"' => out.push_str("\\\""),
            '<' | '>' | '&' | '=' => out.push_str(&format!("\\u{:04X}", c as u32)),
            c if (c as u32) < 0x20 => out.push_str(&format!("\\u{:04X}", c as u32)),
            c => out.push(c),
        }
    }
    out
}

/// Escapes like Go's `url.QueryEscape`.
pub(crate) fn escape_query(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b' ' => out.push('+'),
            b'-' | b'_' | b'.' | b'~' => out.push(char::from(byte)),
            byte if byte.is_ascii_alphanumeric() => out.push(char::from(byte)),
            byte => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}
