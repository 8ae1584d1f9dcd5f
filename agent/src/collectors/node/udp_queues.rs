//! Bytes waiting in UDP sockets, from /proc/net/udp and udp6.

use super::Roots;
use crate::collect::{CollectContext, Collector, Outcome};
use crate::file::KeptFile;
use crate::parse;
use crate::read_errors::ReadErrors;
use crate::schema::{FamilyDef, Target, gauge};
use crate::table::SeriesId;

const QUEUES: FamilyDef = gauge(
    "node_udp_queues",
    "Number of allocated memory in the kernel for UDP datagrams in bytes.",
);
/// Index of the column `tx_queue:rx_queue`.
const QUEUE: usize = 4;

/// Collects `node_udp_queues`.
#[derive(Debug)]
pub struct UdpQueues {
    files: [(KeptFile, &'static str, Option<[SeriesId; 2]>); 2],
}

impl UdpQueues {
    /// A collector over the host's network namespace.
    pub fn new(roots: &Roots, errors: &mut ReadErrors) -> Self {
        let mut file =
            |name: &str| KeptFile::new(roots.proc_net(name), &format!("proc/net/{name}"), errors);
        Self {
            files: [(file("udp"), "v4", None), (file("udp6"), "v6", None)],
        }
    }
}

impl Collector for UdpQueues {
    fn collect(&mut self, context: &mut CollectContext<'_>) -> Outcome {
        let mut outcome = Outcome::NoData;
        for (file, ip, series) in &mut self.files {
            let Some(data) = file.read(context.buffer, context.errors) else {
                continue;
            };
            let Some(queues) = context.errors.parsed(file.error_id(), sum(data)) else {
                continue;
            };
            let ids = *series.get_or_insert_with(|| {
                ["tx", "rx"].map(|queue| {
                    context.schema.series(
                        context.table,
                        Target::Node,
                        &QUEUES,
                        &[("queue", queue), ("ip", ip)],
                    )
                })
            });
            for (id, bytes) in ids.iter().zip(queues) {
                context.table.set(*id, bytes as f64);
            }
            outcome = Outcome::Done;
        }
        outcome
    }
}

fn sum(data: &[u8]) -> Option<[u64; 2]> {
    let mut sums = [0_u64; 2];
    for line in parse::lines(data).skip(1) {
        let mut queues = parse::words(line).nth(QUEUE)?.split(|&byte| byte == b':');
        for sum in &mut sums {
            *sum = sum.saturating_add(parse::hexadecimal(queues.next()?)?);
        }
    }
    Some(sums)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queues_are_summed() {
        let text = b"  sl  local_address rem_address   st tx_queue rx_queue\n 1: 0:0 0:0 07 00000010:000000FF 0\n 2: 0:0 0:0 07 00000001:00000000 0\n";
        assert_eq!(sum(text), Some([17, 255]));
        assert_eq!(sum(b"head\n1: 2 3\n"), None);
        assert_eq!(sum(b"head\n"), Some([0, 0]));
    }

    proptest::proptest! {
        #[test]
        fn no_input_panics(data: Vec<u8>) {
            let _sums = sum(&data);
        }
    }
}
