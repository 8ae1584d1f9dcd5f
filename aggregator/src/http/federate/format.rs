//! Negotiates the format of a scrape (`expfmt.Negotiate`), and writes the protobuf format.

use common::model::Sample;
use http::{HeaderMap, header};

use super::escape::Escaping;

/// The body's form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// Text, version 0.0.4.
    Text,
    /// `MetricFamily` messages, each prefixed with its length.
    Protobuf,
}

/// The format of a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Format {
    /// The body's form.
    pub(super) form: Form,
    /// Escaping of names.
    pub(super) escaping: Escaping,
}

impl Format {
    /// Chooses the best known format of the `Accept` header; text with underscores if there is none.
    #[must_use]
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let accept = headers.get(header::ACCEPT);
        let accept = accept.and_then(|value| value.to_str().ok()).unwrap_or("");
        let mut clauses: Vec<Clause<'_>> = accept.split(',').map(Clause::parse).collect();
        clauses.sort_by(|a, b| b.quality.total_cmp(&a.quality));
        let mut escaping = Escaping::Underscores;
        for clause in &clauses {
            if let Some(named) = clause.param("escaping").and_then(Escaping::parse) {
                escaping = named;
            }
            if let Some(form) = clause.form() {
                return Self { form, escaping };
            }
        }
        let form = Form::Text;
        Self { form, escaping }
    }

    /// The `Content-Type` of the answer.
    #[must_use]
    pub(super) fn content_type(self) -> String {
        let form = match self.form {
            Form::Text => "text/plain; version=0.0.4; charset=utf-8",
            Form::Protobuf => {
                "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"
            }
        };
        format!("{form}; escaping={}", self.escaping.as_str())
    }
}

/// One alternative of an `Accept` header.
struct Clause<'a> {
    kind: &'a str,
    params: Vec<(&'a str, &'a str)>,
    quality: f64,
}

impl<'a> Clause<'a> {
    fn parse(text: &'a str) -> Self {
        let mut parts = text.split(';').map(str::trim);
        let kind = parts.next().unwrap_or_default();
        let params: Vec<_> = parts
            .filter_map(|part| part.split_once('='))
            .map(|(name, value)| (name.trim(), value.trim().trim_matches('"')))
            .collect();
        let quality = params.iter().find(|(name, _)| *name == "q");
        let quality = quality.and_then(|(_, q)| q.parse().ok()).unwrap_or(1.0);
        Self {
            kind,
            params,
            quality,
        }
    }

    fn param(&self, name: &str) -> Option<&'a str> {
        let found = self.params.iter().find(|(other, _)| *other == name);
        found.map(|&(_, value)| value)
    }

    fn form(&self) -> Option<Form> {
        match self.kind {
            "application/vnd.google.protobuf" => {
                let family = self.param("proto") == Some("io.prometheus.client.MetricFamily");
                let delimited = self.param("encoding") == Some("delimited");
                (family && delimited).then_some(Form::Protobuf)
            }
            "text/plain" => match self.param("version") {
                None | Some("" | "0.0.4") => Some(Form::Text),
                Some(_) => None,
            },
            _ => None,
        }
    }
}

/// A `MetricFamily` message of untyped metrics.
#[derive(Debug)]
pub(super) struct Family {
    message: Vec<u8>,
}

impl Family {
    /// Creates a family without metrics.
    #[must_use]
    pub(super) fn new(name: &str) -> Self {
        let mut message = Vec::new();
        bytes(&mut message, 1, name.as_bytes());
        // The type: UNTYPED.
        message.extend_from_slice(&[3 << 3, 3]);
        Self { message }
    }

    /// Adds a metric.
    pub(super) fn metric<'l>(
        &mut self,
        labels: impl Iterator<Item = (String, &'l str)>,
        sample: Sample,
    ) {
        let mut metric = Vec::new();
        for (name, value) in labels {
            let mut pair = Vec::new();
            bytes(&mut pair, 1, name.as_bytes());
            bytes(&mut pair, 2, value.as_bytes());
            bytes(&mut metric, 1, &pair);
        }
        let mut untyped = vec![1 << 3 | 1];
        untyped.extend_from_slice(&sample.value.to_le_bytes());
        bytes(&mut metric, 5, &untyped);
        metric.push(6 << 3);
        varint(&mut metric, sample.timestamp_ms as u64);
        bytes(&mut self.message, 4, &metric);
    }

    /// Appends the message, prefixed with its length.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        varint(out, self.message.len() as u64);
        out.extend_from_slice(&self.message);
    }
}

fn bytes(out: &mut Vec<u8>, field: u8, content: &[u8]) {
    out.push(field << 3 | 2);
    varint(out, content.len() as u64);
    out.extend_from_slice(content);
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(accept: &str, form: Form, escaping: Escaping) {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, accept.parse().unwrap());
        assert_eq!(Format::of(&headers), Format { form, escaping }, "{accept}");
    }

    #[test]
    fn scraper_chooses_the_format() {
        check("*/*", Form::Text, Escaping::Underscores);
        check("application/json", Form::Text, Escaping::Underscores);
        check(
            "text/plain;version=1.0.0;escaping=allow-utf-8",
            Form::Text,
            Escaping::AllowUtf8,
        );
        check(
            "application/openmetrics-text;version=1.0.0;escaping=dots;q=0.6,text/plain;version=0.0.4;q=0.5",
            Form::Text,
            Escaping::Dots,
        );
        check(
            "text/plain;q=0.3, application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.7",
            Form::Protobuf,
            Escaping::Underscores,
        );
    }
}
