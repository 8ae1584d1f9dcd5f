//! `io.prometheus.write.v2.Request`: labels by reference to a table of symbols; good samples stay, the rest is told.
//!
//! Field numbers: prometheus/prompb `io/prometheus/write/v2/types.proto`.

use common::model::label::METRIC_NAME;
use common::model::{Labels, Metadata, Sample};
use tidemark_storage::{AppendMode, SeriesSamples, Store};

use super::protobuf::{Fields, ProtobufError, push_packed};
use super::v1::{decode_sample, metric_type};
use super::{BadLabels, Outcome, WriteError, Written, build_labels, refusal_text};

/// Complaints that are told one by one.
const COMPLAINTS_MAX: usize = 3;

/// What is wrong with parts of a request.
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
struct Series {
    label_references: Vec<u32>,
    samples: Vec<Sample>,
    histograms: u64,
    exemplars: u64,
    metadata: Option<(u64, u64, u64)>,
}

/// Stores a request.
pub(super) fn store(store: &Store, message: &[u8]) -> Result<Outcome, WriteError> {
    let symbols = decode_symbols(message)?;
    if symbols.first().is_some_and(|first| !first.is_empty()) {
        return Err(WriteError::Refused("symbols[0] must be empty".to_owned()));
    }
    let mut batch = Vec::new();
    let mut complaints = Complaints::default();
    let mut families: Vec<(String, Metadata)> = Vec::new();
    let mut fields = Fields::new(message);
    while let Some((number, value)) = fields.next()? {
        if number == 5 {
            let series = decode_series(value.bytes(number)?)?;
            take_series(series, &symbols, &mut batch, &mut families, &mut complaints);
        }
    }
    let appended = store.append(&batch, AppendMode::Partial)?;
    for (family, metadata) in families {
        store.set_metadata(&family, metadata);
    }
    if appended.refused > 0 {
        complaints.add(refusal_text(&appended));
    }
    Ok(Outcome {
        written: Written {
            samples: appended.stored + appended.duplicates,
            histograms: 0,
            exemplars: 0,
        },
        appended,
        complaint: complaints.text(),
    })
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

fn decode_series(message: &[u8]) -> Result<Series, ProtobufError> {
    let mut series = Series::default();
    let mut fields = Fields::new(message);
    while let Some((number, value)) = fields.next()? {
        match number {
            1 => push_packed(&mut series.label_references, number, value)?,
            2 => series.samples.push(decode_sample(value.bytes(number)?)?),
            3 => series.histograms += 1,
            4 => series.exemplars += 1,
            5 => series.metadata = Some(decode_metadata(value.bytes(number)?)?),
            _ => {}
        }
    }
    Ok(series)
}

/// Type, and the references of help and unit.
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

fn take_series(
    series: Series,
    symbols: &[&[u8]],
    batch: &mut Vec<SeriesSamples>,
    families: &mut Vec<(String, Metadata)>,
    complaints: &mut Complaints,
) {
    let labels = match resolve_labels(&series.label_references, symbols) {
        Ok(labels) => labels,
        Err(bad) => return complaints.add(bad.text()),
    };
    if let Some(metadata) = series.metadata
        && let Some(family) = labels.get(METRIC_NAME)
        && families.last().is_none_or(|(last, _)| last != family)
    {
        let text = |reference: u64| {
            let bytes = usize::try_from(reference)
                .ok()
                .and_then(|at| symbols.get(at));
            String::from_utf8_lossy(bytes.copied().unwrap_or_default()).into_owned()
        };
        let (kind, help, unit) = metadata;
        let metadata = Metadata {
            metric_type: metric_type(kind),
            help: text(help),
            unit: text(unit),
        };
        families.push((family.to_owned(), metadata));
    }
    if series.histograms > 0 {
        complaints.add(format!("native histograms are not supported: {labels}"));
    } else if series.samples.is_empty() {
        complaints.add(format!("series without samples: {labels}"));
    }
    batch.push(SeriesSamples {
        labels,
        samples: series.samples,
    });
}

fn resolve_labels(references: &[u32], symbols: &[&[u8]]) -> Result<Labels, BadLabels> {
    let text = |reference: u32| {
        let bytes = symbols.get(reference as usize).ok_or(BadLabels::Invalid)?;
        std::str::from_utf8(bytes).map_err(|_| BadLabels::NotText)
    };
    if !references.len().is_multiple_of(2) {
        return Err(BadLabels::Invalid);
    }
    let mut pairs = Vec::with_capacity(references.len() / 2);
    for pair in references.chunks_exact(2) {
        pairs.push((text(pair[0])?, text(pair[1])?));
    }
    build_labels(&mut pairs)
}
