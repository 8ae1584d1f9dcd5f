//! Runs test scripts in Prometheus' promqltest dialect: `load`, `eval instant`, `eval range`, `expect`, `clear`.

use std::fmt::Write as _;
use std::path::Path;

use common::model::{Labels, is_stale};
use tidemark_promql::parser::series::{
    SequenceValue, SeriesDescription, parse_metric_prefix, parse_series,
};
use tidemark_promql::{QueryError, QueryResult, RangeParams, Value};

/// Results of the evaluations of a script.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Evaluations with the expected result.
    pub(crate) passed: usize,
    /// Evaluations over native histograms, of which only the float series were checked.
    pub(crate) histograms: usize,
    /// Descriptions of the failures.
    pub(crate) failures: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum EvalTime {
    Instant(i64),
    Range(RangeParams),
}

#[derive(Debug, Default)]
struct Expectations {
    fail: bool,
    fail_message: Option<String>,
    fail_regex: Option<String>,
    ordered: bool,
    warn: bool,
    info: bool,
    messages: Vec<(String, String, bool)>,
    string: Option<String>,
    series: Vec<(Labels, Vec<SequenceValue>)>,
    scalar: Option<f64>,
    /// First and last time, and the step.
    range_vector: Option<(i64, i64, i64)>,
}

/// An implementation that scripts are run against.
pub(crate) trait Server {
    /// Removes all series.
    fn clear(&mut self);
    /// Adds series whose first value is at time 0, the others `step_ms` apart.
    fn load(&mut self, series: &[SeriesDescription], step_ms: i64);
    /// Evaluates a query with the features that scripts use.
    fn evaluate(&mut self, time: EvalTime, query: &str) -> Result<QueryResult, QueryError>;
}

/// Runs one script.
pub(crate) fn run(path: &Path, server: &mut dyn Server) -> Tally {
    let text = std::fs::read_to_string(path).unwrap();
    let name = path.file_name().unwrap().to_string_lossy().into_owned();
    let mut runner = Runner {
        name,
        server,
        histograms: Vec::new(),
        tally: Tally::default(),
    };
    let lines: Vec<&str> = text.lines().collect();
    let mut at = 0;
    while at < lines.len() {
        let line = lines[at].trim();
        let start = at;
        at += 1;
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let mut block = Vec::new();
        while at < lines.len() && !lines[at].trim().is_empty() {
            if lines[at].starts_with(|c: char| !c.is_whitespace()) && !lines[at].starts_with('#') {
                break;
            }
            let inner = lines[at].trim();
            if !inner.starts_with('#') {
                block.push(inner);
            }
            at += 1;
        }
        if let Err(problem) = runner.command(line, &block) {
            let failure = format!("{}:{}: {line}\n  {problem}", runner.name, start + 1);
            runner.tally.failures.push(failure);
        }
    }
    runner.tally
}

struct Runner<'s> {
    name: String,
    server: &'s mut dyn Server,
    /// Names of the native histograms.
    histograms: Vec<String>,
    tally: Tally,
}

impl Runner<'_> {
    fn command(&mut self, line: &str, block: &[&str]) -> Result<(), String> {
        let (command, rest) = line.split_once(' ').unwrap_or((line, ""));
        match command {
            "clear" => {
                self.server.clear();
                self.histograms.clear();
                Ok(())
            }
            "load" | "load_with_nhcb" => self.load(command, rest, block),
            _ => self.eval(line, block),
        }
    }

    fn load(&mut self, command: &str, step: &str, block: &[&str]) -> Result<(), String> {
        let step_ms = duration_ms(step.trim())?;
        let mut all = Vec::with_capacity(block.len());
        for line in block {
            let series = parse_series(line).map_err(|error| format!("{line}: {error}"))?;
            let name = series.labels.metric_name().unwrap_or("");
            let native = |value: &SequenceValue| matches!(value, SequenceValue::Histogram);
            if series.values.iter().any(native) {
                self.histograms.push(name.to_owned());
            }
            // This command converts each classic histogram to a native one with custom buckets.
            if command == "load_with_nhcb" {
                let base = ["_bucket", "_sum", "_count"]
                    .iter()
                    .find_map(|suffix| name.strip_suffix(suffix));
                self.histograms.extend(base.map(str::to_owned));
            }
            all.push(series);
        }
        self.server.load(&all, step_ms);
        Ok(())
    }

    fn eval(&mut self, line: &str, block: &[&str]) -> Result<(), String> {
        let (time, query, mut want) = parse_eval(line)?;
        let histogram =
            block.iter().any(|line| line.contains("{{")) || self.is_about_histograms(&query);
        for line in block {
            parse_expectation(line, &mut want)?;
        }
        let result = self.server.evaluate(time, &query);
        match compare(time, &want, &result, Extent::All) {
            None => self.tally.passed += 1,
            Some(_) if histogram => {
                let problem = compare(time, &want, &result, Extent::Floats);
                problem.map_or(Ok(()), Err)?;
                self.tally.histograms += 1;
            }
            Some(problem) => return Err(problem),
        }
        Ok(())
    }
}

impl Runner<'_> {
    /// Returns whether a query may select a native histogram.
    fn is_about_histograms(&self, query: &str) -> bool {
        let word = |char: char| char == '_' || char == ':' || char.is_ascii_alphanumeric();
        let named = query
            .split(|char| !word(char))
            .any(|name| self.histograms.iter().any(|histogram| histogram == name));
        named
            || (!self.histograms.is_empty() && (query.contains("__name__") || query.contains("({")))
    }
}

fn duration_ms(text: &str) -> Result<i64, String> {
    if let Ok(seconds) = text.parse::<f64>() {
        return Ok((seconds * 1000.0) as i64);
    }
    let parsed = tidemark_promql::parser::parse_duration_ms(text);
    parsed.map_err(|error| format!("{text}: {error}"))
}

fn parse_eval(line: &str) -> Result<(EvalTime, String, Expectations), String> {
    let mut want = Expectations::default();
    let (command, rest) = line.split_once(' ').unwrap_or((line, ""));
    match command {
        "eval_fail" => want.fail = true,
        "eval_ordered" => want.ordered = true,
        "eval_warn" => want.warn = true,
        "eval_info" => want.info = true,
        "eval" => {}
        other => return Err(format!("unknown command {other:?}")),
    }
    let rest = rest.trim();
    if let Some(rest) = rest.strip_prefix("instant at ") {
        let split = rest.trim().split_once(char::is_whitespace);
        let (time, query) = split.ok_or("no query")?;
        let time = EvalTime::Instant(duration_ms(time)?);
        return Ok((time, query.trim().to_owned(), want));
    }
    let parts = || {
        let rest = rest.strip_prefix("range from ")?;
        let (from, rest) = rest.split_once(" to ")?;
        let (to, rest) = rest.split_once(" step ")?;
        let (step, query) = rest.trim().split_once(char::is_whitespace)?;
        Some((from, to, step, query))
    };
    let (from, to, step, query) = parts().ok_or("neither an instant nor a range")?;
    let range = RangeParams {
        start_ms: duration_ms(from.trim())?,
        end_ms: duration_ms(to.trim())?,
        step_ms: duration_ms(step)?,
    };
    Ok((EvalTime::Range(range), query.trim().to_owned(), want))
}

fn parse_expectation(line: &str, want: &mut Expectations) -> Result<(), String> {
    if let Some(message) = line.strip_prefix("expected_fail_message ") {
        want.fail_message = Some(message.trim().to_owned());
        return Ok(());
    }
    if let Some(regex) = line.strip_prefix("expected_fail_regexp ") {
        want.fail_regex = Some(regex.trim().to_owned());
        return Ok(());
    }
    let Some(rest) = line.strip_prefix("expect ") else {
        return parse_value_line(line, want);
    };
    let rest = rest.trim();
    let (what, argument) = rest.split_once(' ').unwrap_or((rest, ""));
    let text = |prefix: &str| {
        argument
            .trim()
            .strip_prefix(prefix)
            .map(|text| text.trim().to_owned())
    };
    match what {
        "fail" => {
            want.fail = true;
            want.fail_message = text("msg:");
            want.fail_regex = text("regex:");
        }
        "ordered" => want.ordered = true,
        // The default.
        "no_warn" | "no_info" => {}
        "warn" | "info" => {
            if what == "warn" {
                want.warn = true;
            } else {
                want.info = true;
            }
            if let Some(message) = text("msg:") {
                want.messages.push((what.to_owned(), message, false));
            } else if let Some(regex) = text("regex:") {
                want.messages.push((what.to_owned(), regex, true));
            }
        }
        "string" => want.string = Some(argument.trim().trim_matches('"').to_owned()),
        "range" => {
            // `expect range vector from 10s to 1m step 10s`
            let times: Vec<_> = argument.split_whitespace().collect();
            let &["vector", "from", from, "to", to, "step", step] = &times[..] else {
                return Err(format!("{line:?} is not a range vector"));
            };
            let [from, to, step] = [from, to, step].map(duration_ms);
            want.range_vector = Some((from?, to?, step?));
        }
        other => return Err(format!("unknown expectation {other:?}")),
    }
    Ok(())
}

fn parse_value_line(line: &str, want: &mut Expectations) -> Result<(), String> {
    if let Some(number) = parse_scalar(line) {
        want.scalar = Some(number);
        return Ok(());
    }
    let wrong = |error: &dyn std::fmt::Display| format!("{line}: {error}");
    let (labels, _) = parse_metric_prefix(line).map_err(|error| wrong(&error))?;
    let series = parse_series(line).map_err(|error| wrong(&error))?;
    want.series.push((labels, series.values));
    Ok(())
}

fn parse_scalar(line: &str) -> Option<f64> {
    if line.contains('{') || line.contains(' ') {
        return None;
    }
    match line.trim_start_matches(['+', '-']) {
        "Inf" | "NaN" => line.parse().ok(),
        number if number.starts_with(|c: char| c.is_ascii_digit() || c == '.') => line.parse().ok(),
        _ => None,
    }
}

/// Which series are compared.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Extent {
    All,
    /// Those that both sides have and that are expected to have only floats. Native histograms are not supported, but the
    /// other series must be right.
    Floats,
}

/// Returns the difference, if any.
fn compare(
    time: EvalTime,
    want: &Expectations,
    result: &Result<QueryResult, QueryError>,
    extent: Extent,
) -> Option<String> {
    let result = match (result, want.fail) {
        (Ok(_), true) if extent == Extent::Floats => return None,
        (Ok(_), true) => return Some("expected a failure".to_owned()),
        (Err(error), false) => return Some(format!("failed: {error}")),
        (Err(error), true) => return compare_failure(want, &error.to_string()),
        (Ok(result), false) => result,
    };
    if let Some(problem) = compare_annotations(want, result).filter(|_| extent == Extent::All) {
        return Some(problem);
    }
    match (&result.value, time) {
        (Value::Scalar(sample), _) => {
            let Some(want) = want.scalar else {
                return Some(format!("no expectation for the scalar {}", sample.value));
            };
            (!almost(want, sample.value)).then(|| format!("want {want}, got {}", sample.value))
        }
        (Value::String { text, .. }, _) => {
            let got = String::from_utf8_lossy(text);
            let Some(want) = want.string.as_deref() else {
                return Some(format!("no expectation for the string {got:?}"));
            };
            (want != got).then(|| format!("want {want:?}, got {got:?}"))
        }
        (Value::Vector(vector), _) => {
            let got: Vec<_> = vector
                .iter()
                .map(|sample| (sample.labels.clone(), vec![(0, sample.sample.value)]))
                .collect();
            compare_series(want, &got, &[0], extent)
        }
        (Value::Matrix(matrix), _) => {
            let times: Vec<i64> = match (time, want.range_vector) {
                (_, Some((from, to, step))) => (0..)
                    .map(|i| from + step * i)
                    .take_while(|&t| t <= to)
                    .collect(),
                (EvalTime::Range(range), None) => (0..)
                    .map(|i| range.start_ms + range.step_ms * i)
                    .take_while(|&t| t <= range.end_ms)
                    .collect(),
                (EvalTime::Instant(_), None) => return Some("a matrix".to_owned()),
            };
            let got: Vec<_> = matrix
                .iter()
                .map(|series| {
                    let samples = series.samples.iter();
                    let samples = samples.map(|sample| (sample.timestamp_ms, sample.value));
                    (series.labels.clone(), samples.collect())
                })
                .collect();
            compare_series(want, &got, &times, extent)
        }
    }
}

fn compare_failure(want: &Expectations, got: &str) -> Option<String> {
    if let Some(message) = &want.fail_message
        && message != got
    {
        return Some(format!("want failure {message:?}, got {got:?}"));
    }
    if let Some(regex) = &want.fail_regex
        && !regex::Regex::new(regex).unwrap().is_match(got)
    {
        return Some(format!("want failure like {regex:?}, got {got:?}"));
    }
    None
}

fn compare_annotations(want: &Expectations, result: &QueryResult) -> Option<String> {
    let (warnings, infos) = (&result.warnings, &result.infos);
    // Unless a script mentions annotations, it expects none.
    if !want.warn && !warnings.is_empty() {
        return Some(format!("unexpected warnings {warnings:?}"));
    }
    if !want.info && !infos.is_empty() {
        return Some(format!("unexpected infos {infos:?}"));
    }
    if want.warn && warnings.is_empty() {
        return Some("expected a warning".to_owned());
    }
    if want.info && infos.is_empty() {
        return Some("expected an info".to_owned());
    }
    for (kind, texts) in [("warn", warnings), ("info", infos)] {
        let messages = want.messages.iter().filter(|(of, ..)| of == kind);
        let messages: Vec<_> = messages.collect();
        if let Some((_, message, _)) = messages
            .iter()
            .find(|message| !texts.iter().any(|text| is_message(message, text)))
        {
            return Some(format!("want {kind} {message:?}, got {texts:?}"));
        }
        // If a script names one annotation, it names all.
        let is_unnamed = |text: &&String| !messages.iter().any(|one| is_message(one, text));
        if let Some(text) = texts
            .iter()
            .find(is_unnamed)
            .filter(|_| !messages.is_empty())
        {
            return Some(format!("unexpected {kind} {text:?}"));
        }
    }
    None
}

/// Returns whether an annotation is the one that a script expects.
fn is_message((_, message, is_regex): &(String, String, bool), text: &str) -> bool {
    // Messages in scripts have no position.
    let text = text.rsplit_once(" (").map_or(text, |(text, _)| text);
    match is_regex {
        true => regex::Regex::new(message).unwrap().is_match(text),
        false => text == message,
    }
}

fn compare_series(
    want: &Expectations,
    got: &[(Labels, Vec<(i64, f64)>)],
    times: &[i64],
    extent: Extent,
) -> Option<String> {
    if let Some(scalar) = want.scalar {
        let value = got.first().and_then(|(_, samples)| samples.first());
        let right = got.len() == 1 && value.is_some_and(|&(_, value)| almost(scalar, value));
        return (!right).then(|| format!("want scalar {scalar}, got {got:?}"));
    }
    let all = || {
        let mut text = String::new();
        for (labels, samples) in got {
            write!(text, "\n    got {labels} {samples:?}").unwrap();
        }
        text
    };
    if extent == Extent::All && want.series.len() != got.len() {
        return Some(format!(
            "want {} series, got {}{}",
            want.series.len(),
            got.len(),
            all()
        ));
    }
    for (position, (labels, values)) in want.series.iter().enumerate() {
        let found = got.iter().position(|(candidate, _)| candidate == labels);
        let is_float = |value: &SequenceValue| !matches!(value, SequenceValue::Histogram);
        if extent == Extent::Floats && !(found.is_some() && values.iter().all(is_float)) {
            continue;
        }
        let Some(found) = found else {
            return Some(format!("no series {labels}{}", all()));
        };
        if want.ordered && extent == Extent::All && found != position {
            return Some(format!("{labels} is at {found}, want {position}{}", all()));
        }
        let mut wanted: Vec<(i64, f64)> = Vec::new();
        for (&time, value) in times.iter().zip(values) {
            match value {
                SequenceValue::Float(value) => wanted.push((time, *value)),
                SequenceValue::Omitted => {}
                SequenceValue::Histogram => return Some("a histogram".to_owned()),
            }
        }
        let samples = &got[found].1;
        let right = wanted.len() == samples.len()
            && wanted
                .iter()
                .zip(samples)
                .all(|(want, got)| want.0 == got.0 && almost(want.1, got.1));
        if !right {
            return Some(format!("{labels}: want {wanted:?}{}", all()));
        }
    }
    None
}

/// Compares like promqltest: 1e-6 relative, NaN equal to NaN.
fn almost(want: f64, got: f64) -> bool {
    if is_stale(want) || is_stale(got) {
        return is_stale(want) == is_stale(got);
    }
    if (want.is_nan() && got.is_nan()) || want == got {
        return true;
    }
    let sum = want.abs() + got.abs();
    let difference = (want - got).abs();
    if want == 0.0 || got == 0.0 || sum < f64::MIN_POSITIVE {
        return difference < 1e-6 * f64::MIN_POSITIVE;
    }
    difference / sum.min(f64::MAX) < 1e-6
}
