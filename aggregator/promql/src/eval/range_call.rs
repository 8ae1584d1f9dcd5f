//! Calls of functions of windows.

use std::sync::Arc;

use common::model::{Labels, label::METRIC_NAME};
use tidemark_storage::read::Grouping;

use super::call::span_of;
use super::selector_scan::{ScanKind, SelectorScan, WindowParams};
use super::series::{
    Series, Steps, Vector, drop_names, is_metadata_label, is_missing, refuse_same_labels,
    without_name,
};
use super::series_checks::SeriesChecks;
use super::{Evaluated, Evaluator, step_invariant};
use crate::error::Span;
use crate::features::Features;
use crate::functions::over_time::{Names, WindowCheck, WindowFunction};
use crate::functions::{Evaluation, spec};
use crate::parser::ast::{Call, Expr};
use crate::value_type::ValueType;

/// A scan, and what its function does to labels.
pub(super) struct RangeCall {
    pub(super) scan: SelectorScan,
    /// `None` for an instant selector.
    function: Option<&'static WindowFunction>,
    features: Features,
    /// The metric name that all series share, when a matcher fixes it.
    fixed_name: Option<String>,
    /// The argument, for annotations.
    span: Span,
}

impl RangeCall {
    /// Wraps the scan of an instant selector, which keeps all labels.
    pub(super) fn from_instant(scan: SelectorScan) -> Self {
        Self {
            scan,
            function: None,
            features: Features::default(),
            fixed_name: None,
            span: Span::default(),
        }
    }

    fn drops_names(&self) -> bool {
        self.function
            .is_some_and(|function| function.names == Names::Drop)
    }

    /// Returns whether the result lacks the label `name`.
    pub(super) fn drops(&self, name: &str) -> bool {
        self.drops_names() && is_metadata_label(name)
    }

    /// Returns the labels of the series in the result.
    pub(super) fn labels(&self, index: usize) -> Labels {
        let labels = self.scan.set.labels(index);
        if self.drops_names() {
            without_name(&labels)
        } else {
            labels
        }
    }

    /// Returns what to check of the series that have values, whose labels are never built.
    pub(super) fn checks(&self) -> SeriesChecks {
        let checks_names = self
            .function
            .is_some_and(|function| function.check == WindowCheck::CounterName);
        let set = &self.scan.set;
        let names_differ = self.fixed_name.is_none()
            || set.may_have_label("__type__")
            || set.may_have_label("__unit__");
        let same = (self.drops_names() && names_differ).then(|| {
            let dropped = Grouping::Without(&[METRIC_NAME, "__type__", "__unit__"]);
            set.group(dropped).group_of
        });
        SeriesChecks::new(checks_names.then(|| self.names()), same, self.span)
    }

    /// Returns the metric names, with types where those decide what a counter is, and the name of each series.
    fn names(&self) -> (Vec<Labels>, Vec<u32>) {
        match &self.fixed_name {
            Some(name) if !self.features.type_and_unit_labels => {
                let labels = Labels::from_sorted([(METRIC_NAME, name.as_str())]);
                (vec![labels], Vec::new())
            }
            _ => {
                let by = Grouping::By(&[METRIC_NAME, "__type__"]);
                let groups = self.scan.set.group(by);
                (groups.labels, groups.group_of)
            }
        }
    }
}

impl Evaluator<'_> {
    /// Returns the call as one that an aggregation can stream, if its annotations do not depend on values.
    pub(super) fn streamable_call(
        &self,
        call: &Call,
        steps: Steps,
    ) -> Evaluated<Option<RangeCall>> {
        let Evaluation::Window(function) = &spec(call.function.function).evaluation else {
            return Ok(None);
        };
        match function.check {
            WindowCheck::Quantile => return Ok(None),
            WindowCheck::Nothing | WindowCheck::CounterName | WindowCheck::SmoothingFactors => {}
        }
        if steps.count > 1 && step_invariant::is_invariant_call(call) {
            return Ok(None);
        }
        self.range_call(call, steps, function).map(Some)
    }

    fn range_call(
        &self,
        call: &Call,
        steps: Steps,
        function: &'static WindowFunction,
    ) -> Evaluated<RangeCall> {
        let argument = range_argument(self, call)?;
        let mut params = WindowParams::default();
        let scalars = call
            .args
            .iter()
            .filter(|arg| arg.value_type() == ValueType::Scalar);
        for (param, arg) in params.0.iter_mut().zip(scalars) {
            *param = Some(Arc::from(self.scalar(arg, steps)?));
        }
        let kind = ScanKind::Windows(function, params.clone());
        let scan = self.range_scan(argument, steps, kind)?;
        if function.check == WindowCheck::SmoothingFactors && !scan.set.is_empty() {
            self.check_factors(&params)?;
        }
        // Prometheus' annotations about the result of a subquery have no position.
        let (fixed_name, span) = match argument.unwrap_parens() {
            Expr::Matrix(matrix) => (matrix.selector.metric_name(), span_of(call, argument)),
            _ => (None, Span::default()),
        };
        Ok(RangeCall {
            scan,
            function: Some(function),
            features: self.features,
            fixed_name: fixed_name.map(str::to_owned),
            span,
        })
    }

    fn check_factors(&self, params: &WindowParams) -> Evaluated<()> {
        let [smoothing, trend] = &params.0;
        for (name, short, param) in [("smoothing", "sf", smoothing), ("trend", "tf", trend)] {
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

    /// Evaluates a function of windows.
    pub(super) fn over_time(
        &self,
        call: &Call,
        steps: Steps,
        function: &'static WindowFunction,
    ) -> Evaluated<Vector> {
        let range = self.range_call(call, steps, function)?;
        let mut vector = self.materialize(&range.scan)?;
        match function.check {
            WindowCheck::CounterName => {
                for series in &vector {
                    self.annotate_counter(&series.labels, range.span);
                }
            }
            WindowCheck::Quantile => self.annotate_quantiles(call, &range, &vector),
            WindowCheck::Nothing | WindowCheck::SmoothingFactors => {}
        }
        if function.names == Names::Drop {
            drop_names(&mut vector, self.features);
            refuse_same_labels(&vector)?;
        }
        Ok(vector)
    }

    fn annotate_quantiles(&self, call: &Call, range: &RangeCall, vector: &[Series]) {
        let ScanKind::Windows(_, WindowParams([Some(quantiles), _])) = &range.scan.kind else {
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
}

/// Returns the argument that is a range vector.
pub(crate) fn range_argument<'c>(evaluator: &Evaluator<'_>, call: &'c Call) -> Evaluated<&'c Expr> {
    call.args
        .iter()
        .find(|arg| arg.value_type() == ValueType::Matrix)
        .ok_or_else(|| evaluator.internal("expected a range vector"))
}
