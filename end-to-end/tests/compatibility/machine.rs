//! Invented files of /proc that were not recorded, with counters that grow between the snapshots.

/// Returns paths below /proc, and texts in the kernel's format.
pub(super) fn files(snapshot: u32) -> [(&'static str, String); 5] {
    let count = |at_first: u32| at_first * snapshot;
    [
        (
            "sys/fs/file-nr",
            "1248\t0\t9223372036854775807\n".to_owned(),
        ),
        (
            "net/netstat",
            format!(
                "TcpExt: SyncookiesSent TCPSynRetrans TCPTimeouts\nTcpExt: 0 {} 4\n\
                 IpExt: InOctets OutOctets\nIpExt: {} {}\n",
                count(3),
                count(800_000),
                count(600_000)
            ),
        ),
        (
            "net/snmp",
            format!(
                "Tcp: RtoAlgorithm ActiveOpens InSegs OutSegs RetransSegs\nTcp: 1 {} {} {} {}\n",
                count(40),
                count(9_000),
                count(8_000),
                count(12)
            ),
        ),
        (
            "net/sockstat",
            "sockets: used 150\nTCP: inuse 12 orphan 0 tw 3 alloc 14 mem 2\n".to_owned(),
        ),
        (
            "1/mountinfo",
            "25 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw\n".to_owned(),
        ),
    ]
}
