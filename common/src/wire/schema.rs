//! Codec of the schema: the series of each `series_ref`, and the metadata of metric families.
//!
//! A payload is a compressed list of entries. An entry is a tag followed by its fields; strings have a length prefix. The
//! list is decoded entry by entry, so it never is in memory as objects.

use super::WireError;
use super::compress::{Compressor, decompress};
use super::varint::{self, Reader};
use crate::limits::LABELS_PER_SERIES_MAX;
use crate::model::{Labels, LabelsBuilder, Metadata, MetricType};

const REMOVED: u8 = 0;
const FAMILY: u8 = 1;
const ADDED: u8 = 2;

/// Size before compression at which a payload is finished and the next begins, in bytes.
pub const SCHEMA_BYTES_TARGET: usize = 256 << 10;

/// One change of the schema. Changes apply in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SchemaEntry {
    /// The series has ended, and its `series_ref` is free.
    Removed(u32),
    /// Metadata of a metric family.
    Family {
        /// Its name.
        name: String,
        /// Type, help and unit.
        metadata: Metadata,
    },
    /// A new series. Its `series_ref` was free.
    Added {
        /// Its number within the session.
        series_ref: u32,
        /// All labels, metric name included.
        labels: Labels,
    },
}

/// Encodes entries into payloads of bounded size.
#[derive(Debug, Default)]
pub struct SchemaWriter {
    raw: Vec<u8>,
}

impl SchemaWriter {
    /// Adds the end of a series.
    pub fn removed(&mut self, series_ref: u32) {
        self.raw.push(REMOVED);
        varint::put(&mut self.raw, u64::from(series_ref));
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
    pub fn added(&mut self, series_ref: u32, labels: &Labels) {
        self.raw.push(ADDED);
        varint::put(&mut self.raw, u64::from(series_ref));
        varint::put(&mut self.raw, labels.len() as u64);
        for (name, value) in labels {
            varint::put_str(&mut self.raw, name);
            varint::put_str(&mut self.raw, value);
        }
    }

    /// Whether the payload has no entries.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.raw.is_empty()
    }

    /// Whether the payload should be finished before more is added.
    #[must_use]
    pub const fn is_full(&self) -> bool {
        self.raw.len() >= SCHEMA_BYTES_TARGET
    }

    /// Appends the payload to `out` and begins the next one.
    pub fn finish(&mut self, compressor: &mut Compressor, out: &mut Vec<u8>) {
        compressor.compress(&self.raw, None, out);
        self.raw.clear();
    }
}

/// Decodes the entries of a payload.
#[derive(Debug)]
pub struct SchemaReader {
    raw: Vec<u8>,
    at: usize,
}

impl SchemaReader {
    /// Decompresses a payload.
    ///
    /// # Errors
    /// The payload is damaged or larger than a frame may be.
    pub fn new(payload: &[u8]) -> Result<Self, WireError> {
        let mut raw = Vec::new();
        decompress(payload, None, &mut raw)?;
        Ok(Self { raw, at: 0 })
    }

    /// Returns the next entry; `None` at the end.
    ///
    /// # Errors
    /// The entry is malformed or unknown, or its labels are not valid.
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
        REMOVED => Ok(SchemaEntry::Removed(reader.varint_u32("series_ref")?)),
        FAMILY => {
            let name = reader.str("family name")?.to_owned();
            // A type that this version does not know is only metadata: the samples are the same.
            let metric_type = MetricType::from_u8(reader.byte("metric type")?).unwrap_or_default();
            let metadata = Metadata {
                metric_type,
                help: reader.str("help")?.to_owned(),
                unit: reader.str("unit")?.to_owned(),
            };
            Ok(SchemaEntry::Family { name, metadata })
        }
        ADDED => {
            let series_ref = reader.varint_u32("series_ref")?;
            let labels = read_labels(reader)?;
            Ok(SchemaEntry::Added { series_ref, labels })
        }
        tag => Err(WireError::Unknown {
            what: "schema entry",
            tag: u32::from(tag),
        }),
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
            SchemaEntry::Added {
                series_ref: 5,
                labels,
            },
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
