//! Which number stands for which series, and what metric families mean.
//!
//! A payload is a list of entries, compressed as one. An entry is a tag and what belongs to it; all texts carry their
//! length. The list is read entry by entry, so that it never has to be in memory as objects.

use super::WireError;
use super::compress::{Compressor, decompress};
use super::varint::{self, Reader};
use crate::limits::LABELS_PER_SERIES_MAX;
use crate::model::{Labels, LabelsBuilder, Metadata, MetricType};

const REMOVED: u8 = 0;
const FAMILY: u8 = 1;
const ADDED: u8 = 2;

/// Bytes before compression at which a payload is closed and another begun.
pub const SCHEMA_BYTES_TARGET: usize = 256 << 10;

/// One statement about the schema, in the order in which they take effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SchemaEntry {
    /// The series has ended; the number is free.
    Removed(u32),
    /// What a metric family means.
    Family {
        /// Its name.
        name: String,
        /// Type, help and unit.
        metadata: Metadata,
    },
    /// The number stands for this series from here on. It was free.
    Added {
        /// The number.
        number: u32,
        /// All labels, metric name included.
        labels: Labels,
    },
}

/// Gathers entries and closes payloads of a bounded size.
#[derive(Debug, Default)]
pub struct SchemaWriter {
    raw: Vec<u8>,
}

impl SchemaWriter {
    /// Adds a removal.
    pub fn removed(&mut self, number: u32) {
        self.raw.push(REMOVED);
        varint::put(&mut self.raw, u64::from(number));
    }

    /// Adds a family.
    pub fn family(&mut self, name: &str, metadata: &Metadata) {
        self.raw.push(FAMILY);
        varint::put_str(&mut self.raw, name);
        self.raw.push(metadata.metric_type as u8);
        varint::put_str(&mut self.raw, &metadata.help);
        varint::put_str(&mut self.raw, &metadata.unit);
    }

    /// Adds a series.
    pub fn added(&mut self, number: u32, labels: &Labels) {
        self.raw.push(ADDED);
        varint::put(&mut self.raw, u64::from(number));
        varint::put(&mut self.raw, labels.len() as u64);
        for (name, value) in labels {
            varint::put_str(&mut self.raw, name);
            varint::put_str(&mut self.raw, value);
        }
    }

    /// Whether nothing was added since the last payload.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.raw.is_empty()
    }

    /// Whether the payload should be closed before more is added.
    #[must_use]
    pub const fn is_full(&self) -> bool {
        self.raw.len() >= SCHEMA_BYTES_TARGET
    }

    /// Appends the payload to `out` and begins the next.
    pub fn finish(&mut self, compressor: &mut Compressor, out: &mut Vec<u8>) {
        compressor.compress(&self.raw, None, out);
        self.raw.clear();
    }
}

/// The entries of one payload.
#[derive(Debug)]
pub struct SchemaReader {
    raw: Vec<u8>,
    at: usize,
}

impl SchemaReader {
    /// Decompresses a payload.
    ///
    /// # Errors
    /// It is damaged or larger than a frame may be.
    pub fn new(payload: &[u8]) -> Result<Self, WireError> {
        let mut raw = Vec::new();
        decompress(payload, None, &mut raw)?;
        Ok(Self { raw, at: 0 })
    }

    /// The next entry; `None` at the end.
    ///
    /// # Errors
    /// The payload is damaged here, or a label set is none.
    pub fn next_entry(&mut self) -> Result<Option<SchemaEntry>, WireError> {
        let bytes = self.raw.get(self.at..).unwrap_or_default();
        if bytes.is_empty() {
            return Ok(None);
        }
        let mut reader = Reader::new(bytes);
        let entry = read_entry(&mut reader)?;
        self.at = self.raw.len() - reader.rest().len();
        Ok(Some(entry))
    }
}

fn read_entry(reader: &mut Reader<'_>) -> Result<SchemaEntry, WireError> {
    match reader.byte("schema entry")? {
        REMOVED => Ok(SchemaEntry::Removed(reader.varint_u32("number")?)),
        FAMILY => {
            let name = reader.str("family name")?.to_owned();
            let metric_type = MetricType::from_u8(reader.byte("metric type")?).unwrap_or_default();
            let metadata = Metadata {
                metric_type,
                help: reader.str("help")?.to_owned(),
                unit: reader.str("unit")?.to_owned(),
            };
            Ok(SchemaEntry::Family { name, metadata })
        }
        ADDED => {
            let number = reader.varint_u32("number")?;
            let labels = read_labels(reader)?;
            Ok(SchemaEntry::Added { number, labels })
        }
        _ => {
            let what = "unknown schema entry";
            Err(WireError::Bad { what })
        }
    }
}

fn read_labels(reader: &mut Reader<'_>) -> Result<Labels, WireError> {
    let count = reader.varint_u32("labels")? as usize;
    if count > LABELS_PER_SERIES_MAX {
        return Err(crate::model::LabelsError::TooMany { count }.into());
    }
    let mut builder = LabelsBuilder::default();
    for _ in 0..count {
        let name = reader.str("label name")?;
        builder.push(name, reader.str("label value")?);
    }
    let labels = builder.build()?;
    labels.check_limits()?;
    Ok(labels)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn entries(payload: &[u8]) -> Result<Vec<SchemaEntry>, WireError> {
        let mut reader = SchemaReader::new(payload)?;
        std::iter::from_fn(|| reader.next_entry().transpose()).collect()
    }

    fn example() -> (SchemaWriter, Vec<SchemaEntry>) {
        let labels = Labels::from_pairs([("__name__", "up"), ("job", "ü")]).unwrap();
        let metadata = Metadata {
            metric_type: MetricType::Gauge,
            help: "H".to_owned(),
            unit: String::new(),
        };
        let mut writer = SchemaWriter::default();
        writer.removed(300);
        writer.family("up", &metadata);
        writer.added(5, &labels);
        let name = "up".to_owned();
        let want = vec![
            SchemaEntry::Removed(300),
            SchemaEntry::Family { name, metadata },
            SchemaEntry::Added { number: 5, labels },
        ];
        (writer, want)
    }

    #[test]
    fn golden_entries() {
        let (mut writer, want) = example();
        let golden =
            b"\x00\xac\x02\x01\x02up\x02\x01H\x00\x02\x05\x02\x08__name__\x02up\x03job\x02\xc3\xbc";
        assert_eq!(writer.raw, golden);
        let mut payload = Vec::new();
        writer.finish(&mut Compressor::default(), &mut payload);
        assert!(writer.is_empty());
        assert_eq!(entries(&payload).unwrap(), want);
    }

    #[test]
    fn truncated_entries_are_refused() {
        let (writer, _) = example();
        let ends = [0, 3, 11];
        for len in 0..writer.raw.len() {
            let mut payload = Vec::new();
            Compressor::default().compress(&writer.raw[..len], None, &mut payload);
            assert_eq!(entries(&payload).is_ok(), ends.contains(&len), "{len}");
        }
    }

    #[test]
    fn label_sets_beyond_the_limits_are_refused() {
        let mut raw = vec![ADDED, 0];
        varint::put(&mut raw, 100_000);
        let mut payload = Vec::new();
        Compressor::default().compress(&raw, None, &mut payload);
        assert!(matches!(entries(&payload), Err(WireError::Labels(_))));
    }

    proptest! {
        #[test]
        fn hostile_entries_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let mut payload = Vec::new();
            Compressor::default().compress(&bytes, None, &mut payload);
            if let Ok(entries) = entries(&payload) {
                prop_assert!(entries.len() <= bytes.len());
            }
        }
    }
}
