//! `io.prometheus.write.v2.Request`: labels refer to a table of symbols; valid samples are stored, the others are
//! reported.
//!
//! Field numbers: prometheus/prompb `io/prometheus/write/v2/types.proto`.

use std::cell::RefCell;

use common::model::label::METRIC_NAME;
use common::model::{Labels, Metadata, Sample};
use tidemark_storage::{AppendMode, Exemplar, ExemplarOutcome, Store};

use super::protobuf::{Fields, ProtobufError, push_packed};
use super::v1::{decode_sample, metric_type};
use super::{BadLabels, Outcome, WriteError, Written, build_labels, refusal_text};

/// Most complaints that are listed.
const COMPLAINTS_MAX: usize = 3;

/// The complaints about parts of a request.
#[derive(Debug, Default)]
struct Complaints {
    first: Vec<String>,
    count: u64,
}

impl Complaints {
    fn add(&mut self, text: impl Into<String>) {
        self.count += 1;
        if self.first.len() < COMPLAINTS_MAX {
            self.first.push(text.into());
        }
    }

    fn extend(&mut self, more: Self) {
        self.count += more.count;
        let room = COMPLAINTS_MAX - self.first.len();
        self.first.extend(more.first.into_iter().take(room));
    }

    fn text(&self) -> Option<String> {
        let more = self.count - self.first.len() as u64;
        let mut text = self.first.join("; ");
        if more > 0 {
            text.push_str(&format!("; and {more} more"));
        }
        (self.count > 0).then_some(text)
    }
}

/// One series of a request.
#[derive(Debug, Default)]
struct Series<'m> {
    label_references: Vec<u32>,
    samples: Vec<Sample>,
    histograms: u64,
    exemplars: Vec<&'m [u8]>,
    metadata: Option<(u64, u64, u64)>,
}

/// The series of a request, keyed by the text of their labels: symbol numbers differ between requests.
#[derive(Debug, Default)]
struct Request<'m> {
    keys: Vec<u8>,
    samples: Vec<Sample>,
    /// The end of each series' key and samples.
    ends: Vec<(usize, usize)>,
    /// The series of each exemplar, as an index into `ends`.
    exemplars: Vec<(usize, &'m [u8])>,
    families: Vec<(String, Metadata)>,
    complaints: Complaints,
}

impl Request<'_> {
    fn key(&self, series: usize) -> &[u8] {
        let start = match series.checked_sub(1) {
            Some(before) => self.ends[before].0,
            None => 0,
        };
        &self.keys[start..self.ends[series].0]
    }
}

/// Stores a request.
pub(super) fn store(store: &Store, message: &[u8]) -> Result<Outcome, WriteError> {
    let symbols = decode_symbols(message)?;
    if symbols.first().is_some_and(|first| !first.is_empty()) {
        return Err(WriteError::Invalid("symbols[0] must be empty".to_owned()));
    }
    let mut request = Request::default();
    let mut series = Series::default();
    let mut fields = Fields::new(message);
    while let Some((number, value)) = fields.next()? {
        if number == 5 {
            decode_series(value.bytes(number)?, &mut series)?;
            take_series(&mut series, &symbols, &mut request);
        }
    }
    let mut batch = store.raw_batch();
    let mut first = 0;
    for (number, &(_, end)) in request.ends.iter().enumerate() {
        let samples = request.samples[first..end].iter().copied();
        batch.push(request.key(number), samples);
        first = end;
    }
    let bad_labels = RefCell::new(Complaints::default());
    let labels_of = |key: &[u8]| {
        labels_of_key(key)
            .inspect_err(|bad| bad_labels.borrow_mut().add(bad.text()))
            .ok()
    };
    let (appended, _) = store.append_raw(batch, AppendMode::Partial, &labels_of)?;
    let exemplars = store_exemplars(store, &symbols, &request)?;
    let mut complaints = request.complaints;
    complaints.extend(bad_labels.into_inner());
    for (family, metadata) in request.families {
        store.set_metadata(&family, metadata);
    }
    if appended.refused > 0 {
        complaints.add(refusal_text(&appended));
    }
    Ok(Outcome {
        written: Written {
            samples: appended.stored + appended.duplicates,
            histograms: 0,
            exemplars,
        },
        appended,
        complaint: complaints.text(),
    })
}

/// Stores the exemplars of a request. Returns how many are stored, counted as Prometheus does.
fn store_exemplars(
    store: &Store,
    symbols: &[&[u8]],
    request: &Request<'_>,
) -> Result<u64, ProtobufError> {
    let mut kept = 0;
    for &(series, message) in &request.exemplars {
        let (mut references, mut value, mut timestamp_ms) = (Vec::new(), 0.0, 0);
        let mut fields = Fields::new(message);
        while let Some((number, field)) = fields.next()? {
            match number {
                1 => push_packed(&mut references, number, field)?,
                2 => value = field.double(number)?,
                3 => timestamp_ms = field.varint(number)? as i64,
                _ => {}
            }
        }
        let mut key = Vec::new();
        let labels = put_key(&references, symbols, &mut key)
            .and_then(|()| Labels::from_pairs(pairs_of_key(&key)?).map_err(|_| BadLabels::Invalid));
        if let (Ok(labels), Ok(series)) = (labels, labels_of_key(request.key(series))) {
            let exemplar = Exemplar {
                labels,
                value,
                timestamp_ms,
            };
            let outcome = store.append_exemplar(&series, exemplar);
            let there = [ExemplarOutcome::Stored, ExemplarOutcome::Duplicate];
            kept += u64::from(there.contains(&outcome));
        }
    }
    Ok(kept)
}

fn decode_symbols(message: &[u8]) -> Result<Vec<&[u8]>, ProtobufError> {
    let mut symbols = Vec::new();
    let mut fields = Fields::new(message);
    while let Some((number, value)) = fields.next()? {
        if number == 4 {
            symbols.push(value.bytes(number)?);
        }
    }
    Ok(symbols)
}

fn decode_series<'m>(message: &'m [u8], to: &mut Series<'m>) -> Result<(), ProtobufError> {
    to.label_references.clear();
    to.samples.clear();
    to.exemplars.clear();
    (to.histograms, to.metadata) = (0, None);
    let mut fields = Fields::new(message);
    while let Some((number, value)) = fields.next()? {
        match number {
            1 => push_packed(&mut to.label_references, number, value)?,
            2 => to.samples.push(decode_sample(value.bytes(number)?)?),
            3 => to.histograms += 1,
            4 => to.exemplars.push(value.bytes(number)?),
            5 => to.metadata = Some(decode_metadata(value.bytes(number)?)?),
            _ => {}
        }
    }
    Ok(())
}

/// The type, and the symbol numbers of help and unit.
fn decode_metadata(message: &[u8]) -> Result<(u64, u64, u64), ProtobufError> {
    let (mut kind, mut help, mut unit) = (0, 0, 0);
    let mut fields = Fields::new(message);
    while let Some((number, value)) = fields.next()? {
        match number {
            1 => kind = value.varint(number)?,
            3 => help = value.varint(number)?,
            4 => unit = value.varint(number)?,
            _ => {}
        }
    }
    Ok((kind, help, unit))
}

fn take_series<'m>(series: &mut Series<'m>, symbols: &[&'m [u8]], to: &mut Request<'m>) {
    let start = to.keys.len();
    if let Err(bad) = put_key(&series.label_references, symbols, &mut to.keys) {
        to.keys.truncate(start);
        return to.complaints.add(bad.text());
    }
    if let Some(metadata) = series.metadata {
        take_metadata(
            metadata,
            &series.label_references,
            symbols,
            &mut to.families,
        );
    }
    let labels =
        || labels_of_key(&to.keys[start..]).map_or_else(|_| String::new(), |l| l.to_string());
    if series.histograms > 0 {
        let text = format!("native histograms are not supported: {}", labels());
        to.complaints.add(text);
    } else if series.samples.is_empty() {
        let text = format!("series without samples: {}", labels());
        to.complaints.add(text);
    }
    to.samples.append(&mut series.samples);
    let number = to.ends.len();
    to.ends.push((to.keys.len(), to.samples.len()));
    let exemplars = series.exemplars.drain(..);
    to.exemplars.extend(exemplars.map(|one| (number, one)));
}

fn take_metadata(
    (kind, help, unit): (u64, u64, u64),
    references: &[u32],
    symbols: &[&[u8]],
    families: &mut Vec<(String, Metadata)>,
) {
    let symbol = |reference: u64| {
        let at = usize::try_from(reference).ok();
        at.and_then(|at| symbols.get(at))
            .copied()
            .unwrap_or_default()
    };
    let is_name = |pair: &&[u32]| symbol(u64::from(pair[0])) == METRIC_NAME.as_bytes();
    let Some(pair) = references.chunks_exact(2).find(is_name) else {
        return;
    };
    let Ok(family) = std::str::from_utf8(symbol(u64::from(pair[1]))) else {
        return;
    };
    if families.last().is_some_and(|(last, _)| last == family) {
        return;
    }
    let text = |reference| String::from_utf8_lossy(symbol(reference)).into_owned();
    let metadata = Metadata {
        metric_type: metric_type(kind),
        help: text(help),
        unit: text(unit),
    };
    families.push((family.to_owned(), metadata));
}

/// First byte of each key, which distinguishes it from labels of version 1.0: those begin with a field's tag.
const KEY: u8 = 0xff;

/// Appends the key of labels: the symbols that they refer to, each after its length.
fn put_key(references: &[u32], symbols: &[&[u8]], to: &mut Vec<u8>) -> Result<(), BadLabels> {
    if !references.len().is_multiple_of(2) {
        return Err(BadLabels::Invalid);
    }
    to.push(KEY);
    for &reference in references {
        let symbol = symbols.get(reference as usize).ok_or(BadLabels::Invalid)?;
        to.extend_from_slice(&(symbol.len() as u32).to_le_bytes());
        to.extend_from_slice(symbol);
    }
    Ok(())
}

fn pairs_of_key(key: &[u8]) -> Result<Vec<(&str, &str)>, BadLabels> {
    let mut rest = key.get(1..).unwrap_or_default();
    let mut texts = Vec::with_capacity(32);
    while let Some((length, after)) = rest.split_first_chunk() {
        let length = u32::from_le_bytes(*length) as usize;
        let (text, after) = after.split_at_checked(length).ok_or(BadLabels::Invalid)?;
        texts.push(std::str::from_utf8(text).map_err(|_| BadLabels::NotText)?);
        rest = after;
    }
    Ok(texts
        .chunks_exact(2)
        .map(|pair| (pair[0], pair[1]))
        .collect())
}

fn labels_of_key(key: &[u8]) -> Result<Labels, BadLabels> {
    build_labels(&mut pairs_of_key(key)?)
}
