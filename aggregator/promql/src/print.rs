//! Prints expressions: on one line with `Display`, or over several lines with [`pretty`].

use crate::format::put;
use std::fmt;

use common::model::Matcher;
use common::model::label::METRIC_NAME;

use crate::format::{format_duration_ms, format_float_plain};
use crate::parser::ast::{
    Aggregation, At, Binary, Cardinality, DurationExpr, DurationValue, Expr, MatrixSelector,
    NumberLiteral, Subquery, VectorSelector,
};
use crate::parser::quote::{go_quote, go_quote_bytes};

/// Maximum length of an expression on one line.
const LINE_BYTES_MAX: usize = 100;

impl fmt::Display for Expr {
    /// Prints the expression on one line, like Prometheus' `Expr.String`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Aggregation(aggregation) => {
                f.write_str(&aggregation_head(aggregation))?;
                f.write_str("(")?;
                if let Some(param) = &aggregation.param {
                    write!(f, "{param}, ")?;
                }
                write!(f, "{})", aggregation.expr)
            }
            Self::Binary(binary) => {
                let op = binary_operator(binary);
                write!(f, "{} {op} {}", binary.lhs, binary.rhs)
            }
            Self::Call(call) => {
                write!(f, "{}(", call.function.name)?;
                for (index, arg) in call.args.iter().enumerate() {
                    let comma = if index == 0 { "" } else { ", " };
                    write!(f, "{comma}{arg}")?;
                }
                f.write_str(")")
            }
            Self::Matrix(matrix) => f.write_str(&matrix_selector(matrix)),
            Self::Number(number) => f.write_str(&number_literal(number)),
            Self::Paren(paren) => write!(f, "({})", paren.expr),
            Self::String(string) => f.write_str(&go_quote_bytes(&string.value)),
            Self::Subquery(subquery) => write!(f, "{}{}", subquery.expr, subquery_suffix(subquery)),
            Self::Unary(unary) => write!(f, "{}{}", unary.op.as_str(), unary.expr),
            Self::Vector(vector) => f.write_str(&vector_selector(vector)),
        }
    }
}

/// Prints an expression like `format_query`: long ones over several lines, indented by two spaces.
#[must_use]
pub fn pretty(expr: &Expr) -> String {
    pretty_at(expr, 0)
}

fn pretty_at(expr: &Expr, level: usize) -> String {
    let line = expr.to_string();
    let space = "  ".repeat(level);
    let fits = line.len() <= LINE_BYTES_MAX;
    match expr {
        Expr::Subquery(_) if fits => line,
        Expr::Unary(unary) => {
            let operand = pretty_at(&unary.expr, level);
            format!("{space}{}{}", unary.op.as_str(), operand.trim())
        }
        _ if fits => format!("{space}{line}"),
        Expr::Aggregation(aggregation) => {
            let mut out = format!("{space}{}(\n", aggregation_head(aggregation));
            if let Some(param) = &aggregation.param {
                put!(out, "{},\n", pretty_at(param, level + 1));
            }
            put!(out, "{}\n{space})", pretty_at(&aggregation.expr, level + 1));
            out
        }
        Expr::Binary(binary) => {
            let op = binary_operator(binary);
            let lhs = pretty_at(&binary.lhs, level + 1);
            let rhs = pretty_at(&binary.rhs, level + 1);
            format!("{lhs}\n{space}{op}\n{rhs}")
        }
        Expr::Call(call) => {
            let args: Vec<_> = call
                .args
                .iter()
                .map(|arg| pretty_at(arg, level + 1))
                .collect();
            format!(
                "{space}{}(\n{}\n{space})",
                call.function.name,
                args.join(",\n")
            )
        }
        Expr::Paren(paren) => format!("{space}(\n{}\n{space})", pretty_at(&paren.expr, level + 1)),
        Expr::Subquery(subquery) => {
            let inner = pretty_at(&subquery.expr, level);
            format!("{inner}{}", subquery_suffix(subquery))
        }
        Expr::Matrix(_) | Expr::Number(_) | Expr::String(_) | Expr::Vector(_) => {
            format!("{space}{line}")
        }
    }
}

/// Returns whether a name needs no quotes: letters, underscores and, except at the start, digits.
fn is_plain_name(name: &str) -> bool {
    let mut chars = name.chars();
    let plain = |char: char| char == '_' || char.is_ascii_alphabetic();
    chars.next().is_some_and(plain) && chars.all(|char| plain(char) || char.is_ascii_digit())
}

fn join_labels(labels: &[String]) -> String {
    let labels: Vec<_> = labels
        .iter()
        .map(|label| {
            if is_plain_name(label) {
                label.clone()
            } else {
                go_quote(label)
            }
        })
        .collect();
    labels.join(", ")
}

fn aggregation_head(aggregation: &Aggregation) -> String {
    let op = aggregation.op.as_str();
    let labels = join_labels(&aggregation.grouping);
    if aggregation.without {
        format!("{op} without ({labels}) ")
    } else if aggregation.grouping.is_empty() {
        op.to_owned()
    } else {
        format!("{op} by ({labels}) ")
    }
}

fn binary_operator(binary: &Binary) -> String {
    let mut out = binary.op.as_str().to_owned();
    if binary.return_bool {
        out.push_str(" bool");
    }
    let Some(matching) = &binary.matching else {
        return out;
    };
    if matching.labels.is_empty() && !matching.on {
        return out;
    }
    let word = if matching.on { "on" } else { "ignoring" };
    put!(out, " {word} ({})", join_labels(&matching.labels));
    let side = match matching.card {
        Cardinality::ManyToOne => "left",
        Cardinality::OneToMany => "right",
        Cardinality::OneToOne | Cardinality::ManyToMany => return out,
    };
    put!(out, " group_{side} ({})", join_labels(&matching.include));
    out
}

fn number_literal(number: &NumberLiteral) -> String {
    if !number.duration {
        return format_float_plain(number.value);
    }
    signed_duration((number.value * 1000.0).round() as i64)
}

fn signed_duration(ms: i64) -> String {
    let sign = if ms < 0 { "-" } else { "" };
    format!("{sign}{}", format_duration_ms(ms.saturating_abs()))
}

fn duration_value(value: &DurationValue) -> String {
    match value {
        DurationValue::Millis(ms) => signed_duration(*ms),
        DurationValue::Expr(expr) => duration_expr(expr),
    }
}

fn duration_expr(expr: &DurationExpr) -> String {
    match expr {
        DurationExpr::Number(number) => number_literal(number),
        DurationExpr::Negative { expr, .. } => format!("-{}", duration_expr(expr)),
        DurationExpr::Wrapped(expr) => format!("({})", duration_expr(expr)),
        DurationExpr::Binary {
            op,
            lhs,
            rhs,
            wrapped,
        } => {
            let (lhs, rhs) = (duration_expr(lhs), duration_expr(rhs));
            let line = format!("{lhs} {} {rhs}", op.as_str());
            if *wrapped { format!("({line})") } else { line }
        }
    }
}

fn at_and_offset(at: Option<At>, offset: &DurationValue) -> String {
    let mut out = String::new();
    match at {
        Some(At::Time(ms)) => {
            put!(out, " @ {:.3}", ms as f64 / 1000.0);
        }
        Some(At::Start) => out.push_str(" @ start()"),
        Some(At::End) => out.push_str(" @ end()"),
        None => {}
    }
    if offset.is_set() {
        put!(out, " offset {}", duration_value(offset));
    }
    out
}

fn subquery_suffix(subquery: &Subquery) -> String {
    let range = duration_value(&subquery.range);
    let step = if subquery.step.is_set() {
        duration_value(&subquery.step)
    } else {
        String::new()
    };
    let tail = at_and_offset(subquery.at, &subquery.offset);
    format!("[{range}:{step}]{tail}")
}

fn matrix_selector(matrix: &MatrixSelector) -> String {
    let selector = &matrix.selector;
    let series = series_selector(selector);
    let range = duration_value(&matrix.range);
    let tail = at_and_offset(selector.at, &selector.offset);
    format!("{series}[{range}]{tail}")
}

fn vector_selector(selector: &VectorSelector) -> String {
    let series = series_selector(selector);
    let tail = at_and_offset(selector.at, &selector.offset);
    format!("{series}{tail}")
}

fn series_selector(selector: &VectorSelector) -> String {
    let is_name = |matcher: &Matcher| {
        !selector.name.is_empty()
            && matcher.name() == METRIC_NAME
            && matcher.value() == selector.name
    };
    let mut matchers: Vec<_> = selector
        .matchers
        .iter()
        .enumerate()
        .filter(|(_, matcher)| !is_name(matcher))
        .map(|(index, matcher)| {
            let raw = selector.raw_values.iter().find(|(at, _)| *at == index);
            let value = match raw {
                Some((_, bytes)) => go_quote_bytes(bytes),
                None => go_quote(matcher.value()),
            };
            matcher_text(matcher, &value)
        })
        .collect();
    matchers.sort_unstable();
    let matchers = matchers.join(",");
    if matchers.is_empty() && !selector.name.is_empty() {
        selector.name.clone()
    } else {
        format!("{}{{{matchers}}}", selector.name)
    }
}

fn matcher_text(matcher: &Matcher, quoted_value: &str) -> String {
    let op = matcher.op().as_str();
    if is_plain_name(matcher.name()) {
        format!("{}{op}{quoted_value}", matcher.name())
    } else {
        format!("{}{op}{quoted_value}", go_quote(matcher.name()))
    }
}
