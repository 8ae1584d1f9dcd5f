//! Notifier scenarios with times in seconds. The aggregator's tests run the same scenarios against a real Alertmanager.

use std::path::Path;

use super::*;
use crate::notify::silence::{Silence, SilenceMatcher};
use crate::store::MemoryStore;

const CONFIG: &str = "
route:
  receiver: r
  group_by: [alertname]
  group_wait: 10s
  group_interval: 60s
  repeat_interval: 1h
receivers:
- name: r
  webhook_configs: [{url: 'http://x'}]
";

struct World {
    notifier: Notifier,
    log: Vec<String>,
}

fn alert(name: &str, n: &str, start_s: i64, end_s: i64) -> Alert {
    Alert {
        labels: Labels::from_pairs([("alertname", name), ("n", n)]).unwrap(),
        annotations: crate::annotations::Annotations::empty(),
        starts_at_ms: start_s * 1000,
        ends_at_ms: end_s * 1000,
        updated_at_ms: 0,
        generator_url: String::new(),
        timeout: false,
    }
}

impl World {
    fn new(config: &str) -> Self {
        Self::on(config, Arc::new(MemoryStore::default()), 0)
    }

    fn on(config: &str, store: Arc<dyn StateStore>, now_s: i64) -> Self {
        let config = Arc::new(Config::parse(config, Path::new(".")).unwrap());
        Self {
            notifier: Notifier::new(config, store, "http://e".to_owned(), now_s * 1000),
            log: Vec::new(),
        }
    }

    /// Processes everything due up to `until_s`. Deliveries complete at once.
    fn run(&mut self, until_s: i64, is_up: bool) {
        while self.notifier.next_due_ms() <= until_s * 1000 {
            let now_ms = self.notifier.next_due_ms();
            for delivery in self.notifier.tick(now_ms) {
                let note = &delivery.notification;
                let alerts: Vec<String> = note
                    .alerts
                    .iter()
                    .map(|a| {
                        format!(
                            "{}{}",
                            a.labels.get("n").unwrap_or_default(),
                            if a.is_resolved(now_ms) { "-" } else { "+" }
                        )
                    })
                    .collect();
                let up = if is_up { "" } else { " failed" };
                self.log.push(format!(
                    "{} {} {}{up}",
                    now_ms / 1000,
                    note.group_key,
                    alerts.join("")
                ));
                self.notifier.finish(&delivery, is_up, now_ms);
            }
        }
    }

    fn receive(&mut self, now_s: i64, alerts: Vec<Alert>) {
        self.run(now_s - 1, true);
        assert_eq!(self.notifier.receive(alerts, now_s * 1000), 0);
    }

    #[track_caller]
    fn check(&mut self, until_s: i64, want: &[&str]) {
        self.run(until_s, true);
        assert_eq!(self.log, want);
    }
}

const FOREVER: i64 = 1_000_000;

#[test]
fn group_waits_then_tells_all_then_news_then_repeats() {
    let mut world = World::new(CONFIG);
    world.receive(0, vec![alert("A", "1", 0, FOREVER)]);
    world.receive(
        5,
        vec![alert("A", "2", 5, FOREVER), alert("B", "1", 5, FOREVER)],
    );
    world.receive(80, vec![alert("A", "3", 80, FOREVER)]);
    world.check(
        4000,
        &[
            "10 {}:{alertname=\"A\"} 1+2+",
            "15 {}:{alertname=\"B\"} 1+",
            "130 {}:{alertname=\"A\"} 1+2+3+",
            "3675 {}:{alertname=\"B\"} 1+",
            "3790 {}:{alertname=\"A\"} 1+2+3+",
        ],
    );
}

#[test]
fn old_alert_waits_no_more() {
    let mut world = World::new(CONFIG);
    world.receive(100, vec![alert("A", "1", 0, FOREVER)]);
    world.check(200, &["100 {}:{alertname=\"A\"} 1+"]);
}

#[test]
fn resolved_alert_is_told_once_and_leaves() {
    let mut world = World::new(CONFIG);
    world.receive(
        0,
        vec![alert("A", "1", 0, FOREVER), alert("A", "2", 0, FOREVER)],
    );
    world.receive(20, vec![alert("A", "1", 0, 20)]);
    world.receive(100, vec![alert("A", "2", 0, 100)]);
    world.check(
        300,
        &[
            "10 {}:{alertname=\"A\"} 1+2+",
            "70 {}:{alertname=\"A\"} 1-2+",
            "130 {}:{alertname=\"A\"} 2-",
        ],
    );
    assert!(world.notifier.groups().is_empty());
}

#[test]
fn resolved_within_the_wait_is_never_told() {
    let mut world = World::new(CONFIG);
    world.receive(0, vec![alert("A", "1", 0, FOREVER)]);
    world.receive(5, vec![alert("A", "1", 0, 5)]);
    world.check(300, &[]);
}

#[test]
fn unfinished_receiver_is_told_of_the_end_later() {
    let mut world = World::new(CONFIG);
    world.receive(0, vec![alert("A", "1", 0, FOREVER)]);
    world.run(20, true);
    world.receive(21, vec![alert("A", "1", 0, 21)]);
    world.run(100, false);
    world.check(
        200,
        &[
            "10 {}:{alertname=\"A\"} 1+",
            "70 {}:{alertname=\"A\"} 1- failed",
            "130 {}:{alertname=\"A\"} 1-",
        ],
    );
}

#[test]
fn send_resolved_false_keeps_silent_but_forgets() {
    let config = CONFIG.replace("'http://x'", "'http://x', send_resolved: false");
    let mut world = World::new(&config);
    world.receive(0, vec![alert("A", "1", 0, FOREVER)]);
    world.receive(20, vec![alert("A", "1", 0, 20)]);
    world.receive(200, vec![alert("A", "1", 200, FOREVER)]);
    world.check(
        300,
        &["10 {}:{alertname=\"A\"} 1+", "210 {}:{alertname=\"A\"} 1+"],
    );
}

#[test]
fn silence_holds_back_and_its_end_lets_through() {
    let mut world = World::new(CONFIG);
    let matchers = vec![SilenceMatcher {
        name: "n".to_owned(),
        value: "1".to_owned(),
        is_regex: false,
        is_equal: true,
    }];
    let silence = Silence {
        id: String::new(),
        matchers,
        starts_at_ms: 0,
        ends_at_ms: 100_000,
        updated_at_ms: 0,
        created_by: String::new(),
        comment: String::new(),
    };
    world
        .notifier
        .silences_mut()
        .set(silence, "s".to_owned(), 0)
        .unwrap();
    world.receive(0, vec![alert("A", "1", 0, FOREVER)]);
    world.check(200, &["130 {}:{alertname=\"A\"} 1+"]);
}

#[test]
fn restart_repeats_nothing_and_loses_nothing() {
    let store: Arc<dyn StateStore> = Arc::new(MemoryStore::default());
    let mut world = World::on(CONFIG, Arc::clone(&store), 0);
    world.receive(0, vec![alert("A", "1", 0, 300), alert("B", "1", 0, 300)]);
    world.check(
        20,
        &["10 {}:{alertname=\"A\"} 1+", "10 {}:{alertname=\"B\"} 1+"],
    );
    world.receive(30, vec![alert("A", "1", 0, 30)]);
    // The downtime outlasts the end time of the alerts. Alert B must not resolve because of it.
    let mut world = World::on(CONFIG, store, 1000);
    world.check(1200, &["1000 {}:{alertname=\"A\"} 1-"]);
}

#[test]
fn mute_interval_holds_back() {
    let config = CONFIG.replace("receivers:", "  routes: [{receiver: r, mute_time_intervals: [m]}]\ntime_intervals: [{name: m, time_intervals: [{times: [{start_time: '00:00', end_time: '00:02'}]}]}]\nreceivers:");
    let mut world = World::new(&config);
    world.receive(0, vec![alert("A", "1", 0, FOREVER)]);
    world.check(200, &["130 {}/{}:{alertname=\"A\"} 1+"]);
}
