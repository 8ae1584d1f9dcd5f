//! Recording rules: write the samples of the expression's result.

use super::*;

impl Rule {
    /// Writes the samples of a recording rule.
    pub(super) fn record(
        &self,
        context: &Context,
        record: &str,
        vector: Vec<VectorElement>,
        eval: EvalContext<'_>,
    ) -> Result<Option<String>, EvaluationError> {
        let (limit, count) = (eval.limit, vector.len());
        if limit > 0 && count as u64 > limit {
            let message = format!("exceeded limit of {limit} with {count} series");
            return Err(message.into());
        }
        let mut state = self.state();
        let RuleState {
            output, previous, ..
        } = &mut *state;
        output.discard();
        if eval.written_series.is_some() {
            // Refused values of the last row may have lost their columns, so look up all columns again.
            previous.recorded.clear();
        }
        let mut recorded = Vec::with_capacity(vector.len());
        for (index, (labels, value)) in vector.into_iter().enumerate() {
            let before = previous.recorded.get(index);
            let column = match before.filter(|(input, _)| *input == labels) {
                Some((_, column)) => *column,
                None => {
                    let series = self.recorded_labels(record, &labels)?;
                    output.column(context.source.as_ref(), &self.key, &series)
                }
            };
            if let Some(column) = column {
                output.push(column, value);
            }
            recorded.push((labels, column));
        }
        let (values, is_distinct) = output.row();
        if !is_distinct {
            let message =
                "vector contains metrics with the same labelset after applying rule labels";
            return Err(message.to_owned().into());
        }
        let unnamed = recorded.len() - values;
        previous.recorded = recorded;
        self.write(output, unnamed, eval)
    }

    fn recorded_labels(&self, record: &str, labels: &Labels) -> Result<Labels, String> {
        let mut builder = labels.to_builder();
        builder.set(METRIC_NAME, record);
        for (name, value) in &self.spec.labels {
            builder.set(name.as_str(), value.as_str());
        }
        builder.build().map_err(|error| error.to_string())
    }
}
