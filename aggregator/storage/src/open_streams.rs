//! Which streams the head knows, and their series: for a source that has to end what an earlier run left open.

use common::model::Labels;

use crate::index::view::SeriesIndex as _;
use crate::store::Store;
use crate::sync::{lock, read};

impl Store {
    /// Returns the names of the streams that begin with `prefix`, those of earlier runs included, in no order. Looks at
    /// every stream.
    #[must_use]
    pub fn stream_names(&self, prefix: &str) -> Vec<String> {
        let groups = self.inner().head().groups();
        let keys = groups.iter().map(|group| &*group.key);
        let found = keys.filter(|key| key.starts_with(prefix));
        found.map(str::to_owned).collect()
    }

    /// Returns the series of a stream that no other stream has continued, live or ended, in the order of their columns.
    #[must_use]
    pub fn stream_series(&self, name: &str) -> Vec<Labels> {
        let head = self.inner().head();
        let mut groups = head.groups().into_iter();
        let Some(group) = groups.find(|group| *group.key == *name) else {
            return Vec::new();
        };
        let columns = lock(&group.data).columns().to_vec();
        let index = read(&head.index);
        let is_own = |&series: &_| {
            let place = index.place(series);
            place.is_some_and(|place| place.group == group.number)
        };
        let own = columns.into_iter().flatten().filter(is_own);
        own.map(|series| index.labels(series)).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use common::clock::ManualClock;

    use super::*;
    use crate::StoreOptions;

    #[test]
    fn series_belong_to_the_stream_that_continued_them_also_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let open = || {
            let options = StoreOptions {
                path: dir.path().to_owned(),
                ..StoreOptions::default()
            };
            Store::open(options, Arc::new(ManualClock::new(1_000_000))).unwrap()
        };
        let labels = |n: u32| Labels::from_pairs([("__name__", "m"), ("n", &n.to_string())]);
        let write = |store: &Store, name: &str, series: [u32; 2], time_ms: i64| {
            let mut stream = store.stream(name);
            for (column, n) in (0..).zip(series) {
                stream.define(column, &labels(n).unwrap()).unwrap();
            }
            stream
                .append_row(1, time_ms, &[(0, 1.0), (1, 1.0)])
                .unwrap();
        };
        let store = open();
        write(&store, "agent/a/n/1", [1, 2], 1000);
        write(&store, "agent/a/n/2", [2, 3], 2000);
        write(&store, "agent/a/n2/1", [4, 5], 1000);
        store.close().unwrap();
        drop(store);
        for _ in 0..2 {
            let store = open();
            let mut names = store.stream_names("agent/a/n/");
            names.sort();
            assert_eq!(names, ["agent/a/n/1", "agent/a/n/2"]);
            assert_eq!(store.stream_series("agent/a/n/1"), [labels(1).unwrap()]);
            let second = [2, 3].map(|n| labels(n).unwrap());
            assert_eq!(store.stream_series("agent/a/n/2"), second);
            assert!(store.stream_series("agent/a/other").is_empty());
            store.close().unwrap();
        }
    }
}
