//! Prometheus' XOR chunks (`tsdb/chunkenc/xor.go`, after Facebook's Gorilla), for readers that ask for them.

/// A bit string, most significant bit first.
#[derive(Default)]
struct Bits {
    bytes: Vec<u8>,
    /// Unused bits of the last byte.
    free: u32,
}

impl Bits {
    fn bit(&mut self, bit: bool) {
        self.bits(u64::from(bit), 1);
    }

    /// Appends the lowest `count` bits of `value`.
    fn bits(&mut self, value: u64, count: u32) {
        let mut left = count;
        while left > 0 {
            if self.free == 0 {
                self.bytes.push(0);
                self.free = 8;
            }
            let take = left.min(self.free);
            let part = (value >> (left - take)) & ((1 << take) - 1);
            if let Some(last) = self.bytes.last_mut() {
                *last |= (part << (self.free - take)) as u8;
            }
            self.free -= take;
            left -= take;
        }
    }

    fn uvarint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.bits(value & 0x7f | 0x80, 8);
            value >>= 7;
        }
        self.bits(value, 8);
    }

    fn varint(&mut self, value: i64) {
        self.uvarint(((value << 1) ^ (value >> 63)) as u64);
    }
}

/// The window of bits that changed with the previous value.
#[derive(Clone, Copy)]
struct Window {
    leading: u32,
    trailing: u32,
}

/// Encodes at most 65,535 samples.
pub(super) fn encode(timestamps_ms: &[i64], values: &[f64]) -> Vec<u8> {
    let count = timestamps_ms.len().min(values.len()) as u16;
    let mut out = Bits::default();
    out.bits(u64::from(count), 16);
    let mut window = None;
    let (mut time, mut delta, mut bits) = (0_i64, 0_i64, 0_u64);
    for (index, (&now, value)) in timestamps_ms.iter().zip(values).enumerate() {
        let now_bits = value.to_bits();
        match index {
            0 => {
                out.varint(now);
                out.bits(now_bits, 64);
            }
            1 => {
                delta = now.wrapping_sub(time);
                out.uvarint(delta as u64);
                write_value(&mut out, bits ^ now_bits, &mut window);
            }
            _ => {
                let now_delta = now.wrapping_sub(time);
                write_delta(&mut out, now_delta.wrapping_sub(delta));
                delta = now_delta;
                write_value(&mut out, bits ^ now_bits, &mut window);
            }
        }
        (time, bits) = (now, now_bits);
    }
    out.bytes
}

/// Writes a delta of deltas in the shortest of five forms.
fn write_delta(out: &mut Bits, change: i64) {
    let fits = |bits: u32| {
        let half = 1_i64 << (bits - 1);
        -(half - 1) <= change && change <= half
    };
    let (prefix, prefix_bits, bits) = if change == 0 {
        (0b0, 1, 0)
    } else if fits(14) {
        (0b10, 2, 14)
    } else if fits(17) {
        (0b110, 3, 17)
    } else if fits(20) {
        (0b1110, 4, 20)
    } else {
        (0b1111, 4, 64)
    };
    out.bits(prefix, prefix_bits);
    out.bits(change as u64, bits);
}

fn write_value(out: &mut Bits, change: u64, window: &mut Option<Window>) {
    out.bit(change != 0);
    if change == 0 {
        return;
    }
    // Five bits hold the number of leading zeros.
    let leading = change.leading_zeros().min(31);
    let trailing = change.trailing_zeros();
    if let Some(last) = window
        && leading >= last.leading
        && trailing >= last.trailing
    {
        out.bit(false);
        out.bits(change >> last.trailing, 64 - last.leading - last.trailing);
        return;
    }
    let significant = 64 - leading - trailing;
    out.bit(true);
    out.bits(u64::from(leading), 5);
    // Six bits can't hold 64; readers take 0 for it.
    out.bits(u64::from(significant), 6);
    out.bits(change >> trailing, significant);
    *window = Some(Window { leading, trailing });
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Decodes the format as described upstream, independently of the encoder.
    struct Reader<'a>(&'a [u8], usize);

    impl Reader<'_> {
        fn bits(&mut self, count: u32) -> u64 {
            (0..count).fold(0, |sum, _| {
                let bit = self.0[self.1 / 8] >> (7 - self.1 % 8) & 1;
                self.1 += 1;
                sum << 1 | u64::from(bit)
            })
        }

        fn uvarint(&mut self) -> u64 {
            let mut sum = 0;
            for shift in (0..).step_by(7) {
                let byte = self.bits(8);
                sum |= (byte & 0x7f) << shift;
                if byte < 0x80 {
                    return sum;
                }
            }
            unreachable!("a varint ends")
        }

        fn signed(&mut self, bits: u32) -> i64 {
            let value = self.bits(bits);
            // Ranges include their upper end, not the lower: 1 followed by zeros is positive.
            if value > 1 << (bits - 1) {
                (value | u64::MAX << bits) as i64
            } else {
                value as i64
            }
        }
    }

    fn decode(data: &[u8]) -> (Vec<i64>, Vec<u64>) {
        let mut r = Reader(data, 0);
        let count = r.bits(16);
        let (mut times, mut values) = (Vec::new(), Vec::new());
        let (mut delta, mut leading, mut trailing) = (0_i64, 0, 0);
        for index in 0..count {
            if index == 0 {
                let zigzag = r.uvarint();
                times.push((zigzag >> 1) as i64 ^ -((zigzag & 1) as i64));
                values.push(r.bits(64));
                continue;
            }
            let last = *times.last().unwrap();
            if index == 1 {
                delta = r.uvarint() as i64;
            } else {
                let ones = (0..4).take_while(|_| r.bits(1) == 1).count();
                delta += match ones {
                    0 => 0,
                    1 => r.signed(14),
                    2 => r.signed(17),
                    3 => r.signed(20),
                    _ => r.bits(64) as i64,
                };
            }
            times.push(last + delta);
            let mut value = *values.last().unwrap();
            if r.bits(1) == 1 {
                if r.bits(1) == 1 {
                    leading = r.bits(5) as u32;
                    let significant = match r.bits(6) as u32 {
                        0 => 64,
                        bits => bits,
                    };
                    trailing = 64 - leading - significant;
                }
                value ^= r.bits(64 - leading - trailing) << trailing;
            }
            values.push(value);
        }
        (times, values)
    }

    #[test]
    fn samples_survive_a_round_trip_to_the_bit() {
        let times = [
            -5, 10_000, 20_000, 30_001, 38_192, 50_000, 200_000, 900_000, 10_000_000, 10_000_001,
        ];
        let values = [
            0.0,
            0.0,
            1.5,
            -1.5,
            f64::from_bits(0x7ff0_0000_0000_0002),
            f64::MAX,
            5e-324,
            -0.0,
            f64::from_bits(u64::MAX),
            1.0,
        ];
        let (got_times, got_values) = decode(&encode(&times, &values));
        assert_eq!(got_times, times);
        assert_eq!(got_values, values.map(f64::to_bits));
    }
}
