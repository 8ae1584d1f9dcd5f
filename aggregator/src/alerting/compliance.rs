//! Tests of AG1 to AG16 of Prometheus' specification of alert generators, with the four histories of its official suite, on
//! a virtual clock. `tests/integration/peers/generator.rs` runs the histories against the real Prometheus too.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use common::model::{Labels, Sample};
use tidemark_alerting::rules::alert::AlertState;
use tidemark_alerting::rules::file::{RuleFile, parse};
use tidemark_alerting::rules::group::{AlertToSend, Context};
use tidemark_alerting::rules::manager::{Defaults, Manager};
use tidemark_alerting::rules::rule::Health;
use tidemark_alerting::rules::source::Source;
use tidemark_alerting::store::MemoryStore;
use tidemark_promql::Features;

use super::plan::syntax;
use super::unit_test::TestSource;

/// Seconds between evaluations, and between samples.
const INTERVAL_S: i64 = 30;
const SAMPLES_S: i64 = 5;
/// An alert is sent again at the first evaluation more than a minute after it was last sent.
const RESEND_S: i64 = 90;
const VALID_S: i64 = 4 * 60;

/// The value of a series at each second; `None` for no sample.
type Pattern = fn(i64) -> Option<f64>;

/// What happened at one evaluation.
struct Round {
    at_s: i64,
    /// Name and state of each active alert.
    states: BTreeSet<(String, AlertState)>,
    /// `ALERTS` as a query at that time sees it.
    series: BTreeSet<String>,
    sent: Vec<AlertToSend>,
    healths: Vec<Health>,
}

struct World {
    source: Arc<TestSource>,
    context: Context,
    manager: Manager,
}

impl World {
    fn new(rules: &str) -> Self {
        let source = Arc::new(TestSource::new(Duration::from_secs(60)));
        let context = Context {
            source: Arc::clone(&source) as Arc<dyn Source>,
            store: Arc::new(MemoryStore::default()),
            external_labels: Labels::empty(),
            external_url: "http://t".to_owned(),
            resend_delay: Duration::from_secs(60),
            outage_tolerance: Duration::from_secs(3600),
        };
        let text = format!("groups:\n- name: g\n  interval: 30s\n  rules:\n{rules}");
        let groups = parse(&text, &syntax(Features::default())).unwrap();
        let manager = Manager::new(&context);
        let path = PathBuf::from("r.yml");
        let defaults = Defaults {
            interval: Duration::from_secs(60),
            query_offset: Duration::ZERO,
        };
        manager.load(&context, vec![RuleFile { path, groups }], defaults, 0);
        Self {
            source,
            context,
            manager,
        }
    }

    fn run(&self, series: &[(&str, Pattern)], until_s: i64) -> Vec<Round> {
        let mut rounds = Vec::new();
        for at_s in (0..=until_s).step_by(SAMPLES_S as usize) {
            for (labels, pattern) in series {
                if let Some(value) = pattern(at_s) {
                    let labels = labels.split(',').map(|pair| pair.split_once('=').unwrap());
                    let sample = Sample {
                        timestamp_ms: at_s * 1000,
                        value,
                    };
                    let labels = Labels::from_pairs(labels).unwrap();
                    self.source.series().add(&labels, sample);
                }
            }
            if at_s % INTERVAL_S == 0 {
                rounds.push(self.evaluate(at_s));
            }
        }
        rounds
    }

    fn evaluate(&self, at_s: i64) -> Round {
        let group = &self.manager.groups()[0];
        let sent = group.evaluate(&self.context, at_s * 1000);
        let mut states = BTreeSet::new();
        let mut healths = Vec::new();
        for rule in &group.rules {
            let state = rule.state();
            healths.push(state.health);
            let active = state.alerts.active();
            states.extend(active.map(|alert| (rule.spec.name().to_owned(), alert.state)));
        }
        let alerts = self.source.query("ALERTS", at_s * 1000, Duration::MAX);
        let series = alerts.unwrap().into_iter().map(|(labels, value)| {
            assert_eq!(value, 1.0);
            labels.to_string()
        });
        Round {
            at_s,
            states,
            series: series.collect(),
            sent,
            healths,
        }
    }
}

/// Returns the states of `name`, each with its first and last evaluation.
fn spans(rounds: &[Round], name: &str) -> Vec<(AlertState, i64, i64)> {
    let mut spans: Vec<(AlertState, i64, i64)> = Vec::new();
    for round in rounds {
        for (_, state) in round.states.iter().filter(|(alert, _)| alert == name) {
            match spans.last_mut() {
                Some((last, _, end)) if last == state && *end == round.at_s - INTERVAL_S => {
                    *end = round.at_s;
                }
                _ => spans.push((*state, round.at_s, round.at_s)),
            }
        }
    }
    spans
}

/// Returns when `name` was sent, and in which state.
fn sendings<'r>(rounds: &'r [Round], name: &str) -> Vec<(i64, &'r AlertToSend)> {
    let mut all = Vec::new();
    for round in rounds {
        let of_name = |alert: &&AlertToSend| alert.labels.get("alertname") == Some(name);
        all.extend(
            round
                .sent
                .iter()
                .filter(of_name)
                .map(|alert| (round.at_s, alert)),
        );
    }
    all
}

/// AG1, AG4, AG7, AG8, AG9, AG11 to AG14.
#[test]
fn pending_firing_resolved_and_firing_again() {
    let world = World::new(
        "  - alert: Load\n    expr: load > 10\n    for: 6m\n    labels: {foo: bar}\n    annotations: {s: 'is {{ $value }}'}\n",
    );
    let rounds = world.run(
        &[("__name__=load,i=a", |at_s| {
            Some(match at_s {
                180..480 => 15.0,
                480..900 => 19.0,
                1320.. => 11.0,
                _ => 9.0,
            })
        })],
        1800,
    );
    use AlertState::{Firing, Pending};
    assert_eq!(
        spans(&rounds, "Load"),
        [
            (Pending, 180, 510),
            (Firing, 540, 870),
            (Pending, 1320, 1650),
            (Firing, 1680, 1800)
        ]
    );
    let sent = sendings(&rounds, "Load");
    let times: Vec<i64> = sent.iter().map(|(at_s, _)| *at_s).collect();
    let firing = (540..900).step_by(RESEND_S as usize);
    let resolved = (900..1320).step_by(RESEND_S as usize);
    assert_eq!(
        times,
        firing
            .chain(resolved)
            .chain([1680, 1770])
            .collect::<Vec<_>>()
    );
    for (at_s, alert) in sent {
        let (starts_s, ends_s) = match at_s {
            ..900 => (540, at_s + VALID_S),
            900..1680 => (540, 900),
            _ => (1680, at_s + VALID_S),
        };
        assert_eq!(alert.starts_at_ms, starts_s * 1000, "at {at_s}");
        assert_eq!(alert.ends_at_ms, ends_s * 1000, "at {at_s}");
        assert_eq!(alert.is_resolved, (900..1680).contains(&at_s));
        assert_eq!(
            alert.labels.to_string(),
            r#"{alertname="Load", foo="bar", i="a"}"#
        );
        let value = if at_s < 1680 { "is 19" } else { "is 11" };
        assert_eq!(alert.annotations.get("s"), Some(value), "at {at_s}");
        assert_eq!(
            alert.generator_url,
            "http://t/graph?g0.expr=load+%3E+10&g0.tab=1"
        );
    }
}

/// AG7 and AG11: an alert that never fires is never sent.
#[test]
fn pending_that_goes_is_not_sent() {
    let world = World::new(
        "  - {alert: Short, expr: load > 10, for: 6m}\n  - {alert: Never, expr: load > 100}\n",
    );
    let pattern: Pattern = |at_s| Some(if (60..240).contains(&at_s) { 15.0 } else { 9.0 });
    let rounds = world.run(&[("__name__=load", pattern)], 900);
    assert_eq!(spans(&rounds, "Short"), [(AlertState::Pending, 60, 210)]);
    assert_eq!(spans(&rounds, "Never"), []);
    assert!(rounds.iter().all(|round| round.sent.is_empty()));
}

/// AG3, AG8, AG13.
#[test]
fn no_for_and_one_below_the_interval() {
    let text = "{{ define \"x\" }}[{{ . }}]{{ end }}{{ template \"x\" $labels.i }} {{ with query \"sort(load)\" }}\
                {{ range . | sortByLabel \"i\" }}{{ .Labels.i }}={{ .Value }} {{ end }}{{ end }}\
                {{ toUpper \"a\" }}{{ title \"b\" }}{{ (args 1 \"c\").arg1 }} {{ $value | humanize }} \
                {{ 1500.0 | humanizeDuration }} {{ 0.5 | humanizePercentage }} {{ reReplaceAll \"a\" \"b\" \"aa\" }}\
                {{ graphLink \"up\" }}{{ tableLink \"up\" }}{{ safeHtml \"<\" }}{{ externalURL }}{{ pathPrefix }}";
    let world = World::new(&format!(
        "  - alert: Zero\n    expr: load > 10\n    annotations: {{s: '{text}'}}\n  - {{alert: Small, expr: load > 10, for: 13s}}\n",
    ));
    let pattern: Pattern = |at_s| Some(if (60..180).contains(&at_s) { 15.0 } else { 9.0 });
    let rounds = world.run(&[("__name__=load,i=a", pattern)], 1500);
    use AlertState::{Firing, Pending};
    assert_eq!(spans(&rounds, "Zero"), [(Firing, 60, 150)]);
    assert_eq!(
        spans(&rounds, "Small"),
        [(Pending, 60, 60), (Firing, 90, 150)]
    );
    for (name, first_s) in [("Zero", 60), ("Small", 90)] {
        let sent = sendings(&rounds, name);
        assert_eq!(sent[0].0, first_s);
        let resolved: Vec<i64> = sent
            .iter()
            .filter(|(_, a)| a.is_resolved)
            .map(|one| one.0)
            .collect();
        // At once, then at the same intervals for a quarter of an hour.
        assert_eq!(resolved[0], 180);
        let last = *resolved.last().unwrap();
        assert!(
            last <= 180 + 900 && last > 180 + 900 - RESEND_S,
            "{resolved:?}"
        );
    }
    let zero = sendings(&rounds, "Zero")[0].1.annotations.get("s").unwrap();
    assert!(
        zero.starts_with("[a] a=15 ABc 15 25m 0s 50% bb/graph"),
        "{zero}"
    );
    assert!(!zero.contains("error"), "{zero}");
}

/// AG2, AG5, AG10: later rules see the results of earlier ones of the same evaluation.
#[test]
fn rules_see_the_alerts_of_earlier_ones() {
    let world = World::new(
        "  - alert: First\n    expr: load > 10\n    labels: {alertname: Other, i: 'was {{ $labels.i }}', more: '{{ $value }}'}\n\
         \x20 - alert: Second\n    expr: ALERTS{alertname=\"First\", alertstate=\"firing\"}\n    labels: {from: second}\n\
         \x20 - {record: firing, expr: 'sum(ALERTS{alertstate=\"firing\"})'}\n\
         \x20 - {alert: Third, expr: firing == 2, for: 1m}\n",
    );
    let pattern: Pattern = |at_s| Some(if (60..120).contains(&at_s) { 15.0 } else { 9.0 });
    let rounds = world.run(&[("__name__=load,i=a", pattern)], 180);
    let at = |at_s: i64| rounds.iter().find(|round| round.at_s == at_s).unwrap();
    assert!(at(30).series.is_empty());
    let want: BTreeSet<String> = [
        r#"{__name__="ALERTS", alertname="First", alertstate="firing", i="was a", more="15"}"#,
        r#"{__name__="ALERTS", alertname="Second", alertstate="firing", from="second", i="was a", more="15"}"#,
        r#"{__name__="ALERTS", alertname="Third", alertstate="pending"}"#,
    ]
    .map(str::to_owned)
    .into();
    assert_eq!(at(60).series, want);
    // All of it disappears with the next evaluation.
    assert!(at(120).series.is_empty() && at(120).states.is_empty());
    let labels: BTreeMap<i64, String> = sendings(&rounds, "Second")
        .into_iter()
        .map(|(at_s, alert)| (at_s, alert.labels.to_string()))
        .collect();
    let second =
        r#"{alertname="Second", alertstate="firing", from="second", i="was a", more="15"}"#;
    assert_eq!(labels.get(&60).map(String::as_str), Some(second));
}

/// AG6, AG15, AG16: equal alerts are an error of the rule and have no other effect.
#[test]
fn equal_alerts_are_an_error() {
    let world = World::new(
        "  - {alert: Same, expr: load > 10, labels: {i: x}}\n  - {alert: Good, expr: load > 10}\n",
    );
    let fine: Pattern = |at_s| Some(if at_s < 60 { 15.0 } else { 9.0 });
    let late: Pattern = |at_s| Some(if (60..120).contains(&at_s) { 15.0 } else { 9.0 });
    let both: Pattern = |at_s| Some(if (60..180).contains(&at_s) { 15.0 } else { 9.0 });
    let series = [
        ("__name__=load,i=a", fine),
        ("__name__=load,i=b", late),
        ("__name__=load,i=c", both),
    ];
    let rounds = world.run(&series, 240);
    let health = |at_s: i64| rounds[(at_s / INTERVAL_S) as usize].healths.clone();
    assert_eq!(health(30), [Health::Ok, Health::Ok]);
    assert_eq!(health(60), [Health::Err, Health::Ok]);
    assert_eq!(health(120), [Health::Ok, Health::Ok]);
    // The alert is the same before and after the error; during the error nothing is sent or written.
    let round = &rounds[2];
    assert!(
        round
            .sent
            .iter()
            .all(|alert| alert.labels.get("alertname") == Some("Good"))
    );
    assert_eq!(
        round
            .series
            .iter()
            .filter(|one| one.contains("Good"))
            .count(),
        2
    );
    let starts: BTreeSet<i64> = sendings(&rounds, "Same")
        .iter()
        .map(|(_, a)| a.starts_at_ms)
        .collect();
    assert_eq!(starts, BTreeSet::from([0]));
}
