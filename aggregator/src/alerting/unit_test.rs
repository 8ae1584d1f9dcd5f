//! Unit tests of rules in promtool's format, with promtool's results.

mod file;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use common::model::{Labels, Sample};
use tidemark_alerting::annotations::Annotations;
use tidemark_alerting::rules::alert::AlertState;
use tidemark_alerting::rules::file::load;
use tidemark_alerting::rules::group::{Context, Group};
use tidemark_alerting::rules::manager::{Defaults, Manager};
use tidemark_alerting::rules::source::{
    EvaluationError, LabelledSink, RuleSample, Sink, Source, VectorElement,
};
use tidemark_alerting::store::MemoryStore as MemoryState;
use tidemark_promql::memory_store::MemoryStore;
use tidemark_promql::parser::series::{SequenceValue, SeriesDescription};
use tidemark_promql::{Engine, EngineOptions, Features, QueryOptions};
use tidemark_storage::ReadControl;

pub use self::file::TestFileError;
use self::file::{AlertTest, ExprTest, TestFile, TestGroup};
use super::plan::syntax;
use super::source::elements;

/// Most evaluations of one test group.
const EVALUATIONS_MAX: i64 = 10_000_000;

/// Runs the tests of a file. Returns the failures; none means success.
///
/// # Errors
/// The file, or a rule file it names, can't be used.
pub fn run(path: &Path) -> Result<Vec<String>, TestFileError> {
    let file = file::read(path)?;
    let mut failures = Vec::new();
    for group in &file.tests {
        failures.extend(run_group(&file, group)?);
    }
    Ok(failures)
}

/// Series of a test, and the samples that rules add.
pub(super) struct TestSource {
    series: Arc<Mutex<MemoryStore>>,
    engine: Engine,
}

impl TestSource {
    /// Creates an empty source. `default_step` is the default of subqueries.
    pub(super) fn new(default_step: Duration) -> Self {
        let options = EngineOptions {
            default_step,
            ..EngineOptions::default()
        };
        Self {
            series: Arc::new(Mutex::new(MemoryStore::new())),
            engine: Engine::new(options),
        }
    }

    /// The series.
    pub(super) fn series(&self) -> MutexGuard<'_, MemoryStore> {
        self.series.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Source for TestSource {
    fn query(
        &self,
        expr: &str,
        time_ms: i64,
        _: Duration,
    ) -> Result<Vec<VectorElement>, EvaluationError> {
        let control = ReadControl::unlimited();
        let options = QueryOptions {
            lookback_delta: None,
            control: &control,
            deadline: None,
            per_step_stats: false,
        };
        let series = self.series();
        let result = self.engine.instant(&*series, expr, time_ms, &options);
        Ok(elements(result.map_err(|error| error.to_string())?.value)?)
    }

    fn append(&self, samples: &[RuleSample]) -> Result<u64, String> {
        let mut series = self.series();
        for sample in samples {
            add(&mut series, sample);
        }
        Ok(0)
    }

    fn open(&self, _: &str) -> Box<dyn Sink> {
        let series = Arc::clone(&self.series);
        Box::new(LabelledSink::new(move |sample: RuleSample| {
            let mut series = series.lock().unwrap_or_else(PoisonError::into_inner);
            add(&mut series, &sample);
        }))
    }
}

fn add(series: &mut MemoryStore, sample: &RuleSample) {
    let (timestamp_ms, value) = (sample.timestamp_ms, sample.value);
    series.add(
        &sample.labels,
        Sample {
            timestamp_ms,
            value,
        },
    );
}

/// A running test group.
struct Run<'a> {
    file: &'a TestFile,
    test: &'a TestGroup,
    source: Arc<TestSource>,
    context: Context,
    groups: Vec<Arc<Group>>,
    failures: Vec<String>,
}

fn run_group(file: &TestFile, test: &TestGroup) -> Result<Vec<String>, TestFileError> {
    let source = Arc::new(TestSource::new(file.evaluation_interval));
    let context = Context {
        source: Arc::clone(&source) as Arc<dyn Source>,
        store: Arc::new(MemoryState::default()),
        external_labels: Labels::from_pairs(test.external_labels.clone()).unwrap_or_default(),
        external_url: test.external_url.clone(),
        resend_delay: Duration::from_secs(60),
        outage_tolerance: Duration::from_secs(3600),
    };
    let manager = Manager::new(&context);
    let files =
        load(&file.rule_files, &syntax(Features::default())).map_err(TestFileError::Rules)?;
    let defaults = Defaults {
        interval: test.interval,
        query_offset: Duration::ZERO,
    };
    manager.load(&context, files, defaults, 0);
    let mut groups = manager.groups();
    groups.sort_by_key(|group| {
        file.group_order
            .iter()
            .position(|name| *name == group.name)
            .unwrap_or(0)
    });
    let mut run = Run {
        file,
        test,
        source,
        context,
        groups,
        failures: Vec::new(),
    };
    run.all();
    let name = if test.name.is_empty() {
        String::new()
    } else {
        format!("    name: {},\n", test.name)
    };
    Ok(run
        .failures
        .into_iter()
        .map(|failure| format!("{name}{failure}"))
        .collect())
}

impl Run<'_> {
    fn all(&mut self) {
        let end_ms = self.test.end_ms();
        let step_ms = (self.file.evaluation_interval.as_millis() as i64).max(1);
        if end_ms / step_ms > EVALUATIONS_MAX {
            self.failures
                .push(format!("    more than {EVALUATIONS_MAX} evaluations"));
            return;
        }
        let mut loaded = 0;
        let mut now_ms = 0;
        while now_ms <= end_ms {
            loaded = self.load_until(now_ms, loaded);
            for group in &self.groups {
                group.evaluate(&self.context, now_ms);
            }
            if self.evaluation_failed(now_ms) {
                return;
            }
            for test in self
                .test
                .alert_tests
                .iter()
                .filter(|test| (now_ms..now_ms + step_ms).contains(&test.eval_ms))
            {
                let failure = self.check_alerts(test);
                self.failures.extend(failure);
            }
            now_ms += step_ms;
        }
        // Expressions see all samples up to the end of the test.
        self.load_until(end_ms, loaded);
        for test in &self.test.expr_tests {
            let failure = self.check_expr(test);
            self.failures.extend(failure);
        }
    }

    /// Loads samples up to a time, since rules must not see later ones. Returns how many steps are loaded.
    fn load_until(&self, now_ms: i64, loaded: i64) -> i64 {
        let step_ms = (self.test.interval.as_millis() as i64).max(1);
        let wanted = now_ms / step_ms + 1;
        let mut series = self.source.series();
        for SeriesDescription { labels, values } in &self.test.series {
            for step in loaded..wanted {
                let value = usize::try_from(step).ok().and_then(|step| values.get(step));
                if let Some(&SequenceValue::Float(value)) = value {
                    series.add(
                        labels,
                        Sample {
                            timestamp_ms: step * step_ms,
                            value,
                        },
                    );
                }
            }
        }
        wanted.max(loaded)
    }

    fn evaluation_failed(&mut self, now_ms: i64) -> bool {
        let before = self.failures.len();
        for rule in self.groups.iter().flat_map(|group| &group.rules) {
            if let Some(error) = &rule.state().last_error {
                let time = file::time(now_ms);
                self.failures.push(format!(
                    "    rule: {}, time: {time}, err: {error}",
                    rule.spec.name()
                ));
            }
        }
        self.failures.len() > before
    }

    fn check_alerts(&self, test: &AlertTest) -> Option<String> {
        let mut got = Vec::new();
        for rule in self.groups.iter().flat_map(|group| &group.rules) {
            if rule.spec.name() == test.alert_name {
                let state = rule.state();
                let firing = state
                    .alerts
                    .active()
                    .filter(|alert| alert.state == AlertState::Firing);
                got.extend(firing.map(|alert| (alert.labels.clone(), alert.annotations.clone())));
            }
        }
        got.sort();
        let mut want = test.want.clone();
        want.sort();
        if got == want {
            return None;
        }
        let time = file::time(test.eval_ms);
        let (want, got) = (alerts_text(&want), alerts_text(&got));
        Some(format!(
            "    alertname: {}, time: {time},\n        exp:{want},\n        got:{got}",
            test.alert_name
        ))
    }

    fn check_expr(&self, test: &ExprTest) -> Option<String> {
        let head = format!(
            "    expr: {:?}, time: {}",
            test.expr,
            file::time(test.eval_ms)
        );
        if test.has_histogram {
            return Some(format!("{head}, err: native histograms are not supported"));
        }
        let mut got = match self.source.query(&test.expr, test.eval_ms, Duration::MAX) {
            Ok(got) => got,
            Err(error) => return Some(format!("{head}, err: {error}")),
        };
        got.sort_by(|a, b| a.0.cmp(&b.0));
        let mut want = test.want.clone();
        want.sort_by(|a, b| a.0.cmp(&b.0));
        let is_same =
            |(a, b): (&VectorElement, &VectorElement)| a.0 == b.0 && self.is_same(a.1, b.1);
        if got.len() == want.len() && got.iter().zip(&want).all(is_same) {
            return None;
        }
        let text = |samples: &[VectorElement]| {
            let lines: Vec<String> = samples
                .iter()
                .map(|(labels, value)| format!("{labels} {value:E}"))
                .collect();
            if lines.is_empty() {
                "nil".to_owned()
            } else {
                lines.join(", ")
            }
        };
        Some(format!(
            "{head},\n        exp: {}\n        got: {}",
            text(&want),
            text(&got)
        ))
    }

    /// Returns whether two values are equal; with `fuzzy_compare` they may differ by one unit in the last place.
    fn is_same(&self, a: f64, b: f64) -> bool {
        let is_near = a == b.next_up() || a == b.next_down();
        a == b || (a.is_nan() && b.is_nan()) || (self.file.fuzzy_compare && is_near)
    }
}

fn alerts_text(alerts: &[(Labels, Annotations)]) -> String {
    let lines: Vec<String> = alerts
        .iter()
        .enumerate()
        .map(|(index, (labels, annotations))| {
            format!("\n            {index}:\n              Labels:{labels}\n              Annotations:{annotations}")
        })
        .collect();
    format!("[{}\n            ]", lines.join(""))
}

/// Returns the existing rule files of `paths`, with patterns expanded relative to `folder`.
fn expand(folder: &Path, patterns: &[String]) -> Vec<PathBuf> {
    patterns
        .iter()
        .flat_map(|pattern| common::glob::expand(&folder.join(pattern)))
        .collect()
}

/// Builds labels from pairs; invalid ones are an error of the file.
fn labels(pairs: Vec<(String, String)>) -> Result<Labels, String> {
    let map: BTreeMap<String, String> = pairs.into_iter().collect();
    Labels::from_pairs(map).map_err(|error| error.to_string())
}
