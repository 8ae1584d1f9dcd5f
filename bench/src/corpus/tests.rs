//! The corpus has the documented size and mix, and is reproducible.

use std::collections::BTreeSet;

use super::*;

fn shape(nodes: usize) -> Shape {
    Shape {
        nodes,
        start_ms: 1_790_000_000_000,
        step_ms: 10_000,
        scrapes: 360,
    }
}

fn value<'a>(labels: &'a [Label], name: &str) -> Option<&'a str> {
    let mut found = labels.iter().filter(|(label, _)| *label == name);
    found.next().map(|(_, value)| value.as_str())
}

#[test]
fn node_has_3570_series_each_once() {
    let shape = shape(2);
    let mut all = BTreeSet::new();
    for index in 0..shape.nodes {
        let node = Node::new(&shape, index);
        assert_eq!(node.series.len(), SERIES_PER_NODE);
        for labels in &node.series {
            assert!(labels.is_sorted_by(|a, b| a.0 < b.0), "{labels:?}");
            all.insert(labels.clone());
        }
    }
    assert_eq!(all.len(), shape.series());
}

#[test]
fn labels_are_as_long_as_real_ones() {
    let node = Node::new(&shape(10), 3);
    let count: usize = node.series.iter().map(Vec::len).sum();
    let bytes: usize = node
        .series
        .iter()
        .flatten()
        .map(|(name, value)| name.len() + value.len() + 6)
        .sum();
    let series = SERIES_PER_NODE as f64;
    let (count, bytes) = (count as f64 / series, bytes as f64 / series);
    assert!((8.0..10.0).contains(&count), "{count} labels a series");
    assert!((300.0..380.0).contains(&bytes), "{bytes} bytes a series");
}

#[test]
fn same_shape_gives_the_same_bits() {
    let shape = shape(2);
    let (mut a, mut b) = (Node::new(&shape, 1), Node::new(&shape, 1));
    let (mut left, mut right) = (Vec::new(), Vec::new());
    for _ in 0..5 {
        assert_eq!(a.scrape(&mut left), b.scrape(&mut right));
        assert_eq!(left.len(), SERIES_PER_NODE);
        let bits = |values: &[f64]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&left), bits(&right));
    }
    assert_ne!(a.series, Node::new(&shape, 0).series);
}

#[test]
fn scrapes_stay_inside_the_time_of_the_corpus() {
    let shape = shape(4);
    for index in 0..shape.nodes {
        let mut node = Node::new(&shape, index);
        let mut values = Vec::new();
        let mut last = shape.start_ms - 1;
        for _ in 0..shape.scrapes {
            let timestamp = node.scrape(&mut values);
            assert!(timestamp > last && timestamp < shape.end_ms());
            last = timestamp;
        }
    }
}

#[test]
fn a_third_of_the_series_never_change() {
    let shape = shape(2);
    let mut node = Node::new(&shape, 0);
    let (mut first, mut values) = (Vec::new(), Vec::new());
    node.scrape(&mut first);
    let mut moved = vec![false; first.len()];
    for _ in 1..shape.scrapes {
        node.scrape(&mut values);
        for (moved, (a, b)) in moved.iter_mut().zip(first.iter().zip(&values)) {
            *moved |= a.to_bits() != b.to_bits();
        }
    }
    let still = moved.iter().filter(|moved| !**moved).count() as f64 / moved.len() as f64;
    assert!((0.28..0.40).contains(&still), "{still} never change");
}

#[test]
fn counters_and_buckets_never_fall() {
    let shape = shape(2);
    let mut node = Node::new(&shape, 0);
    let monotonic: Vec<bool> = node
        .series
        .iter()
        .map(|labels| {
            let name = value(labels, "__name__").unwrap();
            name.ends_with("_total") || name.ends_with("_bucket") || name.ends_with("_sum")
        })
        .collect();
    let (mut before, mut after) = (Vec::new(), Vec::new());
    node.scrape(&mut before);
    for _ in 0..200 {
        node.scrape(&mut after);
        for (index, (a, b)) in before.iter().zip(&after).enumerate() {
            assert!(!monotonic[index] || b >= a, "{:?}", node.series[index]);
        }
        std::mem::swap(&mut before, &mut after);
    }
}

#[test]
fn namespaces_hold_60_pods_in_deployments_of_three() {
    let shape = shape(10);
    let places: Vec<PodNames> = (0..shape.nodes)
        .flat_map(|node| (0..PODS_PER_NODE).map(move |slot| PodNames::of(&shape, node, slot)))
        .collect();
    let first: Vec<&PodNames> = places
        .iter()
        .filter(|place| place.namespace == "team-01")
        .collect();
    assert_eq!(shape.namespaces(), 5);
    assert_eq!(first.len(), 60);
    let cart = first.iter().filter(|p| p.pod.starts_with("cart-v1-"));
    assert_eq!(cart.count(), 3);
    let pods: BTreeSet<&str> = first.iter().map(|place| place.pod.as_str()).collect();
    assert_eq!(pods.len(), 60);
}
