//! Variable-length integers, and a bounds-checked reader.

use super::WireError;

/// Appends `value` in LEB128: seven bits per byte, lowest first.
pub fn put(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Maps integers of small magnitude to small unsigned integers.
#[must_use]
pub const fn zigzag(value: i64) -> u64 {
    (value.cast_unsigned() << 1) ^ (value >> 63).cast_unsigned()
}

/// The inverse of [`zigzag`].
#[must_use]
pub const fn unzigzag(value: u64) -> i64 {
    (value >> 1).cast_signed() ^ -((value & 1).cast_signed())
}

/// Reads a slice from front to back.
#[derive(Debug, Clone, Copy)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Creates a reader at the start of `bytes`.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Returns the unread bytes.
    #[must_use]
    pub const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Reads `len` bytes.
    ///
    /// # Errors
    /// Fewer bytes are left; `what` describes them in the error.
    pub fn bytes(&mut self, len: usize, what: &'static str) -> Result<&'a [u8], WireError> {
        let (bytes, rest) = self
            .rest
            .split_at_checked(len)
            .ok_or(WireError::Truncated { what })?;
        self.rest = rest;
        Ok(bytes)
    }

    /// Reads `N` bytes.
    ///
    /// # Errors
    /// Fewer bytes are left.
    pub fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], WireError> {
        let (bytes, rest) = self
            .rest
            .split_first_chunk()
            .ok_or(WireError::Truncated { what })?;
        self.rest = rest;
        Ok(*bytes)
    }

    /// Reads a byte.
    ///
    /// # Errors
    /// No byte is left.
    pub fn byte(&mut self, what: &'static str) -> Result<u8, WireError> {
        Ok(self.array::<1>(what)?[0])
    }

    /// Reads an integer written by [`put`].
    ///
    /// # Errors
    /// It is truncated or exceeds 64 bits.
    pub fn varint(&mut self, what: &'static str) -> Result<u64, WireError> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte(what)?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                break;
            }
            value |= bits << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(WireError::Bad { what })
    }

    /// Reads an integer written by [`put`], up to 32 bits.
    ///
    /// # Errors
    /// It is truncated or exceeds 32 bits.
    pub fn varint_u32(&mut self, what: &'static str) -> Result<u32, WireError> {
        u32::try_from(self.varint(what)?).map_err(|_| WireError::Bad { what })
    }

    /// Reads a string written by [`put_str`].
    ///
    /// # Errors
    /// It is truncated or not UTF-8.
    pub fn str(&mut self, what: &'static str) -> Result<&'a str, WireError> {
        let len = self.varint_u32(what)? as usize;
        std::str::from_utf8(self.bytes(len, what)?).map_err(|_| WireError::Bad { what })
    }
}

/// Appends a string with a length prefix.
pub fn put_str(out: &mut Vec<u8>, text: &str) {
    put(out, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn numbers_come_back(value: u64, signed: i64) {
            let mut bytes = Vec::new();
            put(&mut bytes, value);
            let mut reader = Reader::new(&bytes);
            prop_assert_eq!(reader.varint("x").unwrap(), value);
            prop_assert!(reader.rest().is_empty());
            prop_assert_eq!(unzigzag(zigzag(signed)), signed);
            for len in 0..bytes.len() {
                prop_assert!(Reader::new(&bytes[..len]).varint("x").is_err());
            }
        }
    }

    #[test]
    fn number_beyond_64_bits_is_refused() {
        let mut bytes = [0xff; 10];
        bytes[9] = 0x01;
        assert_eq!(Reader::new(&bytes).varint("x").unwrap(), u64::MAX);
        bytes[9] = 0x02;
        assert!(Reader::new(&bytes).varint("x").is_err());
        assert!(Reader::new(&[0x80; 20]).varint("x").is_err());
    }
}
