//! Codec of the values of a tick, encoded against the previous tick.
//!
//! For each `series_ref`, both ends keep the last value, the scale (the power of ten at which the value is an integer) and
//! the last operation. A tick has a two-bit operation per series: absent, unchanged, another integer at the same scale, or
//! anything else. Counters of nanoseconds and of hundredths are integers at a scale, so a small difference is sent. The
//! operations are combined with those of the previous tick, which leaves mostly zeros.
//!
//! The state also includes the last payload, the dictionary of the next one (see [`super::compress`]).
//!
//! Layout of a tick: version, number of series, two bits each, then the data of the changed series by ascending
//! `series_ref`. The whole is compressed (see [`super::compress`]).

use super::WireError;
use super::compress::{Compressor, decompress};
use super::varint::{self, Reader, unzigzag, zigzag};

/// First byte of a payload.
const LAYOUT: u8 = 1;

const ABSENT: u8 = 0;
const SAME: u8 = 1;
const STEP: u8 = 2;
const OTHER: u8 = 3;

/// Scale of a value that is not an integer at any scale.
const NO_SCALE: u8 = 0xff;
/// Largest scale: nanoseconds in a float of seconds.
const SCALE_MAX: u8 = 9;
const POWERS: [f64; SCALE_MAX as usize + 1] = [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9];
/// Bound of scaled integers, so that differences can't overflow.
const INTEGER_MAX: f64 = (1u64 << 62) as f64;

/// The codec's state after a tick, the same on both ends.
///
/// Invariant: the three vectors have the same length, and a value with a scale is finite.
#[derive(Debug, Clone, Default)]
pub struct TickState {
    values: Vec<f64>,
    scales: Vec<u8>,
    ops: Vec<u8>,
    /// The last payload before compression, the dictionary of the next one.
    previous: Vec<u8>,
    /// The payload being encoded or decoded; kept for its allocation.
    raw: Vec<u8>,
    /// Data of the changed series, appended after the operations.
    tail: Vec<u8>,
}

impl PartialEq for TickState {
    /// Compares, by bits, everything that the next tick depends on.
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
    /// Returns the number of series in the state; each `series_ref` is below it.
    #[must_use]
    pub const fn capacity(&self) -> usize {
        self.values.len()
    }

    /// Resets the state of a series that the schema adds.
    pub fn define(&mut self, series_ref: u32) {
        let index = series_ref as usize;
        if index >= self.values.len() {
            self.values.resize(index + 1, 0.0);
            self.scales.resize(index + 1, 0);
            self.ops.resize(index + 1, ABSENT);
        }
        self.values[index] = 0.0;
        self.scales[index] = 0;
        self.ops[index] = ABSENT;
    }

    /// Clears the state but keeps its allocations.
    pub fn clear(&mut self) {
        self.values.clear();
        self.scales.clear();
        self.ops.clear();
        self.previous.clear();
    }

    /// Encodes the next tick without a dictionary, for a receiver that starts from the base.
    pub fn forget_dictionary(&mut self) {
        self.previous.clear();
    }

    /// Appends the payload of a tick to `out` and updates the state. `tick` contains the present values by ascending
    /// `series_ref`; each must be defined.
    ///
    /// Does not allocate once its buffers are large enough.
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
                .next_if(|&(series_ref, _)| (series_ref as usize) < index)
                .is_some()
            {}
            let op = match tick.next_if(|&(series_ref, _)| series_ref as usize == index) {
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
        // Once a value had no scale, only a whole number gives it one again: a full search takes ten divisions.
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

    /// Decodes the payload of a tick into `tick`, by ascending `series_ref`, replacing its content.
    ///
    /// # Errors
    /// The payload is damaged or has undefined series. The state must not be used afterwards.
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
        let count = reader.varint("number of series")?;
        if count != self.values.len() as u64 {
            let what = "values of undefined series";
            return Err(WireError::Bad { what });
        }
        Ok(self.values.len())
    }

    fn read_step(&mut self, index: usize, reader: &mut Reader<'_>) -> Result<(), WireError> {
        let scale = self.scales[index];
        if scale == NO_SCALE {
            let what = "difference to a value without a scale";
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
                let (what, tag) = ("scale", u32::from(scale));
                return Err(WireError::Unknown { what, tag });
            }
        };
        self.scales[index] = scale;
        Ok(())
    }

    /// Appends the payload of [`super::Frame::Base`]: the state that the next tick is encoded against.
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

    /// Replaces the state with the payload of [`super::Frame::Base`], which may include unused `series_ref`s.
    ///
    /// # Errors
    /// The payload is damaged, or has fewer series than were defined or more than `capacity_max`. The state must not be used
    /// afterwards.
    pub fn decode_base(&mut self, payload: &[u8], capacity_max: usize) -> Result<(), WireError> {
        let mut raw = std::mem::take(&mut self.raw);
        decompress(payload, None, &mut raw)?;
        let mut reader = Reader::new(&raw);
        check_layout(&mut reader)?;
        let count = reader.varint_u32("number of series")? as usize;
        if count < self.values.len() || count > capacity_max {
            let what = "base of undefined series";
            return Err(WireError::Bad { what });
        }
        self.values.resize(count, 0.0);
        self.scales.resize(count, 0);
        self.ops.resize(count, ABSENT);
        self.ops.copy_from_slice(reader.bytes(count, "operations")?);
        self.scales.copy_from_slice(reader.bytes(count, "scales")?);
        let bad_scale = |&scale: &u8| scale > SCALE_MAX && scale != NO_SCALE;
        known("operation", self.ops.iter().find(|&&op| op > OTHER))?;
        known("scale", self.scales.iter().find(|&scale| bad_scale(scale)))?;
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
    let layout = reader.byte("layout")?;
    known(
        "layout of samples",
        Some(&layout).filter(|&&it| it != LAYOUT),
    )
}

/// Refuses a byte that this version does not know.
fn known(what: &'static str, unknown: Option<&u8>) -> Result<(), WireError> {
    unknown.map_or(Ok(()), |&tag| {
        let tag = u32::from(tag);
        Err(WireError::Unknown { what, tag })
    })
}

fn power(scale: u8) -> f64 {
    POWERS.get(usize::from(scale)).copied().unwrap_or(1.0)
}

/// Returns the integer that represents `value` at `scale`, if it restores every bit.
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

/// Returns the integer that a difference refers to. Both ends compute it from the same float with exactly rounded
/// operations, so they agree even if it does not restore every bit.
fn nearest(value: f64, scale: u8) -> i64 {
    (value * power(scale)).round_ties_even() as i64
}

/// Appends 64 bits without the zero bytes at both ends: one nibble with the number of omitted low bytes, one with the number
/// of bytes that follow, then these bytes.
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
