//! Groups series by symbols, and builds text once per group.

use common::model::Labels;
use hashbrown::HashMap;
use rustc_hash::FxBuildHasher;

use super::ABSENT;
use crate::index::SeriesId;
use crate::index::view::SeriesIndex;
use crate::read::{Grouping, Groups};
use crate::symbols::Symbol;

const UNGROUPED: u32 = u32::MAX;

/// Forms the groups of a set, one part at a time.
pub(super) struct Grouper<'g> {
    grouping: Grouping<'g>,
    groups: Groups,
    left: usize,
    /// The groups by their labels, built for the second part.
    by_labels: HashMap<Labels, u32, FxBuildHasher>,
}

impl<'g> Grouper<'g> {
    pub(super) fn new(series: usize, grouping: Grouping<'g>) -> Self {
        Self {
            grouping,
            groups: Groups {
                group_of: vec![UNGROUPED; series],
                labels: Vec::new(),
            },
            left: series,
            by_labels: HashMap::default(),
        }
    }

    /// Groups the series in `local` that no earlier part has.
    pub(super) fn add(&mut self, index: &(impl SeriesIndex + ?Sized), local: &[u32]) {
        if self.left == 0 {
            return;
        }
        let keeps: Vec<Vec<bool>> = index
            .shapes()
            .iter()
            .map(|shape| {
                let texts = shape.names.iter().map(|&name| index.text(name));
                texts.map(|text| self.is_kept(text)).collect()
            })
            .collect();
        let mut numbers: HashMap<Vec<Symbol>, u32, FxBuildHasher> = HashMap::default();
        let mut key = Vec::new();
        for (at, &id) in local.iter().enumerate() {
            if id == ABSENT || self.groups.group_of[at] != UNGROUPED {
                continue;
            }
            let id = SeriesId(id);
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
                    let number = self.number_of(index, &key);
                    numbers.insert(key.clone(), number);
                    number
                }
            };
            self.groups.group_of[at] = number;
            self.left -= 1;
        }
    }

    fn is_kept(&self, name: &str) -> bool {
        match self.grouping {
            Grouping::By(names) => names.contains(&name),
            Grouping::Without(names) => !names.contains(&name),
        }
    }

    fn number_of(&mut self, index: &(impl SeriesIndex + ?Sized), key: &[Symbol]) -> u32 {
        let pairs = key.chunks_exact(2);
        let labels = Labels::from_sorted(pairs.map(|p| (index.text(p[0]), index.text(p[1]))));
        let next = self.groups.labels.len() as u32;
        let number = *self.by_labels.entry(labels.clone()).or_insert(next);
        if number == next {
            self.groups.labels.push(labels);
        }
        number
    }

    pub(super) fn finish(self) -> Groups {
        self.groups
    }
}
