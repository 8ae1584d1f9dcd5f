//! `info()`: adds the labels of info metrics, such as `target_info`, to series.

use crate::error::QueryError;
use crate::eval::Evaluator;
use crate::eval::series::{Steps, Vector};
use crate::parser::ast::Call;

pub(crate) fn info(
    evaluator: &Evaluator<'_>,
    call: &Call,
    steps: Steps,
) -> Result<Vector, QueryError> {
    evaluator.argument(call, 0, steps)
}
