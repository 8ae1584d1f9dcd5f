//! Reads protobuf messages in place: builds no message, copies nothing, and never reads beyond the input.

/// Why bytes are not a valid protobuf message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum ProtobufError {
    #[error("message ends early")]
    Truncated,
    #[error("number is longer than 64 bits")]
    Overlong,
    #[error("wire type {0} is not supported")]
    WireType(u8),
    #[error("field {0} has the wrong type")]
    FieldType(u64),
}

/// The value of a field.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Value<'a> {
    Varint(u64),
    Fixed64(u64),
    Bytes(&'a [u8]),
    Fixed32(u32),
}

impl<'a> Value<'a> {
    /// Returns the bytes of a string, bytes or message field.
    pub(super) const fn bytes(self, field: u64) -> Result<&'a [u8], ProtobufError> {
        match self {
            Value::Bytes(bytes) => Ok(bytes),
            _ => Err(ProtobufError::FieldType(field)),
        }
    }

    /// Returns a `double`.
    pub(super) const fn double(self, field: u64) -> Result<f64, ProtobufError> {
        match self {
            Value::Fixed64(bits) => Ok(f64::from_bits(bits)),
            _ => Err(ProtobufError::FieldType(field)),
        }
    }

    /// Returns an `int64`, `uint32` or enum.
    pub(super) const fn varint(self, field: u64) -> Result<u64, ProtobufError> {
        match self {
            Value::Varint(value) => Ok(value),
            _ => Err(ProtobufError::FieldType(field)),
        }
    }
}

/// The fields of a message, in order.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    pub(super) const fn new(message: &'a [u8]) -> Self {
        Self { rest: message }
    }

    /// Returns how many bytes are left.
    pub(super) const fn remaining(&self) -> usize {
        self.rest.len()
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], ProtobufError> {
        let (head, rest) = self
            .rest
            .split_at_checked(count)
            .ok_or(ProtobufError::Truncated)?;
        self.rest = rest;
        Ok(head)
    }

    fn varint(&mut self) -> Result<u64, ProtobufError> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let (&byte, rest) = self.rest.split_first().ok_or(ProtobufError::Truncated)?;
            self.rest = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(ProtobufError::Overlong)
    }

    /// Returns the next field's number and value; `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<(u64, Value<'a>)>, ProtobufError> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let key = self.varint()?;
        let value = match (key & 7) as u8 {
            0 => Value::Varint(self.varint()?),
            1 => Value::Fixed64(u64::from_le_bytes(self.array()?)),
            2 => {
                let length = usize::try_from(self.varint()?);
                Value::Bytes(self.take(length.map_err(|_| ProtobufError::Truncated)?)?)
            }
            5 => Value::Fixed32(u32::from_le_bytes(self.array()?)),
            other => return Err(ProtobufError::WireType(other)),
        };
        Ok(Some((key >> 3, value)))
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], ProtobufError> {
        let (array, rest) = self
            .rest
            .split_first_chunk()
            .ok_or(ProtobufError::Truncated)?;
        self.rest = rest;
        Ok(*array)
    }
}

/// Appends the numbers of a repeated `uint32`, packed or not.
pub(super) fn push_packed(
    to: &mut Vec<u32>,
    field: u64,
    value: Value<'_>,
) -> Result<(), ProtobufError> {
    let wrong = |_| ProtobufError::FieldType(field);
    match value {
        Value::Varint(one) => to.push(u32::try_from(one).map_err(wrong)?),
        Value::Bytes(packed) => {
            let mut numbers = Fields::new(packed);
            while !numbers.rest.is_empty() {
                to.push(u32::try_from(numbers.varint()?).map_err(wrong)?);
            }
        }
        _ => return Err(ProtobufError::FieldType(field)),
    }
    Ok(())
}
