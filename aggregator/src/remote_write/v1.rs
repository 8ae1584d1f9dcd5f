//! `prometheus.WriteRequest`: labels as text, one refused sample rolls the request back.
//!
//! Field numbers: prometheus/prompb `remote.proto` and `types.proto`.

use common::model::{Metadata, MetricType, Sample};
use tidemark_storage::{AppendMode, SeriesSamples, Store};

use super::protobuf::{Fields, ProtobufError};
use super::{BadLabels, Outcome, WriteError, Written, build_labels};

/// Counts of what is left out of a request.
#[derive(Debug, Default)]
struct Dropped {
    histograms: u64,
    series: u64,
}

/// Stores a request.
pub(super) fn store(store: &Store, message: &[u8]) -> Result<Outcome, WriteError> {
    let mut series = Vec::new();
    let mut families = Vec::new();
    let mut dropped = Dropped::default();
    let mut fields = Fields::new(message);
    while let Some((number, value)) = fields.next()? {
        match number {
            1 => decode_series(value.bytes(number)?, &mut series, &mut dropped)?,
            3 => families.extend(decode_metadata(value.bytes(number)?)?),
            _ => {}
        }
    }
    if dropped.series > 0 {
        tracing::debug!(
            series = dropped.series,
            "dropped series with invalid labels"
        );
    }
    let appended = store.append(&series, AppendMode::Atomic)?;
    for (family, metadata) in families {
        store.set_metadata(&family, metadata);
    }
    let complaint = (dropped.histograms > 0).then(|| {
        let count = dropped.histograms;
        format!("{count} native histogram samples refused: native histograms are not supported")
    });
    Ok(Outcome {
        written: Written {
            samples: appended.stored + appended.duplicates,
            ..Written::default()
        },
        appended,
        complaint,
    })
}

fn decode_series(
    message: &[u8],
    to: &mut Vec<SeriesSamples>,
    dropped: &mut Dropped,
) -> Result<(), ProtobufError> {
    let mut pairs = Vec::with_capacity(16);
    let mut samples = Vec::with_capacity(1);
    let mut not_text = false;
    let mut fields = Fields::new(message);
    while let Some((number, value)) = fields.next()? {
        match number {
            1 => match decode_label(value.bytes(number)?)? {
                Some(pair) => pairs.push(pair),
                None => not_text = true,
            },
            2 => samples.push(decode_sample(value.bytes(number)?)?),
            4 => dropped.histograms += 1,
            _ => {}
        }
    }
    let labels = if not_text {
        Err(BadLabels::NotText)
    } else {
        build_labels(&mut pairs)
    };
    match labels {
        Ok(labels) => to.push(SeriesSamples { labels, samples }),
        // As Prometheus does: left out, and the request is still good.
        Err(_) => dropped.series += 1,
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
