//! Alerting rules: update the alerts from the expression's result, write their series, and select the alerts to send.

use super::*;

impl Rule {
    /// Updates the alerts, stores the changes, and writes their series.
    pub(super) fn alert(
        &self,
        context: &Context,
        vector: Vec<VectorElement>,
        eval: EvalContext<'_>,
        has_changed: &mut bool,
    ) -> Result<Option<String>, EvaluationError> {
        // Templates may run slow queries, so the state is not locked during expansion.
        let mut previous = std::mem::take(&mut self.state().previous.elements);
        if self.state().previous.external_labels != context.external_labels {
            previous.clear();
        }
        let mut elements = Vec::with_capacity(vector.len());
        for (index, (labels, value)) in vector.into_iter().enumerate() {
            let element = match previous.get(index) {
                Some(before) if self.is_same(before, &labels, value) => Element {
                    value,
                    ..before.element.clone()
                },
                _ => self.element(context, &labels, value, eval)?,
            };
            let now = PreviousElement {
                input: labels,
                element: element.clone(),
            };
            match previous.get_mut(index) {
                Some(before) => *before = now,
                None => previous.push(now),
            }
            elements.push(element);
        }
        previous.truncate(elements.len());
        let mut transitions = Transitions::default();
        let mut state = self.state();
        state.previous.elements = previous;
        state.previous.external_labels = context.external_labels.clone();
        let updated =
            state
                .alerts
                .update(elements, self.timing(eval), eval.at_ms, &mut transitions);
        // Store the changes while holding the lock, so that readers never see a state that a crash could undo.
        *has_changed = self.persist(context, &transitions);
        updated.map_err(|error| error.to_string())?;
        self.write_alerts(context, &mut state, eval)
    }

    /// Reports whether an element's labels and annotations are unchanged.
    fn is_same(&self, before: &PreviousElement, labels: &Labels, value: f64) -> bool {
        let is_same_value = || before.element.value.to_bits() == value.to_bits();
        before.input == *labels
            && match self.dependence {
                Dependence::Nothing => true,
                Dependence::Data => is_same_value(),
                Dependence::Anything => false,
            }
    }

    /// Writes `ALERTS` and `ALERTS_FOR_STATE` of the active alerts.
    fn write_alerts(
        &self,
        context: &Context,
        state: &mut RuleState,
        eval: EvalContext<'_>,
    ) -> Result<Option<String>, EvaluationError> {
        let RuleState {
            alerts,
            output,
            alert_series,
            ..
        } = state;
        output.discard();
        if eval.written_series.is_some() {
            // Refused values of the last row may have lost their columns, so look up all columns again.
            alert_series.clear();
        }
        let mut unnamed = 0;
        let mut active = 0;
        for alert in alerts.active() {
            active += 1;
            let previous = alert_series
                .get_mut(&alert.labels)
                .filter(|series| series.state == alert.state);
            let series = if let Some(series) = previous {
                series.at_ms = eval.at_ms;
                *series
            } else {
                let mut column = |name: &str, state: Option<AlertState>| {
                    let labels = alert_series_labels(alert, name, state)?;
                    Ok::<_, String>(output.column(context.source.as_ref(), &self.key, &labels))
                };
                let series = AlertSeries {
                    state: alert.state,
                    state_column: column("ALERTS", Some(alert.state))?,
                    since_column: column("ALERTS_FOR_STATE", None)?,
                    at_ms: eval.at_ms,
                };
                alert_series.insert(alert.labels.clone(), series);
                series
            };
            let since_s = alert.active_at_ms.div_euclid(1000) as f64;
            for (column, value) in [(series.state_column, 1.0), (series.since_column, since_s)] {
                match column {
                    Some(column) => output.push(column, value),
                    None => unnamed += 1,
                }
            }
        }
        if active < alert_series.len() {
            alert_series.retain(|_, series| series.at_ms == eval.at_ms);
        }
        self.write(output, unnamed, eval)
    }

    fn timing(&self, eval: EvalContext<'_>) -> Timing {
        let (for_duration, keep_firing_for) = match &self.spec.kind {
            RuleKind::Alerting {
                for_duration,
                keep_firing_for,
                ..
            } => (*for_duration, *keep_firing_for),
            RuleKind::Recording { .. } => (Duration::ZERO, Duration::ZERO),
        };
        Timing {
            for_ms: for_duration.as_millis() as i64,
            keep_firing_for_ms: keep_firing_for.as_millis() as i64,
            limit: eval.limit,
        }
    }

    fn element(
        &self,
        context: &Context,
        labels: &Labels,
        value: f64,
        eval: EvalContext<'_>,
    ) -> Result<Element, String> {
        let is_template =
            |texts: &[(String, Text)]| texts.iter().any(|(_, text)| text.is_template());
        let mut query = |expr: &str| {
            let result = context.source.query(expr, eval.at_ms, eval.timeout);
            result.map_err(|error| error.to_string())
        };
        let mut env = Env {
            now_ms: eval.at_ms,
            external_url: &context.external_url,
            query: Some(&mut query),
            queries_left: 0,
        };
        // Templates see the labels of the element, including the metric name.
        let data = if is_template(&self.labels) || is_template(&self.annotations) {
            data(
                labels,
                &context.external_labels,
                &context.external_url,
                value,
            )
        } else {
            crate::template::Value::Nil
        };
        let mut builder = labels.to_builder();
        builder.remove(METRIC_NAME);
        for (name, text) in &self.labels {
            builder.set(name.as_str(), text.expand(&data, &mut env));
        }
        builder.set(ALERT_NAME, self.spec.name());
        let annotations = self
            .annotations
            .iter()
            .map(|(name, text)| (name.clone(), text.expand(&data, &mut env)));
        let annotations = annotations.collect();
        let labels = builder.build().map_err(|error| error.to_string())?;
        Ok(Element {
            labels,
            annotations,
            value,
        })
    }

    /// Stores changes without syncing them; the group does that. Returns whether there were any.
    fn persist(&self, context: &Context, transitions: &Transitions) -> bool {
        let mut has_changed = false;
        // Commit in batches, because the encoded changes of all alerts together could use much memory.
        for changes in persist::changes(&self.key, transitions) {
            has_changed = true;
            if let Err(error) = context.store.commit(changes, Durability::Written) {
                // Continue alerting. A restart may then repeat a notification, which is better than sending none.
                warn!(
                    rule = self.spec.name(),
                    error = chain(&error),
                    "store alert state"
                );
                break;
            }
        }
        has_changed
    }

    /// Returns the alerts to send now and stores the time at which they were sent.
    pub(super) fn due(
        &self,
        state: &mut RuleState,
        context: &Context,
        eval: EvalContext<'_>,
    ) -> Vec<AlertToSend> {
        if matches!(self.spec.kind, RuleKind::Recording { .. }) {
            return Vec::new();
        }
        let due = state.alerts.take_due(context.resend_delay, eval.at_ms);
        if due.is_empty() {
            return Vec::new();
        }
        let window_ms = 4 * eval.interval.max(context.resend_delay).as_millis() as i64;
        let url = self.generator_url(context);
        let outgoing = due
            .iter()
            .map(|alert| alert_to_send(context, alert, eval.at_ms + window_ms, &url))
            .collect();
        self.persist(
            context,
            &Transitions {
                changed: due,
                removed: Vec::new(),
            },
        );
        outgoing
    }

    fn generator_url(&self, context: &Context) -> String {
        let query = context.source.query_text(&self.spec.expr);
        let link = crate::template::rule::expression_link(&query, 1);
        format!("{}{link}", context.external_url.trim_end_matches('/'))
    }
}

/// Converts an alert for the notifier and adds the external labels.
fn alert_to_send(
    context: &Context,
    alert: &Alert,
    valid_until_ms: i64,
    generator_url: &str,
) -> AlertToSend {
    let external = context.external_labels.iter();
    let mut missing = external
        .filter(|(name, _)| alert.labels.get(name).is_none())
        .peekable();
    let labels = if missing.peek().is_none() {
        alert.labels.clone()
    } else {
        let mut labels = alert.labels.to_builder();
        missing.for_each(|(name, value)| labels.push(name, value));
        labels.build().unwrap_or_else(|_| alert.labels.clone())
    };
    AlertToSend {
        labels,
        annotations: alert.annotations.clone(),
        starts_at_ms: alert.fired_at_ms.unwrap_or(alert.active_at_ms),
        ends_at_ms: alert.resolved_at_ms.unwrap_or(valid_until_ms),
        is_resolved: alert.resolved_at_ms.is_some(),
        generator_url: generator_url.to_owned(),
    }
}

/// Returns the labels of an alert's series.
fn alert_series_labels(
    alert: &Alert,
    name: &str,
    state: Option<AlertState>,
) -> Result<Labels, String> {
    let mut builder = alert.labels.to_builder();
    builder.set(METRIC_NAME, name);
    if let Some(state) = state {
        builder.set("alertstate", state.as_str());
    }
    builder.build().map_err(|error| error.to_string())
}
