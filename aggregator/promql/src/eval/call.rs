//! Function calls: which arguments are evaluated how.

use std::sync::Arc;

use common::model::{Labels, MatchOp, Matcher, label::METRIC_NAME};
use tidemark_storage::read::Grouping;

use super::leaf::{Kind, Leaf};
use super::series::{
    MISSING, Series, Steps, Vector, is_metadata_label, is_missing, refuse_same_labels,
    same_labelset, without_name,
};
use super::{Evaluated, Evaluator, Yield};
use crate::engine::Features;
use crate::error::Span;
use crate::functions;
use crate::parser::ValueType;
use crate::parser::ast::{Call, Expr, VectorSelector};
use crate::signature::Function;

/// A leaf, and what its function does to names.
pub(super) struct RangeCall {
    pub(super) leaf: Leaf,
    function: Option<Function>,
    features: Features,
    /// The metric name all series share, when a matcher fixes it.
    fixed_name: Option<String>,
    /// The argument, for annotations.
    span: Span,
}

impl RangeCall {
    /// An instant selector.
    pub(super) fn plain(leaf: Leaf) -> Self {
        Self {
            leaf,
            function: None,
            features: Features::default(),
            fixed_name: None,
            span: Span::default(),
        }
    }

    fn drops_names(&self) -> bool {
        self.function
            .is_some_and(|function| function != Function::LastOverTime)
    }

    /// Whether the result has lost the label.
    pub(super) fn drops(&self, name: &str) -> bool {
        self.drops_names() && is_metadata_label(name)
    }

    /// The labels of a series of the result.
    pub(super) fn labels(&self, index: usize) -> Labels {
        let labels = self.leaf.set.labels(index);
        if self.drops_names() {
            without_name(&labels)
        } else {
            labels
        }
    }

    /// What must be known about the series that have values, though their labels are never made.
    pub(super) fn watch(&self) -> Watch {
        let names = matches!(self.function, Some(Function::Rate | Function::Increase))
            .then(|| self.names());
        let set = &self.leaf.set;
        let one_series_each = self.fixed_name.is_some()
            && !set.may_have_label("__type__")
            && !set.may_have_label("__unit__");
        let same = (self.drops_names() && !one_series_each).then(|| {
            let dropped = Grouping::Without(&[METRIC_NAME, "__type__", "__unit__"]);
            self.leaf.set.group(dropped).group_of
        });
        Watch {
            names,
            same,
            span: self.span,
        }
    }

    /// Metric names, with types when those decide what a counter is.
    fn names(&self) -> (Vec<Labels>, Vec<u32>) {
        match &self.fixed_name {
            Some(name) if !self.features.type_and_unit_labels => {
                let labels = Labels::from_sorted([(METRIC_NAME, name.as_str())]);
                (vec![labels], Vec::new())
            }
            _ => {
                let groups = self
                    .leaf
                    .set
                    .group(Grouping::By(&[METRIC_NAME, "__type__"]));
                (groups.labels, groups.group_of)
            }
        }
    }
}

/// Facts by series that the names of series decide.
pub(super) struct Watch {
    /// Names, and the one of each series; all have the first when the second is empty.
    names: Option<(Vec<Labels>, Vec<u32>)>,
    /// Series with equal numbers are the same once their names are dropped.
    same: Option<Vec<u32>>,
    span: Span,
}

/// What a part of a read saw.
pub(super) struct Seen<'w> {
    watch: &'w Watch,
    names: Vec<bool>,
    same: hashbrown::HashSet<u32, rustc_hash::FxBuildHasher>,
    duplicate: bool,
}

impl Watch {
    pub(super) fn seen(&self) -> Seen<'_> {
        let names = self.names.as_ref().map_or(0, |(names, _)| names.len());
        Seen {
            watch: self,
            names: vec![false; names],
            same: hashbrown::HashSet::default(),
            duplicate: false,
        }
    }

    /// Annotates, and fails when two series became one.
    pub(super) fn report(&self, seen: &Seen<'_>, evaluator: &Evaluator<'_>) -> Evaluated<()> {
        if let Some((names, _)) = &self.names {
            for (name, _) in names.iter().zip(&seen.names).filter(|(_, seen)| **seen) {
                evaluator.note_counter(name, self.span);
            }
        }
        if seen.duplicate {
            return Err(same_labelset());
        }
        Ok(())
    }
}

impl Seen<'_> {
    /// A series has a value.
    #[inline]
    pub(super) fn note(&mut self, index: usize) {
        if let Some((_, name_of)) = &self.watch.names {
            let name = name_of.get(index).copied().unwrap_or(0) as usize;
            if let Some(seen) = self.names.get_mut(name) {
                *seen = true;
            }
        }
        if let Some(same) = &self.watch.same {
            self.duplicate |= !self.same.insert(same[index]);
        }
    }

    pub(super) fn merge(&mut self, other: &Self) {
        for (seen, &other) in self.names.iter_mut().zip(&other.names) {
            *seen |= other;
        }
        self.duplicate |= other.duplicate;
        for &number in &other.same {
            self.duplicate |= !self.same.insert(number);
        }
    }
}

impl Evaluator<'_> {
    /// Says so when a metric does not look like a counter.
    fn note_counter(&self, labels: &Labels, span: Span) {
        let name = labels.metric_name().unwrap_or("");
        if name.is_empty() {
            return;
        }
        if self.features.type_and_unit_labels {
            let kind = labels.get("__type__").unwrap_or("");
            if kind != "counter" {
                self.annotations.possible_non_counter_type(name, kind, span);
            }
        } else if !["_total", "_sum", "_count", "_bucket"]
            .iter()
            .any(|suffix| name.ends_with(suffix))
        {
            self.annotations.possible_non_counter(name, span);
        }
    }

    /// A call that an aggregation can stream: a function of windows whose warnings do not depend on values.
    pub(super) fn streamable_call(
        &self,
        call: &Call,
        steps: Steps,
    ) -> Evaluated<Option<RangeCall>> {
        let function = call.function.function;
        if range_argument(call).is_none()
            || matches!(
                function,
                Function::AbsentOverTime | Function::QuantileOverTime
            )
            || steps.count > 1 && super::invariant::is_invariant_call(call)
        {
            return Ok(None);
        }
        self.range_call(call, steps).map(Some)
    }

    fn range_call(&self, call: &Call, steps: Steps) -> Evaluated<RangeCall> {
        let function = call.function.function;
        let Some(argument) = range_argument(call) else {
            return Err(self.internal("expected a range vector"));
        };
        let mut params = [None, None];
        let scalars = call
            .args
            .iter()
            .filter(|arg| arg.value_type() == ValueType::Scalar);
        for (param, arg) in params.iter_mut().zip(scalars) {
            *param = Some(Arc::from(self.scalar(arg, steps)?));
        }
        let kind = Kind::OverTime {
            function,
            params: params.clone(),
        };
        let leaf = self.range_leaf(argument, steps, kind)?;
        if function == Function::DoubleExponentialSmoothing && !leaf.set.is_empty() {
            self.check_factors(&params)?;
        }
        // What comes out of a subquery has no place of its own in Prometheus' annotations.
        let (selector, span) = match argument.unwrap_parens() {
            Expr::Matrix(matrix) => (matrix.selector.metric_name(), span_of(call, argument)),
            _ => (None, Span::default()),
        };
        Ok(RangeCall {
            leaf,
            function: Some(function),
            features: self.features,
            fixed_name: selector.map(str::to_owned),
            span,
        })
    }

    fn check_factors(&self, params: &[Option<Arc<[f64]>>; 2]) -> Evaluated<()> {
        for (name, short, param) in [("smoothing", "sf", &params[0]), ("trend", "tf", &params[1])] {
            let values = param.as_deref().unwrap_or_default();
            if let Some(&bad) = values.iter().find(|&&value| value <= 0.0 || value >= 1.0) {
                let got = crate::format::format_fixed(bad);
                let message =
                    format!("invalid {name} factor. Expected: 0 < {short} < 1, got: {got}");
                return Err(self.execution(message));
            }
        }
        Ok(())
    }

    pub(super) fn call(&self, call: &Call, steps: Steps) -> Evaluated<Yield> {
        let function = call.function.function;
        match function {
            Function::Time => {
                let seconds = steps.iter().map(|ms| ms as f64 / 1000.0);
                return Ok(Yield::Scalar(seconds.collect()));
            }
            Function::Pi => return Ok(Yield::Scalar(vec![std::f64::consts::PI; steps.count])),
            Function::ScalarOf => return self.scalar_of(call, steps).map(Yield::Scalar),
            _ => {}
        }
        let vector = match function {
            Function::AbsentOverTime => self.absent_over_time(call, steps)?,
            Function::Absent => {
                let vector = self.argument(call, 0, steps)?;
                vec![absent(&vector, call, steps)]
            }
            Function::Timestamp => self.timestamp(call, steps)?,
            Function::VectorOf => {
                let values = self.scalar_argument(call, 0, steps)?;
                vec![Series::new(Labels::empty(), values)]
            }
            Function::LabelReplace => functions::label::replace(self, call, steps)?,
            Function::LabelJoin => functions::label::join(self, call, steps)?,
            Function::Sort
            | Function::SortDesc
            | Function::SortByLabel
            | Function::SortByLabelDesc => functions::sort::sort(self, call, steps)?,
            Function::HistogramQuantile | Function::HistogramFraction => {
                functions::histogram::classic(self, call, steps)?
            }
            Function::HistogramAvg
            | Function::HistogramCount
            | Function::HistogramSum
            | Function::HistogramStddev
            | Function::HistogramStdvar => {
                // Floats are no native histograms: they are passed over without a word.
                self.argument(call, 0, steps)?;
                Vec::new()
            }
            Function::Info => functions::info::info(self, call, steps)?,
            _ if range_argument(call).is_some() => self.over_time(call, steps)?,
            _ => functions::math::map(self, call, steps)?,
        };
        Ok(Yield::Vector(vector))
    }

    /// The vector argument at `index`.
    pub(crate) fn argument(&self, call: &Call, index: usize, steps: Steps) -> Evaluated<Vector> {
        match call.args.get(index) {
            Some(arg) => self.vector(arg, steps),
            None => Err(self.internal("an argument is missing")),
        }
    }

    /// The scalar argument at `index`.
    pub(crate) fn scalar_argument(
        &self,
        call: &Call,
        index: usize,
        steps: Steps,
    ) -> Evaluated<Vec<f64>> {
        match call.args.get(index) {
            Some(arg) => self.scalar(arg, steps),
            None => Err(self.internal("an argument is missing")),
        }
    }

    fn scalar_of(&self, call: &Call, steps: Steps) -> Evaluated<Vec<f64>> {
        let vector = self.argument(call, 0, steps)?;
        let only = |step: usize| {
            let mut present = vector
                .iter()
                .map(|series| series.values[step])
                .filter(|&value| !is_missing(value));
            match (present.next(), present.next()) {
                (Some(value), None) => value,
                _ => f64::NAN,
            }
        };
        Ok((0..steps.count).map(only).collect())
    }

    /// Functions of windows.
    fn over_time(&self, call: &Call, steps: Steps) -> Evaluated<Vector> {
        let range = self.range_call(call, steps)?;
        let mut vector = self.materialize(&range.leaf)?;
        match call.function.function {
            Function::Rate | Function::Increase => {
                for series in &vector {
                    self.note_counter(&series.labels, range.span);
                }
            }
            Function::QuantileOverTime => self.note_quantiles(call, &range, &vector),
            _ => {}
        }
        if range.drops_names() {
            super::series::drop_names(&mut vector, self.features);
            refuse_same_labels(&vector)?;
        }
        Ok(vector)
    }

    fn note_quantiles(&self, call: &Call, range: &RangeCall, vector: &[Series]) {
        let Kind::OverTime {
            params: [Some(quantiles), _],
            ..
        } = &range.leaf.kind
        else {
            return;
        };
        let Some(arg) = call.args.first() else {
            return;
        };
        for (step, &quantile) in quantiles.iter().enumerate() {
            if (0.0..=1.0).contains(&quantile) {
                continue;
            }
            if vector.iter().any(|series| !is_missing(series.values[step])) {
                self.annotations
                    .invalid_quantile(quantile, span_of(call, arg));
            }
        }
    }

    fn absent_over_time(&self, call: &Call, steps: Steps) -> Evaluated<Vector> {
        let Some(argument) = range_argument(call) else {
            return Err(self.internal("expected a range vector"));
        };
        let kind = Kind::OverTime {
            function: Function::PresentOverTime,
            params: [None, None],
        };
        let leaf = self.range_leaf(argument, steps, kind)?;
        let parts = self.in_parts(&leaf, |range, looked| {
            let mut present = vec![false; steps.count];
            leaf.read(range, &self.budget, looked, &mut |_, values| {
                for (present, &value) in present.iter_mut().zip(values) {
                    *present |= !is_missing(value);
                }
                Ok(())
            })?;
            Ok(present)
        })?;
        let value = |step: usize| {
            let present = parts.iter().any(|part| part[step]);
            if present { MISSING } else { 1.0 }
        };
        let values = (0..steps.count).map(value).collect();
        let mut absent = Series::new(absent_labels(call), values);
        absent.drop_name = self.features.delayed_name_removal;
        Ok(vec![absent])
    }

    /// The time of samples where the argument is a selector, else the time of evaluation.
    fn timestamp(&self, call: &Call, steps: Steps) -> Evaluated<Vector> {
        let mut vector = match call.args.first().map(Expr::unwrap_parens) {
            Some(Expr::Vector(selector)) => {
                let leaf = self.timestamp_leaf(selector, steps)?;
                self.materialize(&leaf)?
            }
            Some(other) => {
                let mut vector = self.vector(other, steps)?;
                for series in &mut vector {
                    for (value, ms) in series.values.iter_mut().zip(steps.iter()) {
                        if !is_missing(*value) {
                            *value = ms as f64 / 1000.0;
                        }
                    }
                }
                vector
            }
            None => return Err(self.internal("an argument is missing")),
        };
        super::series::drop_names(&mut vector, self.features);
        super::series::merge_same_labels(vector, self.features)
    }
}

/// Where annotations say that the argument at `index` is.
pub(crate) fn argument_span(call: &Call, index: usize) -> Span {
    let span = call.args.get(index).map(|arg| span_of(call, arg));
    span.unwrap_or_default()
}

/// Prometheus takes the parentheses off an argument, but for one that is evaluated once for all steps of a call that
/// is not.
fn span_of(call: &Call, arg: &Expr) -> Span {
    use super::invariant::{is_invariant, is_invariant_call};
    if is_invariant(arg) && !is_invariant_call(call) {
        arg.span()
    } else {
        arg.unwrap_parens().span()
    }
}

/// The argument that is a range vector.
fn range_argument(call: &Call) -> Option<&Expr> {
    call.args
        .iter()
        .find(|arg| arg.value_type() == ValueType::Matrix)
}

fn absent(vector: &[Series], call: &Call, steps: Steps) -> Series {
    let mut values = vec![1.0; steps.count];
    for series in vector {
        for (absent, &value) in values.iter_mut().zip(&series.values) {
            if !is_missing(value) {
                *absent = MISSING;
            }
        }
    }
    Series::new(absent_labels(call), values)
}

/// The labels that matchers with `=` fix, each named once; none when the argument is no selector.
fn absent_labels(call: &Call) -> Labels {
    let selector: &VectorSelector = match call.args.first().map(Expr::unwrap_parens) {
        Some(Expr::Vector(selector)) => selector,
        Some(Expr::Matrix(matrix)) => &matrix.selector,
        _ => return Labels::empty(),
    };
    // The head of Prometheus' store puts what only takes series away behind what finds them, in place, so this is the
    // order in which the labels are settled.
    let must_be_set: Vec<&str> = selector
        .matchers
        .iter()
        .filter(|matcher| !matcher.matches_empty())
        .map(Matcher::name)
        .collect();
    let takes_away = |matcher: &&Matcher| {
        !must_be_set.contains(&matcher.name())
            || (matches!(matcher.op(), MatchOp::NotEqual | MatchOp::NotRegex)
                && matcher.matches_empty())
    };
    let (last, first): (Vec<_>, Vec<_>) = selector.matchers.iter().partition(takes_away);
    let mut builder = common::model::LabelsBuilder::default();
    let mut fixed: Vec<&str> = Vec::new();
    for matcher in first.into_iter().chain(last) {
        let name = matcher.name();
        if name == METRIC_NAME {
            continue;
        }
        if matcher.op() == MatchOp::Equal && !fixed.contains(&name) {
            builder.set(name, matcher.value());
            fixed.push(name);
        } else {
            builder.remove(name);
        }
    }
    builder.build().unwrap_or_default()
}
