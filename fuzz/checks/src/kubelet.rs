//! Responses of the kubelet.

use agent::collect::{Collectors, Due, Tier};
use agent::collectors::kubelet::Kubelet;
use agent::collectors::kubelet_metrics;
use agent::kube::KubeletData;
use agent::kube::metrics::{Families, KubeletMetrics};
use agent::schema::Schema;
use agent::table::SeriesTable;

use crate::table;

/// A response of `/pods`.
///
/// # Panics
/// See [`table::check`]; or the same response yields other series the second time.
pub fn pods(input: &[u8]) {
    if let Ok(pods) = serde_json::from_slice(input) {
        let data = KubeletData::default();
        data.set_pods(pods);
        collect(&data, true, |data| {
            if let Ok(pods) = serde_json::from_slice(input) {
                data.set_pods(pods);
            }
        });
    }
}

/// A response of `/stats/summary`.
///
/// # Panics
/// See [`pods`].
pub fn summary(input: &[u8]) {
    if let Ok(summary) = serde_json::from_slice(input) {
        let data = KubeletData::default();
        data.set_summary(Some(summary));
        collect(&data, true, |data| {
            data.set_summary(serde_json::from_slice(input).ok());
        });
    }
}

/// A response of `/metrics`.
///
/// # Panics
/// See [`pods`].
pub fn metrics(input: &[u8]) {
    let names = agent::kube::metrics::FAMILIES.split(',').map(str::to_owned);
    let families = Families::new(&names.collect::<Vec<_>>()).unwrap_or_default();
    if let Ok(metrics) = KubeletMetrics::parse(input, &families) {
        let data = KubeletData::default();
        data.set_metrics(Some(metrics));
        collect(&data, false, |data| {
            data.set_metrics(KubeletMetrics::parse(input, &families).ok());
        });
    }
}

/// `has_own_values`: the agent computes the values, and does not forward the kubelet's.
fn collect(data: &KubeletData, has_own_values: bool, answer_again: impl Fn(&KubeletData)) {
    let mut collectors = Collectors::default();
    let labels = vec!["app".to_owned(), "app.kubernetes.io/name".to_owned()];
    let kubelet = Kubelet::new(data.clone(), "n".to_owned(), labels);
    collectors.add("kubelet", Tier::Fast, Box::new(kubelet));
    let metrics = kubelet_metrics::KubeletMetrics::new(data.clone());
    collectors.add("kubelet_metrics", Tier::Fast, Box::new(metrics));
    let (mut series, mut schema) = (SeriesTable::default(), Schema::for_node("n"));
    let mut tick = |now_ms| {
        series.begin_tick(now_ms);
        collectors.collect(&mut series, &mut schema, Due::ALL);
        table::check(&series);
        if has_own_values {
            table::check_counters(&series);
        }
        table::values(&series)
    };
    let before = tick(60_000);
    answer_again(data);
    assert_eq!(tick(120_000), before, "the same response, different values");
}
