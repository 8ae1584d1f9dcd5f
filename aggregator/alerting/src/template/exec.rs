//! Executes a syntax tree on data.

use super::ast::{Block, Branch, Command, Node, Operand, OperandKind, Pipeline, Position};
use super::functions::{Env, Function};
use super::html::escape_into;
use super::methods::field_or_method;
use super::parse::Blocks;
use super::printf::{print_value, quote};
use super::value::Value;
use super::{ExecError, Limits};

/// Maximum depth of nested template calls. Go allows 100,000, but thread stacks are smaller here.
const CALL_DEPTH_MAX: usize = 64;

/// Control flow that a node requests from the enclosing loop.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Flow {
    Next,
    Break,
    Continue,
}

/// The location of an error.
#[derive(Clone, Copy)]
struct Place<'t> {
    position: Position,
    source: &'t str,
    is_call: bool,
}

/// The inputs of an execution.
pub(super) struct Program<'t> {
    pub(super) name: &'t str,
    /// Source of the template last parsed under `name`. Used for the line and column of errors.
    pub(super) source: &'t str,
    pub(super) blocks: &'t Blocks,
    pub(super) functions: &'t dyn Fn(&str) -> Option<&'static Function>,
    pub(super) limits: Limits,
    pub(super) html: bool,
}

struct Executor<'t, 'e, 'q> {
    program: &'t Program<'t>,
    env: &'e mut Env<'q>,
    variables: Vec<(&'t str, Value)>,
    out: String,
    steps: u64,
    call_depth: usize,
    place: Place<'t>,
    block_name: &'t str,
}

/// Runs the block `program.name` and returns its output. After an error, the output written so far is returned.
pub(super) fn execute(
    program: &Program<'_>,
    data: Value,
    env: &mut Env<'_>,
) -> (String, Option<ExecError>) {
    let mut executor = Executor {
        program,
        env,
        variables: vec![("$", data.clone())],
        out: String::new(),
        steps: 0,
        call_depth: 0,
        place: Place {
            position: 0,
            source: "",
            is_call: false,
        },
        block_name: program.name,
    };
    let Some(block) = program.blocks.get(program.name) else {
        let error = ExecError(format!("template: no template {:?}", program.name));
        return (String::new(), Some(error));
    };
    match executor.block(block, &data) {
        Ok(_) => (executor.out, None),
        Err(message) => {
            let error = executor.locate(&message);
            (executor.out, Some(error))
        }
    }
}

impl<'t> Executor<'t, '_, '_> {
    fn locate(&self, message: &str) -> ExecError {
        let before = self
            .program
            .source
            .get(..self.place.position)
            .unwrap_or_default();
        let line = 1 + before.matches('\n').count();
        let column = before
            .rfind('\n')
            .map_or(before.len(), |newline| before.len() - newline - 1);
        let name = self.program.name;
        let block = self.block_name;
        let source = match self.place.is_call {
            true => format!("{{{{template {}}}}}", quote(self.place.source)),
            false => self.place.source.to_owned(),
        };
        ExecError(format!(
            "template: {name}:{line}:{column}: executing {block:?} at <{source}>: {message}"
        ))
    }

    fn at(&mut self, position: Position, source: &'t str) {
        self.place = Place {
            position,
            source,
            is_call: false,
        };
    }

    fn step(&mut self) -> Result<(), String> {
        self.steps += 1;
        if self.steps > self.program.limits.steps {
            return Err(format!("exceeded {} steps", self.program.limits.steps));
        }
        Ok(())
    }

    fn emit(&mut self, text: &str) -> Result<(), String> {
        if self.out.len() + text.len() > self.program.limits.output_bytes {
            return Err(format!(
                "output exceeds {} bytes",
                self.program.limits.output_bytes
            ));
        }
        self.out.push_str(text);
        Ok(())
    }

    fn block(&mut self, block: &'t Block, dot: &Value) -> Result<Flow, String> {
        for node in block {
            self.step()?;
            let flow = self.node(node, dot)?;
            if flow != Flow::Next {
                return Ok(flow);
            }
        }
        Ok(Flow::Next)
    }

    fn node(&mut self, node: &'t Node, dot: &Value) -> Result<Flow, String> {
        match node {
            Node::Text(text) => self.emit(text)?,
            Node::Action(pipeline) => {
                let value = self.pipeline(pipeline, dot)?;
                if pipeline.variables.is_empty() {
                    self.print(&value)?;
                }
            }
            Node::If(branch) => return self.choose(branch, dot, false),
            Node::With(branch) => return self.choose(branch, dot, true),
            Node::Range(branch) => return self.range(branch, dot),
            Node::Template {
                position,
                name,
                argument,
            } => {
                let data = match argument {
                    Some(pipeline) => self.pipeline(pipeline, dot)?,
                    None => Value::Nil,
                };
                self.place = Place {
                    position: *position,
                    source: name,
                    is_call: true,
                };
                self.call_template(name, &data)?;
            }
            Node::Break => return Ok(Flow::Break),
            Node::Continue => return Ok(Flow::Continue),
        }
        Ok(Flow::Next)
    }

    fn print(&mut self, value: &Value) -> Result<(), String> {
        let text = match value {
            Value::Nil => "<no value>".to_owned(),
            value => print_value(value),
        };
        if !self.program.html || matches!(value, Value::Html(_)) {
            return self.emit(&text);
        }
        let mut escaped = String::with_capacity(text.len());
        escape_into(&mut escaped, &self.out, &text);
        self.emit(&escaped)
    }

    fn call_template(&mut self, name: &'t str, data: &Value) -> Result<(), String> {
        let Some((key, block)) = self.program.blocks.get_key_value(name) else {
            return Err(format!("template {name:?} not defined"));
        };
        if self.call_depth >= CALL_DEPTH_MAX {
            return Err(format!(
                "exceeded maximum template depth ({CALL_DEPTH_MAX})"
            ));
        }
        self.call_depth += 1;
        let variables = std::mem::replace(&mut self.variables, vec![("$", data.clone())]);
        let outer = std::mem::replace(&mut self.block_name, key);
        self.block(block, data)?;
        self.variables = variables;
        self.block_name = outer;
        self.call_depth -= 1;
        Ok(())
    }

    fn choose(&mut self, branch: &'t Branch, dot: &Value, is_with: bool) -> Result<Flow, String> {
        let scope = self.variables.len();
        let value = self.pipeline(&branch.pipeline, dot)?;
        let flow = if value.is_true() {
            self.block(&branch.then, if is_with { &value } else { dot })
        } else {
            self.block(&branch.otherwise, dot)
        };
        self.variables.truncate(scope);
        flow
    }

    fn range(&mut self, branch: &'t Branch, dot: &Value) -> Result<Flow, String> {
        let scope = self.variables.len();
        let value = self.pipeline(&branch.pipeline, dot)?;
        let items: Vec<(Value, Value)> = match &value {
            Value::List(_, items) => items
                .iter()
                .enumerate()
                .map(|(i, v)| (Value::Int(i as i64), v.clone()))
                .collect(),
            Value::Map(_, map) => map
                .iter()
                .map(|(k, v)| (Value::text(k.as_str()), v.clone()))
                .collect(),
            Value::Int(count) => {
                let steps = i64::try_from(self.program.limits.steps).unwrap_or(i64::MAX);
                (0..(*count).min(steps))
                    .map(|i| (Value::Int(i), Value::Int(i)))
                    .collect()
            }
            Value::Nil => Vec::new(),
            other => {
                self.at(branch.pipeline.position, &branch.pipeline.source);
                return Err(format!("range can't iterate over {}", print_value(other)));
            }
        };
        let flow = if items.is_empty() {
            self.block(&branch.otherwise, dot)
        } else {
            self.iterate(branch, scope, items)
        };
        self.variables.truncate(scope);
        flow
    }

    fn iterate(
        &mut self,
        branch: &'t Branch,
        scope: usize,
        items: Vec<(Value, Value)>,
    ) -> Result<Flow, String> {
        let names = &branch.pipeline.variables;
        for (key, item) in items {
            self.step()?;
            let values = match names.len() {
                1 => vec![item.clone()],
                2 => vec![key, item.clone()],
                _ => Vec::new(),
            };
            if branch.pipeline.assigns {
                for (name, value) in names.iter().zip(values) {
                    self.assign(name, value);
                }
            } else {
                self.variables.truncate(scope);
                self.variables
                    .extend(names.iter().map(String::as_str).zip(values));
            }
            match self.block(&branch.then, &item)? {
                Flow::Break => break,
                Flow::Next | Flow::Continue => {}
            }
        }
        Ok(Flow::Next)
    }

    fn assign(&mut self, name: &str, value: Value) {
        if let Some(slot) = self
            .variables
            .iter_mut()
            .rev()
            .find(|(candidate, _)| *candidate == name)
        {
            slot.1 = value;
        }
    }

    fn pipeline(&mut self, pipeline: &'t Pipeline, dot: &Value) -> Result<Value, String> {
        self.step()?;
        self.at(pipeline.position, &pipeline.source);
        let mut value = None;
        for command in &pipeline.commands {
            value = Some(self.command(command, dot, value)?);
        }
        let value = value.unwrap_or(Value::Nil);
        for name in &pipeline.variables {
            if pipeline.assigns {
                self.assign(name, value.clone());
            } else {
                self.variables.push((name, value.clone()));
            }
        }
        Ok(value)
    }

    fn command(
        &mut self,
        command: &'t Command,
        dot: &Value,
        last: Option<Value>,
    ) -> Result<Value, String> {
        let Some((first, operands)) = command.operands.split_first() else {
            return Err("empty command".to_owned());
        };
        match &first.kind {
            OperandKind::Function(name) => {
                let place = Place {
                    position: first.position,
                    source: &command.source,
                    is_call: false,
                };
                self.function(place, name, (operands, last), dot)
            }
            OperandKind::Fields(fields) => {
                self.fields(first, dot.clone(), fields, (operands, last), dot)
            }
            OperandKind::Variable(name, fields) => {
                let value = self.variable(name);
                self.fields(first, value, fields, (operands, last), dot)
            }
            OperandKind::Chain(inner, fields) => {
                let value = self.operand(inner, dot)?;
                if matches!(value, Value::Nil) {
                    self.at(first.position, &first.source);
                    return Err(format!(
                        "nil pointer evaluating interface {{}}.{}",
                        fields.join(".")
                    ));
                }
                self.fields(first, value, fields, (operands, last), dot)
            }
            _ if !operands.is_empty() || last.is_some() => {
                self.at(first.position, &first.source);
                Err(format!(
                    "can't give argument to non-function {}",
                    first.source
                ))
            }
            OperandKind::Nil => {
                self.at(first.position, &first.source);
                Err("nil is not a command".to_owned())
            }
            _ => self.operand(first, dot),
        }
    }

    fn variable(&self, name: &str) -> Value {
        let found = self
            .variables
            .iter()
            .rev()
            .find(|(candidate, _)| *candidate == name);
        found.map_or(Value::Nil, |(_, value)| value.clone())
    }

    fn operand(&mut self, operand: &'t Operand, dot: &Value) -> Result<Value, String> {
        self.at(operand.position, &operand.source);
        Ok(match &operand.kind {
            OperandKind::Dot => dot.clone(),
            OperandKind::Nil => Value::Nil,
            OperandKind::Bool(value) => Value::Bool(*value),
            OperandKind::Int(value) => Value::Int(*value),
            OperandKind::Float(value) => Value::Float(*value),
            OperandKind::Text(text) => Value::text(text.as_str()),
            OperandKind::Pipeline(pipeline) => self.pipeline(pipeline, dot)?,
            OperandKind::Function(name) => {
                let place = Place {
                    position: operand.position,
                    source: &operand.source,
                    is_call: false,
                };
                self.function(place, name, (&[], None), dot)?
            }
            OperandKind::Fields(fields) => {
                self.fields(operand, dot.clone(), fields, (&[], None), dot)?
            }
            OperandKind::Variable(name, fields) => {
                let value = self.variable(name);
                self.fields(operand, value, fields, (&[], None), dot)?
            }
            OperandKind::Chain(inner, fields) => {
                let value = self.operand(inner, dot)?;
                self.fields(operand, value, fields, (&[], None), dot)?
            }
        })
    }

    fn arguments(
        &mut self,
        (operands, last): (&'t [Operand], Option<Value>),
        dot: &Value,
    ) -> Result<Vec<Value>, String> {
        let mut args = Vec::with_capacity(operands.len() + 1);
        for operand in operands {
            args.push(self.operand(operand, dot)?);
        }
        args.extend(last);
        Ok(args)
    }

    fn function(
        &mut self,
        place: Place<'t>,
        name: &str,
        arguments: (&'t [Operand], Option<Value>),
        dot: &Value,
    ) -> Result<Value, String> {
        if matches!(name, "and" | "or") {
            return self.logical(place, name == "or", arguments, dot);
        }
        let args = self.arguments(arguments, dot)?;
        self.place = place;
        let Some(function) = (self.program.functions)(name) else {
            return Err(format!("{name:?} is not a defined function"));
        };
        function.check_count(args.len())?;
        (function.run)(self.env, &args).map_err(|message| {
            if message.starts_with("wrong type for value") {
                message
            } else {
                format!("error calling {name}: {message}")
            }
        })
    }

    /// Evaluates `and` and `or`, stopping at the first argument that decides the result.
    fn logical(
        &mut self,
        place: Place<'t>,
        is_or: bool,
        (operands, last): (&'t [Operand], Option<Value>),
        dot: &Value,
    ) -> Result<Value, String> {
        let mut value = None;
        for operand in operands {
            let next = self.operand(operand, dot)?;
            if next.is_true() == is_or {
                return Ok(next);
            }
            value = Some(next);
        }
        last.or(value).ok_or_else(|| {
            self.place = place;
            format!(
                "wrong number of args for {}: want at least 1 got 0",
                place.source
            )
        })
    }

    /// Resolves a chain of `fields`. The last one may be a method with arguments.
    fn fields(
        &mut self,
        operand: &'t Operand,
        start: Value,
        fields: &'t [String],
        arguments: (&'t [Operand], Option<Value>),
        dot: &Value,
    ) -> Result<Value, String> {
        let has_arguments = !arguments.0.is_empty() || arguments.1.is_some();
        let Some((last, before)) = fields.split_last() else {
            if has_arguments {
                self.at(operand.position, &operand.source);
                return Err(format!(
                    "can't give argument to non-function {}",
                    operand.source
                ));
            }
            return Ok(start);
        };
        let args = self.arguments(arguments, dot)?;
        self.at(operand.position, &operand.source);
        let mut value = start;
        for field in before {
            value = field_or_method(&value, field, &[])?;
        }
        field_or_method(&value, last, &args)
    }
}
