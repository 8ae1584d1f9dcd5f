//! Remote write 1.0 as senders use it: one sample per series, with full labels in every request.
//!
//! Labels are encoded once. A request copies them and adds the samples, so that the load generator uses little CPU.

use crate::corpus::Label;

/// Protobuf tags (field number and wire type) of `prometheus.WriteRequest` and its parts.
const TAG_TIMESERIES: u8 = 1 << 3 | 2;
const TAG_LABEL: u8 = 1 << 3 | 2;
const TAG_SAMPLE: u8 = 2 << 3 | 2;
const TAG_NAME: u8 = 1 << 3 | 2;
const TAG_VALUE: u8 = 2 << 3 | 2;
const TAG_SAMPLE_VALUE: u8 = 1 << 3 | 1;
const TAG_SAMPLE_TIMESTAMP: u8 = 2 << 3;

/// The encoded series of one sender.
#[derive(Debug)]
pub struct Sender {
    /// Encoded labels of all series, concatenated.
    labels: Vec<u8>,
    /// End of each series' labels.
    ends: Vec<u32>,
    /// Order of the series in a request.
    order: Vec<u32>,
    message: Vec<u8>,
    compressor: snap::raw::Encoder,
}

impl Sender {
    /// Creates a sender of these series, in this order.
    #[must_use]
    pub fn new(series: &[Vec<Label>]) -> Self {
        let mut labels = Vec::new();
        let mut ends = Vec::with_capacity(series.len());
        let mut pair = Vec::new();
        for one in series {
            for (name, value) in one {
                pair.clear();
                put_bytes(&mut pair, TAG_NAME, name.as_bytes());
                put_bytes(&mut pair, TAG_VALUE, value.as_bytes());
                put_bytes(&mut labels, TAG_LABEL, &pair);
            }
            ends.push(labels.len() as u32);
        }
        Self {
            labels,
            order: (0..ends.len() as u32).collect(),
            ends,
            message: Vec::new(),
            compressor: snap::raw::Encoder::new(),
        }
    }

    /// Returns the size of the encoded labels, in bytes.
    #[must_use]
    pub const fn label_bytes(&self) -> usize {
        self.labels.len()
    }

    /// Changes the order of the series.
    pub fn shuffle(&mut self, seed: u64) {
        let mut state = seed | 1;
        for last in (1..self.order.len()).rev() {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let other = (state >> 16) as usize % (last + 1);
            self.order.swap(last, other);
        }
    }

    /// Returns the compressed request body of one scrape. `values` has one value per series, in the order passed to
    /// [`Self::new`].
    ///
    /// # Errors
    /// The message is larger than snappy's format allows (4 GiB).
    pub fn request(&mut self, timestamp_ms: i64, values: &[f64]) -> Result<Vec<u8>, snap::Error> {
        let mut time = Vec::with_capacity(10);
        put_varint(&mut time, timestamp_ms.cast_unsigned());
        let sample_bytes = 1 + 8 + 1 + time.len();
        self.message.clear();
        for &index in &self.order {
            let index = index as usize;
            let (Some(&end), Some(&value)) = (self.ends.get(index), values.get(index)) else {
                continue;
            };
            let start = index.checked_sub(1).map_or(0, |before| self.ends[before]);
            let labels = &self.labels[start as usize..end as usize];
            self.message.push(TAG_TIMESERIES);
            // The sample's length fits in one byte of varint.
            put_varint(&mut self.message, (labels.len() + 2 + sample_bytes) as u64);
            self.message.extend_from_slice(labels);
            self.message.push(TAG_SAMPLE);
            self.message.push(sample_bytes as u8);
            self.message.push(TAG_SAMPLE_VALUE);
            self.message.extend_from_slice(&value.to_le_bytes());
            self.message.push(TAG_SAMPLE_TIMESTAMP);
            self.message.extend_from_slice(&time);
        }
        self.compressor.compress_vec(&self.message)
    }
}

fn put_bytes(out: &mut Vec<u8>, tag: u8, bytes: &[u8]) {
    out.push(tag);
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series() -> Vec<Vec<Label>> {
        let of = |n: &str| vec![("__name__", "m".to_owned()), ("n", n.to_owned())];
        vec![of("a"), of("b"), of("c")]
    }

    #[test]
    fn request_is_the_protobuf_message_of_the_specification() {
        let mut sender = Sender::new(&series()[..1]);
        let body = sender.request(300, &[1.0]).unwrap();
        let message = snap::raw::Decoder::new().decompress_vec(&body).unwrap();
        let mut want = vec![0x0a, 34];
        want.extend(b"\x0a\x0d\x0a\x08__name__\x12\x01m");
        want.extend(b"\x0a\x06\x0a\x01n\x12\x01a");
        want.extend(b"\x12\x0c\x09\x00\x00\x00\x00\x00\x00\xf0\x3f\x10\xac\x02");
        want[1] = want.len() as u8 - 2;
        assert_eq!(message, want);
    }

    #[test]
    fn shuffled_request_has_the_same_series_in_another_order() {
        let many: Vec<_> = (0..100).map(|n| vec![("n", format!("{n:03}"))]).collect();
        let values: Vec<f64> = (0..100).map(f64::from).collect();
        let mut sender = Sender::new(&many);
        let plain = |body: Vec<u8>| snap::raw::Decoder::new().decompress_vec(&body).unwrap();
        let steady = plain(sender.request(300, &values).unwrap());
        sender.shuffle(7);
        let shuffled = plain(sender.request(300, &values).unwrap());
        assert_ne!(steady, shuffled);
        let records = |message: &[u8]| {
            let mut records: Vec<Vec<u8>> = message.chunks(26).map(<[u8]>::to_vec).collect();
            records.sort();
            records
        };
        assert_eq!(steady.len(), 100 * 26);
        assert_eq!(records(&steady), records(&shuffled));
    }
}
