//! Declarations of template functions and their environment.

use super::value::Value;

/// The result of a `query` in a template: the labels and value of each element.
pub type QueryResult = Vec<(common::model::Labels, f64)>;

/// A callback that runs a query for a template.
pub type QueryFn<'q> = dyn FnMut(&str) -> Result<QueryResult, String> + 'q;

/// The environment that functions can access besides their arguments.
pub struct Env<'q> {
    /// The evaluation time in milliseconds since the epoch.
    pub now_ms: i64,
    /// The URL under which users reach this server.
    pub external_url: &'q str,
    /// Runs a query. `None` if templates cannot use `query` here.
    pub query: Option<&'q mut QueryFn<'q>>,
    /// The remaining number of queries allowed.
    pub queries_left: u32,
}

impl std::fmt::Debug for Env<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Env")
            .field("now_ms", &self.now_ms)
            .finish_non_exhaustive()
    }
}

/// A function of the template language.
#[derive(Debug)]
pub struct Function {
    /// The name of the function.
    pub name: &'static str,
    /// The minimum number of arguments.
    pub least: usize,
    /// The maximum number of arguments. `None` means unlimited.
    pub most: Option<usize>,
    /// The implementation. The executor has already checked the number of arguments.
    pub run: fn(&mut Env<'_>, &[Value]) -> Result<Value, String>,
}

impl Function {
    pub(super) fn check_count(&self, count: usize) -> Result<(), String> {
        let name = self.name;
        let least = self.least;
        match self.most {
            None if count < least => Err(format!(
                "wrong number of args for {name}: want at least {least} got {count}"
            )),
            Some(most) if count < least || count > most => Err(format!(
                "wrong number of args for {name}: want {most} got {count}"
            )),
            _ => Ok(()),
        }
    }
}

/// Looks up a function by name in a table.
pub(super) fn find(table: &'static [Function], name: &str) -> Option<&'static Function> {
    table.iter().find(|function| function.name == name)
}

/// Declares a function with a fixed number of arguments.
pub(super) const fn fixed(
    name: &'static str,
    count: usize,
    run: fn(&mut Env<'_>, &[Value]) -> Result<Value, String>,
) -> Function {
    Function {
        name,
        least: count,
        most: Some(count),
        run,
    }
}

/// Declares a function with at least `least` arguments.
pub(super) const fn variadic(
    name: &'static str,
    least: usize,
    run: fn(&mut Env<'_>, &[Value]) -> Result<Value, String>,
) -> Function {
    Function {
        name,
        least,
        most: None,
        run,
    }
}

/// Returns the argument at `index` as text.
pub(super) fn text(args: &[Value], index: usize) -> Result<&str, String> {
    match args.get(index) {
        Some(value) => value.as_text().ok_or_else(|| {
            format!(
                "wrong type for value; expected string; got {}",
                value.type_name()
            )
        }),
        None => Err("wrong number of args".to_owned()),
    }
}

/// Returns the argument at `index` as a number. Converts text and durations like `humanize`.
pub(super) fn float(args: &[Value], index: usize) -> Result<f64, String> {
    match args.get(index) {
        Some(Value::Float(value)) => Ok(*value),
        Some(Value::Int(value)) => Ok(*value as f64),
        Some(Value::Duration(nanos)) => Ok(*nanos as f64 / 1e9),
        Some(Value::Text(text)) => parse_float(text),
        Some(value) => Err(format!("can't convert {} to float", value.type_name())),
        None => Err("wrong number of args".to_owned()),
    }
}

/// Parses a number like Go's `strconv.ParseFloat`.
pub(super) fn parse_float(text: &str) -> Result<f64, String> {
    let invalid = || {
        format!(
            "strconv.ParseFloat: parsing {}: invalid syntax",
            super::printf::quote(text)
        )
    };
    let digits = text.trim_start_matches(['+', '-']);
    match digits.to_ascii_lowercase().as_str() {
        "inf" | "infinity" => {
            return Ok(if text.starts_with('-') {
                f64::NEG_INFINITY
            } else {
                f64::INFINITY
            });
        }
        "nan" => return Ok(f64::NAN),
        _ => {}
    }
    let value: f64 = text.parse().map_err(|_| invalid())?;
    if value.is_infinite() {
        return Err(format!(
            "strconv.ParseFloat: parsing {}: value out of range",
            super::printf::quote(text)
        ));
    }
    Ok(value)
}
