//! What frames do to a store.

use std::collections::BTreeMap;

use common::identity::Role;
use common::model::{Labels, Matcher, is_stale};
use common::telemetry::Registry;
use common::wire::{Compressor, SchemaWriter, TickState};
use tidemark_storage::{ReadControl, Readable as _, Selection, Values};

use super::*;
use crate::ingest::tests::{NOW_MS, store};

/// An agent's end of a session.
#[derive(Default)]
struct Sender {
    state: TickState,
    compressor: Compressor,
    bytes: Vec<u8>,
}

impl Sender {
    fn schema(&mut self, reset: bool, removed: &[u32], added: &[(u32, &str)]) {
        if reset {
            self.state.clear();
        }
        let mut writer = SchemaWriter::default();
        removed.iter().for_each(|&number| writer.removed(number));
        for &(number, name) in added {
            self.state.define(number);
            let labels = Labels::from_pairs([("__name__", name), ("node", "liar")]).unwrap();
            writer.added(number, &labels);
        }
        let mut payload = Vec::new();
        writer.finish(&mut self.compressor, &mut payload);
        let payload = &payload;
        Frame::Schema { reset, payload }
            .encode(&mut self.bytes)
            .unwrap();
    }

    fn base(&mut self) {
        let mut payload = Vec::new();
        self.state.forget_dictionary();
        self.state.encode_base(&mut self.compressor, &mut payload);
        let payload = &payload;
        Frame::Base { payload }.encode(&mut self.bytes).unwrap();
    }

    fn tick(&mut self, sequence: u64, timestamp_ms: i64, values: &[(u32, f64)]) {
        let mut payload = Vec::new();
        let tick = values.iter().copied();
        self.state.encode(tick, &mut self.compressor, &mut payload);
        let frame = Frame::Samples {
            sequence,
            timestamp_ms,
            payload: &payload,
        };
        frame.encode(&mut self.bytes).unwrap();
    }

    fn buffer(&mut self) -> FrameBuffer {
        let mut buffer = FrameBuffer::new(common::limits::FRAME_BYTES_MAX);
        buffer.extend(&std::mem::take(&mut self.bytes));
        buffer
    }
}

fn ingestor(store: &Store, before: Option<Columns>) -> Ingestor {
    let identity = Identity::new("t", "a", Role::Node, "n1").unwrap();
    let metrics = Arc::new(IngestMetrics::new(&Registry::default()));
    Ingestor::new(
        store.clone(),
        "agent/a/n1/x".to_owned(),
        identity,
        100,
        metrics,
        before,
    )
}

/// All samples by series name; the marker is `None`.
fn read(store: &Store) -> BTreeMap<String, Vec<Shown>> {
    let selection = Selection {
        matchers: vec![Matcher::equal("node", "n1"), Matcher::equal("idc", "a")],
        start_ms: NOW_MS - 1000,
        end_ms: NOW_MS + 1000,
    };
    let control = ReadControl::unlimited();
    let set = store.select(&selection, &control).unwrap();
    let mut samples: BTreeMap<_, Vec<_>> = BTreeMap::new();
    set.read(0..set.len(), &control, &mut |index, column| {
        let labels = set.labels(index);
        assert_eq!(labels.get("exported_node"), Some("liar"));
        let name = labels.metric_name().unwrap().to_owned();
        let timestamps = column.timestamps_ms.iter();
        let Values::Floats(values) = column.values else {
            panic!("not floats");
        };
        let shown = timestamps.zip(values).map(|(&timestamp_ms, &value)| {
            (timestamp_ms - NOW_MS, (!is_stale(value)).then_some(value))
        });
        samples.entry(name).or_default().extend(shown);
        Ok(())
    })
    .unwrap();
    samples
}

/// Milliseconds after the start, and the value; the marker is `None`.
type Shown = (i64, Option<f64>);

#[track_caller]
fn check(store: &Store, want: &[(&str, &[Shown])]) {
    let want: BTreeMap<_, _> = want
        .iter()
        .map(|&(name, samples)| (name.to_owned(), samples.to_vec()))
        .collect();
    assert_eq!(read(store), want);
}

#[test]
fn removed_series_end_with_the_next_tick() {
    let (store, _dir) = store();
    let mut sender = Sender::default();
    sender.schema(true, &[], &[(0, "a"), (1, "b")]);
    sender.base();
    sender.tick(5, NOW_MS, &[(0, 1.0), (1, 2.0)]);
    sender.schema(false, &[1], &[(2, "c")]);
    sender.tick(6, NOW_MS + 10, &[(0, 1.5), (2, 3.0)]);
    let mut ingestor = ingestor(&store, None);
    let outcome = ingestor.take(&mut sender.buffer()).unwrap();
    assert_eq!(outcome.appended.unwrap().0, 6);
    assert_eq!(ingestor.series(), 2);
    check(
        &store,
        &[
            ("a", &[(0, Some(1.0)), (10, Some(1.5))]),
            ("b", &[(0, Some(2.0)), (10, None)]),
            ("c", &[(10, Some(3.0))]),
        ],
    );
}

#[test]
fn next_session_ends_what_did_not_come_again() {
    let (store, _dir) = store();
    let mut sender = Sender::default();
    sender.schema(true, &[], &[(0, "a"), (1, "b")]);
    sender.base();
    sender.tick(5, NOW_MS, &[(0, 1.0), (1, 2.0)]);
    let mut first = ingestor(&store, None);
    first.take(&mut sender.buffer()).unwrap();

    // The agent was started again: other numbers, `b` is gone.
    let mut sender = Sender::default();
    sender.schema(true, &[], &[(1, "a"), (0, "c")]);
    sender.base();
    sender.tick(1 << 32, NOW_MS + 10, &[(0, 3.0), (1, 1.5)]);
    let mut second = ingestor(&store, first.into_columns());
    second.take(&mut sender.buffer()).unwrap();
    check(
        &store,
        &[
            ("a", &[(0, Some(1.0)), (10, Some(1.5))]),
            ("b", &[(0, Some(2.0)), (10, None)]),
            ("c", &[(10, Some(3.0))]),
        ],
    );
}

#[test]
fn ticks_that_come_twice_are_stored_once() {
    let (store, _dir) = store();
    let mut before = None;
    for _ in 0..2 {
        let mut sender = Sender::default();
        sender.schema(true, &[], &[(0, "a")]);
        sender.base();
        sender.tick(5, NOW_MS, &[(0, 1.0)]);
        let mut ingestor = ingestor(&store, before.take());
        // As for one that began before the first had become durable.
        ingestor.live.last_sequence = None;
        let outcome = ingestor.take(&mut sender.buffer()).unwrap();
        store.wait_durable(outcome.appended.unwrap().1).unwrap();
        assert_eq!(ingestor.durable_sequence(), Some(5));
        before = ingestor.into_columns();
    }
    check(&store, &[("a", &[(0, Some(1.0))])]);
}

#[track_caller]
fn refused(prepare: impl FnOnce(&mut Sender)) -> IngestorError {
    let (store, _dir) = store();
    let mut sender = Sender::default();
    prepare(&mut sender);
    let error = ingestor(&store, None)
        .take(&mut sender.buffer())
        .unwrap_err();
    assert!(error.is_protocol(), "{error}");
    error
}

#[test]
fn frames_out_of_order_are_refused() {
    refused(|sender| {
        sender.schema(true, &[], &[(0, "a")]);
        sender.tick(1, NOW_MS, &[(0, 1.0)]);
    });
    refused(|sender| sender.schema(true, &[], &[(0, "a"), (0, "b")]));
    refused(|sender| sender.schema(true, &[], &[(400, "a")]));
    let again = refused(|sender| {
        sender.schema(true, &[], &[(0, "a")]);
        sender.base();
        sender.tick(1, NOW_MS, &[(0, 1.0)]);
        sender.tick(1, NOW_MS + 10, &[(0, 1.0)]);
    });
    assert_eq!(again.to_string(), "sequence 1 after 1");
    refused(|sender| {
        Frame::Ack { sequence: 1 }
            .encode(&mut sender.bytes)
            .unwrap();
    });
    refused(|sender| {
        sender.schema(true, &[], &[(0, "a"), (1, "b")]);
        sender.base();
        sender.schema(false, &[1], &[]);
        sender.tick(1, NOW_MS, &[(0, 1.0)]);
        // No longer defined.
        sender.tick(2, NOW_MS + 1, &[(1, 1.0)]);
    });
}

#[test]
fn series_beyond_the_limit_are_refused_and_the_others_go_on() {
    let (store, _dir) = store();
    let names: Vec<String> = (0..105).map(|n| format!("m{n}")).collect();
    let added: Vec<(u32, &str)> = (0..).zip(names.iter().map(String::as_str)).collect();
    let values: Vec<(u32, f64)> = (0..105).map(|n| (n, f64::from(n))).collect();
    let mut sender = Sender::default();
    sender.schema(true, &[], &added);
    sender.base();
    sender.tick(1, NOW_MS, &values);
    let mut ingestor = ingestor(&store, None);
    ingestor.take(&mut sender.buffer()).unwrap();
    assert_eq!(ingestor.series(), 100);
    assert_eq!(ingestor.source.metrics.refused_series.get(), 5);
    assert_eq!(read(&store).len(), 100);
    // Room again, once others have gone.
    sender.schema(false, &[0, 104], &[]);
    sender.tick(2, NOW_MS + 10, &[(1, 5.0)]);
    sender.schema(false, &[], &[(0, "new")]);
    sender.tick(3, NOW_MS + 20, &[(0, 6.0), (103, 1.0)]);
    ingestor.take(&mut sender.buffer()).unwrap();
    assert_eq!(read(&store)["new"], [(20, Some(6.0))]);
}

#[test]
fn ticks_that_were_passed_over_come_behind_newer_ones() {
    let (store, _dir) = store();
    let mut first = Sender::default();
    first.schema(true, &[], &[(0, "a"), (1, "b")]);
    first.base();
    first.tick(5, NOW_MS, &[(0, 1.0), (1, 2.0)]);
    let mut ingestor = ingestor(&store, None);
    ingestor.take(&mut first.buffer()).unwrap();

    // The newest one first: other numbers, `b` is gone.
    let mut live = Sender::default();
    live.schema(true, &[], &[(0, "c"), (1, "a")]);
    live.base();
    live.tick(8, NOW_MS + 30, &[(0, 9.0), (1, 1.3)]);
    let outcome = ingestor.take(&mut live.buffer()).unwrap();
    assert_eq!(outcome.appended.unwrap().0, 8);

    // What was passed over, and once more, with a session of its own.
    for _ in 0..2 {
        let mut late = Sender::default();
        let backfill = true;
        Frame::Lane { backfill }.encode(&mut late.bytes).unwrap();
        late.schema(true, &[], &[(0, "a"), (1, "b")]);
        late.base();
        late.tick(6, NOW_MS + 10, &[(0, 1.1), (1, 2.1)]);
        late.schema(false, &[1], &[(2, "d")]);
        late.tick(7, NOW_MS + 20, &[(0, 1.2), (2, 4.2)]);
        late.schema(false, &[2], &[(1, "c")]);
        late.tick(8, NOW_MS + 30, &[(0, 1.3), (1, 9.0)]);
        let outcome = ingestor.take(&mut late.buffer()).unwrap();
        assert!(outcome.appended.is_none());
        assert_eq!(outcome.backfilled.unwrap().0, 8);
    }
    // And the live lane goes on as if nothing had been.
    let backfill = false;
    Frame::Lane { backfill }.encode(&mut live.bytes).unwrap();
    live.tick(9, NOW_MS + 40, &[(0, 9.1), (1, 1.4)]);
    let outcome = ingestor.take(&mut live.buffer()).unwrap();
    assert_eq!(outcome.appended.unwrap().0, 9);
    assert_eq!(ingestor.last_tick_ms(), Some(NOW_MS + 40));
    assert_eq!(ingestor.source.metrics.refused_samples.get(), 0);
    let a = [(0, 1.0), (10, 1.1), (20, 1.2), (30, 1.3), (40, 1.4)];
    check(
        &store,
        &[
            ("a", &a.map(|(at, value)| (at, Some(value)))),
            (
                "b",
                &[(0, Some(2.0)), (10, Some(2.1)), (20, None), (30, None)],
            ),
            ("c", &[(30, Some(9.0)), (40, Some(9.1))]),
            ("d", &[(20, Some(4.2)), (30, None)]),
        ],
    );
}

#[test]
fn ticks_that_are_passed_over_do_not_move_what_is_durable() {
    let (store, _dir) = store();
    let mut sender = Sender::default();
    let backfill = true;
    Frame::Lane { backfill }.encode(&mut sender.bytes).unwrap();
    sender.schema(true, &[], &[(0, "a")]);
    sender.base();
    sender.tick(7, NOW_MS, &[(0, 1.0)]);
    let mut ingestor = ingestor(&store, None);
    let outcome = ingestor.take(&mut sender.buffer()).unwrap();
    store.wait_durable(outcome.backfilled.unwrap().1).unwrap();
    assert_eq!(ingestor.durable_sequence(), None);
    assert_eq!(ingestor.last_tick_ms(), None);
}
