//! `/federate`: the newest sample of each series that matches, as text for another Prometheus to scrape.

use std::collections::BTreeMap;
use std::io::Write as _;

use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use common::model::label::METRIC_NAME;
use common::model::{Labels, Sample, is_stale};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use tidemark_storage::{ReadControl, Values};

mod escape;
mod format;

use self::escape::{Escaping, is_legacy_name};
use self::format::{Family, Form, Format};
use super::blocking::{read_error, respond};
use super::error::ApiError;
use super::json;
use super::params::Params;
use super::reply::Sink;
use super::selectors::{self, select};
use super::state::{Api, Core};

/// Answers a scrape.
pub async fn federate(State(api): State<Api>, headers: HeaderMap, params: Params) -> Response {
    let parsed = params
        .well_formed()
        .and_then(|()| {
            // Unlike the API, it may be asked for everything.
            let sets = params.all("match[]").map(selectors::parse_any);
            sets.collect::<Result<Vec<_>, _>>()
        })
        .and_then(|sets| Ok((sets, api.core()?)));
    let (sets, core) = match parsed {
        Ok(parsed) => parsed,
        // A scraper shows this text to people; it expects no JSON.
        Err(error) => return (StatusCode::BAD_REQUEST, error.message + "\n").into_response(),
    };
    let now_ms = api.clock.now_ms();
    let lookback_ms = api.flags.query_lookback_delta.as_millis() as i64;
    let selections = selectors::selections(sets, (now_ms - lookback_ms + 1, now_ms));
    let external = api.config.load().global.external_labels.clone();
    let format = Format::of(&headers);
    let mut response = respond(
        &api,
        &headers,
        "text/plain",
        None,
        move |sink, permitted| {
            let mut found = BTreeMap::new();
            for selection in &selections {
                newest(&core, selection, &permitted.control, &mut found)?;
            }
            let writer = Writer {
                external: &external,
                format,
            };
            writer.write_all(sink, &found)
        },
    )
    .await;
    if response.status() == StatusCode::OK
        && let Ok(kind) = HeaderValue::from_str(&format.content_type())
    {
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
    }
    response
}

/// Newest samples by series; series that have ended are left out.
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
        // Stable, so that series of one name stay in the order of their labels.
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

    /// The labels of a line: the series' own, external ones it has not, and the lack of an instance.
    fn labels<'l>(&'l self, labels: &'l Labels) -> Vec<(String, &'l str)> {
        let own = labels.iter().filter(|(label, _)| *label != METRIC_NAME);
        let outer = self
            .external
            .iter()
            .map(|(label, value)| (label.as_str(), value.as_str()))
            .filter(|(label, _)| labels.get(label).is_none());
        // A target without `instance` must not get the scraper's.
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

/// A quoted label value: backslash, quote and line feed are escaped, nothing else.
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
