//! The values of one tick, encoded against the tick before.
//!
//! Both ends keep for each number the value it had last, the power of ten at which that value is an integer,
//! and what it did last. A tick then says per number in two bits: absent, the same, another integer at that scale,
//! or anything else. Counters of nanoseconds and of hundredths are integers in that sense, so what travels for them is a
//! small difference. The two bits are combined with those of the tick before, which leaves mostly zeros.
//!
//! A payload that is the dictionary of the next one (see [`super::compress`]) is part of the state too.
//!
//! Layout of a tick: version, number of numbers, two bits each, then in order of the numbers what the changed ones
//! need. The whole is compressed (see [`super::compress`]).

use super::WireError;
use super::compress::{Compressor, decompress};
use super::varint::{self, Reader, unzigzag, zigzag};

/// First byte of a payload.
const LAYOUT: u8 = 1;

const ABSENT: u8 = 0;
const SAME: u8 = 1;
const STEP: u8 = 2;
const OTHER: u8 = 3;

/// The scale of a value that is an integer at none.
const NO_SCALE: u8 = 0xff;
/// Nanoseconds in a float of seconds.
const SCALE_MAX: u8 = 9;
const POWERS: [f64; SCALE_MAX as usize + 1] = [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9];
/// Beyond, differences could overflow.
const INTEGER_MAX: f64 = (1u64 << 62) as f64;

/// What both ends know of all numbers after a tick.
///
/// Invariant: the three columns are equally long; a value whose scale is not [`NO_SCALE`] is finite.
#[derive(Debug, Clone, Default)]
pub struct TickState {
    values: Vec<f64>,
    scales: Vec<u8>,
    ops: Vec<u8>,
    /// The last payload before compression: the next one's dictionary.
    previous: Vec<u8>,
    /// The payload being built or read; kept for its allocation.
    raw: Vec<u8>,
    /// What the changed numbers need, gathered behind the bits.
    tail: Vec<u8>,
}

impl PartialEq for TickState {
    /// Equal to the bit in what determines the meaning of the next tick.
    fn eq(&self, other: &Self) -> bool {
        let bits =
            |state: &Self| -> Vec<u64> { state.values.iter().map(|v| v.to_bits()).collect() };
        bits(self) == bits(other)
            && self.scales == other.scales
            && self.ops == other.ops
            && self.previous == other.previous
    }
}

impl TickState {
    /// Numbers below this one are known.
    #[must_use]
    pub const fn capacity(&self) -> usize {
        self.values.len()
    }

    /// Begins a number anew, as a schema that adds it demands.
    pub fn define(&mut self, number: u32) {
        let index = number as usize;
        if index >= self.values.len() {
            self.values.resize(index + 1, 0.0);
            self.scales.resize(index + 1, 0);
            self.ops.resize(index + 1, ABSENT);
        }
        self.values[index] = 0.0;
        self.scales[index] = 0;
        self.ops[index] = ABSENT;
    }

    /// Forgets everything; allocations are kept.
    pub fn clear(&mut self) {
        self.values.clear();
        self.scales.clear();
        self.ops.clear();
        self.previous.clear();
    }

    /// Lets the next tick do without the payload before it, as one needs who starts there with the base.
    pub fn forget_dictionary(&mut self) {
        self.previous.clear();
    }

    /// Appends one tick's payload to `out` and takes the tick over. `tick` holds the values there are by ascending,
    /// defined number; others are left out.
    ///
    /// Allocates nothing once its buffers are large enough.
    pub fn encode(
        &mut self,
        tick: impl IntoIterator<Item = (u32, f64)>,
        compressor: &mut Compressor,
        out: &mut Vec<u8>,
    ) {
        self.raw.clear();
        self.tail.clear();
        self.raw.push(LAYOUT);
        varint::put(&mut self.raw, self.values.len() as u64);
        let mut tick = tick.into_iter().peekable();
        let mut bits = 0;
        for index in 0..self.values.len() {
            while tick
                .next_if(|&(number, _)| (number as usize) < index)
                .is_some()
            {}
            let op = match tick.next_if(|&(number, _)| number as usize == index) {
                Some((_, value)) => self.encode_value(index, value),
                None => ABSENT,
            };
            bits |= (op ^ self.ops[index]) << (index % 4 * 2);
            self.ops[index] = op;
            if index % 4 == 3 {
                self.raw.push(bits);
                bits = 0;
            }
        }
        if !self.values.len().is_multiple_of(4) {
            self.raw.push(bits);
        }
        self.raw.extend_from_slice(&self.tail);
        compressor.compress(&self.raw, Some(&self.previous), out);
        std::mem::swap(&mut self.raw, &mut self.previous);
    }

    fn encode_value(&mut self, index: usize, value: f64) -> u8 {
        let last = std::mem::replace(&mut self.values[index], value);
        let scale = self.scales[index];
        if last.to_bits() == value.to_bits() {
            return SAME;
        }
        if let Some(integer) = integer_at(value, scale) {
            let step = integer.wrapping_sub(nearest(last, scale));
            varint::put(&mut self.tail, zigzag(step));
            return STEP;
        }
        // A value without scale goes back to one only as a whole number: the search costs ten divisions.
        let scales = if scale == NO_SCALE {
            0..=0
        } else {
            0..=SCALE_MAX
        };
        let found = scales
            .into_iter()
            .find_map(|scale| Some((scale, integer_at(value, scale)?)));
        if let Some((scale, integer)) = found {
            self.scales[index] = scale;
            self.tail.push(scale);
            varint::put(&mut self.tail, zigzag(integer));
        } else {
            self.scales[index] = NO_SCALE;
            self.tail.push(NO_SCALE);
            put_xor(&mut self.tail, value.to_bits() ^ last.to_bits());
        }
        OTHER
    }

    /// Reads one tick's payload into `tick`, by ascending number, in place of what it held.
    ///
    /// # Errors
    /// The payload is damaged or has numbers that were never defined. The state is then of no more use.
    pub fn decode(&mut self, payload: &[u8], tick: &mut Vec<(u32, f64)>) -> Result<(), WireError> {
        tick.clear();
        let mut raw = std::mem::take(&mut self.raw);
        decompress(payload, Some(&self.previous), &mut raw)?;
        let mut reader = Reader::new(&raw);
        let count = self.read_head(&mut reader)?;
        let ops = reader.bytes(count.div_ceil(4), "operations")?;
        for index in 0..count {
            let bits = ops[index / 4] >> (index % 4 * 2) & 3;
            let op = bits ^ self.ops[index];
            self.ops[index] = op;
            match op {
                ABSENT => continue,
                SAME => {}
                STEP => self.read_step(index, &mut reader)?,
                _ => self.read_other(index, &mut reader)?,
            }
            tick.push((index as u32, self.values[index]));
        }
        if !reader.rest().is_empty() {
            let bytes = reader.rest().len();
            return Err(WireError::Trailing { bytes });
        }
        self.raw = std::mem::replace(&mut self.previous, raw);
        Ok(())
    }

    fn read_head(&self, reader: &mut Reader<'_>) -> Result<usize, WireError> {
        check_layout(reader)?;
        let count = reader.varint("number of numbers")?;
        if count != self.values.len() as u64 {
            let what = "values for other numbers than were defined";
            return Err(WireError::Bad { what });
        }
        Ok(self.values.len())
    }

    fn read_step(&mut self, index: usize, reader: &mut Reader<'_>) -> Result<(), WireError> {
        let scale = self.scales[index];
        if scale == NO_SCALE {
            let what = "step of a value that is no integer";
            return Err(WireError::Bad { what });
        }
        let step = unzigzag(reader.varint("step")?);
        let integer = nearest(self.values[index], scale).wrapping_add(step);
        self.values[index] = integer as f64 / power(scale);
        Ok(())
    }

    fn read_other(&mut self, index: usize, reader: &mut Reader<'_>) -> Result<(), WireError> {
        let scale = reader.byte("scale")?;
        self.values[index] = match scale {
            0..=SCALE_MAX => unzigzag(reader.varint("integer")?) as f64 / power(scale),
            NO_SCALE => f64::from_bits(self.values[index].to_bits() ^ read_xor(reader)?),
            _ => {
                let what = "unknown scale";
                return Err(WireError::Bad { what });
            }
        };
        self.scales[index] = scale;
        Ok(())
    }

    /// Appends the payload of [`super::Frame::Base`]: all that the next tick is encoded against.
    pub fn encode_base(&mut self, compressor: &mut Compressor, out: &mut Vec<u8>) {
        self.raw.clear();
        self.raw.push(LAYOUT);
        varint::put(&mut self.raw, self.values.len() as u64);
        self.raw.extend_from_slice(&self.ops);
        self.raw.extend_from_slice(&self.scales);
        for (&value, &scale) in self.values.iter().zip(&self.scales) {
            match integer_at(value, scale) {
                Some(integer) => varint::put(&mut self.raw, zigzag(integer) << 1 | 1),
                None => {
                    self.raw.push(0);
                    self.raw.extend_from_slice(&value.to_le_bytes());
                }
            }
        }
        self.raw.extend_from_slice(&self.previous);
        compressor.compress(&self.raw, None, out);
    }

    /// Takes over the payload of [`super::Frame::Base`]. It may have more numbers than were defined: free ones.
    ///
    /// # Errors
    /// The payload is damaged, has fewer numbers than were defined, or more than `capacity_max`. The state is then of no more
    /// use.
    pub fn decode_base(&mut self, payload: &[u8], capacity_max: usize) -> Result<(), WireError> {
        let mut raw = std::mem::take(&mut self.raw);
        decompress(payload, None, &mut raw)?;
        let mut reader = Reader::new(&raw);
        check_layout(&mut reader)?;
        let count = reader.varint_u32("number of numbers")? as usize;
        if count < self.values.len() || count > capacity_max {
            let what = "base for other numbers than were defined";
            return Err(WireError::Bad { what });
        }
        self.values.resize(count, 0.0);
        self.scales.resize(count, 0);
        self.ops.resize(count, ABSENT);
        self.ops.copy_from_slice(reader.bytes(count, "operations")?);
        self.scales.copy_from_slice(reader.bytes(count, "scales")?);
        let bad_scale = |&scale: &u8| scale > SCALE_MAX && scale != NO_SCALE;
        if self.ops.iter().any(|&op| op > OTHER) || self.scales.iter().any(bad_scale) {
            let what = "unknown operation or scale";
            return Err(WireError::Bad { what });
        }
        for (value, &scale) in self.values.iter_mut().zip(&self.scales) {
            let head = reader.varint("value")?;
            *value = if head == 0 {
                f64::from_le_bytes(reader.array("value")?)
            } else if scale == NO_SCALE || head & 1 == 0 {
                let what = "integer without scale";
                return Err(WireError::Bad { what });
            } else {
                unzigzag(head >> 1) as f64 / power(scale)
            };
        }
        self.previous.clear();
        self.previous.extend_from_slice(reader.rest());
        self.raw = raw;
        Ok(())
    }
}

fn check_layout(reader: &mut Reader<'_>) -> Result<(), WireError> {
    if reader.byte("layout")? != LAYOUT {
        let what = "unknown layout of samples";
        return Err(WireError::Bad { what });
    }
    Ok(())
}

fn power(scale: u8) -> f64 {
    POWERS.get(usize::from(scale)).copied().unwrap_or(1.0)
}

/// The integer that stands for `value` at `scale`, if it gives back every bit of it.
fn integer_at(value: f64, scale: u8) -> Option<i64> {
    if scale > SCALE_MAX {
        return None;
    }
    let scaled = (value * power(scale)).round_ties_even();
    if scaled.is_nan() || scaled.abs() >= INTEGER_MAX {
        return None;
    }
    let integer = scaled as i64;
    ((integer as f64 / power(scale)).to_bits() == value.to_bits()).then_some(integer)
}

/// The integer that a step starts from. Both ends compute it from the same float with exactly rounded operations, so
/// they agree even where it would not give back every bit.
fn nearest(value: f64, scale: u8) -> i64 {
    (value * power(scale)).round_ties_even() as i64
}

/// Appends 64 bits without the zero bytes at both ends: two nibbles that say how many bytes are left out at the low end and
/// how many follow, then those.
fn put_xor(out: &mut Vec<u8>, bits: u64) {
    let low = (bits.trailing_zeros() / 8).min(7) as usize;
    let len = 8 - low - (bits.leading_zeros() / 8).min(8 - low as u32) as usize;
    out.push((low << 4 | len) as u8);
    out.extend_from_slice(&(bits >> (low * 8)).to_le_bytes()[..len]);
}

fn read_xor(reader: &mut Reader<'_>) -> Result<u64, WireError> {
    let head = reader.byte("float")?;
    let (low, len) = (usize::from(head >> 4), usize::from(head & 0xf));
    if low > 7 || low + len > 8 {
        let what = "float of more than eight bytes";
        return Err(WireError::Bad { what });
    }
    let mut bytes = [0; 8];
    bytes[..len].copy_from_slice(reader.bytes(len, "float")?);
    Ok(u64::from_le_bytes(bytes) << (low * 8))
}

#[cfg(test)]
mod tests;
