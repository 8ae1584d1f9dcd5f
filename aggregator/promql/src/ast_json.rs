//! Formats the syntax tree like `parse_query`.

use crate::format::put;
use common::model::Matcher;

use crate::format::format_float_plain;
use crate::parser::ast::{At, Binary, Call, Cardinality, DurationValue, Expr, VectorSelector};
use crate::signature::Arity;

/// Returns the tree as JSON with sorted keys (Prometheus `web/api/v1/translate_ast.go`).
#[must_use]
pub fn ast_json(expr: &Expr) -> String {
    let mut out = String::new();
    write_expr(&mut out, expr);
    out
}

fn write_expr(out: &mut String, expr: &Expr) {
    match expr {
        Expr::Aggregation(aggregation) => {
            out.push_str("{\"expr\":");
            write_expr(out, &aggregation.expr);
            out.push_str(",\"grouping\":");
            write_strings(out, &aggregation.grouping);
            put!(out, ",\"op\":\"{}\",\"param\":", aggregation.op.as_str());
            match &aggregation.param {
                Some(param) => write_expr(out, param),
                None => out.push_str("null"),
            }
            let without = aggregation.without;
            put!(out, ",\"type\":\"aggregation\",\"without\":{without}}}");
        }
        Expr::Binary(binary) => write_binary(out, binary),
        Expr::Call(call) => write_call(out, call),
        Expr::Matrix(matrix) => {
            let range = matrix.range.millis();
            write_selector(out, &matrix.selector, Some(range));
        }
        Expr::Vector(vector) => write_selector(out, vector, None),
        Expr::Number(number) => {
            let value = format_float_plain(number.value);
            put!(out, "{{\"type\":\"numberLiteral\",\"val\":\"{value}\"}}");
        }
        Expr::String(string) => {
            out.push_str("{\"type\":\"stringLiteral\",\"val\":");
            write_json_string(out, &String::from_utf8_lossy(&string.value));
            out.push('}');
        }
        Expr::Paren(paren) => {
            out.push_str("{\"expr\":");
            write_expr(out, &paren.expr);
            out.push_str(",\"type\":\"parenExpr\"}");
        }
        Expr::Unary(unary) => {
            out.push_str("{\"expr\":");
            write_expr(out, &unary.expr);
            let op = unary.op.as_str();
            put!(out, ",\"op\":\"{op}\",\"type\":\"unaryExpr\"}}");
        }
        Expr::Subquery(subquery) => {
            out.push_str("{\"expr\":");
            write_expr(out, &subquery.expr);
            let (offset, range) = (subquery.offset.millis(), subquery.range.millis());
            put!(out, ",\"offset\":{offset},\"range\":{range}");
            write_start_or_end(out, subquery.at);
            put!(out, ",\"step\":{}", subquery.step.millis());
            write_timestamp(out, subquery.at);
            out.push_str(",\"type\":\"subquery\"}");
        }
    }
}

fn write_binary(out: &mut String, binary: &Binary) {
    put!(out, "{{\"bool\":{},\"lhs\":", binary.return_bool);
    write_expr(out, &binary.lhs);
    out.push_str(",\"matching\":");
    match &binary.matching {
        Some(matching) => {
            let card: Cardinality = matching.card;
            put!(out, "{{\"card\":\"{}\",\"include\":", card.as_str());
            write_strings(out, &matching.include);
            out.push_str(",\"labels\":");
            write_strings(out, &matching.labels);
            put!(out, ",\"on\":{}}}", matching.on);
        }
        None => out.push_str("null"),
    }
    put!(out, ",\"op\":\"{}\",\"rhs\":", binary.op.as_str());
    write_expr(out, &binary.rhs);
    out.push_str(",\"type\":\"binaryExpr\"}");
}

fn write_call(out: &mut String, call: &Call) {
    out.push_str("{\"args\":[");
    for (index, arg) in call.args.iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        write_expr(out, arg);
    }
    out.push_str("],\"func\":{\"argTypes\":[");
    for (index, arg) in call.function.args.iter().enumerate() {
        let comma = if index == 0 { "" } else { "," };
        put!(out, "{comma}\"{}\"", arg.as_str());
    }
    let function = call.function;
    let variadic = match function.arity {
        Arity::Exact => "0",
        Arity::LastOptional => "1",
        Arity::LastRepeated => "-1",
    };
    put!(
        out,
        "],\"name\":\"{}\",\"returnType\":\"{}\",\"variadic\":{}}},\"type\":\"call\"}}",
        function.name,
        function.returns.as_str(),
        variadic
    );
}

fn write_selector(out: &mut String, selector: &VectorSelector, range: Option<i64>) {
    out.push_str("{\"matchers\":[");
    for (index, matcher) in selector.matchers.iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        write_matcher(out, matcher);
    }
    out.push_str("],\"name\":");
    write_json_string(out, &selector.name);
    let offset: &DurationValue = &selector.offset;
    put!(out, ",\"offset\":{}", offset.millis());
    if let Some(range) = range {
        put!(out, ",\"range\":{range}");
    }
    write_start_or_end(out, selector.at);
    write_timestamp(out, selector.at);
    let kind = if range.is_some() {
        "matrixSelector"
    } else {
        "vectorSelector"
    };
    put!(out, ",\"type\":\"{kind}\"}}");
}

fn write_matcher(out: &mut String, matcher: &Matcher) {
    out.push_str("{\"name\":");
    write_json_string(out, matcher.name());
    put!(out, ",\"type\":\"{}\",\"value\":", matcher.op().as_str());
    write_json_string(out, matcher.value());
    out.push('}');
}

fn write_start_or_end(out: &mut String, at: Option<At>) {
    out.push_str(match at {
        Some(At::Start) => ",\"startOrEnd\":\"start\"",
        Some(At::End) => ",\"startOrEnd\":\"end\"",
        Some(At::Time(_)) | None => ",\"startOrEnd\":null",
    });
}

fn write_timestamp(out: &mut String, at: Option<At>) {
    match at {
        Some(At::Time(ms)) => {
            put!(out, ",\"timestamp\":{ms}");
        }
        Some(At::Start | At::End) | None => out.push_str(",\"timestamp\":null"),
    }
}

fn write_strings(out: &mut String, strings: &[String]) {
    out.push('[');
    for (index, string) in strings.iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        write_json_string(out, string);
    }
    out.push(']');
}

/// Appends `text` as a JSON string.
fn write_json_string(out: &mut String, text: &str) {
    out.push('"');
    for char in text.chars() {
        match char {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            control if control < ' ' => {
                put!(out, "\\u{:04x}", control as u32);
            }
            other => out.push(other),
        }
    }
    out.push('"');
}
