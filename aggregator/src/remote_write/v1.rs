//! `prometheus.WriteRequest`: labels as text, one refused sample rolls the request back.
//!
//! Field numbers: prometheus/prompb `remote.proto` and `types.proto`.

use std::cell::Cell;

use common::model::{Labels, Metadata, MetricType, Sample};
use tidemark_storage::{AppendMode, Appended, Exemplar, RawBatch, Store};

use super::protobuf::{Fields, ProtobufError};
use super::{Outcome, WriteError, Written, build_labels, refusal_text};

/// Stores a request.
pub(super) fn store(store: &Store, message: &[u8]) -> Result<Outcome, WriteError> {
    let mut batch = RawBatch::default();
    let mut families = Vec::new();
    let mut histograms = 0;
    let mut exemplars = Vec::new();
    let mut fields = Fields::new(message);
    let mut samples = Vec::new();
    while let Some((number, value)) = fields.next()? {
        match number {
            1 => {
                samples.clear();
                let series = split_series(value.bytes(number)?, &mut samples)?;
                histograms += series.histograms;
                for exemplar in series.exemplars {
                    exemplars.push((series.labels, exemplar));
                }
                batch.push(series.labels, samples.iter().copied());
            }
            3 => families.extend(decode_metadata(value.bytes(number)?)?),
            _ => {}
        }
    }
    let malformed = Cell::new(0_u64);
    let labels_of = |fields: &[u8]| {
        decode_labels(fields).unwrap_or_else(|_| {
            malformed.set(malformed.get() + 1);
            None
        })
    };
    let (appended, dropped) = store.append_raw(&batch, AppendMode::Atomic, &labels_of)?;
    if dropped > 0 {
        // As Prometheus does: left out, and the request is still good.
        tracing::debug!(series = dropped, "dropped series with invalid labels");
    }
    for (family, metadata) in families {
        store.set_metadata(&family, metadata);
    }
    for (labels, exemplar) in exemplars {
        store_exemplar(store, labels, exemplar)?;
    }
    Ok(Outcome {
        written: Written {
            samples: appended.stored + appended.duplicates,
            ..Written::default()
        },
        complaint: complaint(histograms, malformed.get(), &appended),
        appended,
    })
}

fn complaint(histograms: u64, malformed: u64, appended: &Appended) -> Option<String> {
    if malformed > 0 {
        return Some(format!("bad protobuf: labels of {malformed} series"));
    }
    if histograms > 0 {
        return Some(format!(
            "{histograms} native histogram samples refused: native histograms are not supported"
        ));
    }
    (appended.refused > 0).then(|| refusal_text(appended))
}

/// A series whose labels were not taken apart.
struct RawSeries<'m> {
    /// Its label fields, one behind the other.
    labels: &'m [u8],
    histograms: u64,
    exemplars: Vec<&'m [u8]>,
}

/// Finds the parts of a series. Its samples go to `samples`.
fn split_series<'m>(
    message: &'m [u8],
    samples: &mut Vec<Sample>,
) -> Result<RawSeries<'m>, WriteError> {
    let mut series = RawSeries {
        labels: &[],
        histograms: 0,
        exemplars: Vec::new(),
    };
    let mut fields = Fields::new(message);
    let mut labels_end = 0;
    let mut only_labels = true;
    while let Some((number, value)) = fields.next()? {
        match number {
            1 if only_labels => {
                value.bytes(number)?;
                labels_end = message.len() - fields.remaining();
            }
            // Every encoder writes the fields in the order of their numbers.
            1 => return Err(WriteError::Refused("labels behind samples".to_owned())),
            2 => samples.push(decode_sample(value.bytes(number)?)?),
            3 => series.exemplars.push(value.bytes(number)?),
            4 => series.histograms += 1,
            _ => {}
        }
        only_labels &= number == 1;
    }
    series.labels = message.get(..labels_end).unwrap_or(&[]);
    Ok(series)
}

/// The labels of a series; `None` when they are no label set.
fn decode_labels(fields: &[u8]) -> Result<Option<Labels>, ProtobufError> {
    let mut pairs = Vec::with_capacity(16);
    let mut fields = Fields::new(fields);
    while let Some((number, value)) = fields.next()? {
        match decode_label(value.bytes(number)?)? {
            Some(pair) => pairs.push(pair),
            None => return Ok(None),
        }
    }
    Ok(build_labels(&mut pairs).ok())
}

fn store_exemplar(store: &Store, labels: &[u8], message: &[u8]) -> Result<(), ProtobufError> {
    let mut exemplar = Exemplar {
        labels: Labels::empty(),
        value: 0.0,
        timestamp_ms: 0,
    };
    let mut pairs = Vec::new();
    let mut fields = Fields::new(message);
    while let Some((number, value)) = fields.next()? {
        match number {
            1 => pairs.extend(decode_label(value.bytes(number)?)?),
            2 => exemplar.value = value.double(number)?,
            3 => exemplar.timestamp_ms = value.varint(number)? as i64,
            _ => {}
        }
    }
    if let (Some(series), Ok(own)) = (decode_labels(labels)?, Labels::from_pairs(pairs)) {
        exemplar.labels = own;
        store.append_exemplar(&series, exemplar);
    }
    Ok(())
}

/// A label; `None` when it is no text.
fn decode_label(message: &[u8]) -> Result<Option<(&str, &str)>, ProtobufError> {
    let (mut name, mut text) = (&[][..], &[][..]);
    let mut fields = Fields::new(message);
    while let Some((number, value)) = fields.next()? {
        match number {
            1 => name = value.bytes(number)?,
            2 => text = value.bytes(number)?,
            _ => {}
        }
    }
    let (Ok(name), Ok(text)) = (std::str::from_utf8(name), std::str::from_utf8(text)) else {
        return Ok(None);
    };
    Ok(Some((name, text)))
}

/// A sample; the layout is the same in both versions.
pub(super) fn decode_sample(message: &[u8]) -> Result<Sample, ProtobufError> {
    let mut sample = Sample {
        timestamp_ms: 0,
        value: 0.0,
    };
    let mut fields = Fields::new(message);
    while let Some((number, value)) = fields.next()? {
        match number {
            1 => sample.value = value.double(number)?,
            2 => sample.timestamp_ms = value.varint(number)? as i64,
            _ => {}
        }
    }
    Ok(sample)
}

fn decode_metadata(message: &[u8]) -> Result<Option<(String, Metadata)>, ProtobufError> {
    let mut family = String::new();
    let mut metadata = Metadata::default();
    let mut fields = Fields::new(message);
    while let Some((number, value)) = fields.next()? {
        let text = || Ok(String::from_utf8_lossy(value.bytes(number)?).into_owned());
        match number {
            1 => metadata.metric_type = metric_type(value.varint(number)?),
            2 => family = text()?,
            4 => metadata.help = text()?,
            5 => metadata.unit = text()?,
            _ => {}
        }
    }
    Ok((!family.is_empty()).then_some((family, metadata)))
}

/// The numbers of the types agree in both versions and in our model.
pub(super) fn metric_type(number: u64) -> MetricType {
    u8::try_from(number)
        .ok()
        .and_then(MetricType::from_u8)
        .unwrap_or_default()
}
