//! Selected families of the kubelet's own `/metrics`.

use std::collections::HashMap;
use std::sync::Arc;

use common::exposition::{ExpositionLine, ParseError, Parser};
use common::model::{Labels, Metadata, MetricType};

/// Default families: those that kubernetes-mixin's dashboards, rules and alerts select. A kubelet has five times as many series.
pub const FAMILIES: &str = "go_goroutines,\
kubelet_certificate_manager_client_expiration_renew_errors,kubelet_certificate_manager_client_ttl_seconds,\
kubelet_certificate_manager_server_ttl_seconds,kubelet_cgroup_manager_duration_seconds,kubelet_evictions,kubelet_node_config_error,\
kubelet_node_name,kubelet_pleg_relist_duration_seconds,kubelet_pleg_relist_interval_seconds,\
kubelet_pod_start_duration_seconds,kubelet_pod_worker_duration_seconds,kubelet_running_containers,\
kubelet_running_pods,kubelet_runtime_operations_duration_seconds,kubelet_runtime_operations_errors_total,\
kubelet_runtime_operations_total,kubelet_server_expiration_renew_errors,kubernetes_build_info,process_cpu_seconds_total,\
process_resident_memory_bytes,rest_client_request_duration_seconds,rest_client_requests_total,\
storage_operation_duration_seconds,storage_operation_errors_total,volume_manager_total_volumes";

/// Families that the summary already provides under the same names and labels.
const OF_THE_SUMMARY: &str = "kubelet_volume_stats_";

/// Suffixes of the members of histograms and summaries.
const SUFFIXES: [&str; 3] = ["_bucket", "_sum", "_count"];

/// Largest number of samples in one answer.
const SAMPLES_MAX: usize = 10_000;

/// The families that `--kubelet.metrics` names.
#[derive(Debug, Clone, Default)]
pub struct Families(Vec<String>);

/// A name in `--kubelet.metrics` is not allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("--kubelet.metrics: {0} comes from the kubelet's summary already")]
pub struct FamilyError(String);

impl Families {
    /// Creates the set of `names`; empty names are skipped.
    ///
    /// # Errors
    /// A family would duplicate series that the agent has from another source.
    pub fn new(names: &[String]) -> Result<Self, FamilyError> {
        let mut names: Vec<String> = names
            .iter()
            .map(|name| name.trim().to_owned())
            .filter(|name| !name.is_empty())
            .collect();
        names.sort_unstable();
        names.dedup();
        match names.iter().find(|name| name.starts_with(OF_THE_SUMMARY)) {
            Some(name) => Err(FamilyError(name.clone())),
            None => Ok(Self(names)),
        }
    }

    /// Returns whether the set is empty, so that no request is needed.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn has(&self, family: &str) -> bool {
        self.0.binary_search_by(|name| (**name).cmp(family)).is_ok()
    }

    /// Returns the family of a metric name, if it is selected.
    fn of<'a>(&self, name: &'a str) -> Option<&'a str> {
        let stem = |suffix: &&str| name.strip_suffix(*suffix);
        let mut candidates = std::iter::once(name).chain(SUFFIXES.iter().filter_map(stem));
        candidates.find(|family| self.has(family))
    }
}

/// One sample.
#[derive(Debug, Clone)]
pub struct MetricSample {
    /// All labels, including the metric name.
    pub labels: Labels,
    /// Type and help of its family.
    pub metadata: Arc<Metadata>,
    /// Value.
    pub value: f64,
}

impl MetricSample {
    /// Returns the family: for a histogram or summary, the name without its suffix.
    #[must_use]
    pub fn family(&self) -> &str {
        let name = self.labels.metric_name().unwrap_or_default();
        let has_members = matches!(
            self.metadata.metric_type,
            MetricType::Histogram | MetricType::Summary
        );
        let suffixes: &[&str] = if has_members { &SUFFIXES } else { &[] };
        let mut stems = suffixes
            .iter()
            .filter_map(|suffix| name.strip_suffix(suffix));
        stems.next().unwrap_or(name)
    }
}

/// The selected families of one answer.
///
/// **Invariant:** the labels of the samples are strictly ascending.
#[derive(Debug, Clone, Default)]
pub struct KubeletMetrics {
    /// Samples.
    pub samples: Vec<MetricSample>,
}

/// Why an answer was rejected.
#[derive(Debug, thiserror::Error)]
pub enum MetricsError {
    /// The answer is not UTF-8.
    #[error("not UTF-8")]
    NotUtf8(#[from] std::str::Utf8Error),
    /// A line is malformed.
    #[error(transparent)]
    Line(#[from] ParseError),
    /// The last line is incomplete.
    #[error("ends within a line")]
    Torn,
    /// The answer has none of the selected families, so the endpoint is probably not a kubelet's.
    #[error("no sample of the families of --kubelet.metrics")]
    Nothing,
    /// The answer has too many samples.
    #[error("more than {SAMPLES_MAX} samples in the families of --kubelet.metrics")]
    TooMany,
}

impl KubeletMetrics {
    /// Parses the samples of `families` from the text exposition format. Lines of other families, four out of five, are skipped
    /// without parsing. Of duplicate samples the first one wins.
    ///
    /// # Errors
    /// See [`MetricsError`]. A partly valid answer yields nothing.
    pub fn parse(body: &[u8], families: &Families) -> Result<Self, MetricsError> {
        let text = std::str::from_utf8(body)?;
        if !text.ends_with('\n') {
            return Err(MetricsError::Torn);
        }
        let mut metadata: HashMap<&str, Metadata> = HashMap::new();
        let mut shared: HashMap<&str, Arc<Metadata>> = HashMap::new();
        let mut samples = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let Some(family) = families.of(subject(line)) else {
                continue;
            };
            let at_line = |error: ParseError| ParseError {
                line: index + 1,
                ..error
            };
            match Parser::new(line).next().transpose().map_err(at_line)? {
                Some(ExpositionLine::Help { text, .. }) => {
                    metadata.entry(family).or_default().help = text.into_owned();
                }
                Some(ExpositionLine::Type { metric_type, .. }) => {
                    metadata.entry(family).or_default().metric_type = metric_type;
                }
                Some(ExpositionLine::Sample { labels, value, .. }) => {
                    let metadata = shared.entry(family).or_insert_with(|| {
                        // Help and type precede the samples.
                        Arc::new(metadata.get(family).cloned().unwrap_or_default())
                    });
                    samples.push(MetricSample {
                        labels,
                        metadata: Arc::clone(metadata),
                        value,
                    });
                }
                None => {}
            }
            if samples.len() > SAMPLES_MAX {
                return Err(MetricsError::TooMany);
            }
        }
        if samples.is_empty() {
            return Err(MetricsError::Nothing);
        }
        samples.sort_by(|a, b| a.labels.cmp(&b.labels));
        samples.dedup_by(|later, first| later.labels == first.labels);
        Ok(Self { samples })
    }
}

/// Returns the name that a line is about: of its sample, or of the family in a comment.
fn subject(line: &str) -> &str {
    let line = line.trim_start();
    if let Some(comment) = line.strip_prefix('#') {
        return comment.split_ascii_whitespace().nth(1).unwrap_or_default();
    }
    line.split(['{', ' ', '\t']).next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn families(names: &str) -> Families {
        let names: Vec<String> = names.split(',').map(str::to_owned).collect();
        Families::new(&names).unwrap()
    }

    const TEXT: &str = "\
# HELP other_seconds Not asked for.
# TYPE other_seconds nonsense
other_seconds{broken 1
# HELP runs_seconds Time of a run.
# TYPE runs_seconds histogram
runs_seconds_bucket{kind=\"b\",le=\"+Inf\"} 2
runs_seconds_bucket{kind=\"a\",le=\"+Inf\"} 3
runs_seconds_sum{kind=\"a\"} 0.5
runs_seconds_count{kind=\"a\"} 3 1700000000000
runs_seconds_count{kind=\"a\"} 4
runs_seconds_max 9
# TYPE pods gauge
pods 17
";

    #[test]
    fn chosen_families_are_read_with_their_suffixes_and_no_others() {
        let metrics =
            KubeletMetrics::parse(TEXT.as_bytes(), &families("runs_seconds,pods")).unwrap();
        let found: Vec<(String, f64)> = metrics
            .samples
            .iter()
            .map(|sample| (sample.labels.to_string(), sample.value))
            .collect();
        let expected = [
            ("{__name__=\"pods\"}", 17.0),
            (
                "{__name__=\"runs_seconds_bucket\", kind=\"a\", le=\"+Inf\"}",
                3.0,
            ),
            (
                "{__name__=\"runs_seconds_bucket\", kind=\"b\", le=\"+Inf\"}",
                2.0,
            ),
            ("{__name__=\"runs_seconds_count\", kind=\"a\"}", 3.0),
            ("{__name__=\"runs_seconds_sum\", kind=\"a\"}", 0.5),
        ];
        assert_eq!(
            found,
            expected.map(|(labels, value)| (labels.to_owned(), value))
        );
        let histogram = &metrics.samples[1].metadata;
        assert_eq!(histogram.metric_type, MetricType::Histogram);
        assert_eq!(histogram.help, "Time of a run.");
        let of: Vec<&str> = metrics.samples.iter().map(MetricSample::family).collect();
        assert_eq!(
            of,
            [
                "pods",
                "runs_seconds",
                "runs_seconds",
                "runs_seconds",
                "runs_seconds"
            ]
        );
    }

    #[test]
    fn bad_line_of_a_chosen_family_refuses_the_answer_by_its_number() {
        let error = KubeletMetrics::parse(b"pods 1\n\npods{a=\"b\"} x\n", &families("pods"));
        let MetricsError::Line(error) = error.unwrap_err() else {
            panic!("another error");
        };
        assert_eq!(error.line, 3);
        let parse = |body: &[u8]| KubeletMetrics::parse(body, &families("pods")).unwrap_err();
        assert!(matches!(parse(b"pods 1\n\xff"), MetricsError::NotUtf8(_)));
        assert!(matches!(parse(b"pods 1\npods{a"), MetricsError::Torn));
        assert!(matches!(
            parse(b"{\"kind\":\"Status\"}\n"),
            MetricsError::Nothing
        ));
    }

    #[test]
    fn samples_are_bounded() {
        let lines = |count: usize| {
            let lines = (0..count).map(|number| format!("pods{{n=\"{number}\"}} 1\n"));
            lines.collect::<String>()
        };
        let parse = |count| KubeletMetrics::parse(lines(count).as_bytes(), &families("pods"));
        assert_eq!(parse(SAMPLES_MAX).unwrap().samples.len(), SAMPLES_MAX);
        assert!(matches!(parse(SAMPLES_MAX + 1), Err(MetricsError::TooMany)));
    }

    #[test]
    fn families_of_the_summary_are_refused() {
        assert!(Families::new(&[String::new()]).unwrap().is_empty());
        let names = ["kubelet_volume_stats_used_bytes".to_owned()];
        let error = Families::new(&names).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("kubelet_volume_stats_used_bytes")
        );
    }
}
