//! Interns label pairs of series.
//!
//! The series of one container share ten labels of 500 bytes together. With 32 series per container, copies would be most of the
//! agent's memory.

use std::collections::HashMap;
use std::sync::Arc;

use common::model::Labels;

/// Name and value of a label.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Pair {
    name: Box<str>,
    value: Box<str>,
}

#[derive(Debug)]
struct Slot {
    pair: Arc<Pair>,
    /// Number of series with this pair.
    users: u32,
}

/// Reference-counted pairs by index. A pair is dropped with its last series.
#[derive(Debug, Default)]
pub(super) struct Pairs {
    numbers: HashMap<Arc<Pair>, u32>,
    slots: Vec<Option<Slot>>,
    free: Vec<u32>,
}

/// Labels of a series: indices of pairs, in ascending order of label names.
#[derive(Debug)]
pub(super) struct PairList(Box<[u32]>);

impl Pairs {
    /// Adds a series' labels.
    pub(super) fn intern(&mut self, labels: &Labels) -> PairList {
        let numbers = labels.iter().map(|(name, value)| self.number(name, value));
        PairList(numbers.collect())
    }

    fn number(&mut self, name: &str, value: &str) -> u32 {
        let pair = Arc::new(Pair {
            name: name.into(),
            value: value.into(),
        });
        if let Some(&number) = self.numbers.get(&pair) {
            if let Some(Some(slot)) = self.slots.get_mut(number as usize) {
                slot.users += 1;
            }
            return number;
        }
        let slot = Some(Slot {
            pair: Arc::clone(&pair),
            users: 1,
        });
        let number = match self.free.pop() {
            Some(number) => {
                self.slots[number as usize] = slot;
                number
            }
            None => {
                self.slots.push(slot);
                self.slots.len() as u32 - 1
            }
        };
        self.numbers.insert(pair, number);
        number
    }

    /// Removes a series' labels.
    pub(super) fn release(&mut self, list: &PairList) {
        for &number in &list.0 {
            let Some(entry) = self.slots.get_mut(number as usize) else {
                continue;
            };
            if let Some(slot) = entry.take_if(|slot| {
                slot.users -= 1;
                slot.users == 0
            }) {
                self.numbers.remove(&slot.pair);
                self.free.push(number);
            }
        }
    }

    /// Returns the labels of a series.
    pub(super) fn labels(&self, list: &PairList) -> Labels {
        let slots = list.0.iter();
        let pairs = slots.filter_map(|&number| self.slots.get(number as usize)?.as_ref());
        Labels::from_sorted(pairs.map(|slot| (&*slot.pair.name, &*slot.pair.value)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn labels_are_returned_as_interned_and_none_leak(
            sets in prop::collection::vec(prop::collection::btree_map("[a-d]{1,2}", "[xy]{1,2}", 0..5), 1..20),
        ) {
            let mut pairs = Pairs::default();
            let mut kept = Vec::new();
            for (index, set) in sets.iter().enumerate() {
                let labels = Labels::from_pairs(set.clone()).unwrap();
                kept.push((pairs.intern(&labels), labels));
                if index % 3 == 2 {
                    let (list, _) = kept.swap_remove(0);
                    pairs.release(&list);
                }
                for (list, labels) in &kept {
                    prop_assert_eq!(&pairs.labels(list), labels);
                }
            }
            for (list, _) in kept {
                pairs.release(&list);
            }
            prop_assert!(pairs.numbers.is_empty());
            prop_assert_eq!(pairs.free.len(), pairs.slots.len());
        }
    }
}
