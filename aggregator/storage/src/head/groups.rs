//! All groups, by number and by key.

use std::sync::Arc;

use hashbrown::HashMap;
use rustc_hash::FxBuildHasher;

use crate::sync::{Rank, RankedMutex};

use super::group::{Group, GroupData};

/// Groups with lower numbers are kept in a list (8 bytes per number), the others in a map. So a high number in a log
/// does not allocate memory for all numbers below it.
const LISTED: u32 = 1 << 20;

/// All groups. Numbers are assigned in ascending order; after a replay some may be missing.
#[derive(Debug, Default)]
pub(super) struct Groups {
    listed: Vec<Option<Arc<Group>>>,
    others: HashMap<u32, Arc<Group>, FxBuildHasher>,
    by_key: HashMap<Arc<str>, u32, FxBuildHasher>,
}

impl Groups {
    pub(super) fn get(&self, number: u32) -> Option<&Arc<Group>> {
        match number < LISTED {
            true => self.listed.get(number as usize)?.as_ref(),
            false => self.others.get(&number),
        }
    }

    pub(super) fn with_key(&self, key: &str) -> Option<&Arc<Group>> {
        self.get(*self.by_key.get(key)?)
    }

    /// Returns all groups, sorted by number.
    pub(super) fn all(&self) -> Vec<Arc<Group>> {
        let mut all: Vec<_> = self.listed.iter().flatten().cloned().collect();
        let listed = all.len();
        all.extend(self.others.values().cloned());
        if let Some(others) = all.get_mut(listed..) {
            others.sort_unstable_by_key(|group| group.number);
        }
        all
    }

    /// Returns an unused group number, above any the retained log may mention as long as there are such numbers.
    pub(super) fn next_number(&self) -> u32 {
        let listed = self.listed.len() as u32;
        if listed < LISTED {
            return listed;
        }
        let first = LISTED + self.others.len() as u32;
        let mut numbers = (first..=u32::MAX).chain(0..first);
        numbers
            .find(|&number| self.get(number).is_none())
            .unwrap_or(u32::MAX)
    }

    /// Puts a group with this key and content at `number`; the former group is no longer found.
    pub(super) fn put(&mut self, number: u32, key: Arc<str>, data: GroupData) -> Arc<Group> {
        if let Some(before) = self.get(number) {
            let key = Arc::clone(&before.key);
            if self.by_key.get(&key) == Some(&number) {
                self.by_key.remove(&key);
            }
        }
        let group = Arc::new(Group {
            number,
            key: Arc::clone(&key),
            data: RankedMutex::new(Rank::Group, data),
        });
        if number < LISTED {
            let at = number as usize;
            if at >= self.listed.len() {
                self.listed.resize(at + 1, None);
            }
            self.listed[at] = Some(Arc::clone(&group));
        } else {
            self.others.insert(number, Arc::clone(&group));
        }
        self.by_key.insert(key, number);
        group
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_found_by_number_and_key_however_high_the_numbers() {
        let mut groups = Groups::default();
        for number in [3, LISTED, u32::MAX, LISTED - 1] {
            groups.put(number, number.to_string().into(), GroupData::new(0));
        }
        let numbers: Vec<u32> = groups.all().iter().map(|group| group.number).collect();
        assert_eq!(numbers, [3, LISTED - 1, LISTED, u32::MAX]);
        assert_eq!(groups.with_key("3").unwrap().number, 3);
        assert!(groups.get(4).is_none() && groups.get(u32::MAX - 1).is_none());
        let next = groups.next_number();
        assert_eq!(next, LISTED + 2);
        groups.put(next, "next".into(), GroupData::new(0));
        assert_eq!(groups.next_number(), LISTED + 3);
        groups.put(3, "other".into(), GroupData::new(0));
        assert!(groups.with_key("3").is_none());
        assert_eq!(groups.with_key("other").unwrap().number, 3);
    }
}
