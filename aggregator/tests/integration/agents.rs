//! Tests with the real agent, and with peers that break the protocol.

pub(crate) mod agent;
mod authority;
mod backlog;
mod explosion;
mod failover;
mod late;
mod nat;
mod network;
mod peer;
mod recorded;
mod refusals;
mod replaced;
mod restored;
mod sender;
mod tcp;

use serde_json::Value;

use self::agent::{Agent, Counts};
use crate::harness::{Aggregator, eventually};
use crate::http::encode;

const NODE: &str = "n1.test";

fn query(aggregator: &Aggregator, expression: &str) -> Value {
    let path = format!("/api/v1/query?query={}", encode(expression));
    aggregator.get(&path).data()["result"].clone()
}

/// Returns the only value of a query, if there is one.
pub(crate) fn number(aggregator: &Aggregator, expression: &str) -> Option<f64> {
    let value = query(aggregator, expression)[0]["value"][1].clone();
    value.as_str().map(|text| text.parse().unwrap())
}

pub(crate) fn quic_address(aggregator: &mut Aggregator) -> String {
    aggregator.wait_for("address of QUIC", |log| {
        let line = log
            .lines()
            .find(|line| line.contains("QUIC is listening"))?;
        let (_, rest) = line.split_once("address=")?;
        Some(rest.split(' ').next()?.to_owned())
    })
}

/// Returns a counter of the aggregator.
fn metric(aggregator: &Aggregator, name: &str) -> f64 {
    let text = aggregator.get("/metrics").text();
    agent::value_of(&text, name).unwrap_or_else(|| panic!("no {name} in\n{text}"))
}

/// Returns how many series of agents were refused, for any reason.
fn refused_series(aggregator: &Aggregator) -> f64 {
    let text = aggregator.get("/metrics").text();
    let lines = text.lines();
    let values =
        lines.filter_map(|line| line.strip_prefix("aggregator_ingest_refused_series_total{"));
    let value = |line: &str| line.split(' ').nth(1).unwrap().parse::<f64>().unwrap();
    values.map(value).sum()
}

/// Counts what the store has from the node's agent: ticks of a series that always exists, and all samples. Staleness markers
/// do not count.
fn stored(aggregator: &Aggregator) -> Counts {
    let all = query(
        aggregator,
        &format!(r#"{{node="{NODE}",job!="agent"}}[1h]"#),
    );
    let mut counts = Counts::default();
    for series in all.as_array().unwrap() {
        let samples = series["values"].as_array().unwrap().len() as u64;
        counts.samples += samples;
        if series["metric"]["__name__"] == "node_load1" {
            counts.ticks += samples;
        }
    }
    counts
}

/// Stops the agent, and checks that the store has exactly what the agents wrote: `before` by earlier ones, the rest by this
/// one.
#[track_caller]
fn check_complete(aggregator: &Aggregator, agent: Agent, before: Counts) {
    eventually("session", || {
        (agent.metric("agent_uplink_connected") == 1.0).then_some(())
    });
    let log = agent.stop();
    let last = agent::counts_of_log(&log).unwrap_or_else(|| panic!("not all acknowledged:\n{log}"));
    assert!(last.ticks > 0, "the agent wrote something");
    let written = Counts {
        ticks: before.ticks + last.ticks,
        samples: before.samples + last.samples,
    };
    assert_eq!(stored(aggregator), written);
    check_no_gap(aggregator, written.ticks);
}

/// Checks that no tick is missing and none is stored twice.
#[track_caller]
fn check_no_gap(aggregator: &Aggregator, ticks: u64) {
    let range = query(aggregator, &format!(r#"node_load1{{node="{NODE}"}}[1h]"#));
    let samples = range[0]["values"].as_array().unwrap().clone();
    let times: Vec<f64> = samples.iter().map(|one| one[0].as_f64().unwrap()).collect();
    assert_eq!(times.len() as u64, ticks);
    assert!(times.is_sorted_by(|a, b| a < b), "{times:?}");
}

#[test]
fn data_of_a_real_agent_is_stored_under_its_node_name() {
    let mut aggregator = Aggregator::start();
    let address = quic_address(&mut aggregator);
    let agent = Agent::start(&aggregator, &address, NODE);
    eventually("series of the agent", || {
        let series = number(&aggregator, &format!(r#"count({{node="{NODE}"}})"#));
        series.filter(|&series| series > 100.0)
    });
    let up = format!(r#"up{{job="agent",instance="{NODE}",node="{NODE}",idc="default"}}"#);
    eventually("up of the agent", || {
        number(&aggregator, &up).filter(|&up| up == 1.0)
    });
    let agents = aggregator.get("/api/v1/agents").data();
    assert_eq!(agents["agents"][0]["node"], NODE, "{agents}");
    assert_eq!(agents["agents"][0]["connected"], true, "{agents}");
    let uname = query(&aggregator, &format!(r#"node_uname_info{{node="{NODE}"}}"#));
    assert_eq!(uname[0]["metric"]["idc"], "default", "{uname}");
    check_complete(&aggregator, agent, Counts::default());
    assert_eq!(refused_series(&aggregator), 0.0);
    aggregator.stop();
}

#[test]
fn killed_aggregator_has_every_acknowledged_sample_once() {
    let mut aggregator = Aggregator::start();
    let address = quic_address(&mut aggregator);
    let agent = Agent::start(&aggregator, &address, NODE);
    let fixed = format!("--quic.listen-address={address}");
    for _ in 0..2 {
        let ticks = agent.counts().ticks;
        eventually("some more acknowledged ticks", || {
            (agent.counts().ticks >= ticks + 4 && agent.is_acknowledged()).then_some(())
        });
        let acknowledged = agent.acknowledged_ticks();
        let dir = aggregator.kill();
        // Ticks that nobody receives.
        let ticks = agent.counts().ticks;
        eventually("ticks meanwhile", || {
            (agent.counts().ticks >= ticks + 2).then_some(())
        });
        aggregator = Aggregator::start_in(dir, &[&fixed]);
        let after_restart = stored(&aggregator).ticks;
        assert!(
            after_restart >= acknowledged,
            "{after_restart} of {acknowledged} acknowledged ticks"
        );
    }
    // The agent may still believe in its old session: only a new acknowledgement proves a new one.
    let ticks = agent.counts().ticks;
    eventually("a session with the restarted aggregator", || {
        (agent.counts().ticks > ticks && agent.is_acknowledged()).then_some(())
    });
    assert_eq!(agent.metric("agent_spool_dropped_ticks_total"), 0.0);
    check_complete(&aggregator, agent, Counts::default());
}

#[test]
fn killed_agent_continues_from_its_spool() {
    let mut aggregator = Aggregator::start();
    let address = quic_address(&mut aggregator);
    let mut agent = Agent::start(&aggregator, &address, NODE);
    let mut before = Counts::default();
    for _ in 0..2 {
        eventually("some ticks", || (agent.counts().ticks >= 4).then_some(()));
        // The aggregator receives nothing more, so the agent dies with ticks in its spool.
        aggregator.signal("STOP");
        let ticks = agent.counts().ticks;
        eventually("ticks in the spool", || {
            (agent.counts().ticks >= ticks + 2).then_some(())
        });
        let (dir, last) = agent.kill_after_a_tick();
        aggregator.signal("CONT");
        before.ticks += last.ticks;
        before.samples += last.samples;
        agent = Agent::start_in(dir, &aggregator, &address, NODE);
    }
    assert_eq!(agent.metric("agent_spool_corrupt_records_total"), 0.0);
    check_complete(&aggregator, agent, before);
    // The certificate outlives the process: the agent joined once.
    assert_eq!(
        metric(
            &aggregator,
            r#"aggregator_ingest_certificates_total{kind="join"}"#
        ),
        1.0
    );
}

#[test]
fn series_of_a_stopped_agent_end() {
    let mut aggregator = Aggregator::start();
    let address = quic_address(&mut aggregator);
    let agent = Agent::start(&aggregator, &address, NODE);
    eventually("some ticks", || (agent.counts().ticks >= 3).then_some(()));
    let log = agent.stop();
    assert!(log.contains("everything is acknowledged"), "{log}");
    // Two intervals after Bye its series end.
    eventually("end of its series", || {
        let load = query(&aggregator, &format!(r#"node_load1{{node="{NODE}"}}"#));
        load.as_array().unwrap().is_empty().then_some(())
    });
    assert!(metric(&aggregator, "aggregator_ingest_stale_markers_total") > 100.0);
    let up = format!(r#"up{{job="agent",node="{NODE}"}}"#);
    eventually("up of 0", || {
        number(&aggregator, &up).filter(|&up| up == 0.0)
    });
    aggregator.stop();
}

#[test]
fn agent_fails_over_to_the_next_address() {
    let mut aggregator = Aggregator::start();
    let address = quic_address(&mut aggregator);
    // Nobody listens on the first address.
    let nobody = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let nobody = nobody.local_addr().unwrap().to_string();
    let agent = Agent::start(&aggregator, &format!("{nobody},{address}"), NODE);
    eventually("acknowledged ticks", || {
        (agent.counts().ticks > 0 && agent.is_acknowledged()).then_some(())
    });
    assert!(agent.metric("agent_uplink_connect_errors_total") >= 1.0);
    check_complete(&aggregator, agent, Counts::default());
}
