//! Block I/O of a cgroup by device, from blkio.throttle.* (v1) and io.stat (v2).

use crate::parse;

/// Counters of one device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DeviceIo {
    /// Bytes read.
    pub read_bytes: Option<u64>,
    /// Bytes written.
    pub write_bytes: Option<u64>,
    /// Reads.
    pub reads: Option<u64>,
    /// Writes.
    pub writes: Option<u64>,
}

/// Parses io.stat: `8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6`, and the variants that real kernels print.
///
/// Several devices may precede the counters, which belong to the last one (`7:7 7:6 rbytes=1`). A device may be
/// printed as `(unknown)`. A line may end after the device. Unknown keys are ignored, and keys may come in any order.
/// Calls `sink` once per device with counters. Returns whether every line was understood.
pub fn parse_io_stat(data: &[u8], mut sink: impl FnMut(&[u8], DeviceIo)) -> bool {
    let mut understood = true;
    for line in parse::lines(data) {
        let mut device = None;
        let mut io = DeviceIo::default();
        for word in parse::words(line) {
            if word == b"(unknown)" {
                device = None;
            } else if is_device(word) {
                device = Some(word);
            } else if let Some((key, value)) = split_pair(word) {
                understood &= set(&mut io, key, value);
            } else {
                understood = false;
            }
        }
        if let Some(device) = device.filter(|_| io != DeviceIo::default()) {
            sink(device, io);
        }
    }
    understood
}

fn split_pair(word: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = word.iter().position(|&byte| byte == b'=')?;
    Some((word.get(..at)?, word.get(at + 1..)?))
}

/// Sets a known key. Returns false if the value of a known key is not a number.
fn set(io: &mut DeviceIo, key: &[u8], value: &[u8]) -> bool {
    let slot = match key {
        b"rbytes" => &mut io.read_bytes,
        b"wbytes" => &mut io.write_bytes,
        b"rios" => &mut io.reads,
        b"wios" => &mut io.writes,
        _ => return true,
    };
    *slot = parse::integer(value);
    slot.is_some()
}

/// The counter that a line of blkio.throttle.* adds to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// `Read`.
    Read,
    /// `Write`.
    Write,
}

/// Parses lines like `8:0 Read 1`. Skips other operations and the last line, `Total`. Calls `sink` with device,
/// operation and count. Returns whether every line was understood.
pub fn parse_blkio(data: &[u8], mut sink: impl FnMut(&[u8], Operation, u64)) -> bool {
    let mut understood = true;
    for line in parse::lines(data) {
        let mut words = parse::words(line);
        let (device, operation, count) = (words.next(), words.next(), words.next());
        match (device, operation, count.and_then(parse::integer)) {
            (Some(b"Total" | b"(unknown)"), ..) | (None, ..) => {}
            (Some(device), Some(operation), Some(count)) if is_device(device) => match operation {
                b"Read" => sink(device, Operation::Read, count),
                b"Write" => sink(device, Operation::Write, count),
                _ => {}
            },
            _ => understood = false,
        }
    }
    understood
}

/// Whether `word` is `MAJOR:MINOR`.
fn is_device(word: &[u8]) -> bool {
    device_numbers(word).is_some()
}

/// Major and minor of `MAJOR:MINOR`.
#[must_use]
pub fn device_numbers(word: &[u8]) -> Option<(u32, u32)> {
    let colon = word.iter().position(|&byte| byte == b':')?;
    let number = |digits: &[u8]| u32::try_from(parse::integer(digits)?).ok();
    Some((number(word.get(..colon)?)?, number(word.get(colon + 1..)?)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    type Rows = Vec<(String, [Option<u64>; 4])>;

    fn io_stat(text: &str) -> (Rows, bool) {
        let mut got = Vec::new();
        let understood = parse_io_stat(text.as_bytes(), |device, io| {
            got.push((
                parse::text(device),
                [io.read_bytes, io.write_bytes, io.reads, io.writes],
            ));
        });
        (got, understood)
    }

    #[test]
    fn odd_lines_of_io_stat() {
        let full = "254:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6 cost.usage=7\n";
        let want = |device: &str, values| (vec![(device.to_owned(), values)], true);
        assert_eq!(
            io_stat(full),
            want("254:0", [Some(1), Some(2), Some(3), Some(4)])
        );
        let several = "7:7 7:6 7:5 7:4 rbytes=9 wbytes=8 rios=7 wios=6\n";
        assert_eq!(
            io_stat(several),
            want("7:4", [Some(9), Some(8), Some(7), Some(6)])
        );
        assert_eq!(
            io_stat("wios=1 8:0 rbytes=3\n"),
            want("8:0", [Some(3), None, None, Some(1)])
        );
        for nothing in ["(unknown) rbytes=1 wbytes=2\n", "8:0\n", "8:0 \n", ""] {
            assert_eq!(io_stat(nothing), (vec![], true), "{nothing:?}");
        }
        assert!(!io_stat("8:0 rbytes=x\n").1);
        assert!(!io_stat("8:0 nonsense\n").1);
    }

    #[test]
    fn blkio_takes_reads_and_writes_only() {
        let mut got = Vec::new();
        let text =
            b"8:0 Read 10\n8:0 Write 20\n8:0 Sync 5\n8:0 Total 30\n(unknown) Read 9\nTotal 30\n";
        assert!(parse_blkio(text, |device, operation, count| got.push((
            parse::text(device),
            operation,
            count
        ))));
        let device = || "8:0".to_owned();
        assert_eq!(
            got,
            [
                (device(), Operation::Read, 10),
                (device(), Operation::Write, 20)
            ]
        );
        assert!(!parse_blkio(b"8:0 Read\n", |_, _, _| {}));
    }

    proptest::proptest! {
        #[test]
        fn no_input_panics(data: Vec<u8>) {
            parse_io_stat(&data, |_, _| {});
            parse_blkio(&data, |_, _, _| {});
        }
    }
}
