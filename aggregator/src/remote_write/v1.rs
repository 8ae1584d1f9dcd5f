//! `prometheus.WriteRequest`: labels are text, and one refused sample rolls the request back.
//!
//! Field numbers: prometheus/prompb `remote.proto` and `types.proto`.

use std::cell::Cell;

use common::model::{Labels, Metadata, MetricType, Sample};
use tidemark_storage::{AppendMode, Appended, Exemplar, RawBatch, Store};

use super::protobuf::{Fields, ProtobufError};
use super::{BadLabels, Outcome, WriteError, Written, build_labels, refusal_text};

/// Stores a request.
pub(super) fn store(store: &Store, message: &[u8]) -> Result<Outcome, WriteError> {
    let mut batch = store.raw_batch();
    let mut families = Vec::new();
    let mut histograms = 0;
    let mut exemplars = Vec::new();
    let mut fields = Fields::new(message);
    let mut samples = Vec::new();
    while let Some((number, value)) = fields.next()? {
        match number {
            1 => {
                let series = value.bytes(number)?;
                if push_expected(&mut batch, series) {
                    continue;
                }
                if let Some((labels, sample)) = split_usual(series) {
                    batch.push(labels, std::iter::once(sample));
                    continue;
                }
                samples.clear();
                let series = split_series(series, &mut samples)?;
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
    let duplicate_names = Cell::new(0_u64);
    let increment = |count: &Cell<u64>| count.set(count.get() + 1);
    let labels_of = |fields: &[u8]| match decode_labels(fields) {
        Ok(Ok(labels)) => Some(labels),
        Ok(Err(error)) => {
            if error == BadLabels::DuplicateName {
                increment(&duplicate_names);
            }
            None
        }
        Err(_) => {
            increment(&malformed);
            None
        }
    };
    let (appended, dropped) = store.append_raw(batch, AppendMode::Atomic, &labels_of)?;
    if dropped > 0 {
        // As Prometheus does, except for duplicate label names: see the module.
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
        complaint: complaint(
            histograms,
            (malformed.get(), duplicate_names.get()),
            &appended,
        ),
        appended,
    })
}

fn complaint(
    histograms: u64,
    (malformed, duplicate_names): (u64, u64),
    appended: &Appended,
) -> Option<String> {
    if malformed > 0 {
        return Some(format!("bad protobuf: labels of {malformed} series"));
    }
    if duplicate_names > 0 {
        let text = BadLabels::DuplicateName.text();
        return Some(format!("{duplicate_names} series refused: {text}"));
    }
    if histograms > 0 {
        return Some(format!(
            "{histograms} native histogram samples refused: native histograms are not supported"
        ));
    }
    (appended.refused > 0).then(|| refusal_text(appended))
}

/// A series whose labels are not decoded.
struct RawSeries<'m> {
    /// Its label fields, one after the other.
    labels: &'m [u8],
    histograms: u64,
    exemplars: Vec<&'m [u8]>,
}

/// Pushes a series that is the same as at this place of the previous request, without searching for the end of its labels:
/// equal bytes end at the same place. Accepts only the form of [`split_usual`].
fn push_expected<'m>(batch: &mut RawBatch<'_, 'm>, series: &'m [u8]) -> bool {
    let split = match batch.expected_bytes() {
        0 => None,
        bytes => series.split_at_checked(bytes),
    };
    let split = split.and_then(|(labels, rest)| Some((labels, decode_only_sample(rest)?)));
    split.is_some_and(|(labels, sample)| batch.push_expected(labels, sample))
}

/// Splits a series of the usual form: short labels, then one sample, and nothing else. `None` means only that the form is
/// another one: [`split_series`] handles every form.
fn split_usual(message: &[u8]) -> Option<(&[u8], Sample)> {
    const LABEL: u8 = 1 << 3 | 2;
    let mut at = 0;
    while let [LABEL, length, ..] = *message.get(at..)?
        && length < 0x80
    {
        at += 2 + usize::from(length);
    }
    let (labels, rest) = message.split_at_checked(at)?;
    Some((labels, decode_only_sample(rest)?))
}

/// Decodes the sample of a series if nothing else follows its labels.
fn decode_only_sample(rest: &[u8]) -> Option<Sample> {
    const SAMPLE: u8 = 2 << 3 | 2;
    match *rest {
        [SAMPLE, length, ref sample @ ..] if usize::from(length) == sample.len() => {
            decode_usual_sample(sample)
        }
        _ => None,
    }
}

/// Decodes a sample with its fields in order. The value may be omitted if it is 0.
fn decode_usual_sample(message: &[u8]) -> Option<Sample> {
    const VALUE: u8 = 1 << 3 | 1;
    const TIMESTAMP: u8 = 2 << 3;
    let (value, rest) = match message.split_first_chunk::<9>() {
        Some(([VALUE, value @ ..], rest)) => (f64::from_le_bytes(*value), rest),
        _ => (0.0, message),
    };
    let (&TIMESTAMP, varint) = rest.split_first()? else {
        return None;
    };
    let (&last, others) = varint.split_last()?;
    // Nine bytes hold 63 bits. The tenth is for negative numbers, which are unusual.
    if varint.len() > 9 || last >= 0x80 || others.iter().any(|&byte| byte < 0x80) {
        return None;
    }
    let push = |number: i64, &byte: &u8| number << 7 | i64::from(byte & 0x7f);
    let timestamp_ms = varint.iter().rev().fold(0, push);
    Some(Sample {
        timestamp_ms,
        value,
    })
}

/// Splits a series of any form. Appends its samples to `samples`.
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
            // Encoders write fields in the order of their numbers.
            1 => return Err(WriteError::LabelsAfterSamples),
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

/// Decodes the labels of a series.
fn decode_labels(fields: &[u8]) -> Result<Result<Labels, BadLabels>, ProtobufError> {
    let mut pairs = Vec::with_capacity(16);
    let mut fields = Fields::new(fields);
    while let Some((number, value)) = fields.next()? {
        match decode_label(value.bytes(number)?)? {
            Some(pair) => pairs.push(pair),
            None => return Ok(Err(BadLabels::NotText)),
        }
    }
    Ok(build_labels(&mut pairs))
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
    if let (Ok(series), Ok(own)) = (decode_labels(labels)?, Labels::from_pairs(pairs)) {
        exemplar.labels = own;
        store.append_exemplar(&series, exemplar);
    }
    Ok(())
}

/// Decodes a label; `None` if it is not valid UTF-8.
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

/// Decodes a sample. Its layout is the same in both versions.
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

/// Returns the type of a number. The numbers are the same in both versions and in the data model.
pub(super) fn metric_type(number: u64) -> MetricType {
    u8::try_from(number)
        .ok()
        .and_then(MetricType::from_u8)
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A series with the fields `sample` after its labels.
    fn series(labels: &[&[u8]], sample: &[u8]) -> Vec<u8> {
        let mut message = Vec::new();
        for label in labels {
            message.extend([0x0a, label.len() as u8]);
            message.extend_from_slice(label);
        }
        message.extend_from_slice(sample);
        message
    }

    fn sample(value: Option<f64>, timestamp: &[u8]) -> Vec<u8> {
        let mut fields = Vec::new();
        if let Some(value) = value {
            fields.push(0x09);
            fields.extend(value.to_le_bytes());
        }
        if !timestamp.is_empty() {
            fields.push(0x10);
            fields.extend_from_slice(timestamp);
        }
        let mut message = vec![0x12, fields.len() as u8];
        message.extend(fields);
        message
    }

    /// Checks that both functions split a message alike, if the fast one accepts it.
    #[track_caller]
    fn check(message: &[u8], is_usual: bool) {
        let usual = split_usual(message);
        assert_eq!(usual.is_some(), is_usual, "{message:?}");
        let Some((labels, sample)) = usual else {
            return;
        };
        let mut samples = Vec::new();
        let split = split_series(message, &mut samples).unwrap();
        assert_eq!((split.labels, samples.len()), (labels, 1), "{message:?}");
        assert_eq!(samples[0].timestamp_ms, sample.timestamp_ms, "{message:?}");
        assert_eq!(samples[0].value.to_bits(), sample.value.to_bits());
    }

    #[test]
    fn usual_and_general_decoder_agree() {
        let labels: [&[u8]; 2] = [b"\x0a\x01a\x12\x01b", b"\x0a\x01c\x12\x01d"];
        let now = [0xc0, 0xd1, 0x84, 0xa3, 0xbd, 0x31];
        let longest = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f];
        let negative = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
        for value in [None, Some(0.0), Some(-0.0), Some(f64::NAN), Some(1e300)] {
            for timestamp in [&now[..], &[0], &[0x7f], &[0x80, 0x01], &longest] {
                check(&series(&labels, &sample(value, timestamp)), true);
                check(&series(&[], &sample(value, timestamp)), true);
            }
            check(&series(&labels, &sample(value, &negative)), false);
            check(&series(&labels, &sample(value, &[])), false);
        }
        let good = sample(Some(1.0), &now);
        check(&series(&labels, &[&good[..], &good].concat()), false);
        check(&series(&labels, &[&good[..], b"\x22\x00"].concat()), false);
        check(&series(&[&[b'x'; 127]], &good), true);
        let whole = series(&labels, &good);
        for end in 0..whole.len() {
            check(&whole[..end], false);
        }
    }
}
