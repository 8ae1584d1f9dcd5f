//! The format of test files.

use std::path::{Path, PathBuf};
use std::time::Duration;

use common::model::Labels;
use common::yaml::{self, Fields, Issue, Issues, Node};
use tidemark_alerting::annotations::Annotations;
use tidemark_alerting::rules::file::FileError;
use tidemark_alerting::rules::source::VectorElement;
use tidemark_promql::parser::series::{
    SequenceValue, SeriesDescription, parse_metric_prefix, parse_series,
};

use super::{expand, labels};

/// Why tests could not run.
#[derive(Debug, thiserror::Error)]
pub enum TestFileError {
    /// The test file can't be read.
    #[error("read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// The test file has mistakes.
    #[error("{}: {issues}", path.display())]
    Bad {
        /// The file.
        path: PathBuf,
        /// The mistakes and their positions.
        issues: String,
    },
    /// A rule file is invalid.
    #[error("{}", .0.iter().map(|error| crate::report::chain(error)).collect::<Vec<_>>().join("\n"))]
    Rules(Vec<FileError>),
}

/// A test file.
#[derive(Debug)]
pub(super) struct TestFile {
    pub(super) rule_files: Vec<PathBuf>,
    pub(super) evaluation_interval: Duration,
    pub(super) group_order: Vec<String>,
    pub(super) fuzzy_compare: bool,
    pub(super) tests: Vec<TestGroup>,
}

/// Series, and the expected results.
#[derive(Debug)]
pub(super) struct TestGroup {
    pub(super) name: String,
    pub(super) interval: Duration,
    pub(super) series: Vec<SeriesDescription>,
    pub(super) alert_tests: Vec<AlertTest>,
    pub(super) expr_tests: Vec<ExprTest>,
    pub(super) external_labels: Vec<(String, String)>,
    pub(super) external_url: String,
}

/// The alerts that must fire at a time.
#[derive(Debug)]
pub(super) struct AlertTest {
    pub(super) eval_ms: i64,
    pub(super) alert_name: String,
    pub(super) want: Vec<(Labels, Annotations)>,
}

/// The result that an expression must have at a time.
#[derive(Debug)]
pub(super) struct ExprTest {
    pub(super) expr: String,
    pub(super) eval_ms: i64,
    pub(super) want: Vec<VectorElement>,
    pub(super) has_histogram: bool,
}

impl TestGroup {
    /// Returns the last time that a test needs.
    pub(super) fn end_ms(&self) -> i64 {
        let alerts = self.alert_tests.iter().map(|test| test.eval_ms);
        alerts
            .chain(self.expr_tests.iter().map(|test| test.eval_ms))
            .max()
            .unwrap_or(0)
    }
}

/// Formats a time since the start as promtool does.
pub(super) fn time(time_ms: i64) -> String {
    let time = Duration::from_millis(u64::try_from(time_ms).unwrap_or(0));
    common::duration::Display(time).to_string()
}

pub(super) fn read(path: &Path) -> Result<TestFile, TestFileError> {
    let text = std::fs::read_to_string(path).map_err(|source| TestFileError::Read {
        path: path.to_path_buf(),
        source,
    })?;
    let bad = |issues: &[Issue]| {
        let lines: Vec<String> = issues.iter().map(ToString::to_string).collect();
        TestFileError::Bad {
            path: path.to_path_buf(),
            issues: lines.join("\n"),
        }
    };
    let document = yaml::read_tree(&text).map_err(|issue| bad(&[issue]))?;
    let mut issues = Issues::new();
    let folder = path.parent().unwrap_or_else(|| Path::new("."));
    let file = match &document {
        Some(document) => read_file(document, folder, &mut issues),
        None => {
            return Err(bad(&[Issue::new(
                yaml::Position::default(),
                "the file is empty",
            )]));
        }
    };
    if issues.is_empty() {
        Ok(file)
    } else {
        Err(bad(&issues))
    }
}

fn read_file(document: &Node, folder: &Path, issues: &mut Issues) -> TestFile {
    let mut fields = Fields::new(document, "main.unitTestFile", issues);
    let patterns = fields
        .take("rule_files")
        .map_or_else(Vec::new, |node| node.read_texts(issues));
    let interval = fields
        .duration("evaluation_interval", issues)
        .filter(|interval| !interval.is_zero());
    let evaluation_interval = interval.unwrap_or(Duration::from_secs(60));
    let group_order = fields
        .take("group_eval_order")
        .map_or_else(Vec::new, |node| node.read_texts(issues));
    let fuzzy_compare = fields.bool("fuzzy_compare", issues).unwrap_or(false);
    let tests = fields
        .take("tests")
        .map_or(&[][..], |node| node.read_list("[]main.testGroup", issues));
    let tests = tests
        .iter()
        .map(|test| read_test(test, evaluation_interval, issues))
        .collect();
    fields.finish(issues);
    TestFile {
        rule_files: expand(folder, &patterns),
        evaluation_interval,
        group_order,
        fuzzy_compare,
        tests,
    }
}

fn read_test(node: &Node, evaluation_interval: Duration, issues: &mut Issues) -> TestGroup {
    let mut fields = Fields::new(node, "main.testGroup", issues);
    let interval = fields
        .duration("interval", issues)
        .filter(|interval| !interval.is_zero());
    let mut list = |name: &str| {
        fields
            .take(name)
            .map_or(&[][..], |node| node.read_list("[]", issues))
    };
    let (series, alerts, exprs) = (
        list("input_series"),
        list("alert_rule_test"),
        list("promql_expr_test"),
    );
    let group = TestGroup {
        name: fields.text("name", issues).unwrap_or_default(),
        interval: interval.unwrap_or(evaluation_interval),
        series: series
            .iter()
            .filter_map(|node| read_series(node, issues))
            .collect(),
        alert_tests: alerts.iter().map(|node| read_alert(node, issues)).collect(),
        expr_tests: exprs.iter().map(|node| read_expr(node, issues)).collect(),
        external_labels: fields
            .take("external_labels")
            .map_or_else(Vec::new, |node| node.read_pairs(issues)),
        external_url: fields.text("external_url", issues).unwrap_or_default(),
    };
    if let Some(node) = fields.take("start_timestamp") {
        issues.push(Issue::new(
            node.position,
            "start_timestamp is not supported",
        ));
    }
    fields.finish(issues);
    group
}

fn read_series(node: &Node, issues: &mut Issues) -> Option<SeriesDescription> {
    let mut fields = Fields::new(node, "main.series", issues);
    let series = fields.text("series", issues).unwrap_or_default();
    let values = fields.text("values", issues).unwrap_or_default();
    fields.finish(issues);
    match parse_series(&format!("{series} {values}")) {
        Ok(description) => {
            if description
                .values
                .iter()
                .any(|value| matches!(value, SequenceValue::Histogram))
            {
                tracing::debug!(series, "native histograms are skipped");
            }
            Some(description)
        }
        Err(error) => {
            issues.push(Issue::new(node.position, error.to_string()));
            None
        }
    }
}

fn eval_time(fields: &mut Fields<'_>, issues: &mut Issues) -> i64 {
    fields
        .duration("eval_time", issues)
        .unwrap_or_default()
        .as_millis() as i64
}

fn read_alert(node: &Node, issues: &mut Issues) -> AlertTest {
    let mut fields = Fields::new(node, "main.alertTestCase", issues);
    let eval_ms = eval_time(&mut fields, issues);
    let alert_name = fields.text("alertname", issues).unwrap_or_default();
    let items = fields
        .take("exp_alerts")
        .map_or(&[][..], |node| node.read_list("[]main.alert", issues));
    let mut want = Vec::with_capacity(items.len());
    for item in items {
        let mut alert = Fields::new(item, "main.alert", issues);
        let mut pairs = alert
            .take("exp_labels")
            .map_or_else(Vec::new, |node| node.read_pairs(issues));
        pairs.push(("alertname".to_owned(), alert_name.clone()));
        let annotations = alert
            .take("exp_annotations")
            .map_or_else(Vec::new, |node| node.read_pairs(issues));
        alert.finish(issues);
        match labels(pairs) {
            Ok(labels) => want.push((labels, annotations.into_iter().collect())),
            Err(error) => issues.push(Issue::new(item.position, error)),
        }
    }
    fields.finish(issues);
    if alert_name.is_empty() {
        issues.push(Issue::new(
            node.position,
            "an item under alert_rule_test misses required attribute alertname",
        ));
    }
    AlertTest {
        eval_ms,
        alert_name,
        want,
    }
}

fn read_expr(node: &Node, issues: &mut Issues) -> ExprTest {
    let mut fields = Fields::new(node, "main.promqlTestCase", issues);
    let mut test = ExprTest {
        expr: fields.text("expr", issues).unwrap_or_default(),
        eval_ms: eval_time(&mut fields, issues),
        want: Vec::new(),
        has_histogram: false,
    };
    for item in fields
        .take("exp_samples")
        .map_or(&[][..], |node| node.read_list("[]main.sample", issues))
    {
        let mut sample = Fields::new(item, "main.sample", issues);
        let text = sample.text("labels", issues).unwrap_or_default();
        let value = sample
            .text("value", issues)
            .unwrap_or_else(|| "0".to_owned());
        test.has_histogram |= sample.take("histogram").is_some();
        sample.finish(issues);
        match (parse_metric_prefix(&text), number(&value)) {
            (Ok((labels, _)), Some(value)) => test.want.push((labels, value)),
            (Err(error), _) => issues.push(Issue::new(item.position, error.to_string())),
            (_, None) => issues.push(Issue::new(
                item.position,
                format!("cannot unmarshal {value:?} into float64"),
            )),
        }
    }
    fields.finish(issues);
    test
}

/// Formats a float as YAML.
fn number(text: &str) -> Option<f64> {
    match text.to_ascii_lowercase().as_str() {
        ".inf" | "+.inf" | "inf" | "+inf" => Some(f64::INFINITY),
        "-.inf" | "-inf" => Some(f64::NEG_INFINITY),
        ".nan" | "nan" => Some(f64::NAN),
        plain => plain.parse().ok(),
    }
}
