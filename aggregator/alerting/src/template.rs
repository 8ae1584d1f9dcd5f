//! Implements Go's text/template language with the functions of Prometheus rules and Alertmanager notifications.
//!
//! A template is parsed once ([`Set`]) and executed as often as needed. Execution has no side effects, reads no
//! files, and is bounded in output and steps ([`Limits`]).

mod ast;
mod builtins;
mod exec;
mod float;
mod functions;
mod gotime;
mod html;
mod humanize;
mod lex;
mod methods;
pub mod notification;
mod parse;
mod printf;
pub mod rule;
mod shared;
mod value;

pub(crate) use builtins::escape_query;
pub use float::{Notation, format_float};
pub use functions::{Env, Function, QueryFn, QueryResult};
pub use gotime::format_duration;
pub(crate) use parse::unescape;
pub use printf::quote;
pub use value::{ANY_LIST, ANY_MAP, Kind, Methods, TEXT_LIST, TEXT_MAP, Value};

/// Looks up a template function by name.
pub type Lookup = fn(&str) -> Option<&'static Function>;

/// A syntax error in a template.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("template: {name}:{line}: {message}")]
pub struct ParseError {
    /// The template's name.
    pub name: String,
    /// The line number, starting at 1.
    pub line: usize,
    /// The description of the error.
    pub message: String,
}

impl ParseError {
    fn at(name: &str, source: &str, position: usize, message: impl Into<String>) -> Self {
        let before = source.get(..position).unwrap_or(source);
        Self {
            name: name.to_owned(),
            line: 1 + before.matches('\n').count(),
            message: message.into(),
        }
    }
}

/// An error during execution. The message includes the position.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ExecError(String);

/// Bounds of one execution.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// The maximum output size in bytes.
    pub output_bytes: usize,
    /// The maximum number of visited nodes plus loop iterations.
    pub steps: u64,
}

/// How output is escaped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Escaping {
    /// No escaping.
    None,
    /// Escapes for the surrounding HTML context.
    Html,
}

/// A set of templates that may call each other by name.
#[derive(Debug, Clone, Default)]
pub struct Set {
    blocks: parse::Blocks,
}

impl Set {
    /// Parses `source` as the template `name` and adds it and the templates it defines. A later definition of a name
    /// replaces an earlier one.
    ///
    /// # Errors
    /// Returns an error, and adds nothing, if `source` has a syntax error.
    pub fn add(&mut self, name: &str, source: &str, functions: Lookup) -> Result<(), ParseError> {
        let blocks = parse::parse(name, source, &|function| functions(function).is_some())?;
        self.blocks.extend(blocks);
        Ok(())
    }

    /// Parses `source` as the template `name` and runs it on `data`. It may call the templates of this set.
    ///
    /// # Errors
    /// Returns an error if `source` has a syntax error or its execution fails.
    pub fn expand(
        &self,
        job: &Job<'_>,
        data: Value,
        env: &mut Env<'_>,
    ) -> Result<String, ExpandError> {
        match self.expand_partly(job, data, env) {
            (text, None) => Ok(text),
            (_, Some(error)) => Err(error),
        }
    }

    /// Expands like [`Self::expand`], but also returns the output written before an error.
    pub fn expand_partly(
        &self,
        job: &Job<'_>,
        data: Value,
        env: &mut Env<'_>,
    ) -> (String, Option<ExpandError>) {
        let own = parse::parse(job.name, job.source, &|function| {
            (job.functions)(function).is_some()
        });
        let own = match own {
            Ok(own) => own,
            Err(error) => return (String::new(), Some(error.into())),
        };
        let blocks = if self.blocks.is_empty() {
            own
        } else {
            let mut blocks = self.blocks.clone();
            blocks.extend(own);
            blocks
        };
        let program = exec::Program {
            name: job.name,
            source: job.source,
            blocks: &blocks,
            functions: &job.functions,
            limits: job.limits,
            html: job.escaping == Escaping::Html,
        };
        let (text, error) = exec::execute(&program, data, env);
        (text, error.map(ExpandError::from))
    }
}

/// Checks the syntax of `source`.
///
/// # Errors
/// Returns an error if `source` is not a valid template.
pub fn parses(source: &str, functions: Lookup) -> Result<(), ParseError> {
    parse::parse("", source, &|function| functions(function).is_some()).map(drop)
}

/// A template that is parsed once and executed many times.
#[derive(Debug, Clone)]
pub struct Compiled {
    name: String,
    source: String,
    blocks: parse::Blocks,
}

impl Compiled {
    /// Parses `source` as the template `name`.
    ///
    /// # Errors
    /// Returns an error if `source` has a syntax error.
    pub fn new(name: String, source: String, functions: Lookup) -> Result<Self, ParseError> {
        let blocks = parse::parse(&name, &source, &|function| functions(function).is_some())?;
        Ok(Self {
            name,
            source,
            blocks,
        })
    }

    /// Returns the template source.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Runs the template on `data`.
    ///
    /// # Errors
    /// Returns an error if the execution fails.
    pub fn run(
        &self,
        functions: Lookup,
        limits: Limits,
        data: Value,
        env: &mut Env<'_>,
    ) -> Result<String, ExecError> {
        let program = exec::Program {
            name: &self.name,
            source: &self.source,
            blocks: &self.blocks,
            functions: &functions,
            limits,
            html: false,
        };
        match exec::execute(&program, data, env) {
            (text, None) => Ok(text),
            (_, Some(error)) => Err(error),
        }
    }
}

/// A template to expand, with its options.
#[derive(Debug, Clone, Copy)]
pub struct Job<'a> {
    /// The template name, used in error messages.
    pub name: &'a str,
    /// The template source.
    pub source: &'a str,
    /// The lookup for the functions the template may call.
    pub functions: Lookup,
    /// The bounds of the execution.
    pub limits: Limits,
    /// How output is escaped.
    pub escaping: Escaping,
}

/// A failed expansion.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExpandError {
    /// The template has a syntax error.
    #[error(transparent)]
    Parse(#[from] ParseError),
    /// The execution failed.
    #[error(transparent)]
    Execute(#[from] ExecError),
}

#[cfg(test)]
mod tests;
