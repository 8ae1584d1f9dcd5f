//! The 18 queries of dashboards, alerting rules and variable drop-downs.

use crate::corpus::{PodNames, Shape};

/// A request to the HTTP API.
#[derive(Debug, Clone)]
pub(super) struct Question {
    /// Number and topic.
    pub(super) name: &'static str,
    pub(super) kind: QuestionKind,
}

/// The endpoint and its parameters.
#[derive(Debug, Clone)]
pub(super) enum QuestionKind {
    Instant {
        expr: String,
    },
    Range {
        expr: String,
        /// From the start to the end of the range.
        window_s: i64,
        step_s: i64,
    },
    LabelValues {
        label: &'static str,
        /// A series selector.
        selector: String,
    },
    Series {
        /// A series selector.
        selector: String,
    },
}

const HOUR_S: i64 = 3600;

fn instant(name: &'static str, expr: impl Into<String>) -> Question {
    let kind = QuestionKind::Instant { expr: expr.into() };
    Question { name, kind }
}

fn range(name: &'static str, hours: i64, step_s: i64, expr: impl Into<String>) -> Question {
    let kind = QuestionKind::Range {
        expr: expr.into(),
        window_s: hours * HOUR_S,
        step_s,
    };
    Question { name, kind }
}

/// Returns all questions for a corpus of this shape.
pub(super) fn questions(shape: &Shape) -> Vec<Question> {
    let place = PodNames::of(shape, shape.nodes / 2, 7);
    let (ns, pod, app) = (&place.namespace, &place.pod, place.app);
    let container = "container!=\"\"";
    let mut questions = vec![
        instant(
            "01 instant, one series",
            format!(
                "container_memory_working_set_bytes{{namespace=\"{ns}\",pod=\"{pod}\",container=\"{app}\"}}"
            ),
        ),
        range(
            "02 one series, 1h/15s",
            1,
            15,
            format!(
                "container_memory_working_set_bytes{{namespace=\"{ns}\",pod=\"{pod}\",container=\"{app}\"}}"
            ),
        ),
        range(
            "03 rate of a pod's containers, 1h/15s",
            1,
            15,
            format!(
                "rate(container_cpu_usage_seconds_total{{namespace=\"{ns}\",pod=\"{pod}\",{container}}}[5m])"
            ),
        ),
        instant(
            "04 sum by ns of rate, all containers, instant",
            format!(
                "sum by (namespace) (rate(container_cpu_usage_seconds_total{{{container}}}[5m]))"
            ),
        ),
        range(
            "05 sum by ns of rate, all containers, 1h/60s",
            1,
            60,
            format!(
                "sum by (namespace) (rate(container_cpu_usage_seconds_total{{{container}}}[5m]))"
            ),
        ),
        instant(
            "06 topk 10 pods by memory, instant",
            format!(
                "topk(10, sum by (namespace, pod) (container_memory_working_set_bytes{{{container}}}))"
            ),
        ),
        range(
            "07 p95 histogram of one ns by app, 1h/30s",
            1,
            30,
            format!(
                "histogram_quantile(0.95, sum by (app, le) (rate(http_request_duration_seconds_bucket{{namespace=\"{ns}\"}}[5m])))"
            ),
        ),
        range(
            "08 one ns by pod, 6h/30s",
            6,
            30,
            format!(
                "sum by (pod) (rate(container_cpu_usage_seconds_total{{namespace=\"{ns}\",{container}}}[5m]))"
            ),
        ),
    ];
    questions.extend(more_questions(&place));
    questions
}

fn more_questions(place: &PodNames) -> Vec<Question> {
    let (ns, pod) = (&place.namespace, &place.pod);
    vec![
        instant(
            "09 high-cardinality pod regex, instant",
            "sum by (namespace) (container_memory_rss{pod=~\"(api|web)-v[12]-.*-.*[0-7]\",container!=\"\"})",
        ),
        range(
            "10 node CPU use by node, 1h/30s",
            1,
            30,
            "1 - avg by (instance) (rate(node_cpu_seconds_total{mode=\"idle\"}[5m]))",
        ),
        instant(
            "11 memory over limit, join by pod, instant",
            "sum by (namespace, pod) (container_memory_working_set_bytes{container!=\"\"}) / on (namespace, pod) sum by (namespace, pod) (kube_pod_container_resource_limits{resource=\"memory\"})",
        ),
        range(
            "12 deployment prefix regex, 1h/30s",
            1,
            30,
            format!(
                "sum by (pod) (rate(container_cpu_usage_seconds_total{{namespace=\"{ns}\",pod=~\"cart-v1-.*\",container!=\"\"}}[5m]))"
            ),
        ),
        instant(
            "13 max_over_time 1h of one ns",
            format!("max_over_time(container_memory_working_set_bytes{{namespace=\"{ns}\"}}[1h])"),
        ),
        instant(
            "14 alert: restarts in 15m, all pods",
            "increase(kube_pod_container_status_restarts_total[15m]) > 0",
        ),
        instant(
            "15 count by name, all container metrics",
            "count by (__name__) ({__name__=~\"container_.*\"})",
        ),
        Question {
            name: "16 label values: namespace",
            kind: QuestionKind::LabelValues {
                label: "namespace",
                selector: "container_memory_working_set_bytes".to_owned(),
            },
        },
        Question {
            name: "17 label values: pod of one ns",
            kind: QuestionKind::LabelValues {
                label: "pod",
                selector: format!("{{namespace=\"{ns}\"}}"),
            },
        },
        Question {
            name: "18 series of one pod",
            kind: QuestionKind::Series {
                selector: format!("{{namespace=\"{ns}\",pod=\"{pod}\"}}"),
            },
        },
    ]
}

impl Question {
    /// Returns path and query of the request, for data up to `end_ms`.
    pub(super) fn path(&self, end_ms: i64, nocache: bool) -> String {
        let end_s = end_ms / 1000;
        let mut form = form_urlencoded::Serializer::new(String::new());
        if nocache {
            form.append_pair("nocache", "1");
        }
        let endpoint = match &self.kind {
            QuestionKind::Instant { expr } => {
                form.append_pair("query", expr);
                form.append_pair("time", &end_s.to_string());
                "query".to_owned()
            }
            QuestionKind::Range {
                expr,
                window_s,
                step_s,
            } => {
                // Grafana aligns both ends to the step.
                let end_s = end_s / step_s * step_s;
                form.append_pair("query", expr);
                form.append_pair("start", &(end_s - window_s).to_string());
                form.append_pair("end", &end_s.to_string());
                form.append_pair("step", &step_s.to_string());
                "query_range".to_owned()
            }
            QuestionKind::LabelValues { label, selector } => {
                metadata_range(&mut form, selector, end_s);
                format!("label/{label}/values")
            }
            QuestionKind::Series { selector } => {
                metadata_range(&mut form, selector, end_s);
                "series".to_owned()
            }
        };
        format!("/api/v1/{endpoint}?{}", form.finish())
    }

    /// Returns the step between two end times.
    pub(super) const fn step_ms(&self) -> i64 {
        match self.kind {
            QuestionKind::Range { step_s, .. } => step_s * 1000,
            _ => 10_000,
        }
    }
}

fn metadata_range(form: &mut form_urlencoded::Serializer<'_, String>, selector: &str, end_s: i64) {
    form.append_pair("match[]", selector);
    form.append_pair("start", &(end_s - HOUR_S).to_string());
    form.append_pair("end", &end_s.to_string());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_18_questions_with_complete_requests() {
        let shape = Shape {
            nodes: 10,
            start_ms: 1_790_000_000_000,
            step_ms: 10_000,
            scrapes: 360,
        };
        let questions = questions(&shape);
        assert_eq!(questions.len(), 18);
        for (index, question) in questions.iter().enumerate() {
            assert!(question.name.starts_with(&format!("{:02} ", index + 1)));
        }
        assert_eq!(
            questions[15].path(1_790_003_600_000, false),
            "/api/v1/label/namespace/values?match%5B%5D=container_memory_working_set_bytes&start=1790000000&end=1790003600"
        );
        let range = questions[9].path(1_790_000_012_345, true);
        assert!(
            range.starts_with("/api/v1/query_range?nocache=1&query=1+-+avg"),
            "{range}"
        );
        assert!(
            range.ends_with("&start=1789996410&end=1790000010&step=30"),
            "{range}"
        );
    }
}
