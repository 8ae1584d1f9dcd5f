//! Appending series that are named by the bytes they came in as, without taking the labels apart.
//!
//! A sender repeats its series in the same order, request after request. So each known series remembers which one
//! came next the last time; the next one of a request is compared with that, and only a miss looks into the table.
//! What is compared is the keyed 128-bit hash of the bytes, so nothing of the bytes need be kept.

use std::sync::RwLock;
use std::sync::atomic::{AtomicU32, Ordering};

use common::model::{Labels, Sample};
use hashbrown::HashTable;

use crate::append::{Cell, FreshPlaces, Window};
use crate::head::Head;
use crate::identity::SeriesHash;
use crate::index::view::SeriesIndex as _;
use crate::index::{Place, SeriesId};
use crate::store::{Inner, Store};
use crate::sync::{read, write};
use crate::write::{AppendError, AppendMode, Appended, RefusalReason};

const NOTHING: u32 = u32::MAX;
/// Encodings of labels that are kept beyond twice the number of series.
const SPARE: usize = 100_000;

/// Series with samples, as a request brings them.
#[derive(Debug, Default)]
pub struct RawBatch<'b> {
    series: Vec<(&'b [u8], usize)>,
    samples: Vec<Sample>,
}

impl<'b> RawBatch<'b> {
    /// Adds a series. `key`: its labels as the sender encoded them; equal bytes must mean equal labels.
    pub fn push(&mut self, key: &'b [u8], samples: impl Iterator<Item = Sample>) {
        self.samples.extend(samples);
        self.series.push((key, self.samples.len()));
    }

    /// Number of series.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.series.len()
    }

    /// Whether there is no series.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.series.is_empty()
    }

    fn iter(&self) -> impl Iterator<Item = (&'b [u8], &[Sample])> {
        let mut start = 0;
        self.series.iter().map(move |&(key, end)| {
            let samples = &self.samples[start..end];
            start = end;
            (key, samples)
        })
    }
}

/// Makes labels of the bytes of a key; `None`: they are no labels, and the series is dropped.
pub type LabelsOf<'f> = dyn Fn(&[u8]) -> Option<Labels> + 'f;

#[derive(Debug)]
struct Known {
    hash: SeriesHash,
    series: SeriesId,
    place: Place,
    /// The one that came next the last time.
    next: AtomicU32,
}

#[derive(Debug, Default)]
struct State {
    /// The index' generation at which the places were right.
    generation: u64,
    known: Vec<Known>,
    by_hash: HashTable<u32>,
}

/// The series that came as bytes.
#[derive(Debug, Default)]
pub(crate) struct RawCache {
    state: RwLock<State>,
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

    fn add(&mut self, hash: SeriesHash, series: SeriesId, place: Place) {
        if self.look_up(hash).is_some() {
            return;
        }
        let at = self.known.len() as u32;
        self.known.push(Known {
            hash,
            series,
            place,
            // Misses come in a row, in the order of the request.
            next: AtomicU32::new(at + 1),
        });
        let known = &self.known;
        self.by_hash.insert_unique(hash.bucket(), at, |&other| {
            known[other as usize].hash.bucket()
        });
    }
}

/// What a request is turned into.
struct Collected {
    cells: Vec<Cell>,
    misses: Vec<(SeriesHash, SeriesId, Place)>,
    fresh: FreshPlaces,
    appended: Appended,
    dropped: u64,
}

impl RawCache {
    /// Bytes of memory, about.
    pub(crate) fn memory_bytes(&self) -> usize {
        let state = read(&self.state);
        state.known.capacity() * size_of::<Known>() + state.by_hash.capacity() * 5
    }
}

impl Store {
    /// Appends series named by bytes; otherwise as [`Store::append`]. Returns also how many series were dropped
    /// because `labels_of` made no labels of them.
    ///
    /// # Errors
    /// See [`AppendError`]; then nothing of the request is visible.
    pub fn append_raw(
        &self,
        batch: &RawBatch<'_>,
        mode: AppendMode,
        labels_of: &LabelsOf<'_>,
    ) -> Result<(Appended, u64), AppendError> {
        self.inner().append_raw(batch, mode, labels_of)
    }
}

impl Inner {
    fn append_raw(
        &self,
        batch: &RawBatch<'_>,
        mode: AppendMode,
        labels_of: &LabelsOf<'_>,
    ) -> Result<(Appended, u64), AppendError> {
        self.admit()?;
        let window = self.window();
        let _cut = read(&self.cut);
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

    /// Forgets what is known when a series was moved or removed since, or when too much is known.
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

    fn learn_raw(&self, generation: u64, misses: &[(SeriesHash, SeriesId, Place)]) {
        if misses.is_empty() {
            return;
        }
        let mut state = write(&self.raw.state);
        if state.generation == generation {
            for &(hash, series, place) in misses {
                state.add(hash, series, place);
            }
        }
    }

    fn collect_raw(
        &self,
        head: &Head,
        batch: &RawBatch<'_>,
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
        for (key, samples) in batch.iter() {
            let hash = head.key.hash_bytes(key);
            let found = state.find(before, hash);
            before = found.unwrap_or(NOTHING);
            let known = found.map(|at| &state.known[at as usize]);
            match known.map(|known| (known.series, known.place)) {
                Some((series, place)) => {
                    let labels = || read(&head.index).labels(series);
                    push_cells(samples, window, (series, place), &labels, &mut to);
                }
                None => {
                    self.collect_unknown(head, hash, labels_of(key), (samples, window), &mut to);
                }
            }
        }
        to
    }

    fn collect_unknown(
        &self,
        head: &Head,
        hash: SeriesHash,
        labels: Option<Labels>,
        (samples, window): (&[Sample], Window),
        to: &mut Collected,
    ) {
        let Some(labels) = labels else {
            to.dropped += 1;
            return;
        };
        // A series of which no sample is taken is not made.
        let none_good = |sample: &Sample| window.refusal(sample.timestamp_ms).is_some();
        let placed = if samples.iter().all(none_good) {
            None
        } else {
            Some(self.place(head, &labels, &mut to.fresh))
        };
        match placed {
            Some(Ok((series, place))) => {
                to.misses.push((hash, series, place));
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
    (series, place): (SeriesId, Place),
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
