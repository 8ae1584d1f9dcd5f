//! FNV-1a, the hash in the identifiers that Prometheus and Alertmanager show.

use common::model::Labels;

const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const PRIME: u64 = 0x0100_0000_01b3;

/// Returns the hash of the concatenated `parts`, each followed by a 0xFF byte.
pub(crate) fn fnv1a<'a>(parts: impl IntoIterator<Item = &'a str>) -> u64 {
    let mut hash = OFFSET;
    for part in parts {
        for byte in part.bytes().chain([0xff]) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(PRIME);
        }
    }
    hash
}

/// Returns Alertmanager's fingerprint of a label set (`model.LabelSet.Fingerprint`).
#[must_use]
pub(crate) fn fingerprint(labels: &Labels) -> u64 {
    fnv1a(labels.iter().flat_map(|(name, value)| [name, value]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fingerprint_is_alertmanagers() {
        let labels = Labels::from_pairs([("x", "1"), ("alertname", "A")]).unwrap();
        assert_eq!(format!("{:016x}", fingerprint(&labels)), "6051004c729abe0e");
    }
}
