//! Writes ticks to the spool.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use common::telemetry::Registry;
use common::wire::{Compressor, SchemaWriter, TickState};
use tokio::sync::watch;

use super::files::open_or_create;
use super::gaps::Gaps;
use super::recovery::{begin_start, find_segments, lock};
use super::segment::{self, RecordKind};
use super::shared::{Received, SegmentInfo, Shared};
use super::{Receiver, SpoolError, SpoolHandle, SpoolMetrics, SpoolOptions};
use crate::{SchemaChange, TickSource};

/// Size at which a segment is closed, unless an eighth of the spool is less.
const SEGMENT_BYTES_MAX: u64 = 4 << 20;
/// Least number of ticks in a segment, so that snapshots do not outweigh ticks.
const SEGMENT_TICKS_MIN: u64 = 60;

/// Writing half of the spool, owned by the producer.
#[derive(Debug)]
pub struct SpoolWriter {
    shared: Arc<Shared>,
    options: SpoolOptions,
    sequence: u64,
    /// `None` before the first tick and after an error.
    open: Option<OpenSegment>,
    next_index: u64,
    state: TickState,
    /// By series reference: whether readers know the series.
    live: Vec<bool>,
    families: usize,
    compressor: Compressor,
    schema: SchemaWriter,
    buffer: Vec<u8>,
    _lock: File,
}

#[derive(Debug)]
struct OpenSegment {
    path: PathBuf,
    file: File,
    snapshot_bytes: u64,
}

/// Opens the spool, cuts off torn tails and continues after the newest sequence.
///
/// # Errors
/// The directory or a file in it cannot be created, read or locked. Damaged records are skipped and counted.
pub fn open(
    options: SpoolOptions,
    registry: &Registry,
) -> Result<(SpoolWriter, SpoolHandle), SpoolError> {
    let directory = options.path.clone();
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&directory)
        .map_err(SpoolError::io("create spool", &directory))?;
    let lock = lock(&directory)?;
    let metrics = SpoolMetrics::new(registry, options.receivers);
    let (instance, start) = begin_start(&directory)?;
    let mut list = find_segments(&directory, &metrics)?;
    for &receiver in options.receivers {
        let gaps = Gaps::load(&directory, receiver)?;
        let live = None;
        list.received.push(Received { live, gaps });
    }
    let next_index = list.segments.back().map_or(0, |last| last.index + 1);
    let sequences = list.segments.iter().filter_map(|one| one.last_sequence);
    let newest = sequences.max().unwrap_or(0);
    let shared = Arc::new(Shared {
        directory,
        instance,
        metrics,
        newest: watch::Sender::new(newest),
        list: Mutex::new(list),
    });
    {
        let mut list = shared.list();
        shared.drop_oldest(&mut list, options.bytes_max);
        shared.report(&list);
    }
    let handle = SpoolHandle {
        shared: Arc::clone(&shared),
        receiver: Receiver::Primary,
    };
    let writer = SpoolWriter {
        shared,
        options,
        // The number of this start in the high half makes sequences ascend even if the last ticks were lost.
        sequence: newest.max(start << 32),
        open: None,
        next_index,
        state: TickState::default(),
        live: Vec::new(),
        families: 0,
        compressor: Compressor::default(),
        schema: SchemaWriter::default(),
        buffer: Vec::new(),
        _lock: lock,
    };
    Ok((writer, handle))
}

impl SpoolWriter {
    /// Writes the current tick and the schema changes since the last call, clears the changes, and returns the tick's sequence.
    ///
    /// Allocates nothing once it is warm, except for a new segment now and then.
    ///
    /// # Errors
    /// The tick cannot be written; it is lost and counted. The schema is not lost: the next call writes a full snapshot.
    pub fn append(&mut self, source: &mut impl TickSource) -> Result<u64, SpoolError> {
        let mut result = self.try_append(source);
        // On a full disk the oldest ticks make room, as when the spool itself is full.
        while matches!(&result, Err(error) if error.is_disk_full()) {
            self.abandon();
            if !self.make_room() {
                break;
            }
            result = self.try_append(source);
        }
        // Also after an error: the next segment starts with a snapshot of the source.
        source.clear_changes();
        if result.is_err() {
            self.shared.metrics.write_errors.inc();
            self.abandon();
        }
        let mut list = self.shared.list();
        self.shared.drop_oldest(&mut list, self.options.bytes_max);
        self.shared.report(&list);
        result
    }

    /// Drops the oldest segment. Returns false when only the newest is left.
    fn make_room(&self) -> bool {
        let mut list = self.shared.list();
        let (before, bytes) = (list.segments.len(), list.bytes());
        self.shared.drop_oldest(&mut list, bytes.saturating_sub(1));
        list.segments.len() < before
    }

    /// Syncs the open segment to disk, for shutdown.
    ///
    /// # Errors
    /// The sync failed.
    pub fn sync(&mut self) -> Result<(), SpoolError> {
        let Some(open) = &self.open else {
            return Ok(());
        };
        open.file
            .sync_data()
            .map_err(SpoolError::io("sync spool segment", &open.path))
    }

    fn try_append(&mut self, source: &impl TickSource) -> Result<u64, SpoolError> {
        self.buffer.clear();
        if self.open.is_none() {
            self.state.clear();
            self.begin_segment(source, false)?;
        } else {
            self.put_changes(source);
        }
        let sequence = self.sequence + 1;
        let samples = self.put_tick(source, sequence);
        self.commit(Some(sequence))?;
        self.sequence = sequence;
        self.shared.metrics.ticks.inc();
        self.shared.metrics.samples.add(samples);
        self.shared.metrics.last_sequence.set(sequence as f64);
        self.shared.newest.send_replace(sequence);
        if self.should_rotate()
            && let Err(error) = self.rotate(source)
        {
            let error = common::report::chain(&error);
            tracing::warn!(
                error,
                "cannot begin a spool segment; the next tick tries again"
            );
            self.abandon();
        }
        Ok(sequence)
    }

    fn rotate(&mut self, source: &impl TickSource) -> Result<(), SpoolError> {
        self.close_segment()?;
        self.buffer.clear();
        self.begin_segment(source, true)?;
        self.commit(None)
    }

    /// Creates a segment file and encodes its header and snapshot into the buffer.
    fn begin_segment(
        &mut self,
        source: &impl TickSource,
        continues: bool,
    ) -> Result<(), SpoolError> {
        let index = self.next_index;
        let path = segment::path(&self.shared.directory, index);
        let file = open_or_create(&path)
            .and_then(|file| file.set_len(0).map(|()| file))
            .map_err(SpoolError::io("create spool segment", &path))?;
        self.next_index += 1;
        self.buffer
            .extend_from_slice(&segment::header(index, continues));
        self.put_snapshot(source, continues);
        self.open = Some(OpenSegment {
            path,
            file,
            snapshot_bytes: self.buffer.len() as u64,
        });
        self.shared.list().segments.push_back(SegmentInfo {
            index,
            continues,
            committed: 0,
            first_sequence: None,
            last_sequence: None,
            ticks: 0,
            closed: false,
        });
        Ok(())
    }

    fn put_snapshot(&mut self, source: &impl TickSource, continues: bool) {
        for (name, metadata) in source.families() {
            self.schema.family(name, metadata);
            self.finish_schema_if_full(RecordKind::SnapshotSchema);
        }
        self.families = source.families().len();
        self.live.clear();
        self.live.resize(source.capacity(), false);
        for (series_ref, labels) in source.series() {
            self.live[series_ref as usize] = true;
            self.schema.added(series_ref, &labels);
            if !continues {
                self.state.define(series_ref);
            }
            self.finish_schema_if_full(RecordKind::SnapshotSchema);
        }
        // Written even when empty, because it resets the reader.
        self.finish_schema(RecordKind::SnapshotSchema);
        self.state.forget_dictionary();
        let (state, compressor) = (&mut self.state, &mut self.compressor);
        segment::put_record(&mut self.buffer, RecordKind::SnapshotBase, |out| {
            state.encode_base(compressor, out);
        });
    }

    fn finish_schema_if_full(&mut self, kind: RecordKind) {
        if self.schema.is_full() {
            self.finish_schema(kind);
        }
    }

    fn finish_schema(&mut self, kind: RecordKind) {
        let (schema, compressor) = (&mut self.schema, &mut self.compressor);
        segment::put_record(&mut self.buffer, kind, |out| schema.finish(compressor, out));
    }

    fn put_changes(&mut self, source: &impl TickSource) {
        let families = source.families().len();
        // `Map` skips element by element, and new families are rare.
        if families > self.families {
            for (name, metadata) in source.families().skip(self.families) {
                self.schema.family(name, metadata);
            }
            self.families = families;
        }
        self.live.resize(source.capacity(), false);
        for &change in source.changes() {
            match change {
                SchemaChange::Added(series_ref) => {
                    // A series that was added and removed since the last tick has no labels any more.
                    if let Some(labels) = source.labels(series_ref) {
                        self.live[series_ref as usize] = true;
                        self.state.define(series_ref);
                        self.schema.added(series_ref, &labels);
                    }
                }
                SchemaChange::Removed(series_ref) => {
                    if std::mem::take(&mut self.live[series_ref as usize]) {
                        self.schema.removed(series_ref);
                    }
                }
            }
            self.finish_schema_if_full(RecordKind::Schema);
        }
        if !self.schema.is_empty() {
            self.finish_schema(RecordKind::Schema);
        }
    }

    fn put_tick(&mut self, source: &impl TickSource, sequence: u64) -> u64 {
        let mut samples = 0;
        let values = source.values().inspect(|_| samples += 1);
        let (state, compressor) = (&mut self.state, &mut self.compressor);
        segment::put_record(&mut self.buffer, RecordKind::Tick, |out| {
            segment::put_tick_head(out, sequence, source.timestamp_ms());
            state.encode(values, compressor, out);
        });
        samples
    }

    /// Writes the buffer and publishes it to readers.
    fn commit(&mut self, sequence: Option<u64>) -> Result<(), SpoolError> {
        let Some(open) = &mut self.open else {
            return Ok(());
        };
        open.file
            .write_all(&self.buffer)
            .map_err(SpoolError::io("write spool segment", &open.path))?;
        if self.options.sync_each_tick {
            open.file
                .sync_data()
                .map_err(SpoolError::io("sync spool segment", &open.path))?;
        }
        self.shared
            .metrics
            .written_bytes
            .add(self.buffer.len() as u64);
        let mut list = self.shared.list();
        if let Some(segment) = list.segments.back_mut() {
            segment.committed += self.buffer.len() as u64;
            if let Some(sequence) = sequence {
                segment.first_sequence.get_or_insert(sequence);
                segment.last_sequence = Some(sequence);
                segment.ticks += 1;
            }
        }
        Ok(())
    }

    fn should_rotate(&self) -> bool {
        let mut list = self.shared.list();
        let requested = std::mem::take(&mut list.rotate_requested);
        let (Some(segment), Some(open)) = (list.segments.back(), &self.open) else {
            return false;
        };
        let bytes_max = SEGMENT_BYTES_MAX.min(self.options.bytes_max / 8);
        let ticks_bytes = segment.committed.saturating_sub(open.snapshot_bytes);
        let long = segment.ticks >= SEGMENT_TICKS_MIN && ticks_bytes >= 8 * open.snapshot_bytes;
        requested || long || segment.committed >= bytes_max.max(2 * open.snapshot_bytes)
    }

    fn close_segment(&mut self) -> Result<(), SpoolError> {
        if self.options.sync_each_tick {
            self.sync()?;
        }
        self.open = None;
        if let Some(segment) = self.shared.list().segments.back_mut() {
            segment.closed = true;
        }
        Ok(())
    }

    /// Closes the open segment after an error; its ticks up to the last complete one stay readable.
    fn abandon(&mut self) {
        let mut list = self.shared.list();
        if let Some(segment) = list.segments.back_mut() {
            segment.closed = true;
        }
        let Some(open) = self.open.take() else {
            return;
        };
        let committed = match list.segments.back() {
            Some(segment) if segment.ticks > 0 => segment.committed,
            _ => {
                list.segments.pop_back();
                0
            }
        };
        drop(list);
        let cut = match committed {
            0 => fs::remove_file(&open.path),
            committed => open.file.set_len(committed),
        };
        // If this fails, the next start cuts the record off as a torn tail.
        if let Err(error) = cut {
            let (path, error) = (open.path.display(), common::report::chain(&error));
            tracing::warn!(%path, error, "cannot cut off a half-written spool record");
        }
    }
}
