//! Evaluates each rule group at its slots, in its own task.

use std::sync::Arc;
use std::time::Duration;

use tidemark_alerting::rules::group::Group;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Alerting;
use crate::report::chain;

/// Time between checks for series of removed groups.
const ORPHAN_INTERVAL: Duration = Duration::from_secs(5);

/// Runs all groups until `stop`, and restarts with the new groups after each reload.
pub(super) async fn run(alerting: Arc<Alerting>, stop: CancellationToken) {
    loop {
        let round = stop.child_token();
        let tasks = TaskTracker::new();
        for group in alerting.manager.groups() {
            tasks.spawn(run_group(Arc::clone(&alerting), group, round.clone()));
        }
        tasks.spawn(end_orphans(Arc::clone(&alerting), round.clone()));
        tasks.close();
        tokio::select! {
            () = stop.cancelled() => {}
            () = alerting.groups_changed.notified() => {}
        }
        round.cancel();
        tasks.wait().await;
        if stop.is_cancelled() {
            return;
        }
    }
}

async fn run_group(alerting: Arc<Alerting>, group: Arc<Group>, stop: CancellationToken) {
    let interval_ms = group.interval_ms();
    let mut counted = group.failures();
    loop {
        let now_ms = alerting.clock.now_ms();
        let slot_ms = group.slot_at_or_after(now_ms + 1);
        let wait = Duration::from_millis(u64::try_from(slot_ms - now_ms).unwrap_or(0));
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = stop.cancelled() => return,
        }
        let (work, group_now) = (Arc::clone(&alerting), Arc::clone(&group));
        let evaluated = tokio::task::spawn_blocking(move || {
            let context = work.context.load_full();
            let outgoing = group_now.evaluate(&context, slot_ms);
            work.send(&outgoing);
        });
        if let Err(error) = evaluated.await {
            tracing::error!(
                group = group.name,
                error = chain(&error),
                "evaluation of a rule group panicked"
            );
        }
        let late_ms = alerting.clock.now_ms() - slot_ms;
        let missed = u64::try_from(late_ms / interval_ms).unwrap_or(0);
        // A clock step looks like lateness too, but no group misses a thousand slots.
        group.note_missed(missed.min(1000));
        let (failures, timeouts) = group.failures();
        let failed = (failures - counted.0, timeouts - counted.1);
        counted = (failures, timeouts);
        let time = group.status().evaluation_time;
        alerting.metrics.evaluated(missed.min(1000), failed, time);
    }
}

async fn end_orphans(alerting: Arc<Alerting>, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(ORPHAN_INTERVAL) => {}
            () = stop.cancelled() => return,
        }
        let work = Arc::clone(&alerting);
        let ended = tokio::task::spawn_blocking(move || {
            work.manager
                .end_orphans(&work.context.load_full(), work.clock.now_ms());
        });
        if let Err(error) = ended.await {
            tracing::error!(
                error = chain(&error),
                "end of series of removed groups panicked"
            );
        }
    }
}
