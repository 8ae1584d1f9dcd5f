//! A cache of objects that a kernel file lists in the same order at every read.

/// Values by key, looked up first at the position of the previous pass.
///
/// A pass over an unchanged file costs one comparison per entry and does not allocate. An entry that moved, appeared or disappeared
/// costs a linear search.
#[derive(Debug)]
pub struct OrderedCache<T> {
    entries: Vec<Entry<T>>,
    cursor: usize,
    pass: u64,
}

#[derive(Debug)]
struct Entry<T> {
    key: Box<[u8]>,
    seen_in_pass: u64,
    value: T,
}

impl<T> Default for OrderedCache<T> {
    fn default() -> Self {
        Self {
            entries: Vec::new(),
            cursor: 0,
            pass: 0,
        }
    }
}

impl<T> OrderedCache<T> {
    /// Starts a pass over the file.
    pub fn begin(&mut self) {
        self.cursor = 0;
        self.pass += 1;
    }

    /// Makes a pass that keeps the entries of `keys` and passes the others to `gone`. Use it when old values must be released before
    /// their replacements are created.
    pub fn retain<'a>(&mut self, keys: impl Iterator<Item = &'a [u8]>, gone: impl FnMut(T)) {
        self.begin();
        for key in keys {
            if let Some(index) = self.find(key) {
                self.cursor = index + 1;
                self.entries[index].seen_in_pass = self.pass;
            }
        }
        self.end(gone);
    }

    /// Returns the value of `key`, created by `make` if it is new.
    pub fn entry(&mut self, key: &[u8], make: impl FnOnce(&[u8]) -> T) -> &mut T {
        let index = match self.find(key) {
            Some(index) => index,
            None => self.insert(key, make(key)),
        };
        self.cursor = index + 1;
        let entry = &mut self.entries[index];
        entry.seen_in_pass = self.pass;
        &mut entry.value
    }

    fn find(&self, key: &[u8]) -> Option<usize> {
        let expected = self.entries.get(self.cursor);
        if expected.is_some_and(|entry| *entry.key == *key) {
            return Some(self.cursor);
        }
        self.entries.iter().position(|entry| *entry.key == *key)
    }

    fn insert(&mut self, key: &[u8], value: T) -> usize {
        let index = self.cursor.min(self.entries.len());
        let entry = Entry {
            key: key.into(),
            seen_in_pass: self.pass,
            value,
        };
        self.entries.insert(index, entry);
        index
    }

    /// Ends a pass and passes the values that did not occur in it to `gone`.
    pub fn end(&mut self, mut gone: impl FnMut(T)) {
        let pass = self.pass;
        if self.entries.iter().all(|entry| entry.seen_in_pass == pass) {
            return;
        }
        let (kept, lost): (Vec<_>, Vec<_>) = self
            .entries
            .drain(..)
            .partition(|entry| entry.seen_in_pass == pass);
        self.entries = kept;
        lost.into_iter().for_each(|entry| gone(entry.value));
    }

    /// Returns the values in the file's order.
    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.entries.iter_mut().map(|entry| &mut entry.value)
    }

    /// Returns the number of entries.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.entries.len()
    }

    /// Returns whether the cache is empty.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pass(entries: &mut OrderedCache<u8>, keys: &[u8]) -> Vec<u8> {
        let mut gone = Vec::new();
        entries.begin();
        for key in keys {
            assert_eq!(*entries.entry(&[*key], |key| key[0]), *key);
        }
        entries.end(|value| gone.push(value));
        gone.sort_unstable();
        gone
    }

    #[test]
    fn value_that_disappears_is_passed_on_once() {
        let mut entries = OrderedCache::default();
        assert_eq!(pass(&mut entries, &[1, 2, 3]), [0; 0]);
        assert_eq!(pass(&mut entries, &[1, 3]), [2]);
        assert_eq!(pass(&mut entries, &[3, 2, 1]), [0; 0]);
        assert_eq!(entries.len(), 3);
    }

    #[test]
    fn retained_value_is_not_created_again() {
        let mut entries = OrderedCache::default();
        pass(&mut entries, &[1, 2, 3]);
        let mut gone = Vec::new();
        let keys: [&[u8]; 3] = [&[3], &[1], &[4]];
        entries.retain(keys.into_iter(), |value| gone.push(value));
        assert_eq!((gone, entries.len()), (vec![2], 2));
        entries.begin();
        for key in [1, 3] {
            entries.entry(&[key], |_| unreachable!("it was kept"));
        }
    }

    proptest! {
        #[test]
        fn behaves_as_a_set(passes in prop::collection::vec(prop::collection::vec(0_u8..6, 0..8), 0..8)) {
            let mut entries = OrderedCache::default();
            let mut model = std::collections::BTreeSet::new();
            for keys in passes {
                let now: std::collections::BTreeSet<u8> = keys.iter().copied().collect();
                let want: Vec<u8> = model.difference(&now).copied().collect();
                prop_assert_eq!(pass(&mut entries, &keys), want);
                model = now;
                prop_assert_eq!(entries.len(), model.len());
            }
        }
    }
}
