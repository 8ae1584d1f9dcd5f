//! What a selection gives: series of the head, read column by column.

use std::ops::Range;
use std::sync::Arc;

use common::model::Labels;
use hashbrown::HashMap;
use rustc_hash::FxBuildHasher;

use crate::head::Head;
use crate::head::group::{Group, GroupData};
use crate::head::rows::ABSENT;
use crate::index::{Index, Place, SeriesId};
use crate::read::{
    Column, Grouping, Groups, ReadControl, ReadError, Selection, SeriesSet, Values, Visit,
};
use crate::symbols::Symbol;
use crate::sync::{lock, read};

/// Columns that are copied out of a group at once.
const BATCH: usize = 64;

/// The series that matched.
pub(crate) struct HeadSet {
    head: Arc<Head>,
    series: Vec<(SeriesId, Place)>,
    /// For series that moved between groups, all their places.
    moved: HashMap<u32, Vec<Place>, FxBuildHasher>,
    start_ms: i64,
    end_ms: i64,
}

impl HeadSet {
    /// Resolves a selection.
    ///
    /// # Errors
    /// The control's bounds.
    pub(crate) fn new(
        head: Arc<Head>,
        selection: &Selection,
        control: &ReadControl,
    ) -> Result<Self, ReadError> {
        let mut series = Vec::new();
        let mut moved = HashMap::default();
        {
            let index = read(&head.index);
            let ids = index.resolve(&selection.matchers, control)?;
            let mut overlapping: HashMap<u32, bool, FxBuildHasher> = HashMap::default();
            let mut overlaps = |place: &Place| {
                *overlapping.entry(place.group).or_insert_with(|| {
                    head.group(place.group).is_some_and(|group| {
                        lock(&group.data).overlaps(selection.start_ms, selection.end_ms)
                    })
                })
            };
            for id in ids {
                let id = SeriesId(id);
                let mut places: Vec<Place> = index.places(id).filter(&mut overlaps).collect();
                let Some(&first) = places.first() else {
                    continue;
                };
                series.push((id, first));
                if places.len() > 1 {
                    places.shrink_to_fit();
                    moved.insert(id.0, places);
                }
            }
        }
        control.check_series(series.len() as u64)?;
        series.sort_unstable_by_key(|&(_, place)| place);
        Ok(Self {
            head,
            series,
            moved,
            start_ms: selection.start_ms,
            end_ms: selection.end_ms,
        })
    }
}

impl SeriesSet for HeadSet {
    fn len(&self) -> usize {
        self.series.len()
    }

    fn labels(&self, index: usize) -> Labels {
        read(&self.head.index).labels(self.series[index].0)
    }

    fn group(&self, grouping: Grouping<'_>) -> Groups {
        let index = read(&self.head.index);
        group_series(&index, self.series.iter().map(|&(id, _)| id), grouping)
    }

    fn read(
        &self,
        range: Range<usize>,
        control: &ReadControl,
        visit: &mut Visit<'_>,
    ) -> Result<(), ReadError> {
        let mut scratch = Scratch::default();
        let mut at = range.start;
        while at < range.end {
            let number = self.series[at].1.group;
            let limit = range.end.min(at + BATCH);
            let run = self.series[at..limit]
                .iter()
                .take_while(|(_, place)| place.group == number)
                .count();
            if let Some(group) = self.head.group(number) {
                scratch.load(
                    &group,
                    &self.series[at..at + run],
                    self.start_ms,
                    self.end_ms,
                );
                for offset in 0..run {
                    self.visit_one(at + offset, offset, &mut scratch, control, visit)?;
                }
            }
            at += run;
        }
        Ok(())
    }
}

impl HeadSet {
    fn visit_one(
        &self,
        index: usize,
        offset: usize,
        scratch: &mut Scratch,
        control: &ReadControl,
        visit: &mut Visit<'_>,
    ) -> Result<(), ReadError> {
        let (id, _) = self.series[index];
        if let Some(places) = self.moved.get(&id.0) {
            scratch.merge_places(&self.head, places, self.start_ms, self.end_ms);
        } else {
            scratch.pick(offset);
        }
        let column = scratch.column();
        control.charge_samples(column.timestamps_ms.len() as u64)?;
        if column.timestamps_ms.is_empty() {
            return Ok(());
        }
        visit(index, column)
    }
}

/// Copies of columns, and the memory for them.
#[derive(Default)]
struct Scratch {
    /// Times of the rows in range; shared by the columns that are full.
    row_times: Vec<i64>,
    clock: u64,
    /// Column by column, as many values as there are row times.
    cells: Vec<u64>,
    /// The samples outside the rows, for each column of the batch.
    loose: Vec<Vec<(i64, u64)>>,
    /// The picked column when it is not one of the full ones.
    own_times: Vec<i64>,
    values: Vec<f64>,
    is_shared: bool,
}

/// Names the timestamps of consecutive rows of a group. Rows are only added at the end, so the same first, last and
/// number mean the same timestamps.
fn clock_of(group: u32, times: &[i64]) -> u64 {
    let (Some(&first), Some(&last)) = (times.first(), times.last()) else {
        return 0;
    };
    let mut hash = u64::from(group) ^ 0x9e37_79b9_7f4a_7c15;
    for part in [first as u64, last as u64, times.len() as u64] {
        hash = (hash ^ part)
            .wrapping_mul(0xff51_afd7_ed55_8ccd)
            .rotate_left(29);
    }
    hash.max(1)
}

fn rows_in_range(data: &GroupData, start_ms: i64, end_ms: i64) -> Range<usize> {
    let times = data.rows().times_ms();
    let first = times.partition_point(|&t| t < start_ms);
    let end = times.partition_point(|&t| t <= end_ms);
    first..end.max(first)
}

fn loose_in_range(list: &[(i64, u64)], start_ms: i64, end_ms: i64) -> &[(i64, u64)] {
    let first = list.partition_point(|&(t, _)| t < start_ms);
    let end = list.partition_point(|&(t, _)| t <= end_ms);
    list.get(first..end).unwrap_or(&[])
}

impl Scratch {
    /// Copies the columns of a run of series out of their group.
    fn load(&mut self, group: &Group, run: &[(SeriesId, Place)], start_ms: i64, end_ms: i64) {
        let data = lock(&group.data);
        let rows = rows_in_range(&data, start_ms, end_ms);
        let count = rows.len();
        self.row_times.clear();
        self.row_times
            .extend_from_slice(&data.rows().times_ms()[rows.clone()]);
        self.clock = clock_of(group.number, &self.row_times);
        self.cells.clear();
        self.cells.resize(count * run.len(), ABSENT);
        for (offset, row) in rows.enumerate() {
            let cells = data.rows().row(row);
            for (number, (_, place)) in run.iter().enumerate() {
                if let Some(&bits) = cells.get(place.column as usize) {
                    self.cells[number * count + offset] = bits;
                }
            }
        }
        self.loose.clear();
        self.loose.extend(
            run.iter().map(|(_, place)| {
                loose_in_range(data.loose(place.column), start_ms, end_ms).to_vec()
            }),
        );
    }

    /// Makes the column with that number in the batch the current one.
    fn pick(&mut self, offset: usize) {
        let count = self.row_times.len();
        let cells = &self.cells[offset * count..(offset + 1) * count];
        self.values.clear();
        self.is_shared = self.loose[offset].is_empty() && !cells.contains(&ABSENT);
        if self.is_shared {
            self.values
                .extend(cells.iter().map(|&bits| f64::from_bits(bits)));
            return;
        }
        self.own_times.clear();
        let in_rows = self.row_times.iter().copied().zip(cells.iter().copied());
        let in_rows = in_rows.filter(|&(_, bits)| bits != ABSENT);
        merge(
            in_rows,
            &self.loose[offset],
            &mut self.own_times,
            &mut self.values,
        );
    }

    /// Makes the samples of several places the current column.
    fn merge_places(&mut self, head: &Head, places: &[Place], start_ms: i64, end_ms: i64) {
        let mut samples: Vec<(i64, u64)> = Vec::new();
        for place in places {
            let Some(group) = head.group(place.group) else {
                continue;
            };
            let data = lock(&group.data);
            for row in rows_in_range(&data, start_ms, end_ms) {
                let bits = data.rows().get(row, place.column);
                if bits != ABSENT {
                    samples.push((data.rows().times_ms()[row], bits));
                }
            }
            samples.extend_from_slice(loose_in_range(data.loose(place.column), start_ms, end_ms));
        }
        samples.sort_by_key(|&(t, _)| t);
        samples.dedup_by_key(|&mut (t, _)| t);
        self.is_shared = false;
        self.values.clear();
        self.own_times.clear();
        merge(
            samples.into_iter(),
            &[],
            &mut self.own_times,
            &mut self.values,
        );
    }

    fn column(&self) -> Column<'_> {
        let (clock, times): (u64, &[i64]) = if self.is_shared {
            (self.clock, &self.row_times)
        } else {
            (0, &self.own_times)
        };
        Column {
            clock,
            timestamps_ms: times,
            values: Values::Floats(&self.values),
        }
    }
}

/// Merges two ascending lists; of equal times the first list's sample stays.
fn merge(
    a: impl Iterator<Item = (i64, u64)>,
    b: &[(i64, u64)],
    times: &mut Vec<i64>,
    values: &mut Vec<f64>,
) {
    let mut b = b.iter().copied().peekable();
    let mut push = |(time, bits): (i64, u64)| {
        if times.last() != Some(&time) {
            times.push(time);
            values.push(f64::from_bits(bits));
        }
    };
    for one in a {
        while let Some(other) = b.next_if(|other| other.0 < one.0) {
            push(other);
        }
        push(one);
    }
    b.for_each(push);
}

/// Groups series by symbols; text is put together once a group.
pub(crate) fn group_series(
    index: &Index,
    series: impl ExactSizeIterator<Item = SeriesId>,
    grouping: Grouping<'_>,
) -> Groups {
    let keeps: Vec<Vec<bool>> = index
        .shapes()
        .iter()
        .map(|shape| {
            let texts = shape.names.iter().map(|&name| index.symbols.text(name));
            texts.map(|text| is_kept(grouping, text)).collect()
        })
        .collect();
    let mut groups = Groups {
        group_of: Vec::with_capacity(series.len()),
        labels: Vec::new(),
    };
    let mut numbers: HashMap<Vec<Symbol>, u32, FxBuildHasher> = HashMap::default();
    let mut key = Vec::new();
    for id in series {
        let shape = index.shape_number(id) as usize;
        let names = &index.shapes()[shape].names;
        key.clear();
        for ((&keep, &name), &value) in keeps[shape].iter().zip(names).zip(index.values(id)) {
            if keep {
                key.extend([name, value]);
            }
        }
        let number = match numbers.get(&key) {
            Some(&number) => number,
            None => {
                let number = groups.labels.len() as u32;
                let text = |symbol: &Symbol| index.symbols.text(*symbol);
                let pairs = key
                    .chunks_exact(2)
                    .map(|pair| (text(&pair[0]), text(&pair[1])));
                groups.labels.push(Labels::from_sorted(pairs));
                numbers.insert(key.clone(), number);
                number
            }
        };
        groups.group_of.push(number);
    }
    groups
}

fn is_kept(grouping: Grouping<'_>, name: &str) -> bool {
    match grouping {
        Grouping::By(names) => names.contains(&name),
        Grouping::Without(names) => !names.contains(&name),
    }
}
