use super::resolve::{Prepared, label_values};
use super::*;
use common::model::{MatchOp, Matcher};
use proptest::prelude::*;

use crate::read::ReadControl;
use crate::series_hash::HashKey;

fn key() -> HashKey {
    HashKey::from_bytes([3; 32])
}

fn index_of(series: &[Labels]) -> Index {
    let mut index = Index::default();
    for labels in series {
        let hash = key().hash(labels);
        if index.find(hash).is_none() {
            index.add(hash, labels).unwrap();
        }
    }
    index
}

fn arbitrary_labels() -> impl Strategy<Value = Labels> {
    let value = prop::sample::select(vec!["", "a", "b", "ab", "abc", "ü"]);
    prop::collection::vec(value, 3)
        .prop_map(|values| Labels::from_pairs(["x", "y", "z"].into_iter().zip(values)).unwrap())
}

fn arbitrary_matcher() -> impl Strategy<Value = Matcher> {
    let name = prop::sample::select(vec!["x", "y", "z", "w"]);
    let op = prop::sample::select(vec![
        MatchOp::Equal,
        MatchOp::NotEqual,
        MatchOp::Regex,
        MatchOp::NotRegex,
    ]);
    let value = prop::sample::select(vec![
        "", "a", "ab", "a|b", "a.*", ".*", ".+", "|b", "[ab]+", "nothing",
    ]);
    (name, op, value).prop_map(|(name, op, value)| Matcher::new(name, op, value).unwrap())
}

proptest! {
    #[test]
    fn resolution_equals_testing_each_series(
        series in prop::collection::vec(arbitrary_labels(), 0..40),
        matchers in prop::collection::vec(arbitrary_matcher(), 0..4),
    ) {
        let index = index_of(&series);
        let control = ReadControl::unlimited();
        let found = Prepared::new(&matchers).resolve(&index, &control).unwrap();
        for id in &index.all() {
            let labels = index.labels(SeriesId(id));
            let want = matchers
                .iter()
                .all(|one| one.matches(labels.get(one.name()).unwrap_or("")));
            prop_assert_eq!(found.view().iter().any(|other| other == id), want, "{} {:?}", labels, matchers);
        }
    }

    #[test]
    fn labels_come_back_and_are_found(series in prop::collection::vec(arbitrary_labels(), 0..40)) {
        let index = index_of(&series);
        for labels in &series {
            let id = index.find(key().hash(labels)).unwrap();
            prop_assert_eq!(&index.labels(id), labels);
        }
    }

    #[test]
    fn label_values_are_those_of_the_series_that_match(
        series in prop::collection::vec(arbitrary_labels(), 0..200),
        matcher in arbitrary_matcher(),
    ) {
        let index = index_of(&series);
        let matchers = [matcher];
        let control = ReadControl::unlimited();
        let found = Prepared::new(&matchers).resolve(&index, &control).unwrap();
        let labels: Vec<_> = found.view().iter().map(|id| index.labels(SeriesId(id))).collect();
        let want: Vec<_> = {
            let values = labels.iter().filter_map(|one| one.get("x").map(str::to_owned));
            values.collect::<std::collections::BTreeSet<_>>().into_iter().collect()
        };
        let mut got = std::collections::BTreeSet::new();
        label_values(&index, "x", Some(found.view()), &mut got);
        prop_assert_eq!(got.into_iter().collect::<Vec<_>>(), want);
    }
}

#[test]
fn moved_series_remembers_where_it_was() {
    let labels = Labels::from_pairs([("a", "1")]).unwrap();
    let mut index = index_of(&[labels]);
    let id = SeriesId(0);
    let (a, b) = (
        ColumnRef {
            group: 0,
            column: 1,
        },
        ColumnRef {
            group: 1,
            column: 0,
        },
    );
    index.set_place(id, a);
    index.set_place(id, b);
    index.set_place(id, a);
    assert_eq!(index.places(id).collect::<Vec<_>>(), [a, b]);
}

proptest! {
    #[test]
    fn removed_series_are_gone_and_the_others_stay(
        steps in prop::collection::vec((arbitrary_labels(), any::<bool>()), 0..60),
        matcher in arbitrary_matcher(),
    ) {
        let mut index = Index::default();
        let mut model = std::collections::BTreeSet::new();
        for (labels, add) in steps {
            let hash = key().hash(&labels);
            match index.find(hash) {
                Some(id) if !add => {
                    index.remove(id);
                    prop_assert_eq!(index.labels(id), labels.clone());
                    index.free(&[id]);
                    index.renew_symbols();
                    model.remove(&labels);
                }
                None if add => {
                    index.add(hash, &labels).unwrap();
                    model.insert(labels);
                }
                _ => {}
            }
        }
        let matchers = [matcher];
        let found = Prepared::new(&matchers).resolve(&index, &ReadControl::unlimited()).unwrap();
        let mut got: Vec<_> = found.view().iter().map(|id| index.labels(SeriesId(id))).collect();
        got.sort();
        let holds = |labels: &&Labels| matchers[0].matches(labels.get(matchers[0].name()).unwrap_or(""));
        let want: Vec<_> = model.iter().filter(holds).cloned().collect();
        prop_assert_eq!(got, want);
        prop_assert_eq!(index.len(), model.len());
    }
}
