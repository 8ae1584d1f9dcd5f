//! Go's text/template language, with the functions that Prometheus' rules and Alertmanager's notifications use.
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

/// Finds a function by name.
pub type Lookup = fn(&str) -> Option<&'static Function>;

/// A syntax error in a template.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("template: {name}:{line}: {message}")]
pub struct ParseError {
    /// The template's name.
    pub name: String,
    /// The line, from 1.
    pub line: usize,
    /// What is wrong.
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

/// A failed execution; the message has the position.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ExecError(String);

/// Bounds of one execution.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes of output.
    pub output_bytes: usize,
    /// Nodes visited and loop rounds.
    pub steps: u64,
}

/// Escaping of the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Escaping {
    /// No escaping.
    None,
    /// For its context in an HTML page.
    Html,
}

/// Templates that may call each other by name.
#[derive(Debug, Clone, Default)]
pub struct Set {
    blocks: parse::Blocks,
}

impl Set {
    /// Parses `source` as the template `name` and adds it and the templates it defines. A later definition of a name
    /// replaces an earlier one.
    ///
    /// # Errors
    /// `source` has a syntax error; then nothing is added.
    pub fn add(&mut self, name: &str, source: &str, functions: Lookup) -> Result<(), ParseError> {
        let blocks = parse::parse(name, source, &|function| functions(function).is_some())?;
        self.blocks.extend(blocks);
        Ok(())
    }

    /// Parses `source` as the template `name` and runs it on `data`, with this set's templates to call.
    ///
    /// # Errors
    /// `source` has a syntax error, or its execution failed.
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

    /// Expands as [`Self::expand`] does. After an error the text is what was written before it.
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
/// `source` is not a template.
pub fn parses(source: &str, functions: Lookup) -> Result<(), ParseError> {
    parse::parse("", source, &|function| functions(function).is_some()).map(drop)
}

/// A template that is parsed once and run often.
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
    /// It has a syntax error.
    pub fn new(name: String, source: String, functions: Lookup) -> Result<Self, ParseError> {
        let blocks = parse::parse(&name, &source, &|function| functions(function).is_some())?;
        Ok(Self {
            name,
            source,
            blocks,
        })
    }

    /// The text.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Runs the template on `data`.
    ///
    /// # Errors
    /// The execution failed.
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
    /// The template's name, for messages.
    pub name: &'a str,
    /// Its text.
    pub source: &'a str,
    /// The functions it may call.
    pub functions: Lookup,
    /// Its bounds.
    pub limits: Limits,
    /// Escaping of the output.
    pub escaping: Escaping,
}

/// A failed expansion.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExpandError {
    /// The text has a syntax error.
    #[error(transparent)]
    Parse(#[from] ParseError),
    /// Its execution failed.
    #[error(transparent)]
    Execute(#[from] ExecError),
}

#[cfg(test)]
mod tests;
