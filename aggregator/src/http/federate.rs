//! `/federate`: the newest sample of each series that matches, for another Prometheus to scrape.

use std::collections::BTreeMap;
use std::io::Write as _;

use axum::extract::State;
use axum::response::Response;
use common::model::label::METRIC_NAME;
use common::model::{Labels, MatchOp, Matcher, Sample, is_stale};
use http::{HeaderMap, HeaderValue, header};
use tidemark_storage::{ReadControl, Values};

mod escape;
mod format;

use self::escape::{Escaping, is_legacy_name};
use self::format::{Family, Form, Format};
use super::error::ApiError;
use super::json;
use super::params::Params;
use super::respond::{self, Encoding, ReadOptions, Sink, read_error};
use super::selectors::{self, Matchers, select};
use super::state::{Api, Core};

/// Answers a scrape.
///
/// # Errors
/// A parameter is wrong, or the read failed.
pub async fn federate(
    State(api): State<Api>,
    core: Core,
    headers: HeaderMap,
    params: Params,
) -> Result<Response, ApiError> {
    let sets = parse_selectors(&params).map_err(ApiError::into_line)?;
    let now_ms = api.clock.now_ms();
    let lookback_ms = api.flags.query_lookback_delta.as_millis() as i64;
    let selections = selectors::selections(sets, (now_ms - lookback_ms + 1, now_ms));
    let external = api.config.load().global.external_labels.clone();
    let format = Format::of(&headers);
    let options = ReadOptions {
        content_type: "text/plain",
        ..ReadOptions::json(Encoding::from_headers(&headers))
    };
    let mut response = respond::read(&api, options, move |sink, permit| {
        let mut found = BTreeMap::new();
        for selection in &selections {
            newest(&core, selection, &permit.control, &mut found)?;
        }
        let writer = Writer {
            external: &external,
            format,
        };
        writer.write_all(sink, &found)
    })
    .await?;
    if let Ok(content_type) = HeaderValue::from_str(&format.content_type()) {
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, content_type);
    }
    Ok(response)
}

/// Unlike the API, federation accepts selectors that match everything. As in Prometheus, one without any matcher that
/// restricts the series (`{}` or `{__name__=~".*"}`) selects nothing, so that it can't dump the store by accident.
fn parse_selectors(params: &Params) -> Result<Vec<Matchers>, ApiError> {
    params.well_formed()?;
    let mut sets = params
        .all("match[]")
        .map(selectors::parse_any)
        .collect::<Result<Vec<_>, _>>()?;
    sets.retain(|matchers| matchers.iter().any(|matcher| !accepts_any_value(matcher)));
    Ok(sets)
}

fn accepts_any_value(matcher: &Matcher) -> bool {
    matcher.op() == MatchOp::Regex && matcher.value() == ".*"
}

/// Collects the newest sample of each series. Stale series are skipped.
fn newest(
    core: &Core,
    selection: &tidemark_storage::Selection,
    control: &ReadControl,
    found: &mut BTreeMap<Labels, Sample>,
) -> Result<(), ApiError> {
    let set = select(&core.store, selection, control)?;
    set.read(0..set.len(), control, &mut |index, column| {
        let Values::Floats(values) = column.values;
        if let (Some(&timestamp_ms), Some(&value)) = (column.timestamps_ms.last(), values.last())
            && !is_stale(value)
        {
            let sample = Sample {
                timestamp_ms,
                value,
            };
            found.insert(set.labels(index), sample);
        }
        Ok(())
    })
    .map_err(|error| read_error(&error))
}

/// Writes samples for a scraper.
struct Writer<'w> {
    external: &'w BTreeMap<String, String>,
    format: Format,
}

impl Writer<'_> {
    fn write_all(&self, sink: &mut Sink, found: &BTreeMap<Labels, Sample>) -> Result<(), ApiError> {
        let mut by_name: Vec<_> = found
            .iter()
            .filter_map(|(labels, sample)| Some((labels.metric_name()?, labels, sample)))
            .collect();
        // The sort is stable: series of one name stay in the order of their labels.
        by_name.sort_by(|a, b| a.0.cmp(b.0));
        for series in by_name.chunk_by(|a, b| a.0 == b.0) {
            let Some(&(name, ..)) = series.first() else {
                continue;
            };
            let name = self.format.escaping.apply(name);
            if self.format.form == Form::Protobuf {
                let mut family = Family::new(&name);
                for (_, labels, sample) in series {
                    let pairs = self.labels(labels);
                    family.metric(pairs.into_iter(), **sample);
                }
                family.write(&mut sink.text);
                sink.flush_chunk()?;
                continue;
            }
            sink.text.extend_from_slice(b"# TYPE ");
            if is_legacy_name(&name) {
                sink.text.extend_from_slice(name.as_bytes());
            } else {
                quoted(&mut sink.text, &name);
            }
            sink.text.extend_from_slice(b" untyped\n");
            for (_, labels, sample) in series {
                self.line(&mut sink.text, &name, labels, **sample);
                sink.flush_chunk()?;
            }
        }
        sink.flush_chunk()
    }

    /// The series' labels, the external labels that it lacks, and an empty `instance` if it has none.
    fn labels<'l>(&'l self, labels: &'l Labels) -> Vec<(String, &'l str)> {
        let own = labels.iter().filter(|(label, _)| *label != METRIC_NAME);
        let outer = self
            .external
            .iter()
            .map(|(label, value)| (label.as_str(), value.as_str()))
            .filter(|(label, _)| labels.get(label).is_none());
        // Without an empty value the scraper would add its own `instance`.
        let no_instance =
            labels.get("instance").is_none() && !self.external.contains_key("instance");
        let instance = no_instance.then_some(("instance", ""));
        own.chain(outer)
            .chain(instance)
            .map(|(label, value)| (self.format.escaping.apply(label), value))
            .collect()
    }

    fn line(&self, text: &mut Vec<u8>, name: &str, labels: &Labels, sample: Sample) {
        let legacy = is_legacy_name(name);
        if legacy {
            text.extend_from_slice(name.as_bytes());
        }
        text.push(b'{');
        let mut first = true;
        if !legacy {
            quoted(text, name);
            first = false;
        }
        for (label, value) in self.labels(labels) {
            if !first {
                text.push(b',');
            }
            first = false;
            if is_legacy_label(&label) || self.format.escaping != Escaping::AllowUtf8 {
                text.extend_from_slice(label.as_bytes());
            } else {
                quoted(text, &label);
            }
            text.push(b'=');
            quoted(text, value);
        }
        text.extend_from_slice(b"} ");
        json::float(text, sample.value);
        // Writing to a vector can't fail.
        writeln!(text, " {}", sample.timestamp_ms).unwrap_or_default();
    }
}

/// Appends a quoted label value. Only backslash, quote and line feed are escaped.
fn quoted(text: &mut Vec<u8>, value: &str) {
    text.push(b'"');
    for &byte in value.as_bytes() {
        match byte {
            b'"' | b'\\' => text.extend_from_slice(&[b'\\', byte]),
            b'\n' => text.extend_from_slice(b"\\n"),
            _ => text.push(byte),
        }
    }
    text.push(b'"');
}

fn is_legacy_label(name: &str) -> bool {
    is_legacy_name(name) && !name.contains(':')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(pairs: &[(&str, &str)], external: &[(&str, &str)], want: &str) {
        let labels = Labels::from_pairs(pairs.iter().copied()).unwrap();
        let external = external
            .iter()
            .map(|&(n, v)| (n.to_owned(), v.to_owned()))
            .collect();
        let sample = Sample {
            timestamp_ms: 1500,
            value: 0.5,
        };
        let mut text = Vec::new();
        let writer = Writer {
            external: &external,
            format: Format {
                form: Form::Text,
                escaping: Escaping::AllowUtf8,
            },
        };
        writer.line(&mut text, labels.metric_name().unwrap(), &labels, sample);
        assert_eq!(String::from_utf8(text).unwrap(), want);
    }

    #[test]
    fn selector_without_restriction_selects_nothing() {
        for (selector, selections) in [
            ("{}", 0),
            ("{__name__=~\".*\"}", 0),
            ("{job=\"\"}", 1),
            ("{__name__=~\".+\"}", 1),
            ("up", 1),
        ] {
            let form = form_urlencoded::Serializer::new(String::new())
                .append_pair("match[]", selector)
                .finish();
            let sets = parse_selectors(&Params::parse(form.as_bytes())).unwrap();
            assert_eq!(sets.len(), selections, "{selector}");
        }
    }

    #[test]
    fn lines_name_every_label_once() {
        check(
            &[("__name__", "up"), ("job", "a\"\\\n")],
            &[],
            "up{job=\"a\\\"\\\\\\n\",instance=\"\"} 0.5 1500\n",
        );
        check(
            &[("__name__", "up"), ("instance", "i"), ("dc", "mine")],
            &[("dc", "theirs"), ("region", "r")],
            "up{dc=\"mine\",instance=\"i\",region=\"r\"} 0.5 1500\n",
        );
        check(
            &[("__name__", "a.b"), ("l x", "1"), ("instance", "i")],
            &[],
            "{\"a.b\",instance=\"i\",\"l x\"=\"1\"} 0.5 1500\n",
        );
    }
}
