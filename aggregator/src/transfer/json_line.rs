//! One line of VictoriaMetrics' `/api/v1/export` and `/api/v1/import`:
//! `{"metric":{"__name__":"up"},"values":[1,null,"Infinity"],"timestamps":[1000,2000,3000]}`.
//!
//! A `null` is a staleness marker: VictoriaMetrics exports markers as `null` and stores no other NaN.
//! This store does keep other NaNs. Our lines therefore have one more field,
//! `nan_bits`, with the bits of each `null` in hexadecimal, so that every sample survives a round trip.
//! VictoriaMetrics ignores the field and drops each `null` on import.

use common::model::{Labels, LabelsBuilder, STALE_NAN, Sample};

use super::{BadLine, LineSamples, bad};
use crate::http::json;

/// Appends a line. `samples` is not empty.
pub fn write(to: &mut Vec<u8>, labels: &Labels, times_ms: &[i64], values: &[f64]) {
    to.extend_from_slice(b"{\"metric\":");
    json::labels(to, labels);
    to.extend_from_slice(b",\"values\":[");
    let mut nans = false;
    for (index, &value) in values.iter().enumerate() {
        if index > 0 {
            to.push(b',');
        }
        nans |= value.is_nan();
        if value.is_nan() {
            to.extend_from_slice(b"null");
        } else if value.is_infinite() {
            let text: &[u8] = if value > 0.0 {
                b"\"Infinity\""
            } else {
                b"\"-Infinity\""
            };
            to.extend_from_slice(text);
        } else {
            // Rust's shortest text that parses to the same float.
            to.extend_from_slice(format!("{value:?}").trim_end_matches(".0").as_bytes());
        }
    }
    to.extend_from_slice(b"],\"timestamps\":[");
    for (index, &time) in times_ms.iter().enumerate() {
        if index > 0 {
            to.push(b',');
        }
        if time < 0 {
            to.push(b'-');
        }
        json::integer(to, time.unsigned_abs());
    }
    to.push(b']');
    if nans {
        let bits = values.iter().filter(|value| value.is_nan());
        let bits: Vec<String> = bits
            .map(|value| format!("{:016x}", value.to_bits()))
            .collect();
        to.extend_from_slice(b",\"nan_bits\":[");
        for (index, bits) in bits.iter().enumerate() {
            if index > 0 {
                to.push(b',');
            }
            json::string(to, bits);
        }
        to.push(b']');
    }
    to.extend_from_slice(b"}\n");
}

/// Parses a line.
///
/// # Errors
/// The line does not have this form.
pub fn parse(line: &str) -> Result<LineSamples, BadLine> {
    let mut reader = Reader {
        rest: line.as_bytes(),
    };
    let (mut labels, mut values, mut times) = (None, Vec::new(), Vec::new());
    let mut nan_bits: Vec<u64> = Vec::new();
    reader.object(|reader, field| {
        match field {
            "metric" => labels = Some(reader.labels()?),
            "values" => reader.array(|reader| {
                values.push(reader.value()?);
                Ok(())
            })?,
            "timestamps" => reader.array(|reader| {
                times.push(reader.number::<i64>()?);
                Ok(())
            })?,
            "nan_bits" => reader.array(|reader| {
                let text = reader.string()?;
                let bits = u64::from_str_radix(&text, 16)
                    .map_err(|_| bad(format!("nan_bits {text:?} is not hexadecimal")))?;
                nan_bits.push(bits);
                Ok(())
            })?,
            _ => return Err(bad(format!("unknown field {field:?}"))),
        }
        Ok(())
    })?;
    reader.blank();
    if !reader.rest.is_empty() {
        return Err(bad("text after the object"));
    }
    let labels = labels.ok_or_else(|| bad("no metric"))?;
    if values.len() != times.len() {
        let (values, times) = (values.len(), times.len());
        return Err(bad(format!("{values} values for {times} timestamps")));
    }
    let mut bits = nan_bits.into_iter();
    let samples = times.into_iter().zip(values).map(|(timestamp_ms, value)| {
        let value = match value {
            Some(value) => value,
            None => {
                let bits = bits.next().map(f64::from_bits);
                bits.filter(|value| value.is_nan()).unwrap_or(STALE_NAN)
            }
        };
        Sample {
            timestamp_ms,
            value,
        }
    });
    Ok(LineSamples {
        samples: samples.collect(),
        labels,
    })
}

/// Parses the part of JSON that such a line uses. Numbers keep their last bit.
struct Reader<'l> {
    rest: &'l [u8],
}

impl Reader<'_> {
    fn blank(&mut self) {
        self.rest = self.rest.trim_ascii_start();
    }

    fn take(&mut self, byte: u8) -> bool {
        self.blank();
        match self.rest.split_first() {
            Some((&first, rest)) if first == byte => {
                self.rest = rest;
                true
            }
            _ => false,
        }
    }

    fn expect(&mut self, byte: u8) -> Result<(), BadLine> {
        if self.take(byte) {
            return Ok(());
        }
        let found = String::from_utf8_lossy(self.rest.get(..12).unwrap_or(self.rest)).into_owned();
        Err(bad(format!("{:?} expected before {found:?}", byte as char)))
    }

    fn list(
        &mut self,
        (open, close): (u8, u8),
        mut each: impl FnMut(&mut Self) -> Result<(), BadLine>,
    ) -> Result<(), BadLine> {
        self.expect(open)?;
        if self.take(close) {
            return Ok(());
        }
        loop {
            each(self)?;
            if self.take(close) {
                return Ok(());
            }
            self.expect(b',')?;
        }
    }

    fn array(&mut self, each: impl FnMut(&mut Self) -> Result<(), BadLine>) -> Result<(), BadLine> {
        self.list((b'[', b']'), each)
    }

    fn object(
        &mut self,
        mut each: impl FnMut(&mut Self, &str) -> Result<(), BadLine>,
    ) -> Result<(), BadLine> {
        self.list((b'{', b'}'), |reader| {
            let name = reader.string()?;
            reader.expect(b':')?;
            each(reader, &name)
        })
    }

    fn labels(&mut self) -> Result<Labels, BadLine> {
        let mut builder = LabelsBuilder::default();
        self.object(|reader, name| {
            let value = reader.string()?;
            builder.push(name, value);
            Ok(())
        })?;
        Ok(builder.build()?)
    }

    /// Takes the text up to the end of a number or word.
    fn word(&mut self) -> &str {
        self.blank();
        let ends = |byte: &u8| matches!(byte, b',' | b']' | b'}') || byte.is_ascii_whitespace();
        let end = self.rest.iter().position(ends).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        std::str::from_utf8(word).unwrap_or_default()
    }

    fn number<T: std::str::FromStr>(&mut self) -> Result<T, BadLine> {
        let word = self.word();
        word.parse()
            .map_err(|_| bad(format!("{word:?} is not a number")))
    }

    /// Parses a value. Returns `None` for `null` and the words for NaN.
    fn value(&mut self) -> Result<Option<f64>, BadLine> {
        self.blank();
        let word = match self.rest.first() {
            Some(b'"') => self.string()?,
            _ => self.word().to_owned(),
        };
        match word.trim_start_matches('-') {
            "null" | "Null" | "NaN" | "nan" => Ok(None),
            "Infinity" | "infinity" | "Inf" | "inf" => Ok(Some(if word.starts_with('-') {
                f64::NEG_INFINITY
            } else {
                f64::INFINITY
            })),
            _ => match word.parse::<f64>() {
                Ok(value) if value.is_finite() => Ok(Some(value)),
                _ => Err(bad(format!("{word:?} is not a value"))),
            },
        }
    }

    fn string(&mut self) -> Result<String, BadLine> {
        self.blank();
        // Only the end of the string is found here; the JSON library decodes it.
        let mut end = 1;
        loop {
            match self.rest.get(end) {
                Some(b'"') => break,
                Some(b'\\') => end += 2,
                Some(_) => end += 1,
                None => return Err(bad("string is not closed")),
            }
        }
        let (text, rest) = self.rest.split_at(end + 1);
        self.rest = rest;
        Ok(serde_json::from_slice(text)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_float_survives_to_the_bit() {
        let labels = Labels::from_pairs([("__name__", "a\"b"), ("x", "ü\n\\")]).unwrap();
        let values = [
            0.1,
            -0.0,
            1e300,
            5e-324,
            123_456_789.0,
            f64::INFINITY,
            f64::NEG_INFINITY,
            f64::NAN,
            STALE_NAN,
            1.0 / 3.0,
        ];
        let times: Vec<i64> = (-3..7).collect();
        let mut line = Vec::new();
        write(&mut line, &labels, &times, &values);
        let read = parse(std::str::from_utf8(&line).unwrap()).unwrap();
        assert_eq!(read.labels, labels);
        let samples = read.samples.iter();
        let got: Vec<_> = samples
            .map(|one| (one.timestamp_ms, one.value.to_bits()))
            .collect();
        let want: Vec<_> = times.into_iter().zip(values.map(f64::to_bits)).collect();
        assert_eq!(got, want);
    }

    #[test]
    fn null_without_bits_is_a_staleness_marker() {
        let line = r#"{"metric":{"__name__":"a"},"values":[1,null,"NaN"],"timestamps":[1,2,3]}"#;
        let samples = parse(line).unwrap().samples;
        let bits: Vec<u64> = samples.iter().map(|one| one.value.to_bits()).collect();
        let stale = STALE_NAN.to_bits();
        assert_eq!(bits, [1_f64.to_bits(), stale, stale]);
    }

    #[test]
    fn bad_lines_say_what_is_wrong() {
        for (line, want) in [
            ("", "'{' expected"),
            ("{\"values\":[1],\"timestamps\":[1]}", "no metric"),
            (
                "{\"metric\":{},\"values\":[1,2],\"timestamps\":[1]}",
                "2 values for 1",
            ),
            (
                "{\"metric\":{},\"values\":[\"x\"],\"timestamps\":[1]}",
                "\"x\" is not a value",
            ),
            (
                "{\"metric\":{},\"values\":[1e999],\"timestamps\":[1]}",
                "is not a value",
            ),
            ("{\"metric\":{\"a\":\"b}", "string is not closed"),
            ("{\"metric\":{}} x", "text after"),
            ("{\"other\":1}", "unknown field"),
        ] {
            let error = parse(line).unwrap_err().to_string();
            assert!(error.contains(want), "{line}: {error}");
        }
    }
}
