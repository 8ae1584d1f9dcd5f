//! Test of networks that block UDP.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use super::agent::{Agent, Counts};
use super::{NODE, check_complete, metric, quic_address};
use crate::harness::{Aggregator, eventually};

/// A proxy between agent and aggregator that forwards TCP, and UDP only if enabled.
struct Firewall {
    address: SocketAddr,
    lets_udp_through: Arc<AtomicBool>,
}

impl Firewall {
    fn before(aggregator: SocketAddr) -> Self {
        // Another process may use the same UDP port.
        let (tcp, udp) = (0..20)
            .find_map(|_| {
                let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
                let udp = UdpSocket::bind(tcp.local_addr().unwrap()).ok()?;
                Some((tcp, udp))
            })
            .unwrap();
        let address = tcp.local_addr().unwrap();
        let lets_udp_through = Arc::new(AtomicBool::new(false));
        thread::spawn(move || {
            for stream in tcp.incoming() {
                let inside = stream.unwrap();
                // While the aggregator is dead, connections are refused.
                let Ok(outside) = TcpStream::connect(aggregator) else {
                    continue;
                };
                let back = (outside.try_clone().unwrap(), inside.try_clone().unwrap());
                thread::spawn(move || pass(inside, outside));
                thread::spawn(move || pass(back.0, back.1));
            }
        });
        let open = Arc::clone(&lets_udp_through);
        thread::spawn(move || pass_datagrams(&udp, aggregator, &open));
        Self {
            address,
            lets_udp_through,
        }
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream) {
    let mut bytes = [0; 4096];
    while let Ok(count @ 1..) = from.read(&mut bytes) {
        if to.write_all(&bytes[..count]).is_err() {
            break;
        }
    }
    // The other side may have closed already.
    drop(to.shutdown(std::net::Shutdown::Write));
}

/// One socket towards the aggregator for each socket of the agent.
fn pass_datagrams(udp: &UdpSocket, aggregator: SocketAddr, open: &AtomicBool) {
    let mut outside: Vec<(SocketAddr, UdpSocket)> = Vec::new();
    let mut bytes = [0; 2048];
    while let Ok((count, from)) = udp.recv_from(&mut bytes) {
        if !open.load(Ordering::SeqCst) {
            continue;
        }
        if outside.iter().all(|(known, _)| *known != from) {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            socket.connect(aggregator).unwrap();
            let (back, inside) = (socket.try_clone().unwrap(), udp.try_clone().unwrap());
            thread::spawn(move || {
                let mut bytes = [0; 2048];
                loop {
                    match back.recv(&mut bytes) {
                        Ok(count) => drop(inside.send_to(&bytes[..count], from)),
                        // The aggregator is not listening at this time.
                        Err(_) => thread::sleep(Duration::from_millis(10)),
                    }
                }
            });
            outside.push((from, socket));
        }
        let (_, socket) = outside.iter().find(|(known, _)| *known == from).unwrap();
        drop(socket.send(&bytes[..count]));
    }
}

#[test]
fn agent_without_udp_joins_and_sends_over_tcp_and_returns_to_quic() {
    let mut aggregator = Aggregator::start();
    let address = quic_address(&mut aggregator).parse().unwrap();
    let firewall = Firewall::before(address);
    let flags = ["--node.name", NODE, "--uplink.quic-probe-interval=2s"];
    let agent = Agent::start_with(
        tempfile::tempdir().unwrap(),
        &[&aggregator],
        &firewall.address.to_string(),
        &flags,
    );
    eventually("acknowledged over TCP", || {
        (agent.counts().ticks > 0 && agent.is_acknowledged()).then_some(())
    });
    assert_eq!(agent.metric("agent_uplink_over_tcp"), 1.0);
    assert!(metric(&aggregator, "aggregator_ingest_tcp_connections_total") >= 2.0);
    // The aggregator dies: over TCP too, nothing is lost or stored twice.
    let dir = aggregator.kill();
    let ticks = agent.counts().ticks;
    eventually("ticks meanwhile", || {
        (agent.counts().ticks >= ticks + 2).then_some(())
    });
    let aggregator = Aggregator::start_in(dir, &[&format!("--quic.listen-address={address}")]);
    eventually("acknowledged again", || {
        let acknowledged = agent.counts().ticks > ticks + 2 && agent.is_acknowledged();
        acknowledged.then_some(())
    });
    assert_eq!(agent.metric("agent_uplink_over_tcp"), 1.0);
    firewall.lets_udp_through.store(true, Ordering::SeqCst);
    eventually("back to QUIC", || {
        (agent.metric("agent_uplink_over_tcp") == 0.0).then_some(())
    });
    check_complete(&aggregator, agent, Counts::default());
}
