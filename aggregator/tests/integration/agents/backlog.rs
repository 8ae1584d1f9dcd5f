//! Tests of a backlog in the spool: newest tick first, and two aggregators.

use super::agent::{Agent, Counts};
use super::{NODE, check_complete, check_no_gap, quic_address, stored};
use crate::harness::{Aggregator, eventually};

const FLAGS: &[&str] = &["--node.name", NODE, "--uplink.newest-first-after=5s"];

fn some_more_ticks(agent: &Agent, ticks: u64) {
    let before = agent.counts().ticks;
    eventually("some more ticks", || {
        (agent.counts().ticks >= before + ticks).then_some(())
    });
}

/// Kills the aggregator, lets ticks accumulate, and restarts it. Returns once the agent has sent the newest tick.
fn outage(aggregator: Aggregator, agent: &Agent, address: &str) -> Aggregator {
    let skips = agent.metric("agent_uplink_skips_total");
    let dir = aggregator.kill();
    some_more_ticks(agent, 8);
    let fixed = format!("--quic.listen-address={address}");
    let aggregator = Aggregator::start_in(dir, &[&fixed]);
    eventually("newest ticks first", || {
        (agent.metric("agent_uplink_skips_total") > skips).then_some(())
    });
    aggregator
}

#[test]
fn newest_ticks_are_sent_first_and_kills_during_the_backfill_lose_and_duplicate_nothing() {
    let mut aggregator = Aggregator::start();
    let address = quic_address(&mut aggregator);
    let start =
        |dir, aggregator: &Aggregator| Agent::start_with(dir, &[aggregator], &address, FLAGS);
    let mut agent = start(tempfile::tempdir().unwrap(), &aggregator);
    let mut before = Counts::default();
    eventually("acknowledged ticks", || {
        (agent.counts().ticks >= 2 && agent.is_acknowledged()).then_some(())
    });
    for _ in 0..2 {
        aggregator = outage(aggregator, &agent, &address);
        // Nothing more of the rest is acknowledged from here on.
        aggregator.signal("STOP");
        let (dir, last) = agent.kill_after_a_tick();
        aggregator.signal("CONT");
        before.ticks += last.ticks;
        before.samples += last.samples;
        agent = start(dir, &aggregator);
        eventually("everything", || {
            let is_done = agent.is_acknowledged()
                && agent.counts().ticks > 1
                && agent.metric("agent_uplink_backfill_pending") == 0.0;
            is_done.then_some(())
        });
        // The aggregator is killed during the backfill too.
        aggregator = outage(aggregator, &agent, &address);
        let dir = aggregator.kill();
        let fixed = format!("--quic.listen-address={address}");
        aggregator = Aggregator::start_in(dir, &[&fixed]);
        some_more_ticks(&agent, 1);
        eventually("everything", || {
            let is_done =
                agent.is_acknowledged() && agent.metric("agent_uplink_backfill_pending") == 0.0;
            is_done.then_some(())
        });
    }
    assert!(agent.metric("agent_uplink_backfilled_ticks_total") > 0.0);
    assert_eq!(agent.metric("agent_spool_dropped_ticks_total"), 0.0);
    check_complete(&aggregator, agent, before);
}

#[test]
fn mirror_gets_everything_and_a_slow_or_dead_one_does_not_delay_the_other() {
    let mut first = Aggregator::start();
    let mut second = Aggregator::start();
    let addresses = [quic_address(&mut first), quic_address(&mut second)];
    let flags = ["--node.name", NODE, "--mirror"];
    let agent = Agent::start_with(
        tempfile::tempdir().unwrap(),
        &[&first, &second],
        &addresses.join(","),
        &flags,
    );
    let acked = |mirror: bool| {
        let name = "agent_uplink_acked_sequence";
        match mirror {
            false => agent.metric(name),
            true => agent.metric(&format!(r#"{name}{{copy="mirror"}}"#)),
        }
    };
    eventually("acknowledged by both", || {
        (acked(false) > 0.0 && acked(true) > 0.0).then_some(())
    });
    let dropped = |agent: &Agent| {
        agent.metric("agent_spool_dropped_ticks_total")
            + agent.metric(r#"agent_spool_dropped_ticks_total{copy="mirror"}"#)
    };
    // A mirror that receives nothing.
    for (stopped, mirror_goes_on) in [(&first, true), (&second, false)] {
        stopped.signal("STOP");
        let at = acked(mirror_goes_on);
        let held = acked(!mirror_goes_on);
        eventually("the other goes on", || {
            (acked(mirror_goes_on) >= at + 4.0).then_some(())
        });
        assert!(
            acked(!mirror_goes_on) <= held + 2.0,
            "nothing is taken while it is stopped"
        );
        stopped.signal("CONT");
        eventually("it catches up", || {
            (acked(!mirror_goes_on) >= acked(mirror_goes_on)).then_some(())
        });
    }
    // A mirror that dies.
    let dir = second.kill();
    let at = acked(false);
    eventually("the first goes on", || {
        (acked(false) >= at + 4.0).then_some(())
    });
    let second = Aggregator::start_in(dir, &[&format!("--quic.listen-address={}", addresses[1])]);
    eventually("the mirror catches up", || {
        let last = agent.metric("agent_spool_last_sequence");
        (acked(true) >= last - 1.0).then_some(())
    });
    assert_eq!(dropped(&agent), 0.0);
    check_complete(&first, agent, Counts::default());
    let all = stored(&first);
    assert_eq!(stored(&second), all);
    check_no_gap(&second, all.ticks);
}
