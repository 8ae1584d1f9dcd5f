//! OpenMetrics text with timestamps: `up{job="a"} 1 1700000000.123`, ended by `# EOF`.
//!
//! Families are written without a type, which OpenMetrics treats as unknown, so that any sample name is valid. The
//! format has no form for staleness markers; they are dropped.

use common::model::label::METRIC_NAME;
use common::model::{Labels, LabelsBuilder, Sample, is_stale};

use super::{BadLine, LineSamples, bad};

/// The last line of a file.
pub const END: &str = "# EOF";

fn is_plain_name(name: &str) -> bool {
    let mut chars = name.chars();
    let first = chars.next();
    first.is_some_and(|c| c.is_ascii_alphabetic() || c == '_' || c == ':')
        && chars.all(|c| c.is_ascii_alphanumeric() || c == '_' || c == ':')
}

fn quoted(to: &mut String, text: &str) {
    to.push('"');
    for c in text.chars() {
        match c {
            '\\' => to.push_str("\\\\"),
            '"' => to.push_str("\\\""),
            '\n' => to.push_str("\\n"),
            c => to.push(c),
        }
    }
    to.push('"');
}

fn series(labels: &Labels) -> String {
    let mut text = String::new();
    let name = labels.metric_name().unwrap_or("");
    let mut parts = Vec::new();
    if is_plain_name(name) {
        text.push_str(name);
    } else {
        // Prometheus 3 writes a name with other characters among the labels.
        let mut part = String::new();
        quoted(&mut part, name);
        parts.push(part);
    }
    for (name, value) in labels.iter().filter(|(name, _)| *name != METRIC_NAME) {
        let mut part = String::new();
        if is_plain_name(name) && !name.contains(':') {
            part.push_str(name);
        } else {
            quoted(&mut part, name);
        }
        part.push('=');
        quoted(&mut part, value);
        parts.push(part);
    }
    if !parts.is_empty() {
        text.push('{');
        text.push_str(&parts.join(","));
        text.push('}');
    }
    text
}

/// Appends the lines of a series.
pub fn write(to: &mut String, series_samples: &LineSamples) {
    let series = series(&series_samples.labels);
    for sample in series_samples
        .samples
        .iter()
        .filter(|one| !is_stale(one.value))
    {
        to.push_str(&series);
        to.push(' ');
        match sample.value {
            value if value.is_nan() => to.push_str("NaN"),
            f64::INFINITY => to.push_str("+Inf"),
            f64::NEG_INFINITY => to.push_str("-Inf"),
            value => to.push_str(&format!("{value:?}")),
        }
        let time = sample.timestamp_ms;
        let sign = if time < 0 { "-" } else { "" };
        let (seconds, millis) = (time.unsigned_abs() / 1000, time.unsigned_abs() % 1000);
        to.push_str(&format!(" {sign}{seconds}.{millis:03}\n"));
    }
}

/// Parses a line. Returns `None` for a line without a sample.
///
/// # Errors
/// The line is not OpenMetrics, or has no timestamp.
pub fn parse(line: &str) -> Result<Option<LineSamples>, BadLine> {
    let line = line.trim_end_matches(['\r', '\n']);
    if line.starts_with('#') || line.trim().is_empty() {
        return Ok(None);
    }
    let (labels, rest) = parse_series(line)?;
    // An exemplar may follow.
    let rest = rest.split_once(" # ").map_or(rest, |(sample, _)| sample);
    let mut words = rest.split_ascii_whitespace();
    let value = words.next().ok_or_else(|| bad("no value"))?;
    let value = parse_value(value)?;
    let time = words.next().ok_or_else(|| bad("sample has no timestamp"))?;
    let timestamp_ms = parse_time(time)?;
    if words.next().is_some() {
        return Err(bad("text after the timestamp"));
    }
    let sample = Sample {
        timestamp_ms,
        value,
    };
    Ok(Some(LineSamples {
        labels,
        samples: vec![sample],
    }))
}

fn parse_value(text: &str) -> Result<f64, BadLine> {
    match text {
        "+Inf" | "Inf" => Ok(f64::INFINITY),
        "-Inf" => Ok(f64::NEG_INFINITY),
        "NaN" => Ok(f64::NAN),
        _ => match text.parse::<f64>() {
            Ok(value) if value.is_finite() => Ok(value),
            _ => Err(bad(format!("{text:?} is not a value"))),
        },
    }
}

/// Parses decimal seconds into milliseconds, without the rounding of a float.
fn parse_time(text: &str) -> Result<i64, BadLine> {
    let wrong = || bad(format!("{text:?} is not a timestamp"));
    let (sign, magnitude) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text),
    };
    let (seconds, fraction) = magnitude.split_once('.').unwrap_or((magnitude, ""));
    let is_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if seconds.is_empty() || !is_digits(seconds) || !is_digits(fraction) {
        // Such as 1.7e9.
        let seconds: f64 = text.parse().map_err(|_| wrong())?;
        let millis = (seconds * 1000.0).round();
        return (millis.abs() < 9e18)
            .then_some(millis as i64)
            .ok_or_else(wrong);
    }
    let seconds: i64 = seconds.parse().map_err(|_| wrong())?;
    let millis: String = fraction.chars().chain("000".chars()).take(3).collect();
    let millis: i64 = millis.parse().map_err(|_| wrong())?;
    let total = seconds
        .checked_mul(1000)
        .and_then(|ms| ms.checked_add(millis));
    total.map(|total| sign * total).ok_or_else(wrong)
}

/// Parses name and labels; returns them and the rest of the line.
fn parse_series(line: &str) -> Result<(Labels, &str), BadLine> {
    let mut builder = LabelsBuilder::default();
    let end = line.find(['{', ' ']).ok_or_else(|| bad("no value"))?;
    let (name, rest) = line.split_at(end);
    if !name.is_empty() {
        builder.push(METRIC_NAME, name);
    }
    let Some(mut rest) = rest.strip_prefix('{') else {
        return finish(builder, rest);
    };
    loop {
        rest = rest.trim_start_matches([' ', ',']);
        if let Some(after) = rest.strip_prefix('}') {
            return finish(builder, after);
        }
        let (name, after) = match rest.strip_prefix('"') {
            Some(text) => parse_quoted(text)?,
            None => {
                let end = rest
                    .find(['=', ' ', '}'])
                    .ok_or_else(|| bad("labels are not closed"))?;
                let (name, after) = rest.split_at(end);
                (name.to_owned(), after)
            }
        };
        let after = after.trim_start();
        let Some(value) = after.strip_prefix('=') else {
            // A quoted name of a metric.
            builder.push(METRIC_NAME, name);
            rest = after;
            continue;
        };
        let value = value.trim_start().strip_prefix('"');
        let (value, after) = parse_quoted(value.ok_or_else(|| bad("label value is not quoted"))?)?;
        builder.push(name, value);
        rest = after;
    }
}

fn finish(builder: LabelsBuilder, rest: &str) -> Result<(Labels, &str), BadLine> {
    let labels = builder.build()?;
    match labels.metric_name() {
        Some(_) => Ok((labels, rest)),
        None => Err(BadLine::NoMetricName),
    }
}

/// Parses a string up to its closing quote; returns the string and the rest of the line.
fn parse_quoted(text: &str) -> Result<(String, &str), BadLine> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Ok((value, text.get(at + 1..).unwrap_or(""))),
            '\\' => match chars.next() {
                Some((_, 'n')) => value.push('\n'),
                Some((_, c @ ('"' | '\\'))) => value.push(c),
                _ => return Err(bad("bad escape in a string")),
            },
            c => value.push(c),
        }
    }
    Err(bad("string is not closed"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use common::model::STALE_NAN;

    #[test]
    fn lines_survive_a_round_trip() {
        for name in ["up", "a:b", "with space", "ü"] {
            let pairs = [(METRIC_NAME, name), ("l", "x\"\\\n,}"), ("odd.name", "1")];
            let series_samples = LineSamples {
                labels: Labels::from_pairs(pairs).unwrap(),
                samples: [(1_700_000_000_123, 0.1), (-5, f64::INFINITY), (0, 1e300)]
                    .map(|(timestamp_ms, value)| Sample {
                        timestamp_ms,
                        value,
                    })
                    .to_vec(),
            };
            let mut text = String::new();
            write(&mut text, &series_samples);
            let read: Vec<_> = text
                .lines()
                .map(|line| parse(line).unwrap().unwrap())
                .collect();
            assert!(
                read.iter().all(|one| one.labels == series_samples.labels),
                "{text}"
            );
            let samples: Vec<_> = read.into_iter().flat_map(|one| one.samples).collect();
            assert_eq!(samples, series_samples.samples, "{text}");
        }
    }

    #[test]
    fn staleness_markers_are_dropped() {
        let labels = Labels::from_pairs([(METRIC_NAME, "up")]).unwrap();
        let samples = [1.0, STALE_NAN].map(|value| Sample {
            timestamp_ms: 1000,
            value,
        });
        let mut text = String::new();
        write(
            &mut text,
            &LineSamples {
                labels,
                samples: samples.to_vec(),
            },
        );
        assert_eq!(text, "up 1.0 1.000\n");
    }

    #[test]
    fn bad_lines_say_what_is_wrong() {
        for (line, want) in [
            ("up 1", "no timestamp"),
            ("up{a=b} 1 1", "not quoted"),
            ("up{a=\"b\" 1 1", "not closed"),
            ("{} 1 1", "no metric name"),
            ("up x 1", "is not a value"),
            ("up 1 x", "is not a timestamp"),
            ("up 1 1 1", "text after"),
        ] {
            let error = parse(line).unwrap_err().to_string();
            assert!(error.contains(want), "{line}: {error}");
        }
        assert_eq!(parse("# EOF").unwrap(), None);
        let exemplar = parse("a_total{x=\"y\"} 1 2.5 # {trace_id=\"1\"} 3 4").unwrap();
        assert_eq!(exemplar.unwrap().samples[0].timestamp_ms, 2500);
    }
}
