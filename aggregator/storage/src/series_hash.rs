//! The identity of a series: a keyed 128-bit hash of its labels.
//!
//! Two label sets are taken to be the same series when their hashes agree. At 10 million series the chance of one
//! accidental clash is below 10⁻²⁴, and the key, drawn at random for each data directory, keeps a writer from
//! searching for one.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::Path;

use common::model::Labels;

/// Identifies a series in all parts of the store and across restarts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct SeriesHash(pub(crate) u128);

impl SeriesHash {
    /// Returns enough bits to select a bucket of a hash table.
    pub(crate) const fn bucket(self) -> u64 {
        self.0 as u64
    }
}

/// The secret of one data directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct HashKey([u64; 4]);

const FILE: &str = "key";
const FILE_BYTES: usize = 36;

/// One multiplication of 64 by 64 bits, both halves folded together.
const fn fold(a: u64, b: u64) -> u64 {
    let product = (a as u128).wrapping_mul(b as u128);
    (product as u64) ^ ((product >> 64) as u64)
}

fn word(bytes: &[u8]) -> u64 {
    let mut buffer = [0; 8];
    buffer[..bytes.len()].copy_from_slice(bytes);
    u64::from_le_bytes(buffer)
}

impl HashKey {
    /// A key from its stored form.
    pub(crate) fn from_bytes(bytes: [u8; 32]) -> Self {
        let mut words = [0; 4];
        for (to, from) in words.iter_mut().zip(bytes.chunks_exact(8)) {
            *to = word(from) | 1;
        }
        Self(words)
    }

    /// The stored form.
    pub(crate) fn to_bytes(self) -> [u8; 32] {
        let mut bytes = [0; 32];
        for (to, from) in bytes.chunks_exact_mut(8).zip(self.0) {
            to.copy_from_slice(&from.to_le_bytes());
        }
        bytes
    }

    /// A number that seeds checksums, so that a record cannot be forged inside a label value.
    pub(crate) fn seed(self) -> u32 {
        crc32c::crc32c(&self.to_bytes())
    }

    /// The identity of a label set.
    pub(crate) fn hash(&self, labels: &Labels) -> SeriesHash {
        self.hash_bytes(labels.as_packed())
    }

    /// The hash of bytes; [`Self::hash`] is this over the packed labels.
    pub(crate) fn hash_bytes(&self, bytes: &[u8]) -> SeriesHash {
        let [k0, k1, k2, k3] = self.0;
        let (mut a, mut b) = (k0 ^ bytes.len() as u64, k2);
        let mut chunks = bytes.chunks_exact(16);
        for chunk in &mut chunks {
            let (x, y) = (word(&chunk[..8]), word(&chunk[8..]));
            a = fold(a ^ x, k1 ^ y);
            b = fold(b ^ y.rotate_left(32), k3 ^ x).wrapping_add(a);
        }
        let rest = chunks.remainder();
        let (x, y) = (
            word(&rest[..rest.len().min(8)]),
            word(rest.get(8..).unwrap_or(&[])),
        );
        a = fold(a ^ x, k1 ^ y);
        b = fold(b ^ y.rotate_left(32), k3 ^ x);
        let low = fold(a ^ k2, b ^ k3 ^ k1);
        let high = fold(b ^ k0, a.rotate_left(17) ^ k3);
        SeriesHash(u128::from(high) << 64 | u128::from(low))
    }

    /// Returns another hash of bytes, as good as [`Self::hash_bytes`] and faster for longer input: four independent lanes of
    /// 16 bytes per 64, which the processor computes in parallel. It is never stored on disk.
    pub(crate) fn hash_long(&self, bytes: &[u8]) -> SeriesHash {
        let [k0, k1, k2, k3] = self.0;
        let mut lanes =
            [0, 1, 2, 3].map(|lane: u64| (k0.wrapping_add(lane), k2.wrapping_sub(lane)));
        let mut chunks = bytes.chunks_exact(64);
        for chunk in &mut chunks {
            for (lane, part) in lanes.iter_mut().zip(chunk.chunks_exact(16)) {
                let (x, y) = (word(&part[..8]), word(&part[8..]));
                let a = fold(lane.0 ^ x, k1 ^ y);
                let b = fold(lane.1 ^ y.rotate_left(32), k3 ^ x).wrapping_add(a);
                *lane = (a, b);
            }
        }
        let SeriesHash(rest) = self.hash_bytes(chunks.remainder());
        let (mut a, mut b) = (k1 ^ bytes.len() as u64, k3);
        let rest = ((rest >> 64) as u64, rest as u64);
        for (x, y) in lanes.into_iter().chain([rest]) {
            a = fold(a ^ x, k2 ^ y);
            b = fold(b ^ y.rotate_left(32), k0 ^ x).wrapping_add(a);
        }
        let low = fold(a ^ k3, b ^ k1);
        let high = fold(b ^ k2, a.rotate_left(17) ^ k0);
        SeriesHash(u128::from(high) << 64 | u128::from(low))
    }

    /// Reads the key of a data directory, or creates one for a new directory.
    ///
    /// # Errors
    /// The file can't be read or written, or its checksum is wrong.
    pub(crate) fn load_or_create(directory: &Path) -> io::Result<Self> {
        let path = directory.join(FILE);
        match fs::read(&path) {
            Ok(bytes) => Self::parse(&bytes)
                .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "key file is damaged")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Self::create(directory),
            Err(error) => Err(error),
        }
    }

    /// Decodes the content of a key file. Returns `None` if the checksum is wrong.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let (key, crc) = bytes.split_first_chunk::<32>()?;
        let crc = <[u8; 4]>::try_from(crc).ok()?;
        (crc32c::crc32c(key) == u32::from_le_bytes(crc)).then(|| Self::from_bytes(*key))
    }

    fn create(directory: &Path) -> io::Result<Self> {
        let mut random = [0; 32];
        File::open("/dev/urandom")?.read_exact(&mut random)?;
        let key = Self::from_bytes(random);
        key.save(directory)?;
        Ok(key)
    }

    /// Writes the key file; durable when this returns.
    ///
    /// # Errors
    /// The file can't be written.
    pub(crate) fn save(self, directory: &Path) -> io::Result<()> {
        let bytes = self.to_bytes();
        let mut content = Vec::with_capacity(FILE_BYTES);
        content.extend_from_slice(&bytes);
        content.extend_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
        crate::files::write_atomically(&directory.join(FILE), |file| file.write_all(&content))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn hashes_of_similar_inputs_differ() {
        let key = HashKey::from_bytes([7; 32]);
        let mut seen = HashSet::new();
        for length in 0..100 {
            for byte in 0..20_u8 {
                let mut bytes = vec![0; length];
                if let Some(last) = bytes.last_mut() {
                    *last = byte;
                } else if byte > 0 {
                    continue;
                }
                assert!(seen.insert(key.hash_bytes(&bytes)), "{length} {byte}");
            }
        }
    }

    #[test]
    fn every_bit_and_the_length_tell_in_the_long_hash() {
        let key = HashKey::from_bytes(std::array::from_fn(|at| (at * 37 + 11) as u8));
        let mut seen = HashSet::new();
        for length in 0..200 {
            let mut bytes: Vec<u8> = (0..length).map(|at| (at * 31) as u8).collect();
            assert!(seen.insert(key.hash_long(&bytes)), "{length}");
            for bit in 0..bytes.len() * 8 {
                bytes[bit / 8] ^= 1 << (bit % 8);
                assert!(seen.insert(key.hash_long(&bytes)), "{length} {bit}");
                bytes[bit / 8] ^= 1 << (bit % 8);
            }
        }
        // Swapped parts, and repeated parts.
        for order in [
            [0, 1, 2, 3],
            [1, 0, 2, 3],
            [0, 1, 3, 2],
            [0, 0, 2, 2],
            [2, 2, 0, 0],
        ] {
            let bytes: Vec<u8> = order.iter().flat_map(|&part| [part + 7; 16]).collect();
            assert!(seen.insert(key.hash_long(&bytes)), "{order:?}");
        }
        let halves = seen
            .iter()
            .flat_map(|hash| [(0, hash.0 as u64), (1, (hash.0 >> 64) as u64)]);
        assert_eq!(halves.collect::<HashSet<_>>().len(), 2 * seen.len());
    }

    #[test]
    fn key_survives_on_disk_and_a_damaged_one_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let key = HashKey::load_or_create(directory.path()).unwrap();
        assert_eq!(HashKey::load_or_create(directory.path()).unwrap(), key);
        let path = directory.path().join(FILE);
        let mut bytes = fs::read(&path).unwrap();
        bytes[3] ^= 1;
        fs::write(&path, bytes).unwrap();
        assert!(HashKey::load_or_create(directory.path()).is_err());
    }
}
