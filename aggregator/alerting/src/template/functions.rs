//! Declarations of template functions, and their environment.

use super::value::Value;

/// Result of a `query` in a template: labels and value of each element.
pub type QueryResult = Vec<(common::model::Labels, f64)>;

/// Runs the query of a template.
pub type QueryFn<'q> = dyn FnMut(&str) -> Result<QueryResult, String> + 'q;

/// What functions can access besides their arguments.
pub struct Env<'q> {
    /// Evaluation time, milliseconds since the epoch.
    pub now_ms: i64,
    /// URL of this server for users.
    pub external_url: &'q str,
    /// Runs a query; `None` where templates have no `query`.
    pub query: Option<&'q mut QueryFn<'q>>,
    /// Queries that may still be run.
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
    /// Its name.
    pub name: &'static str,
    /// Fewest arguments.
    pub least: usize,
    /// Most arguments; `None` is any number.
    pub most: Option<usize>,
    /// The function itself. The count of arguments has been checked.
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

/// Looks a name up in a table.
pub(super) fn find(table: &'static [Function], name: &str) -> Option<&'static Function> {
    table.iter().find(|function| function.name == name)
}

/// A function with a fixed number of arguments.
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

/// A function with at least `least` arguments.
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

/// The argument at `index` as text.
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

/// The argument at `index` as a number, text and durations converted as `humanize` does.
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

/// `strconv.ParseFloat`.
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
