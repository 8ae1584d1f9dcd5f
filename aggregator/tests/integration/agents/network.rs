//! Test with a network between agent and aggregator whose router can drop UDP.

use std::process::{Command, Stdio};

use super::agent::{Agent, Counts, binary};
use super::{NODE, check_complete, metric, quic_address};
use crate::harness::{Aggregator, eventually};

/// Three network namespaces in a row: the machine's, the router's, the agent's. Removed after the test.
struct Network {
    router: String,
    agent: String,
    /// Prefix of all addresses: .1 is the machine's, .2 and .5 are the router's, .6 is the agent's.
    prefix: String,
}

fn run(program: &str, args: &str) -> bool {
    let status = Command::new(program)
        .args(args.split(' '))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    status.is_ok_and(|status| status.success())
}

#[track_caller]
fn ip(args: &str) {
    assert!(run("ip", args), "ip {args}");
}

impl Network {
    /// Returns `None` with a message if this machine does not allow it.
    fn new() -> Option<Self> {
        let number = std::process::id();
        let network = Self {
            router: format!("tidemark-router-{number}"),
            agent: format!("tidemark-agent-{number}"),
            prefix: format!("10.214.{}", number % 250),
        };
        let Self {
            router,
            agent,
            prefix,
        } = &network;
        let can = run("nsenter", "--version")
            && [router, agent]
                .iter()
                .all(|name| run("ip", &format!("netns add {name}")));
        if !can {
            eprintln!(
                "SKIPPED UDP dropped on the way: needs root, ip, nsenter and network namespaces"
            );
            return None;
        }
        let outer = format!("tmr{}", number % 1_000_000);
        ip(&format!(
            "link add {outer} type veth peer name wan netns {router}"
        ));
        ip(&format!(
            "-n {router} link add lan type veth peer name eth0 netns {agent}"
        ));
        ip(&format!("addr add {prefix}.1/30 dev {outer}"));
        ip(&format!("link set {outer} up"));
        ip(&format!("-n {router} addr add {prefix}.2/30 dev wan"));
        ip(&format!("-n {router} addr add {prefix}.5/30 dev lan"));
        ip(&format!("-n {router} link set wan up"));
        ip(&format!("-n {router} link set lan up"));
        ip(&format!("-n {agent} addr add {prefix}.6/30 dev eth0"));
        ip(&format!("-n {agent} link set lo up"));
        ip(&format!("-n {agent} link set eth0 up"));
        ip(&format!("-n {agent} route add default via {prefix}.5"));
        ip(&format!("route add {prefix}.4/30 via {prefix}.2"));
        let forward = format!("--net=/run/netns/{router} sysctl -qw net.ipv4.ip_forward=1");
        assert!(run("nsenter", &forward), "forwarding");
        Some(network)
    }

    /// Sets whether the router forwards UDP; otherwise it silently drops it in both directions.
    fn pass_udp(&self, passes: bool) {
        let verb = if passes { "del" } else { "add" };
        let router = &self.router;
        ip(&format!(
            "-n {router} rule {verb} pref 100 ipproto udp blackhole"
        ));
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        // Links and routes disappear with the namespaces, one of which may not exist.
        for name in [&self.agent, &self.router] {
            run("ip", &format!("netns del {name}"));
        }
    }
}

#[test]
fn agent_uses_tcp_while_the_network_drops_udp() {
    let Some(network) = Network::new() else {
        return;
    };
    network.pass_udp(false);
    let (machine, inside) = (
        format!("{}.1", network.prefix),
        format!("{}.6", network.prefix),
    );
    let listen = format!("--quic.listen-address={machine}:0");
    let mut aggregator = Aggregator::start_with(&[&listen]);
    let address = quic_address(&mut aggregator);
    // Not `ip netns exec`, which would hide the machine's cgroups behind another /sys.
    let mut program = Command::new("nsenter");
    program
        .arg(format!("--net=/run/netns/{}", network.agent))
        .arg(binary());
    let web = format!("--web.listen-address={inside}:0");
    let flags = [
        &*web,
        "--node.name",
        NODE,
        "--uplink.quic-probe-interval=2s",
    ];
    let dir = tempfile::tempdir().unwrap();
    let agent = Agent::start_as(program, dir, &[&aggregator], &address, &flags);
    eventually("acknowledged over TCP", || {
        (agent.counts().ticks > 0 && agent.is_acknowledged()).then_some(())
    });
    assert_eq!(agent.metric("agent_uplink_over_tcp"), 1.0);
    assert!(metric(&aggregator, "aggregator_ingest_tcp_connections_total") >= 1.0);
    network.pass_udp(true);
    eventually("back to QUIC", || {
        (agent.metric("agent_uplink_over_tcp") == 0.0).then_some(())
    });
    let ticks = agent.counts().ticks;
    eventually("acknowledged over QUIC", || {
        (agent.counts().ticks > ticks && agent.is_acknowledged()).then_some(())
    });
    assert_eq!(agent.metric("agent_uplink_over_tcp"), 0.0);
    check_complete(&aggregator, agent, Counts::default());
}
