//! The reference that rows of a group are encoded against: the group's values at a row that the log holds twice.
//!
//! A row stores how much each value differs from the one predicted by its column's *key*. Keys come from *key rows*,
//! which are written every few rows. The record of a key row is written a second time before any row is encoded against
//! it. So a damaged record costs only its own rows, even though no row stores full values. A key row is itself encoded
//! against the previous keys, unless it is the first row of a log that must be readable from there on.
//!
//! **Invariant:** writer and reader change a reference by nothing but key rows, in the order of the log, so both come to
//! the same numbers; all arithmetic wraps or saturates the same way everywhere.

use crate::bytes::{unzigzag, zigzag};
use crate::codec::decimal::{EXPONENT_MAX, POWERS, from_whole, to_whole};
use crate::head::group::COLUMNS_MAX;

/// The column has no key yet.
const NOTHING: u8 = 0xff;
/// The key is the bits of a float that is not a short decimal number.
const FLOAT: u8 = 0x7f;
/// Added to the exponent of a column that changes steadily; its predicted value follows its slope.
const SLOPED: u8 = 0x40;
const EXPONENT: u8 = 0x3f;

/// The keys of a group's columns.
#[derive(Debug, Clone, Default)]
pub(crate) struct Reference {
    /// Increases with each key row, even across resets; rows refer to it.
    number: u64,
    time_ms: i64,
    /// Time from the previous key row to the last one.
    span_ms: i64,
    /// The key of each column: a whole number, or the bits of a float.
    keys: Vec<i64>,
    /// How far each column moved in the last span.
    slopes: Vec<f32>,
    /// For each column [`NOTHING`], [`FLOAT`], or an exponent with or without [`SLOPED`].
    kinds: Vec<u8>,
}

/// The reference at a point in time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct At {
    /// Number of spans since the last key row.
    factor: f64,
}

impl Reference {
    /// Returns the number of the last key row; 0 before the first.
    pub(crate) const fn number(&self) -> u64 {
        self.number
    }

    /// Whether there are no keys.
    pub(crate) const fn is_empty(&self) -> bool {
        self.kinds.is_empty()
    }

    /// Returns the timestamp of the last key row.
    pub(crate) const fn time_ms(&self) -> i64 {
        self.time_ms
    }

    /// Forgets all keys, so that later rows can be read without earlier ones. `skip` is how many key row numbers to
    /// skip: more than a damaged log may have lost.
    pub(crate) fn reset(&mut self, skip: u64) {
        *self = Self {
            number: self.number.saturating_add(skip),
            ..Self::default()
        };
    }

    /// Returns the reference at a point in time.
    pub(crate) fn at(&self, time_ms: i64) -> At {
        let factor = match self.span_ms {
            0 => 0.0,
            span => time_ms.wrapping_sub(self.time_ms) as f64 / span as f64,
        };
        At { factor }
    }

    #[inline]
    fn expected(&self, at: At, column: usize, kind: u8) -> i64 {
        let key = self.keys[column];
        if kind != FLOAT && kind & SLOPED != 0 {
            key.wrapping_add((at.factor * f64::from(self.slopes[column])) as i64)
        } else {
            key
        }
    }

    /// Returns how much a value differs from the predicted one; `None` if the column's key can't express it.
    #[inline]
    pub(crate) fn difference(&self, at: At, column: u32, bits: u64) -> Option<u64> {
        let column = column as usize;
        let kind = *self.kinds.get(column)?;
        let own = match kind {
            NOTHING => return None,
            FLOAT => bits as i64,
            decimal => to_whole(bits, decimal & EXPONENT)?,
        };
        Some(zigzag(own.wrapping_sub(self.expected(at, column, kind))))
    }

    /// Returns the value for a difference, as the inverse of [`Self::difference`]; `None` if the column has no key,
    /// which no writer produces.
    #[inline]
    pub(crate) fn value(&self, at: At, column: u32, difference: u64) -> Option<u64> {
        let column = column as usize;
        let kind = *self.kinds.get(column)?;
        if kind == NOTHING {
            return None;
        }
        let own = self
            .expected(at, column, kind)
            .wrapping_add(unzigzag(difference));
        match kind {
            FLOAT => Some(own as u64),
            0 | SLOPED => Some((own as f64).to_bits()),
            decimal => {
                let power = POWERS.get(usize::from(decimal & EXPONENT))?;
                Some(from_whole(own, *power).to_bits())
            }
        }
    }

    /// Adopts the values of a key row as keys.
    pub(crate) fn take(
        &mut self,
        number: u64,
        time_ms: i64,
        cells: impl Iterator<Item = (u32, u64)>,
    ) {
        // Several rows with the same timestamp, each with some of the columns, count as one.
        if time_ms != self.time_ms || self.kinds.is_empty() {
            self.span_ms = match self.kinds.is_empty() {
                true => 0,
                false => time_ms.wrapping_sub(self.time_ms),
            };
            self.time_ms = time_ms;
        }
        self.number = number;
        for (column, bits) in cells {
            self.take_one(column as usize, bits);
        }
    }

    fn take_one(&mut self, column: usize, bits: u64) {
        // A staleness marker does not predict the following values.
        if !f64::from_bits(bits).is_finite() || column >= COLUMNS_MAX as usize {
            return;
        }
        if column >= self.kinds.len() {
            self.keys.resize(column + 1, 0);
            self.slopes.resize(column + 1, 0.0);
            self.kinds.resize(column + 1, NOTHING);
        }
        let before = self.kinds[column];
        if before == FLOAT {
            self.keys[column] = bits as i64;
            return;
        }
        let least = if before == NOTHING {
            0
        } else {
            before & EXPONENT
        };
        let found = (least..=EXPONENT_MAX).find_map(|e| Some((e, to_whole(bits, e)?)));
        let Some((exponent, whole)) = found else {
            (self.kinds[column], self.keys[column]) = (FLOAT, bits as i64);
            return;
        };
        if before == NOTHING || exponent != least {
            (self.kinds[column], self.keys[column]) = (exponent, whole);
            self.slopes[column] = 0.0;
            return;
        }
        let slope = whole.wrapping_sub(self.keys[column]) as f32;
        let is_even = (slope - self.slopes[column]).abs() * 2.0 < slope.abs();
        self.kinds[column] = exponent | if is_even { SLOPED } else { 0 };
        self.slopes[column] = slope;
        self.keys[column] = whole;
    }

    /// Returns the memory used, in bytes.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.keys.capacity() * 8 + self.slopes.capacity() * 4 + self.kinds.capacity()
    }
}
