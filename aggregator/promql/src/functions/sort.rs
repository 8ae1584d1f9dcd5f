//! `sort`, `sort_desc`, `sort_by_label`, `sort_by_label_desc`. They order instant results; in range queries, whose
//! results are ordered by labels, they do nothing.

use std::cmp::Ordering;

use crate::error::QueryError;
use crate::eval::Evaluator;
use crate::eval::series::{Series, Steps, Vector};
use crate::parser::ast::Call;
use crate::signature::Function;

pub(crate) fn sort(
    evaluator: &Evaluator<'_>,
    call: &Call,
    steps: Steps,
) -> Result<Vector, QueryError> {
    let mut vector = evaluator.argument(call, 0, steps)?;
    let mut labels = Vec::new();
    for arg in call.args.iter().skip(1) {
        let text = evaluator.string(arg, steps)?;
        labels.push(String::from_utf8_lossy(&text).into_owned());
    }
    if !evaluator.instant || steps.count != 1 {
        return Ok(vector);
    }
    match call.function.function {
        Function::Sort => vector.sort_by(|a, b| by_value(a, b, false)),
        Function::SortDesc => vector.sort_by(|a, b| by_value(a, b, true)),
        Function::SortByLabel => vector.sort_by(|a, b| by_labels(a, b, &labels)),
        _ => vector.sort_by(|a, b| by_labels(b, a, &labels)),
    }
    Ok(vector)
}

/// NaN comes last either way.
fn by_value(a: &Series, b: &Series, descending: bool) -> Ordering {
    let value = |series: &Series| series.values.first().copied().unwrap_or(f64::NAN);
    let (a, b) = (value(a), value(b));
    match (a.is_nan(), b.is_nan()) {
        (true, true) => Ordering::Equal,
        (true, false) => Ordering::Greater,
        (false, true) => Ordering::Less,
        (false, false) => {
            let order = a.partial_cmp(&b).unwrap_or(Ordering::Equal);
            if descending { order.reverse() } else { order }
        }
    }
}

fn by_labels(a: &Series, b: &Series, names: &[String]) -> Ordering {
    for name in names {
        let value = |series: &Series| series.labels.get(name).unwrap_or("").to_owned();
        let order = natural(&value(a), &value(b));
        if order != Ordering::Equal {
            return order;
        }
    }
    a.labels.cmp(&b.labels)
}

/// Compares texts with their numbers by value: `a2` before `a10`.
fn natural(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a, b);
    loop {
        if a.is_empty() || b.is_empty() {
            return a.len().cmp(&b.len());
        }
        let ((left, a_rest), (right, b_rest)) = (chunk(a), chunk(b));
        let order = match (left.parse::<u128>(), right.parse::<u128>()) {
            // Equal numbers with leading zeros: the shorter text first.
            (Ok(x), Ok(y)) => x.cmp(&y).then(left.len().cmp(&right.len())),
            _ => left.cmp(right),
        };
        if order != Ordering::Equal {
            return order;
        }
        (a, b) = (a_rest, b_rest);
    }
}

/// Cuts off a run of digits, or of anything else.
fn chunk(text: &str) -> (&str, &str) {
    let digits = text.starts_with(|char: char| char.is_ascii_digit());
    let end = text
        .find(|char: char| char.is_ascii_digit() != digits)
        .unwrap_or(text.len());
    text.split_at_checked(end).unwrap_or((text, ""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_texts_sort_by_value() {
        let mut texts = ["a10", "a2", "b", "a", "a2b", "10", "9"];
        texts.sort_by(|a, b| natural(a, b));
        assert_eq!(texts, ["9", "10", "a", "a2", "a2b", "a10", "b"]);
    }
}
