//! Appends series identified by their encoded labels, without decoding the labels.
//!
//! A sender repeats its series in the same order in every request. So each known series remembers which series followed
//! it last time. The next series of a request is compared with that one, and only a miss needs a table lookup. The
//! comparison uses the keyed 128-bit hash of the encoded labels, so the bytes are not kept.

use std::sync::atomic::{AtomicU32, Ordering};

use common::model::{Labels, Sample};
use hashbrown::HashTable;

use crate::append::{Cell, FreshPlaces, Window};
use crate::head::Head;
use crate::index::view::SeriesIndex as _;
use crate::index::{ColumnRef, SeriesId};
use crate::series_hash::{HashKey, SeriesHash};
use crate::store::{Inner, Store};
use crate::sync::{Rank, RankedReadGuard, RankedRwLock, read, write};
use crate::write::{AppendError, AppendMode, Appended, RefusalReason};

const NOTHING: u32 = u32::MAX;
/// Number of label encodings that are kept in addition to twice the number of series.
const SPARE: usize = 100_000;

/// The series and samples of a request. Created by [`Store::raw_batch`] and passed to [`Store::append_raw`] by the same
/// thread. It must not be kept for long: until then the store can't learn the series of other senders.
#[derive(Debug)]
pub struct RawBatch<'s, 'b> {
    state: RankedReadGuard<'s, State>,
    hash_key: HashKey,
    /// The previous series, if it is known.
    before: u32,
    parts: Parts<'b>,
}

/// The series and samples of a batch, without its lock.
#[derive(Debug, Default)]
struct Parts<'b> {
    /// The keys, their hashes, and the ends of their samples in `samples`.
    series: Vec<(&'b [u8], SeriesHash, usize)>,
    samples: Vec<Sample>,
}

impl<'b> RawBatch<'_, 'b> {
    /// Adds a series. `key` is its labels as the sender encoded them; equal bytes must mean equal labels.
    pub fn push(&mut self, key: &'b [u8], samples: impl Iterator<Item = Sample>) {
        let hash = self.hash_key.hash_long(key);
        self.before = self.state.find(self.before, hash).unwrap_or(NOTHING);
        self.parts.samples.extend(samples);
        let end = self.parts.samples.len();
        self.parts.series.push((key, hash, end));
    }

    /// Returns the key length of the series that followed the last pushed one in the previous request; 0 if unknown.
    #[must_use]
    pub fn expected_bytes(&self) -> usize {
        let before = self.state.known.get(self.before as usize);
        let next = before.map_or(NOTHING, |before| before.next.load(Ordering::Relaxed));
        let length = self.state.lengths.get(next as usize);
        length.copied().map_or(0, usize::from)
    }

    /// Adds a series with one sample if it is the expected one, and returns whether it is. The key then equals that of
    /// a series pushed before, byte for byte.
    pub fn push_expected(&mut self, key: &'b [u8], sample: Sample) -> bool {
        let Some(before) = self.state.known.get(self.before as usize) else {
            return false;
        };
        let next = before.next.load(Ordering::Relaxed);
        let hash = self.hash_key.hash_long(key);
        let expected = self.state.known.get(next as usize);
        if expected.is_none_or(|expected| expected.hash != hash) {
            return false;
        }
        self.before = next;
        self.parts.samples.push(sample);
        let end = self.parts.samples.len();
        self.parts.series.push((key, hash, end));
        true
    }
}

impl<'b> Parts<'b> {
    fn iter(&self) -> impl Iterator<Item = (&'b [u8], SeriesHash, &[Sample])> {
        let mut start = 0;
        self.series.iter().map(move |&(key, hash, end)| {
            let samples = &self.samples[start..end];
            start = end;
            (key, hash, samples)
        })
    }
}

/// Decodes the labels of a key. `None`: the key is invalid, and the series is dropped.
pub type LabelsOf<'f> = dyn Fn(&[u8]) -> Option<Labels> + 'f;

#[derive(Debug)]
struct Known {
    hash: SeriesHash,
    series: SeriesId,
    place: ColumnRef,
    /// The series that followed this one last time.
    next: AtomicU32,
}

#[derive(Debug, Default)]
struct State {
    /// The generation of the index for which the places are valid.
    generation: u64,
    known: Vec<Known>,
    /// The key length of each known series in bytes; 0 if it does not fit.
    lengths: Vec<u16>,
    by_hash: HashTable<u32>,
}

/// The series known by their encoded labels.
#[derive(Debug)]
pub(crate) struct RawCache {
    state: RankedRwLock<State>,
}

impl Default for RawCache {
    fn default() -> Self {
        Self {
            state: RankedRwLock::new(Rank::RawCache, State::default()),
        }
    }
}

impl State {
    fn find(&self, after: u32, hash: SeriesHash) -> Option<u32> {
        if let Some(before) = self.known.get(after as usize) {
            let next = before.next.load(Ordering::Relaxed);
            if self
                .known
                .get(next as usize)
                .is_some_and(|one| one.hash == hash)
            {
                return Some(next);
            }
            let found = self.look_up(hash)?;
            before.next.store(found, Ordering::Relaxed);
            return Some(found);
        }
        self.look_up(hash)
    }

    fn look_up(&self, hash: SeriesHash) -> Option<u32> {
        let is_same = |&at: &u32| self.known[at as usize].hash == hash;
        self.by_hash.find(hash.bucket(), is_same).copied()
    }

    fn add(&mut self, miss: &Miss) {
        let &Miss {
            hash,
            series,
            place,
            length,
        } = miss;
        if self.look_up(hash).is_some() {
            return;
        }
        let at = self.known.len() as u32;
        self.known.push(Known {
            hash,
            series,
            place,
            // Misses are added one after another, in request order.
            next: AtomicU32::new(at + 1),
        });
        self.lengths.push(length);
        let known = &self.known;
        self.by_hash.insert_unique(hash.bucket(), at, |&other| {
            known[other as usize].hash.bucket()
        });
    }
}

/// A series whose encoded labels were not known.
struct Miss {
    hash: SeriesHash,
    series: SeriesId,
    place: ColumnRef,
    length: u16,
}

/// A request resolved to cells.
struct Collected {
    cells: Vec<Cell>,
    misses: Vec<Miss>,
    fresh: FreshPlaces,
    appended: Appended,
    dropped: u64,
}

impl RawCache {
    /// Returns the approximate memory used, in bytes.
    pub(crate) fn memory_bytes(&self) -> usize {
        let state = read(&self.state);
        state.known.capacity() * (size_of::<Known>() + size_of::<u16>())
            + state.by_hash.capacity() * 5
    }
}

impl Store {
    /// Returns an empty batch.
    #[must_use]
    pub fn raw_batch<'b>(&self) -> RawBatch<'_, 'b> {
        RawBatch {
            state: read(&self.inner().raw.state),
            hash_key: self.inner().key(),
            before: NOTHING,
            parts: Parts::default(),
        }
    }

    /// Appends series identified by their encoded labels; otherwise like [`Store::append`]. Also returns the number of
    /// series dropped because `labels_of` rejected their keys.
    ///
    /// # Errors
    /// See [`AppendError`]. On error, no sample of the request is visible.
    pub fn append_raw(
        &self,
        batch: RawBatch<'_, '_>,
        mode: AppendMode,
        labels_of: &LabelsOf<'_>,
    ) -> Result<(Appended, u64), AppendError> {
        let RawBatch { state, parts, .. } = batch;
        // Released because series learned from this request are written there.
        drop(state);
        self.inner().append_raw(&parts, mode, labels_of)
    }
}

impl Inner {
    fn append_raw(
        &self,
        batch: &Parts<'_>,
        mode: AppendMode,
        labels_of: &LabelsOf<'_>,
    ) -> Result<(Appended, u64), AppendError> {
        self.admit()?;
        let window = self.window();
        let _barrier = read(&self.append_barrier);
        let head = self.head();
        let (generation, series) = {
            let index = read(&head.index);
            (index.generation(), index.len())
        };
        self.renew_raw(generation, series);
        let mut collected = self.collect_raw(&head, batch, window, labels_of);
        collected.fresh.log(self, &head);
        self.learn_raw(generation, &collected.misses);
        let Collected {
            mut cells,
            appended,
            dropped,
            ..
        } = collected;
        let appended = self.apply(&head, &mut cells, mode, None, appended)?;
        Ok((appended, dropped))
    }

    /// Clears the cache if a series was moved or removed since, or if the cache has grown too large.
    fn renew_raw(&self, generation: u64, series: usize) {
        let is_good = |state: &State| {
            state.generation == generation && state.known.len() <= 2 * series + SPARE
        };
        if !is_good(&read(&self.raw.state)) {
            let mut state = write(&self.raw.state);
            if !is_good(&state) {
                *state = State {
                    generation,
                    ..State::default()
                };
            }
        }
    }

    fn learn_raw(&self, generation: u64, misses: &[Miss]) {
        if misses.is_empty() {
            return;
        }
        let mut state = write(&self.raw.state);
        if state.generation == generation {
            for miss in misses {
                state.add(miss);
            }
        }
    }

    fn collect_raw(
        &self,
        head: &Head,
        batch: &Parts<'_>,
        window: Window,
        labels_of: &LabelsOf<'_>,
    ) -> Collected {
        let mut to = Collected {
            cells: Vec::with_capacity(batch.samples.len()),
            misses: Vec::new(),
            fresh: FreshPlaces::default(),
            appended: Appended::default(),
            dropped: 0,
        };
        let state = read(&self.raw.state);
        let mut before = NOTHING;
        for (key, hash, samples) in batch.iter() {
            let found = state.find(before, hash);
            before = found.unwrap_or(NOTHING);
            let known = found.map(|at| &state.known[at as usize]);
            match known.map(|known| (known.series, known.place)) {
                Some((series, place)) => {
                    let labels = || read(&head.index).labels(series);
                    push_cells(samples, window, (series, place), &labels, &mut to);
                }
                None => {
                    self.collect_unknown(head, (key, hash), labels_of, (samples, window), &mut to);
                }
            }
        }
        to
    }

    fn collect_unknown(
        &self,
        head: &Head,
        (key, hash): (&[u8], SeriesHash),
        labels_of: &LabelsOf<'_>,
        (samples, window): (&[Sample], Window),
        to: &mut Collected,
    ) {
        let Some(labels) = labels_of(key) else {
            to.dropped += 1;
            return;
        };
        // A series is not created if none of its samples is accepted.
        let none_good = |sample: &Sample| window.refusal(sample.timestamp_ms).is_some();
        let placed = if samples.iter().all(none_good) {
            None
        } else {
            Some(self.place(head, &labels, &mut to.fresh))
        };
        match placed {
            Some(Ok((series, place))) => {
                to.misses.push(Miss {
                    hash,
                    series,
                    place,
                    length: u16::try_from(key.len()).unwrap_or(0),
                });
                push_cells(samples, window, (series, place), &|| labels.clone(), to);
            }
            refused => {
                for sample in samples {
                    let reason = match (window.refusal(sample.timestamp_ms), refused) {
                        (Some(reason), _) => reason,
                        (None, Some(Err(error))) => error.reason(),
                        (None, None | Some(Ok(_))) => RefusalReason::SeriesLimit,
                    };
                    to.appended
                        .refuse(|| labels.clone(), sample.timestamp_ms, reason);
                }
            }
        }
    }
}

fn push_cells(
    samples: &[Sample],
    window: Window,
    (series, place): (SeriesId, ColumnRef),
    labels: &dyn Fn() -> Labels,
    to: &mut Collected,
) {
    for sample in samples {
        match window.refusal(sample.timestamp_ms) {
            Some(reason) => to.appended.refuse(labels, sample.timestamp_ms, reason),
            None => to.cells.push(Cell {
                place,
                series,
                timestamp_ms: sample.timestamp_ms,
                bits: sample.value.to_bits(),
            }),
        }
    }
}
