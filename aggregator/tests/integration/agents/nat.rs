//! Test with a NAT router between agent and aggregator that loses packets and forgets its port mappings.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use super::agent::{Agent, Counts};
use super::{NODE, check_complete, number, quic_address};
use crate::harness::{Aggregator, eventually};

/// One of this many packets is lost while the router drops packets.
const LOST_OF: u64 = 7;

/// What the router does to packets.
#[derive(Debug, Default)]
struct Ways {
    loses_packets: AtomicBool,
    packets: AtomicU64,
    lost: AtomicU64,
    /// Grows each time the router forgets its mappings: outgoing packets get new ports, packets to the old ones are dropped.
    age: AtomicU64,
}

impl Ways {
    fn lets_through(&self) -> bool {
        let number = self.packets.fetch_add(1, Ordering::SeqCst);
        let is_lost = self.loses_packets.load(Ordering::SeqCst) && number.is_multiple_of(LOST_OF);
        self.lost.fetch_add(u64::from(is_lost), Ordering::SeqCst);
        !is_lost
    }
}

/// The router. Its threads end with the test.
struct Router {
    address: SocketAddr,
    ways: Arc<Ways>,
}

/// A port towards the aggregator for one port of the agent.
struct Port {
    of: SocketAddr,
    age: u64,
    socket: UdpSocket,
}

impl Router {
    fn before(aggregator: SocketAddr) -> Self {
        let inside = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = inside.local_addr().unwrap();
        let ways = Arc::new(Ways::default());
        let shared = Arc::clone(&ways);
        thread::spawn(move || {
            let mut ports: Vec<Port> = Vec::new();
            let mut bytes = [0; 2048];
            while let Ok((count, from)) = inside.recv_from(&mut bytes) {
                let age = shared.age.load(Ordering::SeqCst);
                ports.retain(|port| port.age == age);
                if ports.iter().all(|port| port.of != from) {
                    ports.push(open(from, age, aggregator, &inside, &shared));
                }
                let port = ports.iter().find(|port| port.of == from).unwrap();
                if shared.lets_through() {
                    drop(port.socket.send(&bytes[..count]));
                }
            }
        });
        Self { address, ways }
    }
}

fn open(
    of: SocketAddr,
    age: u64,
    aggregator: SocketAddr,
    inside: &UdpSocket,
    ways: &Arc<Ways>,
) -> Port {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(aggregator).unwrap();
    let (back, inside) = (socket.try_clone().unwrap(), inside.try_clone().unwrap());
    let ways = Arc::clone(ways);
    thread::spawn(move || {
        let mut bytes = [0; 2048];
        while ways.age.load(Ordering::SeqCst) == age {
            match back.recv(&mut bytes) {
                Ok(count) if ways.age.load(Ordering::SeqCst) == age => {
                    if ways.lets_through() {
                        drop(inside.send_to(&bytes[..count], of));
                    }
                }
                Ok(_) => {}
                // The aggregator is not listening at this time.
                Err(_) => thread::sleep(Duration::from_millis(10)),
            }
        }
    });
    Port { of, age, socket }
}

#[test]
fn router_that_loses_packets_and_mappings_costs_no_tick_and_no_session() {
    let mut aggregator = Aggregator::start();
    let router = Router::before(quic_address(&mut aggregator).parse().unwrap());
    let agent = Agent::start_with(
        tempfile::tempdir().unwrap(),
        &[&aggregator],
        &router.address.to_string(),
        &["--node.name", NODE],
    );
    let more_ticks = |what: &str| {
        let before = agent.counts().ticks;
        eventually(what, || {
            (agent.counts().ticks >= before + 3 && agent.is_acknowledged()).then_some(())
        });
    };
    more_ticks("ticks over a good network");
    router.ways.loses_packets.store(true, Ordering::SeqCst);
    more_ticks("ticks over a bad one");
    for _ in 0..3 {
        router.ways.age.fetch_add(1, Ordering::SeqCst);
        more_ticks("ticks from another port");
    }
    assert!(router.ways.lost.load(Ordering::SeqCst) > 0);
    assert_eq!(agent.metric("agent_uplink_disconnects_total"), 0.0);
    assert_eq!(agent.metric("agent_uplink_sessions_total"), 1.0);
    assert_eq!(agent.metric("agent_uplink_over_tcp"), 0.0);
    let up = format!(r#"up{{job="agent",node="{NODE}"}}"#);
    assert_eq!(number(&aggregator, &up), Some(1.0));
    router.ways.loses_packets.store(false, Ordering::SeqCst);
    check_complete(&aggregator, agent, Counts::default());
}
