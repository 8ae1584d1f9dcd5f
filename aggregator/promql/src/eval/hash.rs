//! The hash of labels by which `limit_ratio` samples: XXH64 over Prometheus' encoding of labels, so that both pick the
//! same series (`labels.Labels.Hash`, `HashRatioSampler`).

use common::model::Labels;

const PRIMES: [u64; 5] = [
    0x9e37_79b1_85eb_ca87,
    0xc2b2_ae3d_27d4_eb4f,
    0x1656_67b1_9e37_79f9,
    0x85eb_ca77_c2b2_ae63,
    0x27d4_eb2f_1656_67c5,
];

/// Hashes labels.
pub(super) fn label_hash(labels: &Labels) -> u64 {
    let mut encoded = Vec::with_capacity(labels.as_packed().len());
    for (name, value) in labels {
        push_text(&mut encoded, name);
        push_text(&mut encoded, value);
    }
    xxh64(&encoded)
}

/// Appends length and text. The length is one byte, or 255 and three bytes in little-endian order.
fn push_text(encoded: &mut Vec<u8>, text: &str) {
    match u8::try_from(text.len()) {
        Ok(length) if length < 255 => encoded.push(length),
        _ => {
            let [a, b, c, ..] = (text.len() as u64).to_le_bytes();
            encoded.extend_from_slice(&[255, a, b, c]);
        }
    }
    encoded.extend_from_slice(text.as_bytes());
}

/// XXH64 with seed 0 (<https://github.com/Cyan4973/xxHash/blob/dev/doc/xxhash_spec.md>).
fn xxh64(bytes: &[u8]) -> u64 {
    let [p1, p2, p3, p4, p5] = PRIMES;
    let (stripes, rest) = bytes.as_chunks::<32>();
    let mut hash = if stripes.is_empty() {
        p5
    } else {
        let mut lanes = [p1.wrapping_add(p2), p2, 0, 0_u64.wrapping_sub(p1)];
        for stripe in stripes {
            let (words, _) = stripe.as_chunks::<8>();
            for (lane, word) in lanes.iter_mut().zip(words) {
                *lane = round(*lane, u64::from_le_bytes(*word));
            }
        }
        let mixed = [1, 7, 12, 18]
            .iter()
            .zip(lanes)
            .fold(0_u64, |sum, (&turn, lane)| {
                sum.wrapping_add(lane.rotate_left(turn))
            });
        lanes.iter().fold(mixed, |hash, &lane| {
            (hash ^ round(0, lane)).wrapping_mul(p1).wrapping_add(p4)
        })
    };
    hash = hash.wrapping_add(bytes.len() as u64);
    let (words, rest) = rest.as_chunks::<8>();
    for word in words {
        hash ^= round(0, u64::from_le_bytes(*word));
        hash = hash.rotate_left(27).wrapping_mul(p1).wrapping_add(p4);
    }
    let (halves, rest) = rest.as_chunks::<4>();
    for half in halves {
        hash ^= u64::from(u32::from_le_bytes(*half)).wrapping_mul(p1);
        hash = hash.rotate_left(23).wrapping_mul(p2).wrapping_add(p3);
    }
    for &byte in rest {
        hash ^= u64::from(byte).wrapping_mul(p5);
        hash = hash.rotate_left(11).wrapping_mul(p1);
    }
    hash = (hash ^ (hash >> 33)).wrapping_mul(p2);
    hash = (hash ^ (hash >> 29)).wrapping_mul(p3);
    hash ^ (hash >> 32)
}

const fn round(lane: u64, word: u64) -> u64 {
    let [p1, p2, ..] = PRIMES;
    lane.wrapping_add(word.wrapping_mul(p2))
        .rotate_left(31)
        .wrapping_mul(p1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_those_of_the_specification() {
        assert_eq!(xxh64(b""), 0xef46_db37_51d8_e999);
        assert_eq!(xxh64(b"a"), 0xd24e_c4f1_a98c_6e5b);
        assert_eq!(xxh64(b"abc"), 0x44bc_2cf5_ad77_0999);
    }
}
