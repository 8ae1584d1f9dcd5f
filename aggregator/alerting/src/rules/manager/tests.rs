//! Tests groups with a virtual clock and a source of canned results.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Mutex;

use common::model::is_stale;

use super::*;
use crate::rules::alert::AlertState;
use crate::rules::file::parse;
use crate::rules::group::AlertToSend;
use crate::rules::source::{
    EvaluationError, LabelledSink, RuleSample, Sink, Source, VectorElement,
};
use crate::store::{DurableStore, MemoryStore, StateStore};

/// A source that returns the vector set for each expression and records what was written.
#[derive(Default)]
struct Canned {
    results: Mutex<BTreeMap<String, Result<Vec<VectorElement>, String>>>,
    written: Arc<Mutex<Vec<RuleSample>>>,
}

impl Source for Canned {
    fn query(
        &self,
        expr: &str,
        time_ms: i64,
        _: Duration,
    ) -> Result<Vec<VectorElement>, EvaluationError> {
        // `read NAME` returns the samples of that metric that the rules wrote at this timestamp.
        if let Some(name) = expr.strip_prefix("read ") {
            let written = self.written.lock().unwrap();
            let now = written.iter().filter(|s| {
                s.timestamp_ms == time_ms
                    && s.labels.metric_name() == Some(name)
                    && !is_stale(s.value)
            });
            return Ok(now.map(|s| (s.labels.clone(), s.value)).collect());
        }
        self.results
            .lock()
            .unwrap()
            .get(expr)
            .cloned()
            .unwrap_or_else(|| Ok(Vec::new()))
            .map_err(EvaluationError::Failed)
    }

    fn append(&self, samples: &[RuleSample]) -> Result<u64, String> {
        self.written.lock().unwrap().extend_from_slice(samples);
        Ok(0)
    }

    fn open(&self, _: &str) -> Box<dyn Sink> {
        let written = Arc::clone(&self.written);
        Box::new(LabelledSink::new(move |sample| {
            written.lock().unwrap().push(sample);
        }))
    }
}

struct World {
    source: Arc<Canned>,
    context: Context,
    manager: Manager,
}

const DEFAULTS: Defaults = Defaults {
    interval: Duration::from_secs(60),
    query_offset: Duration::ZERO,
};

impl World {
    fn new() -> Self {
        Self::with_store(Arc::new(MemoryStore::default()))
    }

    fn with_store(store: Arc<dyn StateStore>) -> Self {
        let source = Arc::new(Canned::default());
        let context = Context {
            source: Arc::clone(&source) as Arc<dyn Source>,
            store,
            external_labels: Labels::from_pairs([("dc", "a")]).unwrap(),
            external_url: "http://x".to_owned(),
            resend_delay: Duration::from_secs(60),
            outage_tolerance: Duration::from_secs(3600),
        };
        let manager = Manager::new(&context);
        Self {
            source,
            context,
            manager,
        }
    }

    fn load(&self, rules: &str, now_ms: i64) {
        let text = format!("groups:\n- name: g\n  rules:\n{rules}");
        let groups = parse(&text, &|_| Ok(())).unwrap();
        let file = RuleFile {
            path: PathBuf::from("f.yml"),
            groups,
        };
        self.manager
            .load(&self.context, vec![file], DEFAULTS, now_ms);
    }

    fn set(&self, expr: &str, names: &[&str]) {
        let element = |name: &&str| {
            (
                Labels::from_pairs([("__name__", "up"), ("i", name)]).unwrap(),
                1.5,
            )
        };
        let vector = names.iter().map(element).collect();
        self.source
            .results
            .lock()
            .unwrap()
            .insert(expr.to_owned(), Ok(vector));
    }

    fn fail(&self, expr: &str) {
        self.source
            .results
            .lock()
            .unwrap()
            .insert(expr.to_owned(), Err("boom".to_owned()));
    }

    /// Evaluates the group. Returns the written samples, with `!` for staleness markers, and the alerts sent.
    fn evaluate(&self, at_s: i64) -> (Vec<String>, Vec<AlertToSend>) {
        self.source.written.lock().unwrap().clear();
        let outgoing = self.manager.groups()[0].evaluate(&self.context, at_s * 1000);
        let written = self.source.written.lock().unwrap();
        let mut texts: Vec<String> = written
            .iter()
            .filter(|s| s.labels.metric_name() != Some("ALERTS_FOR_STATE"))
            .map(|s| {
                if is_stale(s.value) {
                    format!("!{}", s.labels)
                } else {
                    format!("{} {}", s.labels, s.value)
                }
            })
            .collect();
        texts.sort();
        (texts, outgoing)
    }

    fn states(&self) -> Vec<(String, AlertState, i64, Option<i64>)> {
        let group = &self.manager.groups()[0];
        let mut states: Vec<_> = group
            .rules
            .iter()
            .flat_map(|rule| {
                let state = rule.state();
                state
                    .alerts
                    .iter()
                    .map(|a| (a.labels.to_string(), a.state, a.active_at_ms, a.fired_at_ms))
                    .collect::<Vec<_>>()
            })
            .collect();
        states.sort();
        states
    }
}

const ALERT: &str = "  - alert: A\n    expr: down\n    for: 2m\n    annotations: {s: '{{ $labels.i }} {{ $value }}'}\n";

#[test]
fn recorded_series_end_when_they_disappear_but_not_on_errors() {
    let world = World::new();
    world.load("  - record: r\n    expr: e\n    labels: {x: y}\n", 0);
    world.set("e", &["1", "2"]);
    let both = [
        r#"{__name__="r", i="1", x="y"} 1.5"#,
        r#"{__name__="r", i="2", x="y"} 1.5"#,
    ];
    assert_eq!(world.evaluate(60).0, both);
    world.fail("e");
    assert!(world.evaluate(120).0.is_empty());
    let rule = &world.manager.groups()[0].rules[0];
    assert_eq!(rule.state().last_error.as_deref(), Some("boom"));
    world.set("e", &["2"]);
    assert_eq!(
        world.evaluate(180).0,
        [r#"!{__name__="r", i="1", x="y"}"#, both[1]]
    );
    assert_eq!(world.evaluate(240).0, [both[1]]);
}

#[test]
fn later_rules_see_earlier_results_of_the_cycle() {
    let world = World::new();
    world.load(
        "  - record: r\n    expr: e\n  - record: s\n    expr: read r\n",
        0,
    );
    world.set("e", &["1"]);
    assert_eq!(
        world.evaluate(60).0,
        [
            r#"{__name__="r", i="1"} 1.5"#,
            r#"{__name__="s", i="1"} 1.5"#
        ]
    );
}

#[test]
fn alert_goes_through_its_states_and_is_sent() {
    let world = World::new();
    world.load(ALERT, 0);
    world.set("down", &["1"]);
    let (written, sent) = world.evaluate(60);
    assert_eq!(
        written,
        [r#"{__name__="ALERTS", alertname="A", alertstate="pending", i="1"} 1"#]
    );
    assert!(sent.is_empty());
    world.evaluate(120);
    let (written, sent) = world.evaluate(180);
    assert_eq!(
        written,
        [
            r#"!{__name__="ALERTS", alertname="A", alertstate="pending", i="1"}"#,
            r#"{__name__="ALERTS", alertname="A", alertstate="firing", i="1"} 1"#,
        ]
    );
    assert_eq!(sent.len(), 1);
    assert_eq!(
        sent[0].labels.to_string(),
        r#"{alertname="A", dc="a", i="1"}"#
    );
    assert_eq!(sent[0].annotations.get("s"), Some("1 1.5"));
    assert_eq!(
        (sent[0].starts_at_ms, sent[0].ends_at_ms),
        (180_000, 180_000 + 240_000)
    );
    assert_eq!(
        sent[0].generator_url,
        "http://x/graph?g0.expr=down&g0.tab=1"
    );
    world.set("down", &[]);
    let (_, sent) = world.evaluate(240);
    assert!(sent[0].is_resolved);
    assert_eq!(
        (sent[0].starts_at_ms, sent[0].ends_at_ms),
        (180_000, 240_000)
    );
}

#[test]
fn reload_keeps_state_of_unchanged_rules_and_ends_series_of_removed_ones() {
    let world = World::new();
    let record = "  - record: r\n    expr: e\n";
    world.load(&format!("{ALERT}{record}"), 0);
    world.set("down", &["1"]);
    world.set("e", &["1"]);
    world.evaluate(60);
    let before = world.states();
    // A changed `for` makes this a new group. The alerting rule keeps its name and labels.
    world.load(&ALERT.replace("2m", "3m"), 61_000);
    assert_eq!(world.states(), before);
    let (written, _) = world.evaluate(120);
    assert!(
        written.contains(&r#"!{__name__="r", i="1"}"#.to_owned()),
        "{written:?}"
    );
    world.evaluate(180);
    assert_eq!(world.states()[0].1, AlertState::Pending);
    world.evaluate(240);
    assert_eq!(world.states()[0].1, AlertState::Firing);
}

#[test]
fn removed_group_ends_its_series_after_two_intervals() {
    let world = World::new();
    world.load("  - record: r\n    expr: e\n", 0);
    world.set("e", &["1"]);
    world.evaluate(60);
    world
        .manager
        .load(&world.context, Vec::new(), DEFAULTS, 61_000);
    world.source.written.lock().unwrap().clear();
    world.manager.end_orphans(&world.context, 61_000 + 119_999);
    assert!(world.source.written.lock().unwrap().is_empty());
    world.manager.end_orphans(&world.context, 61_000 + 120_000);
    assert_eq!(world.source.written.lock().unwrap().len(), 1);
}

#[test]
fn restart_at_any_point_keeps_every_state_and_sends_nothing_twice() {
    // A history of three alerts. The process crashes and restarts after each evaluation.
    let history: [&[&str]; 9] = [
        &["1"],
        &["1", "2"],
        &["1", "2"],
        &["1", "2"],
        &["2"],
        &["2", "3"],
        &[],
        &["1"],
        &["1"],
    ];
    let run = |restart_after: Option<usize>| {
        let folder = tempfile::tempdir().unwrap();
        let open = || {
            let database = tidemark_storage::StateDb::open(folder.path());
            Arc::new(DurableStore::open(folder.path(), database.table("alerting")).unwrap())
        };
        let mut world = World::with_store(open());
        world.load(ALERT, 0);
        let mut sent = Vec::new();
        for (index, present) in history.iter().enumerate() {
            world.set("down", present);
            sent.extend(world.evaluate(60 * (index as i64 + 1)).1);
            if restart_after == Some(index) {
                let before = world.states();
                drop(world);
                world = World::with_store(open());
                world.load(ALERT, 60_000 * (index as i64 + 1) + 5000);
                assert_eq!(world.states(), before, "restart after {index}");
            }
        }
        (sent, world.states())
    };
    let want = run(None);
    assert!(want.0.len() > 3);
    for index in 0..history.len() {
        assert_eq!(run(Some(index)), want, "restart after {index}");
    }
}

#[test]
fn long_downtime_does_not_count_towards_for_and_resolves_nothing() {
    let store: Arc<dyn StateStore> = Arc::new(MemoryStore::default());
    let world = World::with_store(Arc::clone(&store));
    world.load(ALERT, 0);
    world.set("down", &["1"]);
    world.evaluate(60);
    world.set("down", &["1", "2"]);
    world.evaluate(120);
    world.evaluate(180);
    let world = World::with_store(store);
    world.load(ALERT, 180_000 + 7_200_000);
    world.set("down", &["2"]);
    let (_, sent) = world.evaluate(180 + 7_200 + 10);
    assert!(sent.iter().all(|alert| !alert.is_resolved), "{sent:?}");
    let states: Vec<AlertState> = world.states().iter().map(|state| state.1).collect();
    assert_eq!(states, [AlertState::Firing, AlertState::Pending]);
    let (_, sent) = world.evaluate(180 + 7_200 + 121);
    assert!(sent.iter().any(|alert| alert.is_resolved));
}

#[test]
fn slots_are_multiples_of_the_interval_with_a_fixed_shift() {
    let world = World::new();
    world.load(ALERT, 0);
    let group = &world.manager.groups()[0];
    let first = group.slot_at_or_after(0);
    assert!((0..60_000).contains(&first));
    assert_eq!(group.slot_at_or_after(first), first);
    assert_eq!(group.slot_at_or_after(first + 1), first + 60_000);
    assert_eq!(group.slot_at_or_after(-1), first);
}
