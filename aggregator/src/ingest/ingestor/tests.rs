//! Tests of how frames change a store.

use std::collections::BTreeMap;

use common::clock::ManualClock;
use common::identity::Role;
use common::model::{Labels, Matcher, is_stale};
use common::telemetry::Registry;
use common::wire::{Compressor, SchemaWriter, TickState};
use tidemark_storage::{ReadControl, Readable as _, Selection, Values};

use super::*;
use crate::ingest::Agents;
use crate::ingest::metrics::{SampleResult, SeriesRefusal};
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

fn ingestor(store: &Store, previous: Vec<AgentSeries>) -> Ingestor {
    let agents = Agents::default();
    let clock = Arc::new(ManualClock::new(NOW_MS));
    ingestor_of(store, &agents, clock, previous)
}

/// Starts a session of one of `agents` that may have 100 series, and 6 new ones per minute.
fn ingestor_of(
    store: &Store,
    agents: &Agents,
    clock: Arc<ManualClock>,
    previous: Vec<AgentSeries>,
) -> Ingestor {
    let identity = Identity::new("t", "a", Role::Node, "n1").unwrap();
    let source = Source {
        store: store.clone(),
        stream_name: "agent/a/n1/x".to_owned(),
        policy: SenderPolicy::NodeAgent,
        limits: SeriesLimits {
            series_max: 100,
            new_per_minute: 6,
        },
        agent: agents.of(&identity, NOW_MS),
        identity,
        waiting: Arc::default(),
        clock,
        metrics: Arc::new(IngestMetrics::new(&Registry::default())),
    };
    Ingestor::new(source, previous)
}

/// Returns all samples by series name; `None` is a staleness marker.
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
        let Values::Floats(values) = column.values;
        let shown = timestamps.zip(values).map(|(&timestamp_ms, &value)| {
            (timestamp_ms - NOW_MS, (!is_stale(value)).then_some(value))
        });
        samples.entry(name).or_default().extend(shown);
        Ok(())
    })
    .unwrap();
    samples
}

/// Milliseconds after the start, and the value; `None` is a staleness marker.
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
    let mut ingestor = ingestor(&store, Vec::new());
    let outcome = ingestor.apply_frames(&mut sender.buffer()).unwrap();
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
fn next_session_ends_what_it_does_not_continue() {
    let (store, _dir) = store();
    let mut sender = Sender::default();
    sender.schema(true, &[], &[(0, "a"), (1, "b")]);
    sender.base();
    sender.tick(5, NOW_MS, &[(0, 1.0), (1, 2.0)]);
    let mut first = ingestor(&store, Vec::new());
    first.apply_frames(&mut sender.buffer()).unwrap();

    // The agent was restarted: other numbers, and `b` is gone.
    let mut sender = Sender::default();
    sender.schema(true, &[], &[(1, "a"), (0, "c")]);
    sender.base();
    sender.tick(1 << 32, NOW_MS + 10, &[(0, 3.0), (1, 1.5)]);
    let mut second = ingestor(&store, first.into_series());
    second.apply_frames(&mut sender.buffer()).unwrap();
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
fn repeated_ticks_are_stored_once() {
    let (store, _dir) = store();
    let mut before = Vec::new();
    for _ in 0..2 {
        let mut sender = Sender::default();
        sender.schema(true, &[], &[(0, "a")]);
        sender.base();
        sender.tick(5, NOW_MS, &[(0, 1.0)]);
        let mut ingestor = ingestor(&store, std::mem::take(&mut before));
        // As in a session that began before the first tick was durable.
        ingestor.live.last_sequence = None;
        let outcome = ingestor.apply_frames(&mut sender.buffer()).unwrap();
        store.wait_durable(outcome.appended.unwrap().1).unwrap();
        assert_eq!(ingestor.durable_sequence(), Some(5));
        before = ingestor.into_series();
    }
    check(&store, &[("a", &[(0, Some(1.0))])]);
}

#[track_caller]
fn refused(prepare: impl FnOnce(&mut Sender)) -> IngestorError {
    let (store, _dir) = store();
    let mut sender = Sender::default();
    prepare(&mut sender);
    let error = ingestor(&store, Vec::new())
        .apply_frames(&mut sender.buffer())
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
    refused(|sender| sender.schema(true, &[], &[(400_000, "a")]));
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

/// Names for numbers from `from` to before `until`.
fn names(from: u32, until: u32) -> Vec<(u32, String)> {
    (from..until).map(|n| (n, format!("m{n}"))).collect()
}

fn added(names: &[(u32, String)]) -> Vec<(u32, &str)> {
    names.iter().map(|(n, name)| (*n, name.as_str())).collect()
}

fn values(until: u32) -> Vec<(u32, f64)> {
    (0..until).map(|n| (n, f64::from(n))).collect()
}

#[test]
fn series_over_the_limit_wait_until_others_are_removed() {
    let (store, _dir) = store();
    let clock = Arc::new(ManualClock::new(NOW_MS));
    let mut ingestor = ingestor_of(&store, &Agents::default(), Arc::clone(&clock), Vec::new());
    let mut sender = Sender::default();
    sender.schema(true, &[], &added(&names(0, 105)));
    sender.base();
    sender.tick(1, NOW_MS, &values(105));
    ingestor.apply_frames(&mut sender.buffer()).unwrap();
    assert_eq!((ingestor.series(), ingestor.refused()), (100, 5));
    let metrics = Arc::clone(&ingestor.source.metrics);
    assert_eq!(metrics.refused_series(SeriesRefusal::PerAgent), 5);
    assert_eq!(read(&store).len(), 100);
    // Two of the known and one of the refused go; three of those that wait may come, but their minute has not.
    sender.schema(false, &[0, 1, 104], &[]);
    sender.tick(2, NOW_MS + 10, &[(2, 5.0)]);
    sender.tick(3, NOW_MS + 20, &[(100, 7.0), (101, 7.0), (102, 7.0)]);
    ingestor.apply_frames(&mut sender.buffer()).unwrap();
    assert_eq!((ingestor.series(), ingestor.refused()), (98, 4));
    // One in ten seconds is what they may bring once 100 are used up.
    clock.set_ms(NOW_MS + 10_000);
    sender.tick(4, NOW_MS + 30, &[(100, 8.0), (101, 8.0), (102, 8.0)]);
    ingestor.apply_frames(&mut sender.buffer()).unwrap();
    clock.set_ms(NOW_MS + 20_000);
    sender.tick(5, NOW_MS + 40, &[(100, 9.0), (101, 9.0), (102, 9.0)]);
    ingestor.apply_frames(&mut sender.buffer()).unwrap();
    clock.set_ms(NOW_MS + 60_000);
    sender.tick(6, NOW_MS + 50, &[(102, 10.0)]);
    ingestor.apply_frames(&mut sender.buffer()).unwrap();
    assert_eq!((ingestor.series(), ingestor.refused()), (100, 2));
    assert_eq!(metrics.admitted_series.get(), 2);
    assert_eq!(
        metrics.refused_series(SeriesRefusal::PerAgent),
        5,
        "each counts once"
    );
    let all = read(&store);
    assert_eq!(all["m100"], [(30, Some(8.0)), (40, Some(9.0))]);
    assert_eq!(all["m101"], [(40, Some(9.0))]);
    assert_eq!(all.get("m102"), None);
}

#[test]
fn new_series_are_limited_per_minute_across_sessions() {
    let (store, _dir) = store();
    let (agents, clock) = (Agents::default(), Arc::new(ManualClock::new(NOW_MS)));
    let mut first = ingestor_of(&store, &agents, Arc::clone(&clock), Vec::new());
    let mut sender = Sender::default();
    sender.schema(true, &[], &added(&names(0, 100)));
    sender.base();
    sender.tick(1, NOW_MS, &values(100));
    // The burst is used up. Series in their place are limited.
    let gone: Vec<u32> = (50..100).collect();
    sender.schema(false, &gone, &[]);
    sender.tick(2, NOW_MS + 10, &values(50));
    sender.schema(false, &[], &added(&names(200, 220)));
    sender.tick(3, NOW_MS + 20, &values(50));
    first.apply_frames(&mut sender.buffer()).unwrap();
    assert_eq!((first.series(), first.refused()), (50, 20));
    let metrics = Arc::clone(&first.source.metrics);
    assert_eq!(metrics.refused_series(SeriesRefusal::PerMinute), 20);

    // Reconnecting gains nothing; known series are stored at once.
    let mut second = ingestor_of(&store, &agents, Arc::clone(&clock), first.into_series());
    let mut sender = Sender::default();
    let mut series = names(0, 50);
    series.extend(names(200, 220));
    sender.schema(true, &[], &added(&series));
    sender.base();
    sender.tick(4, NOW_MS + 30, &values(50));
    second.apply_frames(&mut sender.buffer()).unwrap();
    assert_eq!((second.series(), second.refused()), (50, 20));
    clock.set_ms(NOW_MS + 120_000);
    sender.tick(
        5,
        NOW_MS + 40,
        &[(0, 1.0), (200, 2.0), (211, 3.0), (212, 4.0)],
    );
    second.apply_frames(&mut sender.buffer()).unwrap();
    assert_eq!((second.series(), second.refused()), (62, 8));
    let all = read(&store);
    assert_eq!(all["m200"], [(40, Some(2.0))]);
    assert_eq!(all["m211"], [(40, Some(3.0))]);
    assert_eq!(all.get("m212"), None, "twelve in two minutes");
    assert_eq!(all["m0"].len(), 5, "known ones have every tick");
}

#[test]
fn skipped_ticks_are_backfilled_after_newer_ones() {
    let (store, _dir) = store();
    let mut first = Sender::default();
    first.schema(true, &[], &[(0, "a"), (1, "b")]);
    first.base();
    first.tick(5, NOW_MS, &[(0, 1.0), (1, 2.0)]);
    let mut ingestor = ingestor(&store, Vec::new());
    ingestor.apply_frames(&mut first.buffer()).unwrap();

    // The newest tick first: other numbers, and `b` is gone.
    let mut live = Sender::default();
    live.schema(true, &[], &[(0, "c"), (1, "a")]);
    live.base();
    live.tick(8, NOW_MS + 30, &[(0, 9.0), (1, 1.3)]);
    let outcome = ingestor.apply_frames(&mut live.buffer()).unwrap();
    assert_eq!(outcome.appended.unwrap().0, 8);

    // The skipped ticks, twice, each in its own session.
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
        let outcome = ingestor.apply_frames(&mut late.buffer()).unwrap();
        assert!(outcome.appended.is_none());
        assert_eq!(outcome.backfilled.unwrap().0, 8);
    }
    // The live lane continues undisturbed.
    let backfill = false;
    Frame::Lane { backfill }.encode(&mut live.bytes).unwrap();
    live.tick(9, NOW_MS + 40, &[(0, 9.1), (1, 1.4)]);
    let outcome = ingestor.apply_frames(&mut live.buffer()).unwrap();
    assert_eq!(outcome.appended.unwrap().0, 9);
    assert_eq!(ingestor.last_tick_ms(), Some(NOW_MS + 40));
    assert_eq!(
        ingestor
            .source
            .metrics
            .samples
            .of(SampleResult::Refused)
            .get(),
        0
    );
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
fn backfilled_ticks_do_not_move_the_durable_sequence() {
    let (store, _dir) = store();
    let mut sender = Sender::default();
    let backfill = true;
    Frame::Lane { backfill }.encode(&mut sender.bytes).unwrap();
    sender.schema(true, &[], &[(0, "a")]);
    sender.base();
    sender.tick(7, NOW_MS, &[(0, 1.0)]);
    let mut ingestor = ingestor(&store, Vec::new());
    let outcome = ingestor.apply_frames(&mut sender.buffer()).unwrap();
    store.wait_durable(outcome.backfilled.unwrap().1).unwrap();
    assert_eq!(ingestor.durable_sequence(), None);
    assert_eq!(ingestor.last_tick_ms(), None);
}
