//! One column: the transformation that makes its values small, and its inverse.
//!
//! ```text
//! description: kind u8 | presence | values varint, unless presence is "all" |
//!   constant:  bits u64
//!   whole:     exponent u8 | width u8 | first zigzag varint | [second order: first difference] | exceptions
//!   float:     width u8 | first bits u64
//! exceptions:  count varint, { index difference varint, bits u64 }*
//! ```
//! A value that does not fit the transformation, such as a NaN among counters, is an exception. The planes repeat the
//! previous number in its place.

use crate::bytes::{Malformed, Reader, put_varint, unzigzag, zigzag};

use super::decimal::{EXPONENT_MAX, POWERS, common_exponent, from_whole, to_whole};

const CONSTANT: u8 = 0;
const WHOLE_1: u8 = 1;
const WHOLE_2: u8 = 2;
const FLOAT: u8 = 3;

/// The description of a column, which precedes its planes.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Description {
    /// All values have these bits.
    Constant { bits: u64 },
    /// First- or second-order differences of integers.
    Whole {
        exponent: u8,
        width: u8,
        first: i64,
        /// The first difference, if the planes have second-order differences.
        slope: Option<i64>,
        exceptions: Vec<(u32, u64)>,
    },
    /// Differences of the bits.
    Float { width: u8, first: u64 },
}

impl Description {
    /// Returns the number of planes with bytes of the column.
    pub(super) const fn width(&self) -> u8 {
        match self {
            Self::Constant { .. } => 0,
            Self::Whole { width, .. } | Self::Float { width, .. } => *width,
        }
    }

    /// Returns how many numbers each of its planes has for `count` values.
    pub(super) const fn planed(&self, count: usize) -> usize {
        match self {
            Self::Constant { .. } => 0,
            Self::Whole { slope: Some(_), .. } => count.saturating_sub(2),
            Self::Whole { .. } | Self::Float { .. } => count.saturating_sub(1),
        }
    }
}

/// Memory for encoding, reused between columns.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    whole: Vec<i64>,
    /// The numbers for the planes.
    pub(super) numbers: Vec<u64>,
}

/// Writes the description of the column to `to` and the numbers for the planes to `scratch`. Returns their width in bytes.
/// `values` is not empty.
pub(super) fn encode(values: &[u64], scratch: &mut Scratch, to: &mut Vec<u8>) -> u8 {
    scratch.numbers.clear();
    let first = values[0];
    if values.iter().all(|&bits| bits == first) {
        to.push(CONSTANT);
        to.extend_from_slice(&first.to_le_bytes());
        return 0;
    }
    if let Some(exponent) = all_whole(values, &mut scratch.whole) {
        return put_whole(exponent, &[], scratch, to);
    }
    let misfits_max = values.len() / 16 + 1;
    match common_exponent(values, misfits_max) {
        Some(exponent) => encode_whole(values, exponent, scratch, to),
        None => encode_float(values, scratch, to),
    }
}

/// Fills `whole` if the exponent of the first value suits all values.
fn all_whole(values: &[u64], whole: &mut Vec<i64>) -> Option<u8> {
    let first = *values.first()?;
    let exponent = (0..=EXPONENT_MAX).find(|&e| to_whole(first, e).is_some())?;
    whole.clear();
    for &bits in values {
        whole.push(to_whole(bits, exponent)?);
    }
    Some(exponent)
}

fn bytes_for(numbers: &[u64]) -> u8 {
    let all = numbers.iter().fold(0, |all, &one| all | one);
    (64 - all.leading_zeros()).div_ceil(8) as u8
}

/// Returns the bits of the numbers without leading zeroes, which decide between first- and second-order differences.
fn cost(numbers: impl Iterator<Item = u64>) -> u64 {
    numbers.map(|one| u64::from(64 - one.leading_zeros())).sum()
}

fn encode_whole(values: &[u64], exponent: u8, scratch: &mut Scratch, to: &mut Vec<u8>) -> u8 {
    let mut exceptions: Vec<(u32, u64)> = Vec::new();
    scratch.whole.clear();
    let mut before = values
        .iter()
        .find_map(|&bits| to_whole(bits, exponent))
        .unwrap_or(0);
    for (index, &bits) in values.iter().enumerate() {
        match to_whole(bits, exponent) {
            Some(whole) => before = whole,
            None => exceptions.push((index as u32, bits)),
        }
        scratch.whole.push(before);
    }
    put_whole(exponent, &exceptions, scratch, to)
}

/// Describes the column of `scratch.whole`.
fn put_whole(
    exponent: u8,
    exceptions: &[(u32, u64)],
    scratch: &mut Scratch,
    to: &mut Vec<u8>,
) -> u8 {
    let whole = &scratch.whole;
    // All of them are below 2^53, so second-order differences fit an i64.
    let first_order = || whole.windows(2).map(|w| w[1] - w[0]);
    let second_order = || whole.windows(3).map(|w| w[2] - 2 * w[1] + w[0]);
    let is_second =
        whole.len() > 2 && cost(second_order().map(zigzag)) < cost(first_order().map(zigzag));
    if is_second {
        scratch.numbers.extend(second_order().map(zigzag));
    } else {
        scratch.numbers.extend(first_order().map(zigzag));
    }
    let width = bytes_for(&scratch.numbers);
    to.extend_from_slice(&[if is_second { WHOLE_2 } else { WHOLE_1 }, exponent, width]);
    put_varint(to, zigzag(whole[0]));
    if is_second {
        put_varint(to, zigzag(whole[1] - whole[0]));
    }
    put_varint(to, exceptions.len() as u64);
    let mut next = 0;
    for &(index, bits) in exceptions {
        put_varint(to, u64::from(index - next));
        to.extend_from_slice(&bits.to_le_bytes());
        next = index;
    }
    width
}

fn encode_float(values: &[u64], scratch: &mut Scratch, to: &mut Vec<u8>) -> u8 {
    let differences = values
        .windows(2)
        .map(|w| zigzag(w[1].wrapping_sub(w[0]) as i64));
    scratch.numbers.extend(differences);
    let width = bytes_for(&scratch.numbers);
    to.extend_from_slice(&[FLOAT, width]);
    to.extend_from_slice(&values[0].to_le_bytes());
    width
}

/// Reads a description. `count`: values of the column.
///
/// # Errors
/// The bytes are not a description.
pub(super) fn read(reader: &mut Reader<'_>, count: usize) -> Result<Description, Malformed> {
    let kind = reader.u8()?;
    match kind {
        CONSTANT => Ok(Description::Constant {
            bits: reader.u64()?,
        }),
        WHOLE_1 | WHOLE_2 => {
            let exponent = reader.u8()?;
            let width = reader.u8()?;
            let first = reader.signed()?;
            let slope = (kind == WHOLE_2).then(|| reader.signed()).transpose()?;
            if exponent > EXPONENT_MAX || width > 8 || (slope.is_some() && count < 2) {
                return Err(Malformed);
            }
            let exceptions = read_exceptions(reader, count)?;
            Ok(Description::Whole {
                exponent,
                width,
                first,
                slope,
                exceptions,
            })
        }
        FLOAT => {
            let width = reader.u8()?;
            let first = reader.u64()?;
            if width > 8 {
                return Err(Malformed);
            }
            Ok(Description::Float { width, first })
        }
        _ => Err(Malformed),
    }
}

fn read_exceptions(reader: &mut Reader<'_>, count: usize) -> Result<Vec<(u32, u64)>, Malformed> {
    let exceptions = reader.count(9)?;
    let mut list = Vec::with_capacity(exceptions);
    let mut index = 0_u32;
    for _ in 0..exceptions {
        index = index.checked_add(reader.varint_u32()?).ok_or(Malformed)?;
        if index as usize >= count {
            return Err(Malformed);
        }
        list.push((index, reader.u64()?));
    }
    Ok(list)
}

/// Decodes the values of a column from its numbers, and appends them to `to`.
pub(super) fn decode(description: &Description, count: usize, numbers: &[u64], to: &mut Vec<f64>) {
    match description {
        Description::Constant { bits } => to.resize(to.len() + count, f64::from_bits(*bits)),
        Description::Float { first, .. } => {
            let mut bits = *first;
            to.push(f64::from_bits(bits));
            to.extend(numbers.iter().map(|&number| {
                bits = bits.wrapping_add(unzigzag(number) as u64);
                f64::from_bits(bits)
            }));
        }
        Description::Whole {
            exponent,
            first,
            slope,
            exceptions,
            ..
        } => {
            let start = to.len();
            let power = POWERS[usize::from(*exponent)];
            if *exponent == 0 {
                decode_whole(*first, *slope, numbers, to, |whole| whole as f64);
            } else {
                decode_whole(*first, *slope, numbers, to, |whole| {
                    from_whole(whole, power)
                });
            }
            for &(index, bits) in exceptions {
                if let Some(value) = to.get_mut(start + index as usize) {
                    *value = f64::from_bits(bits);
                }
            }
        }
    }
}

fn decode_whole(
    first: i64,
    slope: Option<i64>,
    numbers: &[u64],
    to: &mut Vec<f64>,
    value: impl Fn(i64) -> f64,
) {
    let mut whole = first;
    to.push(value(whole));
    if let Some(mut slope) = slope {
        whole = whole.wrapping_add(slope);
        to.push(value(whole));
        to.extend(numbers.iter().map(|&number| {
            slope = slope.wrapping_add(unzigzag(number));
            whole = whole.wrapping_add(slope);
            value(whole)
        }));
    } else {
        to.extend(numbers.iter().map(|&number| {
            whole = whole.wrapping_add(unzigzag(number));
            value(whole)
        }));
    }
}
