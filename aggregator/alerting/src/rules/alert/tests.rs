//! Tests the states of one alert with times in seconds.

use super::*;

const TIMING: Timing = Timing {
    for_ms: 60_000,
    keep_firing_for_ms: 0,
    limit: 0,
};

fn element(name: &str, value: f64) -> Element {
    let labels = Labels::from_pairs([("alertname", name)]).unwrap();
    Element {
        labels,
        annotations: Annotations::empty(),
        value,
    }
}

struct World {
    alerts: Alerts,
    timing: Timing,
}

impl World {
    fn new(timing: Timing) -> Self {
        Self {
            alerts: Alerts::default(),
            timing,
        }
    }

    #[track_caller]
    fn step(&mut self, now_s: i64, present: bool, want: &str) {
        let elements = if present {
            vec![element("A", 1.0)]
        } else {
            Vec::new()
        };
        let mut transitions = Transitions::default();
        self.alerts
            .update(elements, self.timing, now_s * 1000, &mut transitions)
            .unwrap();
        let got = self
            .alerts
            .iter()
            .map(|alert| alert.state.as_str())
            .next()
            .unwrap_or("none");
        assert_eq!(got, want, "at {now_s} s");
    }

    #[track_caller]
    fn sent(&mut self, now_s: i64, want: usize) {
        let due = self.alerts.take_due(Duration::from_secs(60), now_s * 1000);
        assert_eq!(due.len(), want, "sent at {now_s} s");
    }
}

#[test]
fn pending_fires_when_for_is_over_and_resolves() {
    let mut world = World::new(TIMING);
    world.step(0, true, "pending");
    world.sent(0, 0);
    world.step(59, true, "pending");
    world.step(60, true, "firing");
    world.sent(60, 1);
    world.step(120, true, "firing");
    world.sent(120, 0); // Strictly more than the resend delay.
    world.sent(121, 1);
    world.step(130, false, "inactive");
    world.sent(130, 1);
    world.sent(190, 0);
    world.sent(191, 1);
    world.step(130 + 900, false, "inactive");
    world.step(130 + 901, false, "none");
}

#[test]
fn pending_that_disappears_is_forgotten() {
    let mut world = World::new(TIMING);
    world.step(0, true, "pending");
    world.step(30, false, "none");
    world.step(40, true, "pending");
    world.step(90, true, "pending");
    world.step(100, true, "firing");
}

#[test]
fn resolved_alert_that_returns_is_a_new_one() {
    let mut world = World::new(Timing {
        for_ms: 0,
        ..TIMING
    });
    world.step(0, true, "firing");
    world.step(10, false, "inactive");
    world.step(20, true, "firing");
    let alert = world.alerts.iter().next().unwrap();
    assert_eq!(
        (alert.active_at_ms, alert.fired_at_ms, alert.resolved_at_ms),
        (20_000, Some(20_000), None)
    );
}

#[test]
fn keep_firing_for_bridges_gaps() {
    let mut world = World::new(Timing {
        for_ms: 0,
        keep_firing_for_ms: 30_000,
        limit: 0,
    });
    world.step(0, true, "firing");
    world.step(10, false, "firing");
    world.step(39, false, "firing");
    world.step(40, false, "inactive");
    world.step(50, true, "firing");
    world.step(60, false, "firing");
    world.step(80, true, "firing");
    world.step(100, false, "firing");
    world.step(129, false, "firing");
}

#[test]
fn longer_for_after_reload_makes_pending_again() {
    let mut world = World::new(Timing {
        for_ms: 0,
        ..TIMING
    });
    world.step(0, true, "firing");
    world.timing.for_ms = 60_000;
    world.step(10, true, "pending");
    world.step(60, true, "firing");
}

#[test]
fn limit_drops_all_and_duplicates_change_nothing() {
    let mut alerts = Alerts::default();
    let timing = Timing {
        limit: 2,
        for_ms: 0,
        ..TIMING
    };
    let mut transitions = Transitions::default();
    let elements = |names: &[&str]| {
        names
            .iter()
            .map(|name| element(name, 1.0))
            .collect::<Vec<_>>()
    };
    alerts
        .update(elements(&["a", "b"]), timing, 0, &mut transitions)
        .unwrap();
    let error = alerts.update(elements(&["a", "a"]), timing, 1000, &mut transitions);
    assert_eq!(error, Err(AlertError::Duplicate));
    assert_eq!(alerts.iter().count(), 2);
    let error = alerts.update(elements(&["a", "b", "c"]), timing, 2000, &mut transitions);
    assert_eq!(error, Err(AlertError::Limit { limit: 2, count: 3 }));
    assert_eq!((alerts.iter().count(), transitions.removed.len()), (0, 3));
}

#[test]
fn stored_form_keeps_every_field() {
    let mut alert = begin(element("A", f64::NAN), 5);
    alert.fired_at_ms = Some(6);
    alert.keep_firing_since_ms = Some(7);
    let text = serde_json::to_string(&alert).unwrap();
    let back: Alert = serde_json::from_str(&text).unwrap();
    assert!(back.value.is_nan());
    assert_eq!(format!("{back:?}"), format!("{alert:?}"));
}
