//! Rebuilds the state in the middle of a segment, for a peer that has everything before.

use std::collections::BTreeMap;

use common::limits::FRAME_BYTES_MAX;
use common::model::{Labels, Metadata};
use common::wire::{
    Compressor, Frame, SchemaEntry, SchemaReader, SchemaWriter, TickState, WireError,
};

use super::segment::{RecordKind, Tick};

/// State of a peer that has read the segment up to here.
#[derive(Debug, Default)]
pub(super) struct Replay {
    state: TickState,
    series: BTreeMap<u32, Labels>,
    families: BTreeMap<String, Metadata>,
    values: Vec<(u32, f64)>,
}

impl Replay {
    /// Applies a record that is not a tick.
    pub(super) fn apply(&mut self, kind: RecordKind, body: &[u8]) -> Result<(), WireError> {
        match kind {
            RecordKind::SnapshotSchema | RecordKind::Schema => {
                let mut entries = SchemaReader::new(body)?;
                while let Some(entry) = entries.next_entry()? {
                    self.apply_entry(entry);
                }
                Ok(())
            }
            RecordKind::SnapshotBase => self.state.decode_base(body, FRAME_BYTES_MAX),
            RecordKind::Tick => Ok(()),
        }
    }

    fn apply_entry(&mut self, entry: SchemaEntry) {
        match entry {
            SchemaEntry::Removed(number) => {
                self.series.remove(&number);
            }
            SchemaEntry::Family { name, metadata } => {
                self.families.insert(name, metadata);
            }
            SchemaEntry::Added {
                series_ref: number,
                labels,
            } => {
                self.state.define(number);
                self.series.insert(number, labels);
            }
        }
    }

    /// Applies a tick.
    pub(super) fn apply_tick(&mut self, tick: Tick<'_>) -> Result<(), WireError> {
        self.state.decode(tick.payload, &mut self.values)
    }

    /// Appends frames that bring a new peer to this state.
    pub(super) fn put_snapshot(mut self, out: &mut Vec<u8>) -> Result<(), WireError> {
        let mut compressor = Compressor::default();
        let mut writer = SchemaWriter::default();
        let mut reset = true;
        let mut payload = Vec::new();
        let mut flush = |writer: &mut SchemaWriter, compressor: &mut Compressor| {
            payload.clear();
            writer.finish(compressor, &mut payload);
            let frame = Frame::Schema {
                reset: std::mem::take(&mut reset),
                payload: &payload,
            };
            frame.encode(out)
        };
        for (name, metadata) in &self.families {
            writer.family(name, metadata);
            if writer.is_full() {
                flush(&mut writer, &mut compressor)?;
            }
        }
        for (&number, labels) in &self.series {
            writer.added(number, labels);
            if writer.is_full() {
                flush(&mut writer, &mut compressor)?;
            }
        }
        flush(&mut writer, &mut compressor)?;
        let mut payload = Vec::new();
        self.state.encode_base(&mut compressor, &mut payload);
        Frame::Base { payload: &payload }.encode(out)
    }
}
