//! Deterministic mutations of an input.

/// Tokens that often break parsers.
const TOKENS: &[&[u8]] = &[
    b"",
    b"0",
    b"-1",
    b"18446744073709551615",
    b"18446744073709551616",
    b"9223372036854775808",
    b"1e400",
    b"NaN",
    b"Inf",
    b"max",
    b"\n",
    b"\r\n",
    b"\0",
    b" ",
    b"\t",
    b"\x0c",
    b"\xff",
    b"\xc3\x28",
    b"\"",
    b"'",
    b"\\",
    b"{",
    b"}",
    b"[",
    b"]",
    b"(",
    b")",
    b"null",
    b"[]",
    b"{}",
    b":",
    b",",
    b"=",
    b"%",
    b"{{",
    b"}}",
    b"- ",
    b"  ",
    b"~",
    b"\x80\x80\x80\x80\x80",
    b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
];
/// Maximum size of a mutated input, in bytes.
const BYTES_MAX: usize = 1 << 20;

/// A small random number generator (xorshift64*).
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// Creates a generator seeded by a text and a number.
    #[must_use]
    pub fn new(seed: &[u8], number: u64) -> Self {
        // FNV-1a.
        let hash = seed.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, &byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        Self((hash ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15)) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Returns a number below `end`, or 0 if `end` is 0.
    pub fn below(&mut self, end: usize) -> usize {
        if end == 0 {
            return 0;
        }
        (self.next() >> 11) as usize % end
    }
}

/// Applies one to four changes to `input`. Some splice in a part of `other`.
#[must_use]
pub fn mutate(input: &[u8], other: &[u8], random: &mut Random) -> Vec<u8> {
    let mut bytes = input.to_vec();
    for _ in 0..=random.below(4) {
        change(&mut bytes, other, random);
    }
    bytes.truncate(BYTES_MAX);
    bytes
}

fn change(bytes: &mut Vec<u8>, other: &[u8], random: &mut Random) {
    let at = random.below(bytes.len() + 1);
    let end = (at + 1 + random.below(16)).min(bytes.len()).max(at);
    match random.below(9) {
        0 | 1 => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << random.below(8);
            }
        }
        2 => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte = random.next() as u8;
            }
        }
        3 => drop(bytes.drain(at..end)),
        4 => {
            let copy = bytes.get(at..end).unwrap_or_default().to_vec();
            bytes.splice(at..at, copy);
        }
        5 => bytes.truncate(at),
        6 => replace_word(bytes, at, random),
        7 => {
            let token = TOKENS.get(random.below(TOKENS.len())).copied();
            bytes.splice(at..at, token.unwrap_or_default().iter().copied());
        }
        _ => {
            let from = random.below(other.len() + 1);
            let to = (from + random.below(64)).min(other.len());
            let piece = other.get(from..to).unwrap_or_default().to_vec();
            bytes.splice(at..end, piece);
        }
    }
}

/// Replaces the word or number at `at` by a token.
fn replace_word(bytes: &mut Vec<u8>, at: usize, random: &mut Random) {
    let is_word = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'.';
    let before = bytes.get(..at).unwrap_or_default();
    let start = at - before.iter().rev().take_while(|byte| is_word(byte)).count();
    let after = bytes.get(at..).unwrap_or_default();
    let end = at + after.iter().take_while(|byte| is_word(byte)).count();
    let token = TOKENS.get(random.below(TOKENS.len())).copied();
    bytes.splice(start..end, token.unwrap_or_default().iter().copied());
}
