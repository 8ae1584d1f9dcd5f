//! Answers of the kubelet.

use agent::collect::{Collectors, Due};
use agent::collectors::kubelet::Kubelet;
use agent::kube::KubeletData;
use agent::schema::Schema;
use agent::table::SeriesTable;

use crate::table;

/// The answer of `/pods`.
///
/// # Panics
/// See [`table::check`]; or the same answer gives other series the second time.
pub fn pods(input: &[u8]) {
    if let Ok(pods) = serde_json::from_slice(input) {
        let data = KubeletData::default();
        data.set_pods(pods);
        collect(&data, |data| {
            if let Ok(pods) = serde_json::from_slice(input) {
                data.set_pods(pods);
            }
        });
    }
}

/// The answer of `/stats/summary`.
///
/// # Panics
/// See [`pods`].
pub fn summary(input: &[u8]) {
    if let Ok(summary) = serde_json::from_slice(input) {
        let data = KubeletData::default();
        data.set_summary(Some(summary));
        collect(&data, |data| {
            data.set_summary(serde_json::from_slice(input).ok());
        });
    }
}

fn collect(data: &KubeletData, answer_again: impl Fn(&KubeletData)) {
    let mut collectors = Collectors::default();
    let labels = vec!["app".to_owned(), "app.kubernetes.io/name".to_owned()];
    collectors.add(|_| Kubelet::new(data.clone(), "n".to_owned(), labels));
    let (mut series, mut schema) = (SeriesTable::default(), Schema::for_node("n"));
    let mut tick = |now_ms| {
        series.begin_tick(now_ms);
        collectors.collect(&mut series, &mut schema, Due::ALL);
        table::check(&series);
        table::values(&series)
    };
    let before = tick(60_000);
    answer_again(data);
    assert_eq!(tick(120_000), before, "one answer, two readings");
}
